// ANCHOR: program
//! A service of one's own, with state, on hyper 0.14.

extern crate hyper_014 as hyper;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use hyper::server::conn::Http;
use hyper::service::Service;
use hyper::{Body, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

// ANCHOR: service
/// Counts the requests of a connection.
struct Counter {
    count: usize,
}

impl Service<Request<Body>> for Counter {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        self.count += 1;
        let body = Body::from(self.count.to_string());
        ready(Ok(Response::new(body)))
    }
}
// ANCHOR_END: service

#[tokio::main]
async fn main() {
    let (mut client, io) = duplex(1024);
    let counter = Counter { count: 0 };
    let conn = Http::new().serve_connection(io, counter);
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
