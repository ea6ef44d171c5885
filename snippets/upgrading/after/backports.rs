// ANCHOR: program
//! What is left to do after the move to the backports of hyper 0.14.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::time::Duration;

// ANCHOR: service
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

async fn hello(
    _request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("Hello, World!\n")))
}
// ANCHOR_END: service

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = env::args()
        .nth(1)
        .unwrap_or("127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!(
        "listening on http://{}",
        listener.local_addr()?
    );
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _peer)) => stream,
            Err(error) => {
                eprintln!("accept failed: {error}");
                let pause = Duration::from_millis(100);
                tokio::time::sleep(pause).await;
                continue;
            }
        };
        // ANCHOR: serve
        let limit = Duration::from_secs(5);
        let io = TokioIo::new(stream);
        let conn = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limit)
            .serve_connection(io, service_fn(hello));
        // ANCHOR_END: serve
        tokio::spawn(async move {
            if let Err(error) = conn.await {
                eprintln!("connection failed: {error}");
            }
        });
    }
}
// ANCHOR_END: program
