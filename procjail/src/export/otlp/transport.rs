//! One attempt to hand a batch to a collector, over HTTP or gRPC, and what became of it.
//!
//! The messages are those of `opentelemetry-proto`, the HTTP client is that of `opentelemetry-http`, the gRPC
//! client tonic's. The exporters of `opentelemetry-otlp`, which join these, return neither the kind of a
//! failure nor what a collector refused, and can't be told when the time is over.

use std::error::Error;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_rustls::builderstates::WantsProtocols1;
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HttpClient};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::{DecodeError, Message};
use rustls::ClientConfig;
use tonic::Code;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt;

use super::batch::{Batch, Envelope, Kind};
use super::collector::{Collector, Protocol};
use super::grpc;
use super::names::Names;
use super::tls;
use crate::text;

/// `Export` of `LogsService` (opentelemetry/proto/collector/logs/v1/logs_service.proto).
const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// `Export` of `TraceService` (opentelemetry/proto/collector/trace/v1/trace_service.proto).
const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(3);

/// Most of a collector's own words that are passed on, characters.
const WORDS: usize = 300;

/// A connection to a collector.
pub(super) struct Transport {
    way: Way,
    envelope: Envelope,
    gzip: bool,
    attempt: Duration,
    tls: Option<Arc<ClientConfig>>,
    port: Option<u16>,
}

enum Way {
    Http {
        client: Box<dyn HttpClient>,
        logs: Uri,
        traces: Uri,
        headers: HeaderMap,
    },
    Grpc {
        channel: Channel,
        metadata: MetadataMap,
    },
}

/// A batch as it goes out, as often as it has to.
pub(super) struct Parcel {
    kind: Kind,
    message: Bytes,
}

/// The collector took a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Accepted {
    /// How many of it it didn't.
    pub refused: u64,
    /// What it says, if it says something.
    pub reason: Option<String>,
}

/// It didn't.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// What happened, in words.
    pub what: String,
    /// Whether another attempt may do better.
    pub retry: Retry,
}

/// What another attempt is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    /// Nothing: it would fail likewise.
    Never,
    /// Something, though nobody was reached.
    Unreached,
    /// Something.
    Soon,
    /// Something, and not before so long.
    After(Duration),
}

impl Transport {
    /// Prepares to speak to a collector about a resource. Nothing is sent. To be called in the runtime that
    /// drives it.
    pub fn new(collector: &Collector, resource: Resource) -> Self {
        let mut connector = HttpConnector::new_with_resolver(Names);
        connector.set_connect_timeout(Some(CONNECT.min(collector.attempt)));
        connector.set_nodelay(true);
        connector.enforce_http(collector.tls.is_none());
        let attempt = collector.attempt;
        let way = match collector.protocol {
            Protocol::Http => Way::Http {
                client: match &collector.tls {
                    None => Box::new(HyperClient::new(connector, attempt, None)),
                    Some(tls) => {
                        let tls = with_tls(tls).enable_http1().wrap_connector(connector);
                        Box::new(HyperClient::new(tls, attempt, None))
                    }
                },
                logs: collector.uri("/v1/logs"),
                traces: collector.uri("/v1/traces"),
                headers: collector.headers.clone(),
            },
            Protocol::Grpc => {
                let endpoint = Endpoint::from(collector.uri(""));
                Way::Grpc {
                    channel: match &collector.tls {
                        None => endpoint.connect_with_connector_lazy(connector),
                        Some(tls) => {
                            let tls = with_tls(tls).enable_http2().wrap_connector(connector);
                            endpoint.connect_with_connector_lazy(tls)
                        }
                    },
                    metadata: MetadataMap::from_headers(collector.headers.clone()),
                }
            }
        };
        Self {
            way,
            envelope: Envelope::new(resource),
            attempt,
            gzip: collector.gzip,
            tls: collector.tls.clone(),
            port: collector.port(),
        }
    }

    /// Makes a message of a batch.
    pub fn parcel(&self, batch: &Batch) -> Parcel {
        let message = self.envelope.message(batch);
        // Tonic compresses by itself: gRPC says with each message whether it is.
        let message = match self.way {
            Way::Http { .. } if self.gzip => gzipped(&message),
            _ => message,
        };
        Parcel {
            kind: batch.kind,
            message: message.into(),
        }
    }

