// ANCHOR: program
//! A time limit on hyper 0.14: tokio's timer is always there.

extern crate hyper_014 as hyper;

use std::convert::Infallible;
use std::time::Duration;

use hyper::server::conn::Http;
use hyper::service::service_fn;
use hyper::{Body, Request, Response};
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

async fn hello(
    _request: Request<Body>,
) -> Result<Response<Body>, Infallible> {
    Ok(Response::new(Body::from("Hello, World!\n")))
}

// ANCHOR: serve
async fn serve(io: DuplexStream) -> hyper::Result<()> {
    let limit = Duration::from_millis(100);
    Http::new()
        .http1_header_read_timeout(limit)
        .serve_connection(io, service_fn(hello))
        .await
}
// ANCHOR_END: serve

#[tokio::main]
async fn main() {
    // A client that begins a request and goes silent is cut off.
    let (mut client, io) = duplex(1024);
    client
        .write_all(b"GET / HTTP/1.1\r\nho")
        .await
        .unwrap();
    let error = serve(io).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "read header from client timeout"
    );
}
// ANCHOR_END: program
