//! Transcripts of the command line: everything that needs neither root nor a jail.
//!
//! A changed message is a changed transcript: `TRYCMD=overwrite cargo test --test transcripts` writes the
//! new ones, to be read before they are committed.

#[test]
fn transcripts() {
    let cases = trycmd::TestCases::new();
    // The width of the terminal must not matter.
    cases
        .env("COLUMNS", "100")
        .env("NO_COLOR", "1")
        .case("tests/cmd/*.trycmd");
    cases.run();
}
