// ANCHOR: program
//! A service of one's own, with state, on hyper 1.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

// ANCHOR: service
/// Counts the requests of a connection.
struct Counter {
    count: AtomicUsize,
}

impl Service<Request<Incoming>> for Counter {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn call(&self, _: Request<Incoming>) -> Self::Future {
        let before =
            self.count.fetch_add(1, Ordering::Relaxed);
        let body = Full::from((before + 1).to_string());
        ready(Ok(Response::new(body)))
    }
}
// ANCHOR_END: service

#[tokio::main]
async fn main() {
    let (mut client, io) = duplex(1024);
    let counter = Counter { count: AtomicUsize::new(0) };
    let io = TokioIo::new(io);
    let conn = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(io, counter);
    tokio::spawn(async { conn.await.ok() });

    let get = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    for count in ["1", "2"] {
        client.write_all(get).await.unwrap();
        let mut answer = [0; 1024];
        let n = client.read(&mut answer).await.unwrap();
        assert!(answer[..n].ends_with(count.as_bytes()));
    }
}
// ANCHOR_END: program
