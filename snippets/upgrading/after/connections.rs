// ANCHOR: program
//! One connection at a time on hyper 1: a builder for each version of HTTP.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{
    AsyncReadExt, AsyncWriteExt, DuplexStream, duplex,
};

type Done = Result<(), Box<dyn Error + Send + Sync>>;

async fn version(
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let version = format!("{:?}", request.version());
    Ok(Response::new(Full::from(version)))
}

// ANCHOR: either
async fn either(io: DuplexStream) -> Done {
    let mut builder =
        auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .keep_alive(false);
    builder.http2().max_concurrent_streams(50);
    builder
        .serve_connection(
            TokioIo::new(io),
            service_fn(version),
        )
        .await
}
// ANCHOR_END: either

// ANCHOR: http1
async fn http1(io: DuplexStream) -> hyper::Result<()> {
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .title_case_headers(true)
        .serve_connection(
            TokioIo::new(io),
            service_fn(version),
        )
        .await
}
// ANCHOR_END: http1

// ANCHOR: http2
async fn http2(io: DuplexStream) -> hyper::Result<()> {
    let executor = TokioExecutor::new();
    hyper::server::conn::http2::Builder::new(executor)
        .timer(TokioTimer::new())
        .max_concurrent_streams(50)
        .serve_connection(
            TokioIo::new(io),
            service_fn(version),
        )
        .await
}
// ANCHOR_END: http2

/// What a connection answers to these bytes.
async fn answer<E>(
    serve: impl Future<Output = Result<(), E>>,
    mut client: DuplexStream,
    bytes: &[u8],
) -> Vec<u8> {
    let talk = async move {
        client.write_all(bytes).await.unwrap();
        let mut answer = vec![0; 1024];
        let n = client.read(&mut answer).await.unwrap();
        answer.truncate(n);
        answer
    };
    tokio::join!(serve, talk).1
}

#[tokio::main]
async fn main() {
    let get = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    // The preface of HTTP/2, an empty SETTINGS frame.
    let preface =
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

    let (client, io) = duplex(1024);
    let text = answer(either(io), client, get).await;
    assert!(text.ends_with(b"HTTP/1.1"));
    let (client, io) = duplex(1024);
    let frames = answer(either(io), client, preface).await;
    assert_eq!(frames[3], 4, "a SETTINGS frame");

    let (client, io) = duplex(1024);
    let text = answer(http1(io), client, get).await;
    assert!(text.ends_with(b"HTTP/1.1"));
    let (client, io) = duplex(1024);
    let frames = answer(http2(io), client, preface).await;
    assert_eq!(frames[3], 4, "a SETTINGS frame");
}
// ANCHOR_END: program
