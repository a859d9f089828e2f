//! Which collector, over which protocol: from an address and the environment's standard variables.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use rustls::ClientConfig;

use super::tls;
use crate::text;

/// Where a collector is if nobody says otherwise, as the specification has it.
const DEFAULT_URL: &str = "http://localhost:4318";

/// The usual port of OTLP/gRPC.
const GRPC_PORT: u16 = 4317;

/// How long one attempt may take, as the specification has it.
const ATTEMPT: Duration = Duration::from_secs(10);

/// Why no collector can be meant.
#[derive(Debug, thiserror::Error)]
pub enum CollectorError {
    /// The address is none of a collector.
    #[error(
        "{url} is not a collector's address: {why}; use http://HOST:4318 for OTLP over HTTP or grpc://HOST:4317 for OTLP over gRPC, https:// or grpcs:// with TLS"
    )]
    Url {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// A variable of the environment can't be followed.
    #[error("cannot use {name}={value}: {why}")]
    Variable {
        /// Its name.
        name: &'static str,
        /// Its value, unless that is a secret.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is nobody by whom a collector's certificate could be known.
    #[error(
        "cannot trust any collector: {why}; or name a file of certificates in {}",
        tls::TRUSTED
    )]
    Trust {
        /// What is wrong with the certificates.
        why: String,
    },
}

/// How to speak to a collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// OTLP/HTTP with protobuf bodies.
    Http,
    /// OTLP/gRPC.
    Grpc,
}

/// A collector, not yet spoken to.
#[derive(Clone, Debug)]
pub struct Collector {
    pub(super) protocol: Protocol,
    /// How to speak TLS, if that is spoken.
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) authority: Authority,
    /// What comes before `/v1/logs`, without a slash at the end.
    pub(super) path: String,
    /// What each request carries, such as a token.
    pub(super) headers: HeaderMap,
    /// Whether messages are compressed.
    pub(super) gzip: bool,
    /// How long one attempt may take.
    pub(super) attempt: Duration,
    given: bool,
}

impl Collector {
    /// The collector at `url`; else at OTEL_EXPORTER_OTLP_ENDPOINT; else the local one.
    ///
    /// `grpc://` means OTLP over gRPC. `http://` means OTLP over HTTP, unless OTEL_EXPORTER_OTLP_PROTOCOL is
    /// `grpc`. `grpcs://` and `https://` are the same with TLS.
    ///
    /// # Errors
    ///
    /// That is no address of a collector, or the environment asks for what isn't supported.
    pub fn new(url: Option<&str>) -> Result<Self, CollectorError> {
        Self::with(url, |name| {
            std::env::var(name).ok().filter(|value| !value.is_empty())
        })
    }

