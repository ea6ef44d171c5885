// ANCHOR: program
//! The accept loop of hyper 1 on hyper 0.14, by its feature `backports`.

extern crate hyper_014 as hyper;

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::time::Duration;

// ANCHOR: service
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Body, Request, Response};
use tokio::net::TcpListener;

async fn hello(
    _request: Request<Body>,
) -> Result<Response<Body>, Infallible> {
    Ok(Response::new(Body::from("Hello, World!\n")))
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
        let conn = http1::Builder::new()
            .header_read_timeout(limit)
            .serve_connection(stream, service_fn(hello));
        // ANCHOR_END: serve
        tokio::spawn(async move {
            if let Err(error) = conn.await {
                eprintln!("connection failed: {error}");
            }
        });
    }
}
// ANCHOR_END: program
