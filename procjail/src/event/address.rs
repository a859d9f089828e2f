//! Socket addresses as the kernel has them, in words.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

/// A `struct sockaddr`, as people write it: `127.0.0.1:5432`, `[::1]:80`, `unix:/run/x.sock`, with `@` for the
/// NUL that an abstract name begins with; `None` for another family or too few bytes.
pub(super) fn address(bytes: &[u8]) -> Option<String> {
    let (family, rest) = bytes.split_first_chunk::<2>()?;
    match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => {
            let (port, rest) = rest.split_first_chunk::<2>()?;
            let (address, _) = rest.split_first_chunk::<4>()?;
            let address = Ipv4Addr::from(*address);
            Some(SocketAddrV4::new(address, u16::from_be_bytes(*port)).to_string())
        }
        libc::AF_INET6 => {
            let (port, rest) = rest.split_first_chunk::<2>()?;
            let (_flow, rest) = rest.split_first_chunk::<4>()?;
            let (address, _) = rest.split_first_chunk::<16>()?;
            let address = Ipv6Addr::from(*address);
            Some(SocketAddrV6::new(address, u16::from_be_bytes(*port), 0, 0).to_string())
        }
        libc::AF_UNIX => {
            let (mark, name) = match rest {
                [] => ("", rest),
                [0, name @ ..] => ("@", name),
                name => ("", name.split(|byte| *byte == 0).next().unwrap_or_default()),
            };
            Some(format!("unix:{mark}{}", String::from_utf8_lossy(name)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(family: i32, rest: &[u8]) -> Option<String> {
        let mut bytes = (family as u16).to_ne_bytes().to_vec();
        bytes.extend(rest);
        address(&bytes)
    }

    #[test]
    fn addresses_are_written_as_people_do() {
        let ip = of(libc::AF_INET, &[0x15, 0x38, 127, 0, 0, 1, 0, 0]);
        assert_eq!(ip.as_deref(), Some("127.0.0.1:5432"));
        let mut six = [0; 26];
        (six[1], six[21]) = (80, 1);
        assert_eq!(of(libc::AF_INET6, &six).as_deref(), Some("[::1]:80"));
        let unix = of(libc::AF_UNIX, b"/run/x.sock\0rest");
        assert_eq!(unix.as_deref(), Some("unix:/run/x.sock"));
        let unix = of(libc::AF_UNIX, b"\0name");
        assert_eq!(unix.as_deref(), Some("unix:@name"));
    }

    #[test]
    fn what_is_no_address_is_none() {
        assert_eq!(address(&[]), None);
        assert_eq!(of(libc::AF_INET, &[0, 80, 127]), None);
        assert_eq!(of(libc::AF_INET6, &[0; 21]), None);
        assert_eq!(of(libc::AF_NETLINK, &[0; 10]), None);
    }
}
