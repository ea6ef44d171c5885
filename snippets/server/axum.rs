// ANCHOR: program
//! axum's Router, served by hyper, with the limits that `axum::serve` does not set.

use std::env;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::StatusCode;
use axum::routing::get;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tower_http::timeout::TimeoutLayer;

/// Connections at a time.
pub const MAX_CONNECTIONS: usize = 64;

// ANCHOR: router
pub fn router() -> Router {
    let timeout = TimeoutLayer::with_status_code(
        StatusCode::SERVICE_UNAVAILABLE,
        Duration::from_secs(2),
    );
    Router::new()
        .route("/", get(async || "Hello, World!\n"))
        .route("/peer", get(peer))
        .layer(timeout)
}

async fn peer(ConnectInfo(peer): ConnectInfo<SocketAddr>) -> String {
    format!("you are {}\n", peer.ip())
}
// ANCHOR_END: router

// ANCHOR: builder
pub fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(5));
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .enable_connect_protocol();
    builder
}
// ANCHOR_END: builder

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);

    // ANCHOR: serve
    let builder = builder();
    let router = TowerToHyperService::new(router());
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let slot = slots.clone().acquire_owned().await?;
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                eprintln!("accept failed: {error}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (builder, router) = (builder.clone(), router.clone());
        tokio::spawn(async move {
            let service = service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(ConnectInfo(peer));
                router.call(request)
            });
            let conn =
                builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
            if let Err(error) = conn.await {
                eprintln!("connection from {peer} failed: {error}");
            }
            drop(slot);
        });
    }
    // ANCHOR_END: serve
}
// ANCHOR_END: program
