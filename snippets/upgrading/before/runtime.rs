// ANCHOR: program
//! IO and executors on hyper 0.14: those of tokio, unless told otherwise.

extern crate hyper_014 as hyper;

use std::convert::Infallible;
use std::future::Future;

use hyper::rt::Executor;
use hyper::server::conn::Http;
use hyper::service::service_fn;
use hyper::{Body, Request, Response};
use tokio::io::{
    AsyncReadExt, AsyncWriteExt, DuplexStream, duplex,
};
use tokio::task::LocalSet;

async fn hello(
    _request: Request<Body>,
) -> Result<Response<Body>, Infallible> {
    Ok(Response::new(Body::from("Hello, World!\n")))
}

// ANCHOR: tokio
async fn serve(io: DuplexStream) -> hyper::Result<()> {
    Http::new()
        .http2_only(true)
        .serve_connection(io, service_fn(hello))
        .await
}
// ANCHOR_END: tokio

// ANCHOR: executor
#[derive(Clone)]
struct LocalExecutor;

impl<F: Future + 'static> Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async {
            future.await;
        });
    }
}

async fn serve_local(
    io: DuplexStream,
) -> hyper::Result<()> {
    Http::new()
        .with_executor(LocalExecutor)
        .http2_only(true)
        .serve_connection(io, service_fn(hello))
        .await
}
// ANCHOR_END: executor

/// The first frame of a connection over HTTP/2.
async fn first_frame(
    serve: impl Future<Output = hyper::Result<()>>,
    mut client: DuplexStream,
) -> [u8; 9] {
    let mut frame = [0; 9];
    let talk = async {
        // The preface of HTTP/2, an empty SETTINGS frame.
        let preface =
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        client.write_all(preface).await.unwrap();
        client.read_exact(&mut frame).await.unwrap();
    };
    tokio::select! {
        () = talk => {}
        _ = serve => {}
    }
    frame
}

#[tokio::main]
async fn main() {
    let (client, io) = duplex(1024);
    assert_eq!(first_frame(serve(io), client).await[3], 4);
    let (client, io) = duplex(1024);
    let local = first_frame(serve_local(io), client);
    let frame = LocalSet::new().run_until(local).await;
    assert_eq!(frame[3], 4);
}
// ANCHOR_END: program