    /// Sends a message, once. Bounded in time.
    pub async fn send(&self, parcel: &Parcel) -> Result<Accepted, Failure> {
        // One for both clients, and for all that they do.
        match tokio::time::timeout(self.attempt, self.try_send(parcel)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.no_answer()),
        }
    }

    async fn try_send(&self, parcel: &Parcel) -> Result<Accepted, Failure> {
        let message = parcel.message.clone();
        match &self.way {
            Way::Http {
                client,
                logs,
                traces,
                headers,
            } => {
                let uri = match parcel.kind {
                    Kind::Logs => logs,
                    Kind::Spans => traces,
                };
                let mut request = Request::post(uri.clone())
                    .header(header::CONTENT_TYPE, "application/x-protobuf")
                    .header(header::USER_AGENT, user_agent())
                    .body(message)
                    .map_err(|error| never(error.to_string()))?;
                request.headers_mut().extend(headers.clone());
                if self.gzip {
                    let gzip = HeaderValue::from_static("gzip");
                    request.headers_mut().insert(header::CONTENT_ENCODING, gzip);
                }
                let response = client
                    .send_bytes(request)
                    .await
                    .map_err(|error| self.unreached(error.as_ref()))?;
                self.answer(
                    response.status(),
                    response.headers(),
                    response.body(),
                    parcel.kind,
                )
            }
            Way::Grpc { channel, metadata } => {
                let method = match parcel.kind {
                    Kind::Logs => LOGS,
                    Kind::Spans => TRACES,
                };
                let compression = self.gzip.then_some(CompressionEncoding::Gzip);
                let answer = grpc::call(channel, method, metadata, compression, message)
                    .await
                    .map_err(|status| self.grpc_failure(&status))?;
                accepted(parcel.kind, &answer)
                    .map_err(|_| never("its answer is not that of a collector".to_owned()))
            }
        }
    }

    /// What an answer over HTTP means, by the OTLP specification.
    fn answer(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        kind: Kind,
    ) -> Result<Accepted, Failure> {
        if status.is_success() {
            // An answer that can't be read is that of something which is no collector.
            return accepted(kind, body)
                .map_err(|_| never(format!("the answer {status} is not that of a collector")));
        }
        let retry = match status.as_u16() {
            429 | 503 => retry_after(headers).map_or(Retry::Soon, Retry::After),
            502 | 504 => Retry::Soon,
            _ => Retry::Never,
        };
        let said = said(headers, body);
        let hint = match status.as_u16() {
            404 | 405 | 300..=399 => "; is this the address of an OTLP/HTTP receiver?",
            401 | 403 => "; give a token in OTEL_EXPORTER_OTLP_HEADERS",
            _ => "",
        };
        Err(Failure {
            what: format!("it answers {status}{said}{hint}"),
            retry,
        })
    }

    fn grpc_failure(&self, status: &tonic::Status) -> Failure {
        let delay = status
            .get_details_retry_info()
            .and_then(|info| info.retry_delay);
        // A failure on this side of the wire has a source.
        if let Some(source) = status.source()
            && matches!(
                status.code(),
                Code::Cancelled | Code::Unavailable | Code::Unknown
            )
        {
            return self.unreached(source);
        }
        let retry = match (status.code(), delay) {
            (Code::ResourceExhausted | Code::Unavailable, Some(delay)) => Retry::After(delay),
            (
                Code::Cancelled
                | Code::DeadlineExceeded
                | Code::Aborted
                | Code::OutOfRange
                | Code::Unavailable
                | Code::DataLoss,
                _,
            ) => Retry::Soon,
            _ => Retry::Never,
        };
        let hint = match status.code() {
            Code::Unimplemented => "; is this the address of an OTLP/gRPC receiver?",
            Code::Unauthenticated | Code::PermissionDenied => {
                "; give a token in OTEL_EXPORTER_OTLP_HEADERS"
            }
            _ => "",
        };
        let words = words(status.message());
        let said = if words.is_empty() {
            String::new()
        } else {
            format!(": {words}")
        };
        Failure {
            what: format!("it answers {:?}{said}{hint}", status.code()),
            retry,
        }
    }

    /// The innermost cause of a failure on the way.
    fn unreached(&self, error: &(dyn Error + 'static)) -> Failure {
        if self.tls.is_some()
            && let Some(what) = tls::failure(error)
        {
            return never(words(&what));
        }
        let mut cause = error;
        let mut timed_out = cause.is::<tokio::time::error::Elapsed>();
        while let Some(source) = cause.source() {
            cause = source;
            timed_out |= cause.is::<tokio::time::error::Elapsed>();
        }
        if timed_out {
            return self.no_answer();
        }
        let hint = self.hint(cause);
        Failure {
            what: format!("{}{hint}", words(&cause.to_string())),
            retry: Retry::Unreached,
        }
    }

    /// What to look at.
    fn hint(&self, cause: &(dyn Error + 'static)) -> String {
        let http = matches!(self.way, Way::Http { .. });
        match (&self.tls, self.port) {
            (None, Some(4317)) if http => "; port 4317 usually is gRPC's: grpc://".to_owned(),
            (None, Some(4318)) if !http => "; port 4318 usually is HTTP's: http://".to_owned(),
            _ if !was_there(cause) => "; see that a collector listens there".to_owned(),
            // Somebody answers, and not by that protocol.
            (None, _) => {
                let with_tls = if http { "https" } else { "grpcs" };
                format!("; is it a collector? with TLS it is {with_tls}://")
            }
            // It went away without a word that could be read.
            (Some(tls), _) if !tls.client_auth_cert_resolver.has_certs() => tls::wants_one(),
            _ => String::new(),
        }
    }

    fn no_answer(&self) -> Failure {
        let waited = text::duration(self.attempt.as_nanos() as u64);
        Failure {
            what: format!("no answer within {waited}"),
            retry: Retry::Soon,
        }
    }
}

/// What a collector's answer says of a batch that it took.
fn accepted(kind: Kind, answer: &[u8]) -> Result<Accepted, DecodeError> {
    let part = match kind {
        Kind::Logs => ExportLogsServiceResponse::decode(answer)?
            .partial_success
            .map(|part| (part.rejected_log_records, part.error_message)),
        Kind::Spans => ExportTraceServiceResponse::decode(answer)?
            .partial_success
            .map(|part| (part.rejected_spans, part.error_message)),
    };
    Ok(
        part.map_or_else(Accepted::default, |(refused, message)| Accepted {
            refused: u64::try_from(refused).unwrap_or(0),
            reason: Some(words(&message)).filter(|words| !words.is_empty()),
        }),
    )
}

/// Somebody took the connection before it failed for that cause.
fn was_there(cause: &(dyn Error + 'static)) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};

    let went = [
        BrokenPipe,
        ConnectionAborted,
        ConnectionReset,
        UnexpectedEof,
    ];
    cause
        .downcast_ref::<io::Error>()
        .is_none_or(|error| went.contains(&error.kind()))
}

fn never(what: String) -> Failure {
    Failure {
        what,
        retry: Retry::Never,
    }
}

/// Compressed fast: most of it is the same again and again.
fn gzipped(message: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // A vector takes all: there is no error.
    let _taken = encoder.write_all(message);
    encoder.finish().unwrap_or_default()
}

/// Connections that all have TLS.
fn with_tls(config: &Arc<ClientConfig>) -> HttpsConnectorBuilder<WantsProtocols1> {
    HttpsConnectorBuilder::new()
        .with_tls_config(ClientConfig::clone(config))
        .https_only()
}

fn user_agent() -> &'static str {
    concat!("procjail/", env!("CARGO_PKG_VERSION"))
}

/// How long a collector asks to be left alone: seconds or a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?;
    let until = SystemTime::from(date.timestamp());
    Some(until.duration_since(SystemTime::now()).unwrap_or_default())
}

/// What a collector says with a failure: a message of google.rpc.Status, or text.
fn said(headers: &HeaderMap, body: &[u8]) -> String {
    let kind = headers.get(header::CONTENT_TYPE);
    let protobuf = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-protobuf"));
    let text = if protobuf {
        tonic_types::Status::decode(body).map_or_else(|_| String::new(), |status| status.message)
    } else {
        let start = body.get(..4 * WORDS).unwrap_or(body);
        String::from_utf8_lossy(start).into_owned()
    };
    match words(&text).as_str() {
        "" => String::new(),
        words => format!(": {words}"),
    }
}

/// Somebody else's words in one line.
fn words(text: &str) -> String {
    let line: Vec<&str> = text.split_whitespace().collect();
    let line = text::escape(&line.join(" "));
    if line.chars().count() <= WORDS {
        return line;
    }
    line.chars().take(WORDS).chain(['…']).collect()
}
