// ANCHOR: program
//! A time limit on hyper 1: it needs a timer.

use std::convert::Infallible;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{
    AsyncReadExt, AsyncWriteExt, DuplexStream, duplex,
};

async fn hello(
    _request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("Hello, World!\n")))
}

// ANCHOR: serve
async fn serve(io: DuplexStream) -> hyper::Result<()> {
    let limit = Duration::from_millis(100);
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limit)
        .serve_connection(
            TokioIo::new(io),
            service_fn(hello),
        )
        .await
}
// ANCHOR_END: serve

// ANCHOR: panics
async fn panics(io: DuplexStream) -> hyper::Result<()> {
    let limit = Duration::from_millis(100);
    http1::Builder::new()
        .header_read_timeout(limit) // And no timer.
        .serve_connection(
            TokioIo::new(io),
            service_fn(hello),
        )
        .await
}
// ANCHOR_END: panics

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

    // Without a timer, the connection panics at once.
    let (mut client, io) = duplex(1024);
    let error = tokio::spawn(panics(io)).await.unwrap_err();
    let message =
        *error.into_panic().downcast::<String>().unwrap();
    assert_eq!(
        message,
        "timeout `header_read_timeout` set, but no timer set"
    );
    let end = client.read(&mut [0; 1]).await.unwrap();
    assert_eq!(
        end, 0,
        "the client sees a closed connection"
    );
}
// ANCHOR_END: program
