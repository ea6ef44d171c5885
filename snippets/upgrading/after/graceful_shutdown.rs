// ANCHOR: program
//! "Gracefully Shutdown a Server", moved from hyper 0.14 to hyper 1. A request
//! is read to its end and takes half a second, so that there is something to
//! wait for.

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use std::convert::Infallible;
use std::env;
use std::pin::pin;
use std::time::Duration;
use tokio::net::TcpListener;

async fn hello_world(
    req: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    println!("a request");
    req.collect().await.ok();
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(Response::new("Hello, World".into()))
}

// ANCHOR: visible
async fn shutdown_signal() {
    // Wait for the CTRL+C signal
    tokio::signal::ctrl_c()
        .await
        .expect("failed to install CTRL+C signal handler");
}

#[tokio::main]
async fn main() {
    // ANCHOR_END: visible
    let addr = env::args()
        .nth(1)
        .unwrap_or("127.0.0.1:3000".to_owned());
    // ANCHOR: visible
    let listener = TcpListener::bind(addr)
        .await
        .expect("failed to bind");
    // ANCHOR_END: visible
    let address = listener.local_addr().unwrap();
    println!("listening on http://{address}");
    // ANCHOR: visible
    let mut builder =
        auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(2));
    let graceful = GracefulShutdown::new();
    let mut signal = pin!(shutdown_signal());
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _peer)) => stream,
                Err(e) => {
                    eprintln!("accept error: {e}");
                    let pause = Duration::from_millis(100);
                    tokio::time::sleep(pause).await;
                    continue;
                }
            },
            () = &mut signal => break,
        };
        let conn = builder
            .serve_connection(
                TokioIo::new(stream),
                service_fn(hello_world),
            )
            .into_owned();
        let conn = graceful.watch(conn);
        tokio::spawn(async move {
            if let Err(e) = conn.await {
                eprintln!("connection error: {e}");
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
}
// ANCHOR_END: visible
// ANCHOR_END: program
