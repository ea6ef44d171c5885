// ANCHOR: program
//! A server for HTTP/1 and HTTP/2 on one port.

use std::convert::Infallible;
use std::env;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_LENGTH, HOST, HeaderValue};
use hyper::http::uri::Authority;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// From the connect to the head of the first request.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// HTTP/1: for each head; also how long a connection may be idle.
pub const HEAD: Duration = Duration::from_secs(5);
/// HTTP/2: a PING to a client that is silent for so long, and the time for the answer.
pub const PING_AFTER: Duration = Duration::from_secs(20);
pub const PING_ANSWER: Duration = Duration::from_secs(10);

// ANCHOR: service
async fn hello(
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, text) = match host(&request) {
        Some(host) => {
            (StatusCode::OK, format!("{:?} for {host}\n", request.version()))
        }
        None => (StatusCode::BAD_REQUEST, "400 Bad Request\n".to_owned()),
    };
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
    if request.method() != Method::HEAD {
        *response.body_mut() = Full::from(text);
    }
    Ok(response)
}
// ANCHOR_END: service

// ANCHOR: host
/// The host and the port that the client asked for.
fn host<B>(request: &Request<B>) -> Option<Authority> {
    let mut lines = request.headers().get_all(HOST).iter();
    let line = lines.next();
    if lines.next().is_some() {
        return None;
    }
    let host = match request.uri().authority() {
        Some(authority) => authority.clone(),
        None => line?.to_str().ok()?.parse().ok()?,
    };
    // `good.example@evil.example` is the host evil.example.
    (!host.as_str().contains('@')).then_some(host)
}
// ANCHOR_END: host

// ANCHOR: builder
pub fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_ANSWER);
    builder
}
// ANCHOR_END: builder

// ANCHOR: alpn
/// Over TLS, ALPN may have chosen the version. Otherwise the first bytes decide.
pub fn builder_for(alpn: Option<&[u8]>) -> auto::Builder<TokioExecutor> {
    match alpn {
        Some(b"h2") => builder().http2_only(),
        Some(_) => builder().http1_only(),
        None => builder(),
    }
}
// ANCHOR_END: alpn

// ANCHOR: serve
pub async fn serve<T>(
    stream: T,
    builder: auto::Builder<TokioExecutor>,
) -> Result<(), Error>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let begun = AtomicBool::new(false);
    let service = service_fn(|request| {
        begun.store(true, Relaxed);
        hello(request)
    });
    let mut conn = pin!(builder.serve_connection(TokioIo::new(stream), service));
    if let Ok(result) = timeout(FIRST_REQUEST, conn.as_mut()).await {
        return result;
    }
    if !begun.load(Relaxed) {
        let kind = io::ErrorKind::TimedOut;
        return Err(io::Error::new(kind, "no request in time").into());
    }
    conn.await
}
// ANCHOR_END: serve

// ANCHOR: accept
#[tokio::main]
async fn main() -> Result<(), Error> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);

    loop {
        let (stream, _peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                eprintln!("accept failed: {error}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        tokio::spawn(async move {
            if let Err(error) = serve(stream, builder_for(None)).await
                && !is_routine(&error)
            {
                eprintln!("connection failed: {}", report(&*error));
            }
        });
    }
}
// ANCHOR_END: accept

// ANCHOR: errors
/// Whether an error says only that the client has gone, or was idle.
pub fn is_routine(error: &Error) -> bool {
    let Some(error) = error.downcast_ref::<hyper::Error>() else {
        // The stream failed before the version was known, or `serve` gave up.
        return error.is::<io::Error>();
    };
    let source = std::error::Error::source(error);
    let stream_failed = source.is_some_and(|source| source.is::<io::Error>());
    !error.is_user()
        && (error.is_timeout() || error.is_incomplete_message() || stream_failed)
}
// ANCHOR_END: errors

pub fn report(error: &(dyn std::error::Error + 'static)) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", report(source)),
        None => error.to_string(),
    }
}
// ANCHOR_END: program
