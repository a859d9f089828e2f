//! TLS in front of a receiver, with certificates of an authority that nobody else knows.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// An authority, with a certificate for a collector at 127.0.0.1 and one for its clients.
#[derive(Debug)]
pub struct Authority {
    directory: TempDir,
}

impl Authority {
    /// A new one.
    pub fn make() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: String| {
            std::fs::write(directory.path().join(name), text).expect("a file");
        };
        let key = KeyPair::generate().expect("a key");
        let mut authority = CertificateParams::new([]).expect("no names");
        // Each has a name of its own.
        let name = directory.path().display().to_string();
        authority
            .distinguished_name
            .push(DnType::OrganizationName, name);
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let own = authority.self_signed(&key).expect("a certificate");
        write("authority.pem", own.pem());
        let issuer = Issuer::new(authority, key);
        for (whose, name) in [("server", "127.0.0.1"), ("client", "procjail")] {
            let key = KeyPair::generate().expect("a key");
            let certificate = CertificateParams::new([name.to_owned()])
                .and_then(|params| params.signed_by(&key, &issuer))
                .expect("a certificate");
            write(&format!("{whose}.pem"), certificate.pem());
            write(&format!("{whose}.key"), key.serialize_pem());
        }
        Self { directory }
    }

    /// The file of its own certificate.
    pub fn certificate(&self) -> PathBuf {
        self.directory.path().join("authority.pem")
    }

    /// The files of a client's certificate and key.
    pub fn client(&self) -> (PathBuf, PathBuf) {
        let path = |name: &str| self.directory.path().join(name);
        (path("client.pem"), path("client.key"))
    }

    /// What a collector shows, and whether it wants its clients' certificates.
    fn server(&self, mutual: bool) -> ServerConfig {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions");
        let builder = if mutual {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates(&self.certificate()));
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("an authority"))
        } else {
            builder.with_no_client_auth()
        };
        let chain = certificates(&self.directory.path().join("server.pem"));
        let key = PrivateKeyDer::from_pem_file(self.directory.path().join("server.key"));
        builder
            .with_single_cert(chain, key.expect("a key"))
            .expect("a certificate and its key")
    }

    /// Makes what ends TLS for a protocol, by its name in RFC 7301.
    pub(super) fn acceptor(&self, mutual: bool, protocol: &str) -> TlsAcceptor {
        let mut config = self.server(mutual);
        config.alpn_protocols = vec![protocol.into()];
        TlsAcceptor::from(Arc::new(config))
    }
}

fn certificates(path: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path)
        .expect("a file")
        .collect::<Result<_, _>>()
        .expect("certificates")
}

/// Takes connections with TLS, and passes on what is in them.
pub(super) async fn front(listener: TcpListener, acceptor: TlsAcceptor, behind: SocketAddr) {
    loop {
        let (outside, _) = listener.accept().await.expect("a connection");
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // What isn't TLS, or trusts nobody, is for the client to tell.
            if let Ok(mut outside) = acceptor.accept(outside).await {
                let mut inside = TcpStream::connect(behind).await.expect("the receiver");
                let _ended = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
            }
        });
    }
}
