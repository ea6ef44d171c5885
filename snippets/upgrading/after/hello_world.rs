// ANCHOR: program
//! Hello World, moved from hyper 0.14 to hyper 1.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::time::Duration;

// ANCHOR: visible
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;

async fn hello(
    _request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("Hello, World!\n")))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // ANCHOR_END: visible
    let address = env::args()
        .nth(1)
        .unwrap_or("127.0.0.1:3000".to_owned());
    // ANCHOR: visible
    let listener = TcpListener::bind(address).await?;
    println!(
        "listening on http://{}",
        listener.local_addr()?
    );
    let mut builder =
        auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
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
        let conn = builder
            .serve_connection(
                TokioIo::new(stream),
                service_fn(hello),
            )
            .into_owned();
        tokio::spawn(async move {
            if let Err(error) = conn.await {
                eprintln!("connection failed: {error}");
            }
        });
    }
}
// ANCHOR_END: visible
// ANCHOR_END: program
