//! A receiver that takes everything and looks at nothing, for measuring who sends.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, Full};
use tokio::net::TcpListener;

/// Serves HTTP/1.1, which OTLP/HTTP uses, and HTTP/2, which gRPC uses.
pub(super) async fn serve(listener: TcpListener) {
    let router = Router::new().fallback(take);
    axum::serve(listener, router).await.expect("it serves");
}

async fn take(request: Request) -> Response {
    let kind = request.headers().get(header::CONTENT_TYPE).cloned();
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        if frame.is_err() {
            break;
        }
    }
    match kind {
        Some(kind) if kind == "application/grpc" => {
            // Not compressed, zero bytes: an answer with nothing in it. How it went is in the trailers.
            let answer = Full::new(Bytes::from_static(&[0; 5]));
            let trailers = HeaderMap::from_iter([(
                header::HeaderName::from_static("grpc-status"),
                HeaderValue::from_static("0"),
            )]);
            let body = answer.with_trailers(async { Some(Ok(trailers)) });
            ([(header::CONTENT_TYPE, kind)], Body::new(body)).into_response()
        }
        _ => [(header::CONTENT_TYPE, "application/x-protobuf")].into_response(),
    }
}
