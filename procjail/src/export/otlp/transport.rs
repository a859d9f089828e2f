//! One attempt to hand a batch to a collector, over HTTP or gRPC, and what became of it.
//!
//! The messages and the gRPC clients are those of `opentelemetry-proto`, the HTTP client that of
//! `opentelemetry-http`. The exporters of `opentelemetry-otlp`, which join these, return neither the kind
//! of a failure nor what a collector refused, and can't be told when the time is over.

use std::error::Error;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, Request, StatusCode, Uri, header};
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HttpClient};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse, logs_service_client::LogsServiceClient,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse, trace_service_client::TraceServiceClient,
};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::logs::v1::{ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
use opentelemetry_semantic_conventions::SCHEMA_URL;
use prost::Message;
use tonic::Code;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt;

use super::collector::{Collector, Protocol};
use super::names::Names;
use super::queue::Batch;
use crate::render;

/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(3);

/// Most of a collector's own words that are passed on, characters.
const WORDS: usize = 300;

/// A connection to a collector.
pub(super) struct Transport {
    way: Way,
    resource: Resource,
    attempt: Duration,
    port: Option<u16>,
}

enum Way {
    Http {
        client: HyperClient<HttpConnector<Names>>,
        logs: Uri,
        traces: Uri,
        headers: HeaderMap,
    },
    Grpc {
        logs: LogsServiceClient<Channel>,
        traces: TraceServiceClient<Channel>,
        metadata: MetadataMap,
    },
}

/// A batch as it goes out, as often as it has to.
pub(super) enum Parcel {
    Http { uri: Uri, body: Bytes, logs: bool },
    Logs(ExportLogsServiceRequest),
    Traces(ExportTraceServiceRequest),
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
        let way = match collector.protocol {
            Protocol::Http => Way::Http {
                client: HyperClient::new(connector, collector.attempt, None),
                logs: collector.uri("/v1/logs"),
                traces: collector.uri("/v1/traces"),
                headers: collector.headers.clone(),
            },
            Protocol::Grpc => {
                let endpoint = Endpoint::from(collector.uri(""));
                let channel = endpoint.connect_with_connector_lazy(connector);
                Way::Grpc {
                    logs: LogsServiceClient::new(channel.clone()),
                    traces: TraceServiceClient::new(channel),
                    metadata: MetadataMap::from_headers(collector.headers.clone()),
                }
            }
        };
        Self {
            way,
            resource,
            attempt: collector.attempt,
            port: collector.port(),
        }
    }

    /// Makes a message of a batch.
    pub fn parcel(&self, batch: Batch) -> Parcel {
        let resource = Some(self.resource.clone());
        let scope = Some(InstrumentationScope {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        });
        let schema_url = SCHEMA_URL.to_owned();
        match batch {
            Batch::Logs(log_records) => {
                let scope_logs = vec![ScopeLogs {
                    scope,
                    log_records,
                    schema_url: schema_url.clone(),
                }];
                let request = ExportLogsServiceRequest {
                    resource_logs: vec![ResourceLogs {
                        resource,
                        scope_logs,
                        schema_url,
                    }],
                };
                match &self.way {
                    Way::Grpc { .. } => Parcel::Logs(request),
                    Way::Http { logs, .. } => Parcel::Http {
                        uri: logs.clone(),
                        body: request.encode_to_vec().into(),
                        logs: true,
                    },
                }
            }
            Batch::Spans(spans) => {
                let scope_spans = vec![ScopeSpans {
                    scope,
                    spans,
                    schema_url: schema_url.clone(),
                }];
                let request = ExportTraceServiceRequest {
                    resource_spans: vec![ResourceSpans {
                        resource,
                        scope_spans,
                        schema_url,
                    }],
                };
                match &self.way {
                    Way::Grpc { .. } => Parcel::Traces(request),
                    Way::Http { traces, .. } => Parcel::Http {
                        uri: traces.clone(),
                        body: request.encode_to_vec().into(),
                        logs: false,
                    },
                }
            }
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
        match (&self.way, parcel) {
            (
                Way::Http {
                    client, headers, ..
                },
                Parcel::Http { uri, body, logs },
            ) => {
                let mut request = Request::post(uri.clone())
                    .header(header::CONTENT_TYPE, "application/x-protobuf")
                    .header(header::USER_AGENT, user_agent())
                    .body(body.clone())
                    .map_err(|error| never(error.to_string()))?;
                request.headers_mut().extend(headers.clone());
                let response = client
                    .send_bytes(request)
                    .await
                    .map_err(|error| self.unreached(error.as_ref()))?;
                self.answer(
                    response.status(),
                    response.headers(),
                    response.body(),
                    *logs,
                )
            }
            (Way::Grpc { logs, metadata, .. }, Parcel::Logs(request)) => {
                let request = with_metadata(request.clone(), metadata);
                let response = logs.clone().export(request).await;
                let response = response.map_err(|status| self.grpc_failure(&status))?;
                Ok(response.into_inner().accepted())
            }
            (
                Way::Grpc {
                    traces, metadata, ..
                },
                Parcel::Traces(request),
            ) => {
                let request = with_metadata(request.clone(), metadata);
                let response = traces.clone().export(request).await;
                let response = response.map_err(|status| self.grpc_failure(&status))?;
                Ok(response.into_inner().accepted())
            }
            // A parcel is made for the way it goes.
            _ => Err(never("a message of another protocol".to_owned())),
        }
    }

    /// What an answer over HTTP means, by the OTLP specification.
    fn answer(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        logs: bool,
    ) -> Result<Accepted, Failure> {
        if status.is_success() {
            // An answer that can't be read is that of something which is no collector.
            let accepted = if logs {
                ExportLogsServiceResponse::decode(body).map(|response| response.accepted())
            } else {
                ExportTraceServiceResponse::decode(body).map(|response| response.accepted())
            };
            return accepted
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
            && matches!(status.code(), Code::Unavailable | Code::Unknown)
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
        let mut cause = error;
        let mut timed_out = cause.is::<tokio::time::error::Elapsed>();
        while let Some(source) = cause.source() {
            cause = source;
            timed_out |= cause.is::<tokio::time::error::Elapsed>();
        }
        if timed_out {
            return self.no_answer();
        }
        let hint = match self.port {
            Some(4317) if matches!(self.way, Way::Http { .. }) => {
                "; port 4317 usually is gRPC's: grpc://"
            }
            Some(4318) if matches!(self.way, Way::Grpc { .. }) => {
                "; port 4318 usually is HTTP's: http://"
            }
            _ => "",
        };
        Failure {
            what: format!("{}{hint}", words(&cause.to_string())),
            retry: Retry::Unreached,
        }
    }

    fn no_answer(&self) -> Failure {
        let waited = render::duration(self.attempt.as_nanos() as u64);
        Failure {
            what: format!("no answer within {waited}"),
            retry: Retry::Soon,
        }
    }
}

/// What a collector's answer says of a batch that it took.
trait Answer {
    fn accepted(self) -> Accepted;
}

impl Answer for ExportLogsServiceResponse {
    fn accepted(self) -> Accepted {
        self.partial_success.map_or_else(Accepted::default, |part| {
            accepted(part.rejected_log_records, &part.error_message)
        })
    }
}

impl Answer for ExportTraceServiceResponse {
    fn accepted(self) -> Accepted {
        self.partial_success.map_or_else(Accepted::default, |part| {
            accepted(part.rejected_spans, &part.error_message)
        })
    }
}

fn accepted(refused: i64, message: &str) -> Accepted {
    Accepted {
        refused: u64::try_from(refused).unwrap_or(0),
        reason: Some(words(message)).filter(|words| !words.is_empty()),
    }
}

fn never(what: String) -> Failure {
    Failure {
        what,
        retry: Retry::Never,
    }
}

fn with_metadata<T>(message: T, metadata: &MetadataMap) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    *request.metadata_mut() = metadata.clone();
    request
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
    let line = render::escape(&line.join(" "));
    if line.chars().count() <= WORDS {
        return line;
    }
    line.chars().take(WORDS).chain(['…']).collect()
}
