//! A gRPC call with a message that is encoded already.

use http::uri::PathAndQuery;
use opentelemetry_http::Bytes;
use prost::bytes::{Buf, BufMut};
use tonic::client::Grpc;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// Calls a method once, and returns its answer, encoded.
///
/// # Errors
///
/// What the server says, or that it was not reached.
pub(super) async fn call(
    channel: &Channel,
    method: &'static str,
    metadata: &MetadataMap,
    compression: Option<CompressionEncoding>,
    message: Bytes,
) -> Result<Bytes, Status> {
    let mut client = Grpc::new(channel.clone());
    if let Some(compression) = compression {
        client = client.send_compressed(compression);
    }
    client
        .ready()
        .await
        .map_err(|error| Status::from_error(Box::new(error)))?;
    let request = Request::from_parts(metadata.clone(), Default::default(), message);
    let path = PathAndQuery::from_static(method);
    Ok(client.unary(request, path, Encoded).await?.into_inner())
}

/// Leaves messages as they are.
#[derive(Clone, Copy)]
struct Encoded;

impl Codec for Encoded {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
