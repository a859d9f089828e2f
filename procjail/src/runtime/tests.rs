//! Listings of whole hosts, made of fixtures.
