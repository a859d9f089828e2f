//! Records and spans on their way. They are encoded where they are made, so that what goes to the thread
//! that delivers is one piece of memory, as large as it says, and needs nothing more than an envelope.

use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_semantic_conventions::SCHEMA_URL;
use prost::Message;

use super::queue::{Counts, Queue};

/// How large a batch grows before it goes, bytes. With what fills it at last, and the envelope, it stays
/// below the 4 MiB that collectors take.
const BATCH_BYTES: usize = 1 << 20;

/// How long a record waits for others while the trace is live.
const BATCH_AGE: Duration = Duration::from_secs(1);

/// `ExportLogsServiceRequest.resource_logs` and `ExportTraceServiceRequest.resource_spans`: log records and
/// spans have the same envelope (opentelemetry/proto/{logs,trace}/v1 and collector/{logs,trace}/v1).
const RESOURCES: u8 = key(1);

/// `ResourceLogs.scope_logs` and `ResourceSpans.scope_spans`.
const SCOPES: u8 = key(2);

/// `ScopeLogs.log_records` and `ScopeSpans.spans`.
const ITEMS: u8 = key(2);

/// What stands before a field that has a length.
const fn key(field: u8) -> u8 {
    const LEN: u8 = 2;
    field << 3 | LEN
}

/// What a batch is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Log records.
    Logs,
    /// Spans.
    Spans,
}

/// What is delivered at once.
#[derive(Debug)]
pub(super) struct Batch {
    /// What it is made of.
    pub kind: Kind,
    /// How many.
    pub count: u64,
    /// Each as a field [`ITEMS`].
    pub items: Vec<u8>,
}

impl Batch {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            count: 0,
            items: Vec::new(),
        }
    }

    /// How many of each kind.
    pub fn counts(&self) -> Counts {
        Counts::of(self.kind, self.count)
    }
}

/// Gathers records and spans in batches.
pub(super) struct Packer {
    queue: Arc<Queue>,
    logs: Pack,
    spans: Pack,
}

impl Packer {
    /// Gathers for a queue.
    pub fn new(queue: Arc<Queue>) -> Self {
        Self {
            queue,
            logs: Pack::new(Kind::Logs),
            spans: Pack::new(Kind::Spans),
        }
    }

    /// Adds a record. Tells whether there is still somebody who delivers.
    pub fn log(&mut self, record: &LogRecord) -> bool {
        self.logs.add(record, &self.queue)
    }

    /// Adds a span. Tells whether there is still somebody who delivers.
    pub fn span(&mut self, span: &Span) -> bool {
        self.spans.add(span, &self.queue)
    }

    /// Lets go of what has waited long enough for others.
    pub fn tick(&mut self) {
        if self.logs.is_old() || self.spans.is_old() {
            self.flush();
        }
    }

    /// Lets go of everything. Tells whether there is still somebody who delivers.
    pub fn flush(&mut self) -> bool {
        let logs = self.logs.flush(&self.queue);
        let spans = self.spans.flush(&self.queue);
        logs && spans
    }
}

/// A batch that grows.
struct Pack {
    batch: Batch,
    since: Option<Instant>,
}

impl Pack {
    fn new(kind: Kind) -> Self {
        Self {
            batch: Batch::new(kind),
            since: None,
        }
    }

    fn add(&mut self, item: &impl Message, queue: &Queue) -> bool {
        self.since.get_or_insert_with(Instant::now);
        self.batch.items.push(ITEMS);
        // A vector has room: there is no error.
        let _grows = item.encode_length_delimited(&mut self.batch.items);
        self.batch.count += 1;
        self.batch.items.len() < BATCH_BYTES || self.flush(queue)
    }

    fn is_old(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= BATCH_AGE)
    }

    fn flush(&mut self, queue: &Queue) -> bool {
        let Self { mut batch, .. } = std::mem::replace(self, Self::new(self.batch.kind));
        // What the queue counts is what it holds.
        batch.items.shrink_to_fit();
        batch.count == 0 || queue.push(batch)
    }
}

/// What is the same in each message: whom it tells of, and who tells.
pub(super) struct Envelope {
    of_resource: Vec<u8>,
    of_scope: Vec<u8>,
}

