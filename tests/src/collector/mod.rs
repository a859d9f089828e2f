//! A receiver of OTLP on the loopback interface, over HTTP and gRPC, that keeps what it gets and answers as
//! it is told: at once, late, never, with a failure, or in part.

mod sink;
mod tls;

use std::collections::VecDeque;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
    logs_service_server::{LogsService, LogsServiceServer},
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::codec::CompressionEncoding;

pub use tls::Authority;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, Default)]
pub enum Answer {
    /// It is taken.
    #[default]
    Take,
    /// It is taken, after a while.
    Late(Duration),
    /// It is never answered.
    Never,
    /// It fails with that HTTP status, or the gRPC status of the same meaning. With seconds after which to
    /// come again.
    Fail(u16, Option<u64>),
    /// So many of it are refused, and the rest is taken.
    Partly(i64),
}

/// What a collector got.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// Log records.
    pub logs: Vec<LogRecord>,
    /// Spans.
    pub spans: Vec<Span>,
    /// Attributes of the resource, of the last message.
    pub resource: Vec<KeyValue>,
    /// When each request came.
    pub requests: Vec<Instant>,
    /// Header `x-token`, of the last message.
    pub token: Option<String>,
    /// Largest message, bytes.
    pub largest: usize,
    /// How messages were compressed, those that were.
    pub compressed: Vec<String>,
}

/// A running receiver. It ends when it is dropped.
#[derive(Debug)]
pub struct Collector {
    shared: Arc<Shared>,
    http: SocketAddr,
    grpc: SocketAddr,
    end: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    received: Mutex<Received>,
    first: Mutex<VecDeque<Answer>>,
    then: Answer,
}

impl Collector {
    /// Listens on ports that are free.
    pub fn start() -> Self {
        Self::answering(&[], Answer::Take)
    }

    /// The same, for measuring who sends: what comes isn't looked into, and nothing is kept.
    pub fn blind() -> Self {
        Self::serving(Arc::default(), |_, http, grpc| async {
            tokio::join!(sink::serve(http), sink::serve(grpc));
        })
    }

    /// The same, with its answers to the first requests, and to all others.
    pub fn answering(first: &[Answer], then: Answer) -> Self {
        let shared = Arc::new(Shared {
            received: Mutex::default(),
            first: Mutex::new(first.iter().copied().collect()),
            then,
        });
        Self::serving(shared, |shared, http, grpc| async {
            tokio::join!(
                serve_http(http, Arc::clone(&shared)),
                serve_grpc(grpc, shared)
            );
        })
    }

    /// The same behind TLS, and only for clients that `authority` knows if it is `mutual`.
    pub fn behind_tls(authority: &Authority, mutual: bool) -> Self {
        let http_tls = authority.acceptor(mutual, "http/1.1");
        let grpc_tls = authority.acceptor(mutual, "h2");
        Self::serving(Arc::default(), |shared, http, grpc| async {
            let (http_inside, grpc_inside) = (listen().await, listen().await);
            tokio::join!(
                tls::front(http, http_tls, address(&http_inside)),
                tls::front(grpc, grpc_tls, address(&grpc_inside)),
                serve_http(http_inside, Arc::clone(&shared)),
                serve_grpc(grpc_inside, shared)
            );
        })
    }

    /// Listens on two ports that are free, and lets `serve` serve them until this is dropped.
    fn serving<F: Future<Output = ()>>(
        shared: Arc<Shared>,
        serve: impl FnOnce(Arc<Shared>, TcpListener, TcpListener) -> F + Send + 'static,
    ) -> Self {
        let (told, addresses) = std::sync::mpsc::channel();
        let (end, ended) = oneshot::channel();
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime");
                runtime.block_on(async {
                    let http = listen().await;
                    let grpc = listen().await;
                    told.send((address(&http), address(&grpc)))
                        .expect("somebody waits for the addresses");
                    tokio::select! {
                        () = serve(shared, http, grpc) => {}
                        _ = ended => {}
                    }
                });
            }
        });
        let (http, grpc) = addresses.recv().expect("the receiver listens");
        Self {
            shared,
            http,
            grpc,
            end: Some(end),
            thread: Some(thread),
        }
    }

    /// Its address for OTLP/HTTP.
    pub fn http(&self) -> String {
        format!("http://{}", self.http)
    }

    /// Its address for OTLP/gRPC.
    pub fn grpc(&self) -> String {
        format!("grpc://{}", self.grpc)
    }

    /// Both.
    pub fn addresses(&self) -> [String; 2] {
        [self.http(), self.grpc()]
    }

    /// What it got so far.
    pub fn received(&self) -> Received {
        lock(&self.shared.received).clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // What panicked in it has failed the test already.
            let _ = thread.join();
        }
    }
}

/// An address of this machine at which nobody listens.
pub fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a port")
}

