// ANCHOR: program
//! A server that speaks HTTP/2 only.

use std::convert::Infallible;
use std::env;
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use http_body_util::channel::Channel;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderValue;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{sleep, timeout};

/// Connections at a time. Stay well below `ulimit -n`.
pub const MAX_CONNECTIONS: usize = 64;
/// From the connect to the head of the first request.
const FIRST_REQUEST: Duration = Duration::from_secs(5);
/// When a connection must end, and the time for its last responses.
const MAX_AGE: Duration = Duration::from_secs(10 * 60);
const LAST_RESPONSES: Duration = Duration::from_secs(30);
/// A request body: its size, and the time it may take.
const MAX_BODY: usize = 1024 * 1024;
const BODY: Duration = Duration::from_secs(10);

type Error = Box<dyn std::error::Error + Send + Sync>;
type Body = BoxBody<Bytes, Infallible>;

// ANCHOR: windows
/// Requests at a time on one connection.
pub const MAX_STREAMS: u32 = 20;
/// Bytes of a body that may arrive before the handler reads them.
pub const STREAM_WINDOW: u32 = 64 * 1024;
// ANCHOR_END: windows

// ANCHOR: builder
pub fn builder() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(8 * 1024)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(MAX_STREAMS * STREAM_WINDOW)
        .max_send_buf_size(64 * 1024);
    builder
}
// ANCHOR_END: builder

pub async fn handle(
    request: Request<Incoming>,
    leave: Arc<Notify>,
) -> Result<Response<Body>, Error> {
    Ok(match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => {
            let host = request.uri().host().unwrap_or_default();
            let version = request.version();
            text(StatusCode::OK, format!("{version:?} to {host}\n"))
        }
        (&Method::GET, "/slow") => {
            sleep(Duration::from_secs(1)).await;
            text(StatusCode::OK, "that took a second\n")
        }
        (&Method::GET, "/fail") => return Err("the handler gave up".into()),
        (&Method::GET, "/leave") => {
            leave.notify_one();
            text(StatusCode::OK, "use another connection, please\n")
        }
        (&Method::GET, "/download") => Response::new(download()),
        (&Method::POST, "/upload") => upload(request.into_body()).await,
        _ => text(StatusCode::NOT_FOUND, "no such page\n"),
    })
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(text.into()).boxed());
    *response.status_mut() = status;
    response
}

async fn upload(body: Incoming) -> Response<Body> {
    let body = Limited::new(body, MAX_BODY);
    let body = match timeout(BODY, body.collect()).await {
        Ok(Ok(body)) => body,
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return text(StatusCode::PAYLOAD_TOO_LARGE, "too large\n");
        }
        Ok(Err(_)) => return text(StatusCode::BAD_REQUEST, "broken off\n"),
        Err(_) => return text(StatusCode::REQUEST_TIMEOUT, "too slow\n"),
    };
    // ANCHOR: sum
    let expected = body.trailers().and_then(|trailers| trailers.get("sum")).cloned();
    let bytes = body.to_bytes();
    let sum = HeaderValue::from(bytes.iter().map(|&b| u64::from(b)).sum::<u64>());
    if expected.is_some_and(|expected| expected != sum) {
        return text(StatusCode::BAD_REQUEST, "the sum is wrong\n");
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("sum", sum);
    let body = Full::from(format!("{} bytes\n", bytes.len()));
    Response::new(body.with_trailers(async { Some(Ok(trailers)) }).boxed())
    // ANCHOR_END: sum
}

// ANCHOR: download
/// 1,024 pieces of 64 KiB.
fn download() -> Body {
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
    tokio::spawn(async move {
        for _ in 0..1024 {
            let piece = Bytes::from_static(&[b'.'; 64 * 1024]);
            if sender.send_data(piece).await.is_err() {
                return;
            }
        }
    });
    body.boxed()
}
// ANCHOR_END: download

// ANCHOR: serve
pub async fn serve<T>(stream: T, leave: Arc<Notify>) -> Result<(), Error>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let begun = Arc::new(AtomicBool::new(false));
    let service = service_fn({
        let (begun, leave) = (begun.clone(), leave.clone());
        move |request| {
            begun.store(true, Relaxed);
            handle(request, leave.clone())
        }
    });
    let mut conn = pin!(builder().serve_connection(TokioIo::new(stream), service));
    // ANCHOR_END: serve

    // ANCHOR: select
    let no_request = async {
        sleep(FIRST_REQUEST).await;
        if begun.load(Relaxed) {
            pending().await
        }
    };
    tokio::select! {
        result = conn.as_mut() => return Ok(result?),
        () = no_request => return Err("no request in time".into()),
        () = leave.notified() => {}
        () = sleep(MAX_AGE) => {}
    }
    // ANCHOR_END: select

    // ANCHOR: leave
    conn.as_mut().graceful_shutdown();
    match timeout(LAST_RESPONSES, conn).await {
        Ok(result) => Ok(result?),
        Err(_) => Err("closed before the last response".into()),
    }
    // ANCHOR_END: leave
}

pub fn report(error: &(dyn std::error::Error + 'static)) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", report(source)),
        None => error.to_string(),
    }
}

pub async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _peer)) => {
                stream.set_nodelay(true).ok();
                return stream;
            }
            Err(error) => {
                eprintln!("accept failed: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);

    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let slot = slots.clone().acquire_owned().await?;
        let stream = accept(&listener).await;
        tokio::spawn(async move {
            if let Err(error) = serve(stream, Arc::new(Notify::new())).await {
                eprintln!("connection failed: {}", report(&*error));
            }
            drop(slot);
        });
    }
}
// ANCHOR_END: program
