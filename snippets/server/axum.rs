// ANCHOR: program
//! axum's Router, served by hyper, with the limits that `axum::serve` does not set.

use std::env;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
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
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tower_http::timeout::TimeoutLayer;

/// Connections at a time. Stay well below `ulimit -n`.
pub const MAX_CONNECTIONS: usize = 64;
/// From the connect to the head of the first request.
pub const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// HTTP/1: for each head; also how long a connection may be idle.
pub const HEAD: Duration = Duration::from_secs(5);
/// HTTP/2: a PING after this long without a request or its body.
pub const PING_AFTER: Duration = Duration::from_secs(20);
/// How long the work for one request may take.
pub const HANDLER: Duration = Duration::from_secs(2);

type Error = Box<dyn std::error::Error + Send + Sync>;

// ANCHOR: router
pub fn router() -> Router {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    Router::new()
        .route("/", get(async || "Hello, World!\n"))
        .route("/ip", get(ip))
        .route("/slow", get(async || sleep(Duration::from_secs(3600)).await))
        .layer(TimeoutLayer::with_status_code(status, HANDLER))
        .with_state(())
}

async fn ip(ConnectInfo(peer): ConnectInfo<SocketAddr>) -> String {
    format!("your address is {}\n", peer.ip())
}
// ANCHOR_END: router

// ANCHOR: builder
pub fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_AFTER)
        .enable_connect_protocol();
    builder
}
// ANCHOR_END: builder

// ANCHOR: serve
pub async fn serve(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    peer: SocketAddr,
    router: Router,
) -> Result<(), Error> {
    let begun = Arc::new(AtomicBool::new(false));
    let router = TowerToHyperService::new(router);
    let service = service_fn({
        let begun = begun.clone();
        move |mut request: Request<Incoming>| {
            begun.store(true, Relaxed);
            request.extensions_mut().insert(ConnectInfo(peer));
            router.call(request)
        }
    });
    let io = TokioIo::new(stream);
    let builder = builder();
    let mut conn = pin!(builder.serve_connection_with_upgrades(io, service));
    // ANCHOR_END: serve

    // ANCHOR: first
    if let Ok(result) = timeout(FIRST_REQUEST, conn.as_mut()).await {
        return result;
    }
    if !begun.load(Relaxed) {
        return Err("no request in time".into());
    }
    conn.await
    // ANCHOR_END: first
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);

    // ANCHOR: accept
    let router = router();
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
        let router = router.clone();
        tokio::spawn(async move {
            if let Err(error) = serve(stream, peer, router).await {
                eprintln!("connection from {peer} failed: {error}");
            }
            drop(slot);
        });
    }
    // ANCHOR_END: accept
}
// ANCHOR_END: program
