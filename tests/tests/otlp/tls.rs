//! TLS: whom procjail trusts, whom a collector trusts, and what is said when they don't.

use procjail_tests::collector::{Authority, Collector};

use super::{check_oom, export};

const TRUSTED: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";
const SHOWN: &str = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE";
const KEY: &str = "OTEL_EXPORTER_OTLP_CLIENT_KEY";

/// The addresses of a collector behind TLS.
fn addresses(collector: &Collector) -> [String; 2] {
    collector.addresses().map(|url| url.replace("://", "s://"))
}

#[test]
fn a_trace_arrives_through_tls() {
    let authority = Authority::make();
    let trusted = authority.certificate().display().to_string();
    for number in 0..2 {
        let collector = Collector::behind_tls(&authority, false);
        let url = &addresses(&collector)[number];
        let finished = export("oom-own-limit", url, &[(TRUSTED, &trusted)]).expect_code(0);
        assert!(finished.stderr.contains(url), "{}", finished.stderr);
        check_oom(&collector.received());
    }
}

#[test]
fn a_certificate_is_shown_to_who_wants_one() {
    let authority = Authority::make();
    let trusted = authority.certificate().display().to_string();
    let (certificate, key) = authority.client();
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    for number in 0..2 {
        let collector = Collector::behind_tls(&authority, true);
        let url = &addresses(&collector)[number];
        let finished = export("exit-own-code", url, &[(TRUSTED, &trusted)]).expect_code(125);
        assert!(finished.stderr.contains(SHOWN), "{}", finished.stderr);
        let all = [(TRUSTED, &*trusted), (SHOWN, &certificate), (KEY, &key)];
        export("exit-own-code", url, &all).expect_code(0);
        assert!(!collector.received().logs.is_empty());
    }
}

#[test]
fn who_is_not_known_gets_nothing() {
    let authority = Authority::make();
    let trusted = authority.certificate().display().to_string();
    let other = Authority::make();
    let stranger = other.certificate().display().to_string();
    let collector = Collector::behind_tls(&authority, false);
    for url in addresses(&collector) {
        let finished = export("exit-own-code", &url, &[(TRUSTED, &stranger)]).expect_code(125);
        let said = &finished.stderr;
        assert!(said.contains("invalid peer certificate"), "{said}");
        assert!(said.contains(TRUSTED), "{said}");
        // The certificate is for 127.0.0.1 only.
        let named = url.replace("127.0.0.1", "localhost");
        let finished = export("exit-own-code", &named, &[(TRUSTED, &trusted)]).expect_code(125);
        let said = &finished.stderr;
        assert!(said.contains("not valid for name \"localhost\""), "{said}");
    }
    assert!(collector.received().logs.is_empty());
}

#[test]
fn a_collector_without_tls_is_told_from_one_with() {
    let authority = Authority::make();
    let trusted = authority.certificate().display().to_string();
    let plain = Collector::start();
    for url in addresses(&plain) {
        let finished = export("exit-own-code", &url, &[(TRUSTED, &trusted)]).expect_code(125);
        let said = &finished.stderr;
        assert!(said.contains("without TLS it is http://"), "{said}");
    }
    let behind = Collector::behind_tls(&authority, false);
    for url in behind.addresses() {
        let finished = export("exit-own-code", &url, &[]).expect_code(125);
        let said = &finished.stderr;
        assert!(
            said.contains("is it a collector? with TLS it is "),
            "{said}"
        );
    }
}

#[test]
fn files_that_are_none_are_refused_before_anything_is_sent() {
    let authority = Authority::make();
    let trusted = authority.certificate().display().to_string();
    let (certificate, key) = authority.client();
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    for (variables, said) in [
        (vec![(TRUSTED, "/nowhere.pem")], "ENOENT"),
        (vec![(TRUSTED, "/dev/null")], "no certificates"),
        (vec![(TRUSTED, &*key)], "no certificates"),
        (vec![(SHOWN, &*certificate)], KEY),
        (vec![(KEY, &*key)], SHOWN),
        (
            vec![(KEY, &*certificate), (SHOWN, &*certificate)],
            "no private key",
        ),
        (vec![(SHOWN, &*trusted), (KEY, &*key)], SHOWN),
    ] {
        let mut all = vec![(TRUSTED, &*trusted)];
        all.extend(variables.iter().copied());
        let finished = export("exit-own-code", "https://127.0.0.1:1", &all).expect_code(125);
        let stderr = &finished.stderr;
        assert!(
            stderr.contains(said) && stderr.contains(variables[0].0),
            "{stderr}"
        );
    }
}
