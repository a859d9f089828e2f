//! TLS to a collector: which certificates are trusted, and which one is shown.

use std::error::Error;
use std::io;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::{ClientConfig, RootCertStore};

use super::collector::CollectorError;
use crate::names;
use crate::text;

/// File of the certificates that are trusted, instead of the system's.
pub(super) const TRUSTED: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";

/// File of the certificate that is shown to a collector.
pub(super) const SHOWN: &str = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE";

/// File of its key.
const KEY: &str = "OTEL_EXPORTER_OTLP_CLIENT_KEY";

/// What the variables of the environment ask for.
///
/// # Errors
///
/// A file can't be read or has something else, or nobody is trusted.
pub(super) fn config(
    variable: impl Fn(&'static str) -> Option<String>,
) -> Result<Arc<ClientConfig>, CollectorError> {
    let trusted = match variable(TRUSTED) {
        Some(path) => read(TRUSTED, &path)?,
        None => of_the_system()?,
    };
    let mut roots = RootCertStore::empty();
    // One that can't be read is trusted with nothing.
    let (taken, _) = roots.add_parsable_certificates(trusted);
    if taken == 0 {
        return Err(CollectorError::Trust {
            why: "none of the certificates can be read".to_owned(),
        });
    }
    // Another part of the process may want another provider than `ring`: none is made the default.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| CollectorError::Trust {
            why: error.to_string(),
        })?
        .with_root_certificates(roots);
    let config = match (variable(SHOWN), variable(KEY)) {
        (None, None) => builder.with_no_client_auth(),
        (Some(path), Some(key_path)) => {
            let chain = read(SHOWN, &path)?;
            let key = PrivateKeyDer::from_pem_file(&key_path)
                .map_err(|error| wrong(KEY, &key_path, &said(&error, "private key")))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| wrong(SHOWN, &path, &error.to_string()))?
        }
        (Some(path), None) => {
            return Err(wrong(SHOWN, &path, &format!("{KEY} must name its key")));
        }
        (None, Some(path)) => {
            let why = format!("{SHOWN} must name the certificate of that key");
            return Err(wrong(KEY, &path, &why));
        }
    };
    Ok(Arc::new(config))
}

/// The certificates that this machine trusts: those of SSL_CERT_FILE and SSL_CERT_DIR, else where
/// distributions have them.
fn of_the_system() -> Result<Vec<CertificateDer<'static>>, CollectorError> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let why = match found.errors.first() {
            Some(error) => error.to_string(),
            None => "this machine has none; install ca-certificates".to_owned(),
        };
        return Err(CollectorError::Trust { why });
    }
    Ok(found.certs)
}

/// The certificates of a file.
fn read(name: &'static str, path: &str) -> Result<Vec<CertificateDer<'static>>, CollectorError> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(name, path, &said(&error, "certificates")))?;
    if certificates.is_empty() {
        return Err(wrong(name, path, "the file has no certificates (PEM)"));
    }
    Ok(certificates)
}

fn said(error: &pem::Error, what: &str) -> String {
    match error {
        pem::Error::Io(error) => format!("cannot read it: {}", names::io_error(error)),
        error => format!("the file has no {what} (PEM): {error}"),
    }
}

fn wrong(name: &'static str, value: &str, why: &str) -> CollectorError {
    CollectorError::Variable {
        name,
        value: text::escape(value),
        why: why.to_owned(),
    }
}

/// Advice for a collector that goes away without having been shown a certificate.
pub(super) fn wants_one() -> String {
    format!("; if it wants a certificate: {SHOWN} and {KEY}")
}

/// What went wrong with TLS, if that is why a connection that has it failed, and what a user can do.
pub(super) fn failure(error: &(dyn Error + 'static)) -> Option<String> {
    use rustls::CertificateError::{BadSignature, UnknownIssuer};
    use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage};

    let mut words = None;
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            let advice = match tls {
                InvalidCertificate(UnknownIssuer | BadSignature) => {
                    format!("; name the file of its authority in {TRUSTED}")
                }
                AlertReceived(_) => wants_one(),
                InvalidMessage(_) => "; without TLS it is http:// or grpc://".to_owned(),
                _ => String::new(),
            };
            return Some(format!("TLS: {tls}{advice}"));
        }
        let failed = error.downcast_ref::<io::Error>();
        // Of what fails after the handshake, HTTP/2 passes on the kind and the words.
        if let Some(failed) = failed
            && failed.kind() == io::ErrorKind::InvalidData
        {
            words = Some(format!("TLS: {failed}{}", wants_one()));
        }
        // The source of an I/O error is that of the error in it, not that error.
        cause = match failed.and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    words
}

#[cfg(test)]
mod tests {
    use rustls::{AlertDescription, CertificateError};

    use super::*;

    fn told(error: impl Into<Box<dyn Error + Send + Sync>>) -> Option<String> {
        let failed = io::Error::new(io::ErrorKind::InvalidData, error);
        failure(&io::Error::other(failed))
    }

    #[test]
    fn what_fails_is_told_however_deep_it_is() {
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert!(told(unknown).is_some_and(|words| words.contains(TRUSTED)));
        let alert = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        let in_words = alert.to_string();
        let expected = format!("TLS: {alert}{}", wants_one());
        assert_eq!(told(alert), Some(expected.clone()));
        assert_eq!(told(in_words), Some(expected));
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(failure(&refused), None);
    }
}