    fn with(
        url: Option<&str>,
        variable: impl Fn(&'static str) -> Option<String>,
    ) -> Result<Self, CollectorError> {
        let endpoint = variable("OTEL_EXPORTER_OTLP_ENDPOINT");
        let given = url.is_some();
        let text = url
            .or(endpoint.as_deref())
            .unwrap_or(DEFAULT_URL)
            .trim()
            .to_owned();
        let wrong = |why: &str| CollectorError::Url {
            url: text::escape(&text),
            why: why.to_owned(),
        };
        let uri: Uri = text.parse().map_err(|error| wrong(&format!("{error}")))?;
        let (scheme, authority) = match (uri.scheme(), uri.authority()) {
            (Some(scheme), Some(authority)) => (scheme.as_str(), authority.clone()),
            _ => return Err(wrong("it needs a scheme and a host")),
        };
        if authority.as_str().contains('@') {
            return Err(CollectorError::Url {
                url: "the URL".to_owned(),
                why: "it has credentials; give them in OTEL_EXPORTER_OTLP_HEADERS".to_owned(),
            });
        }
        // What is left of a port that is no number, or too large a one.
        let odd = authority.port().is_none() && authority.as_str() != authority.host();
        if authority.host().is_empty() || odd {
            return Err(wrong("its host or its port is none"));
        }
        if uri.query().is_some() {
            return Err(wrong("it has a query"));
        }
        let protocol =
            protocol(scheme, variable("OTEL_EXPORTER_OTLP_PROTOCOL")).map_err(|why| match why {
                Wrong::Scheme(why) => wrong(&why),
                Wrong::Variable(value) => CollectorError::Variable {
                    name: "OTEL_EXPORTER_OTLP_PROTOCOL",
                    value: text::escape(&value),
                    why: "only grpc and http/protobuf are supported".to_owned(),
                },
            })?;
        let authority = match (scheme, authority.port()) {
            ("grpc" | "grpcs", None) => format!("{authority}:{GRPC_PORT}")
                .parse()
                .map_err(|error| wrong(&format!("{error}")))?,
            _ => authority,
        };
        let path = uri.path().trim_end_matches('/');
        let path = ["/v1/logs", "/v1/traces"]
            .into_iter()
            .find_map(|end| path.strip_suffix(end))
            .unwrap_or(path);
        if protocol == Protocol::Grpc && !path.is_empty() {
            return Err(wrong("gRPC has no paths"));
        }
        let tls = match scheme {
            "https" | "grpcs" => Some(tls::config(&variable)?),
            _ => None,
        };
        Ok(Self {
            protocol,
            tls,
            authority,
            path: path.to_owned(),
            headers: headers(variable("OTEL_EXPORTER_OTLP_HEADERS"))?,
            gzip: gzip(variable("OTEL_EXPORTER_OTLP_COMPRESSION"))?,
            attempt: attempt(variable("OTEL_EXPORTER_OTLP_TIMEOUT"))?,
            given,
        })
    }

    /// Whether whoever calls knows the address, having given it.
    pub fn given(&self) -> bool {
        self.given
    }

    /// The address of a service, such as `/v1/logs`; of the collector, for an empty one.
    pub(super) fn uri(&self, service: &str) -> Uri {
        let path: Option<PathAndQuery> = format!("{}{service}", self.path).parse().ok();
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(match self.tls {
            None => Scheme::HTTP,
            Some(_) => Scheme::HTTPS,
        });
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        // All of the parts come from an address that was whole.
        Uri::from_parts(parts).unwrap_or_default()
    }

    /// The port that is spoken to.
    pub(super) fn port(&self) -> Option<u16> {
        self.authority.port_u16()
    }
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (self.protocol, &self.tls) {
            (Protocol::Http, None) => "http",
            (Protocol::Http, Some(_)) => "https",
            (Protocol::Grpc, None) => "grpc",
            (Protocol::Grpc, Some(_)) => "grpcs",
        };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

enum Wrong {
    Scheme(String),
    Variable(String),
}

fn protocol(scheme: &str, wanted: Option<String>) -> Result<Protocol, Wrong> {
    match (scheme, wanted.as_deref()) {
        ("grpc" | "grpcs", _) | ("http" | "https", Some("grpc")) => Ok(Protocol::Grpc),
        ("http" | "https", None | Some("http/protobuf")) => Ok(Protocol::Http),
        ("http" | "https", Some(other)) => Err(Wrong::Variable(other.to_owned())),
        (other, _) => Err(Wrong::Scheme(format!("the scheme {other} is unknown"))),
    }
}

/// `name=value,name=value`, with values percent-encoded.
fn headers(list: Option<String>) -> Result<HeaderMap, CollectorError> {
    let wrong = |why: &str| CollectorError::Variable {
        name: "OTEL_EXPORTER_OTLP_HEADERS",
        // It is where tokens are.
        value: "…".to_owned(),
        why: why.to_owned(),
    };
    let mut headers = HeaderMap::new();
    for entry in list.unwrap_or_default().split(',') {
        if entry.trim().is_empty() {
            continue;
        }
        let (name, value) = entry
            .split_once('=')
            .ok_or_else(|| wrong("it must be a list of NAME=VALUE with commas between"))?;
        let name: HeaderName = name
            .trim()
            .parse()
            .map_err(|_| wrong("a name is not that of a header"))?;
        let mut value = HeaderValue::from_bytes(&percent_decoded(value.trim()))
            .map_err(|_| wrong("a value has characters that a header can't have"))?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        let digits = others
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &others[2..];
            }
            _ => {
                bytes.push(*first);
                rest = others;
            }
        }
    }
    bytes
}

fn gzip(compression: Option<String>) -> Result<bool, CollectorError> {
    match compression.as_deref() {
        Some("gzip") => Ok(true),
        None | Some("none") => Ok(false),
        Some(other) => Err(CollectorError::Variable {
            name: "OTEL_EXPORTER_OTLP_COMPRESSION",
            value: text::escape(other),
            why: "only gzip and none are supported".to_owned(),
        }),
    }
}