impl Envelope {
    /// What is told of `resource`.
    pub fn new(resource: Resource) -> Self {
        let scope = InstrumentationScope {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let of_resource = ResourceLogs {
            resource: Some(resource),
            scope_logs: Vec::new(),
            schema_url: SCHEMA_URL.to_owned(),
        };
        let of_scope = ScopeLogs {
            scope: Some(scope),
            log_records: Vec::new(),
            schema_url: SCHEMA_URL.to_owned(),
        };
        Self {
            of_resource: of_resource.encode_to_vec(),
            of_scope: of_scope.encode_to_vec(),
        }
    }

    /// The message for a batch: an `ExportLogsServiceRequest`, or an `ExportTraceServiceRequest`.
    pub fn message(&self, batch: &Batch) -> Vec<u8> {
        let scope_bytes = self.of_scope.len() + batch.items.len();
        let nested_bytes = 1 + prost::length_delimiter_len(scope_bytes) + scope_bytes;
        let resource_bytes = self.of_resource.len() + nested_bytes;
        let mut message =
            Vec::with_capacity(1 + prost::length_delimiter_len(resource_bytes) + resource_bytes);
        begin(&mut message, RESOURCES, resource_bytes);
        message.extend_from_slice(&self.of_resource);
        begin(&mut message, SCOPES, scope_bytes);
        message.extend_from_slice(&self.of_scope);
        message.extend_from_slice(&batch.items);
        message
    }
}

/// Begins a field that has so many bytes.
fn begin(message: &mut Vec<u8>, key: u8, bytes: usize) {
    message.push(key);
    // A vector has room: there is no error.
    let _grows = prost::encode_length_delimiter(bytes, message);
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::KeyValue;

    use super::super::queue::Full;
    use super::*;

    fn batches(queue: &Queue) -> Vec<Batch> {
        queue.close(Instant::now());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let mut batches = Vec::new();
        runtime.block_on(async {
            while let Some(batch) = queue.next().await {
                queue.done(0, None);
                batches.push(batch);
            }
        });
        batches
    }

    fn resource() -> Resource {
        Resource {
            attributes: vec![KeyValue {
                key: "service.name".repeat(20),
                ..KeyValue::default()
            }],
            ..Resource::default()
        }
    }

    #[test]
    fn batches_are_bounded_and_what_is_left_goes_at_the_end() {
        let queue = Queue::new(usize::MAX, Full::Drop);
        let mut packer = Packer::new(Arc::clone(&queue));
        let long = LogRecord {
            severity_text: "x".repeat(BATCH_BYTES / 2),
            ..LogRecord::default()
        };
        for _ in 0..3 {
            assert!(packer.log(&long));
        }
        assert!(packer.span(&Span::default()));
        assert!(packer.flush() && packer.flush());
        let of: Vec<(Kind, u64)> = batches(&queue)
            .iter()
            .map(|batch| (batch.kind, batch.count))
            .collect();
        assert_eq!(of, [(Kind::Logs, 2), (Kind::Logs, 1), (Kind::Spans, 1)]);
    }

    #[test]
    fn a_message_is_what_the_schema_says() {
        let queue = Queue::new(usize::MAX, Full::Drop);
        let mut packer = Packer::new(Arc::clone(&queue));
        let logs: Vec<LogRecord> = (0..3)
            .map(|number| LogRecord {
                time_unix_nano: number,
                // Long enough for lengths of one byte and of more.
                event_name: "n".repeat(number as usize * 200),
                ..LogRecord::default()
            })
            .collect();
        let spans = vec![
            Span {
                name: "jail".to_owned(),
                ..Span::default()
            },
            Span::default(),
        ];
        for log in &logs {
            packer.log(log);
        }
        for span in &spans {
            packer.span(span);
        }
        packer.flush();
        let envelope = Envelope::new(resource());
        let batches = batches(&queue);
        let message = envelope.message(&batches[0]);
        assert_eq!(message.len(), message.capacity(), "one allocation");
        let request = ExportLogsServiceRequest::decode(&*message).expect("its schema");
        assert_eq!(request.encoded_len(), message.len(), "nothing else in it");
        let of_resource = &request.resource_logs[0];
        let of_scope = &of_resource.scope_logs[0];
        assert_eq!(of_resource.resource, Some(resource()));
        assert_eq!(of_resource.schema_url, SCHEMA_URL);
        assert_eq!(of_scope.schema_url, SCHEMA_URL);
        assert_eq!(of_scope.scope.as_ref().expect("a scope").name, "procjail");
        assert_eq!(of_scope.log_records, logs);

        let message = envelope.message(&batches[1]);
        let request = ExportTraceServiceRequest::decode(&*message).expect("its schema");
        assert_eq!(request.encoded_len(), message.len(), "nothing else in it");
        let of_resource = &request.resource_spans[0];
        assert_eq!(of_resource.resource, Some(resource()));
        assert_eq!(of_resource.schema_url, SCHEMA_URL);
        let of_scope = &of_resource.scope_spans[0];
        assert_eq!(of_scope.scope.as_ref().expect("a scope").name, "procjail");
        assert_eq!(of_scope.spans, spans);
    }
}
