// ANCHOR: program
//! One connection at a time on hyper 0.14: `Http`.

extern crate hyper_014 as hyper;

use std::convert::Infallible;
use std::future::Future;

use hyper::server::conn::Http;
use hyper::service::service_fn;
use hyper::{Body, Request, Response};
use tokio::io::{
    AsyncReadExt, AsyncWriteExt, DuplexStream, duplex,
};

async fn version(
    request: Request<Body>,
) -> Result<Response<Body>, Infallible> {
    let version = format!("{:?}", request.version());
    Ok(Response::new(Body::from(version)))
}

// ANCHOR: either
async fn either(io: DuplexStream) -> hyper::Result<()> {
    Http::new()
        .http1_keep_alive(false)
        .http2_max_concurrent_streams(50)
        .serve_connection(io, service_fn(version))
        .await
}
// ANCHOR_END: either

// ANCHOR: http1
async fn http1(io: DuplexStream) -> hyper::Result<()> {
    Http::new()
        .http1_only(true)
        .http1_keep_alive(false)
        .http1_title_case_headers(true)
        .serve_connection(io, service_fn(version))
        .await
}
// ANCHOR_END: http1

// ANCHOR: http2
async fn http2(io: DuplexStream) -> hyper::Result<()> {
    Http::new()
        .http2_only(true)
        .http2_max_concurrent_streams(50)
        .serve_connection(io, service_fn(version))
        .await
}
// ANCHOR_END: http2

/// What a connection answers to these bytes.
async fn answer(
    serve: impl Future<Output = hyper::Result<()>>,
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