fn attempt(milliseconds: Option<String>) -> Result<Duration, CollectorError> {
    let Some(text) = milliseconds else {
        return Ok(ATTEMPT);
    };
    match text.trim().parse() {
        Ok(milliseconds @ 1..=600_000) => Ok(Duration::from_millis(milliseconds)),
        _ => Err(CollectorError::Variable {
            name: "OTEL_EXPORTER_OTLP_TIMEOUT",
            value: text::escape(&text),
            why: "it must be a number of milliseconds, at most 600000".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collector(url: &str, variables: &[(&str, &str)]) -> Result<Collector, String> {
        let url = Some(url).filter(|url| !url.is_empty());
        Collector::with(url, |name| {
            let found = variables.iter().find(|(known, _)| *known == name)?;
            Some(found.1.to_owned())
        })
        .map_err(|error| error.to_string())
    }

    fn shown(url: &str, variables: &[(&str, &str)]) -> String {
        collector(url, variables).map_or_else(|error| error, |collector| collector.to_string())
    }

    #[test]
    fn the_address_tells_the_protocol() {
        let grpc = [("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")];
        assert_eq!(shown("http://h:4318", &[]), "http://h:4318");
        assert_eq!(shown("http://h:4318/", &[]), "http://h:4318");
        assert_eq!(shown("http://h/otlp/v1/logs", &[]), "http://h/otlp");
        assert_eq!(shown("grpc://h", &[]), "grpc://h:4317");
        assert_eq!(shown("grpc://[::1]:9", &[]), "grpc://[::1]:9");
        assert_eq!(shown("http://h:4317", &grpc), "grpc://h:4317");
        assert_eq!(shown("https://h:4317", &grpc), "grpcs://h:4317");
        assert_eq!(shown("https://h/otlp", &[]), "https://h/otlp");
        assert_eq!(shown("grpcs://h", &[]), "grpcs://h:4317");
        assert_eq!(shown("", &[]), "http://localhost:4318");
        let endpoint = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://elsewhere:1")];
        assert_eq!(shown("", &endpoint), "http://elsewhere:1");
        assert_eq!(shown("http://here:1", &endpoint), "http://here:1");
        let uri = |service| collector("http://h:1/a/", &[]).expect("valid").uri(service);
        assert_eq!(uri("/v1/logs").to_string(), "http://h:1/a/v1/logs");
    }

    #[test]
    fn what_is_no_collectors_address_is_refused_in_words() {
        for (url, why) in [
            ("localhost:4318", "needs a scheme"),
            ("/tmp/out.json", "needs a scheme"),
            ("ftp://h", "the scheme ftp is unknown"),
            ("http://", "not a collector's address"),
            ("http://:4318", "not a collector's address"),
            ("http://h:99999", "its port"),
            ("http://h:1?token=secret", "it has a query"),
            ("grpc://h/path", "gRPC has no paths"),
            ("http://h\u{1b}[31m", "\\u{1b}"),
        ] {
            let error = collector(url, &[]).expect_err(url);
            assert!(error.contains(why), "{url}: {error}");
        }
        let error = collector("http://user:secret@h:1", &[]).expect_err("credentials");
        assert!(error.contains("OTEL_EXPORTER_OTLP_HEADERS") && !error.contains("secret"));
    }

    #[test]
    fn the_standard_variables_are_followed() {
        let headers = [(
            "OTEL_EXPORTER_OTLP_HEADERS",
            "authorization=Bearer%20x, a=b%zz",
        )];
        let collector_ = collector("http://h", &headers).expect("valid");
        assert_eq!(collector_.headers["authorization"], "Bearer x");
        assert_eq!(collector_.headers["a"], "b%zz");
        let timeout = [("OTEL_EXPORTER_OTLP_TIMEOUT", "250")];
        let attempt = collector("http://h", &timeout).expect("valid").attempt;
        assert_eq!(attempt, Duration::from_millis(250));
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "secret"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a b=secret"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip"),
        ] {
            let error = collector("http://h", &[(name, value)]).expect_err(name);
            assert!(error.contains(name) && !error.contains("secret"), "{error}");
        }
    }
}