fn address(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().expect("an address")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Notes a request, and tells what becomes of it once that is due.
    async fn answer(&self, token: Option<String>) -> Answer {
        {
            let mut received = lock(&self.received);
            received.requests.push(Instant::now());
            received.token = token;
        }
        let answer = lock(&self.first).pop_front().unwrap_or(self.then);
        match answer {
            Answer::Late(wait) => tokio::time::sleep(wait).await,
            Answer::Never => std::future::pending().await,
            _ => {}
        }
        answer
    }

    /// Notes how a message was compressed, if it was.
    fn compressed(&self, encoding: Option<&str>) {
        let mut received = lock(&self.received);
        received.compressed.extend(encoding.map(str::to_owned));
    }

    /// A body over HTTP without its compression.
    fn plain(&self, headers: &HeaderMap, body: Bytes) -> Vec<u8> {
        let encoding = headers.get(header::CONTENT_ENCODING);
        let encoding = encoding.and_then(|encoding| encoding.to_str().ok());
        self.compressed(encoding);
        if encoding != Some("gzip") {
            return body.into();
        }
        let mut plain = Vec::new();
        GzDecoder::new(&*body)
            .read_to_end(&mut plain)
            .expect("it is compressed");
        plain
    }

    fn logs(&self, request: ExportLogsServiceRequest) {
        let mut received = lock(&self.received);
        received.largest = received.largest.max(request.encoded_len());
        for resource in request.resource_logs {
            received.resource = resource.resource.unwrap_or_default().attributes;
            for scope in resource.scope_logs {
                received.logs.extend(scope.log_records);
            }
        }
    }

    fn spans(&self, request: ExportTraceServiceRequest) {
        let mut received = lock(&self.received);
        received.largest = received.largest.max(request.encoded_len());
        for resource in request.resource_spans {
            received.resource = resource.resource.unwrap_or_default().attributes;
            for scope in resource.scope_spans {
                received.spans.extend(scope.spans);
            }
        }
    }
}

/// What was refused of log records, if something was.
fn partly(answer: Answer) -> ExportLogsServiceResponse {
    ExportLogsServiceResponse {
        partial_success: match answer {
            Answer::Partly(rejected_log_records) => Some(ExportLogsPartialSuccess {
                rejected_log_records,
                error_message: "too old\nby far".to_owned(),
            }),
            _ => None,
        },
    }
}

async fn serve_http(listener: TcpListener, shared: Arc<Shared>) {
    let router = axum::Router::new()
        .route("/v1/logs", post(http_logs))
        .route("/v1/traces", post(http_traces))
        // As much as the official collector takes.
        .layer(DefaultBodyLimit::max(20 << 20))
        .with_state(shared);
    axum::serve(listener, router).await.expect("it serves");
}

async fn http_logs(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let answer = match http_answer(&shared, &headers).await {
        Ok(answer) => answer,
        Err(failure) => return failure,
    };
    let Ok(request) = ExportLogsServiceRequest::decode(&*shared.plain(&headers, body)) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    shared.logs(request);
    protobuf(&partly(answer))
}

async fn http_traces(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(failure) = http_answer(&shared, &headers).await {
        return failure;
    }
    let Ok(request) = ExportTraceServiceRequest::decode(&*shared.plain(&headers, body)) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    shared.spans(request);
    protobuf(&ExportTraceServiceResponse::default())
}

fn protobuf(message: &impl Message) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/x-protobuf")];
    (kind, message.encode_to_vec()).into_response()
}

async fn http_answer(shared: &Shared, headers: &HeaderMap) -> Result<Answer, Response> {
    if headers[header::CONTENT_TYPE] != "application/x-protobuf" {
        return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response());
    }
    let token = headers.get("x-token").and_then(|token| token.to_str().ok());
    match shared.answer(token.map(str::to_owned)).await {
        Answer::Fail(status, again) => {
            let status = StatusCode::from_u16(status).expect("a status");
            let mut response = (status, "no\u{1b}[31m room").into_response();
            if let Some(seconds) = again {
                response
                    .headers_mut()
                    .insert(header::RETRY_AFTER, seconds.into());
            }
            Err(response)
        }
        answer => Ok(answer),
    }
}

async fn serve_grpc(listener: TcpListener, shared: Arc<Shared>) {
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    tonic::transport::Server::builder()
        .add_service(
            LogsServiceServer::new(Grpc(Arc::clone(&shared)))
                .accept_compressed(CompressionEncoding::Gzip),
        )
        .add_service(
            TraceServiceServer::new(Grpc(shared)).accept_compressed(CompressionEncoding::Gzip),
        )
        .serve_with_incoming(incoming)
        .await
        .expect("it serves");
}

struct Grpc(Arc<Shared>);

impl Grpc {
    async fn answer<T>(&self, request: &tonic::Request<T>) -> Result<Answer, tonic::Status> {
        let token = request.metadata().get("x-token");
        let token = token.and_then(|token| token.to_str().ok());
        let encoding = request.metadata().get("grpc-encoding");
        self.0
            .compressed(encoding.and_then(|encoding| encoding.to_str().ok()));
        match self.0.answer(token.map(str::to_owned)).await {
            Answer::Fail(status, _) => Err(tonic::Status::new(
                match status {
                    429 | 502..=504 => tonic::Code::Unavailable,
                    401 => tonic::Code::Unauthenticated,
                    _ => tonic::Code::InvalidArgument,
                },
                "no\u{1b}[31m room",
            )),
            answer => Ok(answer),
        }
    }
}

#[tonic::async_trait]
impl LogsService for Grpc {
    async fn export(
        &self,
        request: tonic::Request<ExportLogsServiceRequest>,
    ) -> Result<tonic::Response<ExportLogsServiceResponse>, tonic::Status> {
        let answer = self.answer(&request).await?;
        self.0.logs(request.into_inner());
        Ok(tonic::Response::new(partly(answer)))
    }
}

#[tonic::async_trait]
impl TraceService for Grpc {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.answer(&request).await?;
        self.0.spans(request.into_inner());
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

/// An attribute as text; empty if there is none.
pub fn attribute(attributes: &[KeyValue], key: &str) -> String {
    attributes
        .iter()
        .find(|one| one.key == key)
        .and_then(|one| one.value.as_ref())
        .map(shown)
        .unwrap_or_default()
}

/// A value as text.
pub fn shown(value: &AnyValue) -> String {
    match &value.value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        Some(Value::ArrayValue(list)) => {
            let values: Vec<String> = list.values.iter().map(shown).collect();
            values.join(" ")
        }
        other => format!("{other:?}"),
    }
}
