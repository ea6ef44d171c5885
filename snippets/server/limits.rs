// ANCHOR: program
//! A server that bounds each wait that a client can prolong.

use std::convert::Infallible;
use std::env;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep, sleep, timeout, timeout_at};

// ANCHOR: limits
/// Connections at a time. Stay well below `ulimit -n`.
pub const MAX_CONNECTIONS: usize = 64;
/// From the connect to the head of the first request.
pub const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// HTTP/1: for each head; also how long a connection may be idle.
pub const HEAD: Duration = Duration::from_secs(5);
/// HTTP/2: a PING after this long without a request or its body, and the time
/// for the answer.
pub const PING_AFTER: Duration = Duration::from_secs(20);
pub const PING_ANSWER: Duration = Duration::from_secs(10);
/// HTTP/2: requests at a time on one connection. Each may hold a body.
pub const MAX_STREAMS: u32 = 20;
/// A request body: its size, the longest pause, and the minimum rate as a whole.
pub const MAX_BODY: usize = 1024 * 1024;
pub const BODY_PAUSE: Duration = Duration::from_secs(5);
pub const BODY_BYTES_PER_SECOND: u64 = 2_000;
/// How long the work for one request may take.
pub const HANDLER: Duration = Duration::from_secs(5);
/// How long a client may take nothing of what we write.
pub const WRITE_STALL: Duration = Duration::from_secs(10);
/// When a connection must end, and the time for its last responses.
pub const MAX_AGE: Duration = Duration::from_secs(10 * 60);
pub const LAST_RESPONSES: Duration = Duration::from_secs(30);
// ANCHOR_END: limits

type Error = Box<dyn std::error::Error + Send + Sync>;
type Body = BoxBody<Bytes, Infallible>;

// ANCHOR: write_stall
/// Fails a write that has made no progress for some time.
pub struct WriteStall<T> {
    io: T,
    limit: Duration,
    /// Counts only while a write is `waiting`.
    timer: Pin<Box<Sleep>>,
    waiting: bool,
}

impl<T> WriteStall<T> {
    pub fn new(io: T, limit: Duration) -> Self {
        WriteStall { io, limit, timer: Box::pin(sleep(limit)), waiting: false }
    }
}
// ANCHOR_END: write_stall

// ANCHOR: check
impl<T> WriteStall<T> {
    fn check<R>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if result.is_ready() {
            self.waiting = false;
            return result;
        }
        if !self.waiting {
            self.waiting = true;
            self.timer.as_mut().reset(Instant::now() + self.limit);
        }
        let stalled =
            || io::Error::new(io::ErrorKind::TimedOut, "the client does not read");
        self.timer.as_mut().poll(cx).map(|()| Err(stalled()))
    }
}
// ANCHOR_END: check

// ANCHOR: write
impl<T: AsyncWrite + Unpin> AsyncWrite for WriteStall<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.check(cx, result)
    }
    // ANCHOR_END: write

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, bytes);
        self.check(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_flush(cx);
        self.check(cx, result)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_shutdown(cx);
        self.check(cx, result)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for WriteStall<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

// ANCHOR: body
async fn read(body: Incoming) -> Result<Bytes, StatusCode> {
    let start = Instant::now() + BODY_PAUSE;
    let mut body = Limited::new(body, MAX_BODY);
    let mut bytes = Vec::new();
    loop {
        let earned = Duration::from_secs(bytes.len() as u64 / BODY_BYTES_PER_SECOND);
        let pause = Instant::now() + BODY_PAUSE;
        match timeout_at(pause.min(start + earned), body.frame()).await {
            Ok(Some(Ok(frame))) => {
                bytes.extend(frame.into_data().unwrap_or_default());
            }
            Ok(Some(Err(error))) if error.is::<LengthLimitError>() => {
                return Err(StatusCode::PAYLOAD_TOO_LARGE);
            }
            Ok(Some(Err(_))) => return Err(StatusCode::BAD_REQUEST),
            Ok(None) => return Ok(bytes.into()),
            Err(_) => return Err(StatusCode::REQUEST_TIMEOUT),
        }
    }
}
// ANCHOR_END: body

// ANCHOR: service
async fn limited(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let response = match read(body).await {
        Ok(bytes) => timeout(HANDLER, handle(Request::from_parts(head, bytes)))
            .await
            .unwrap_or_else(|_| refuse(StatusCode::SERVICE_UNAVAILABLE)),
        Err(status) => refuse(status),
    };
    Ok(response)
}

fn refuse(status: StatusCode) -> Response<Body> {
    let mut response = text(status, format!("{status}\n"));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
// ANCHOR_END: service

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(text.into()).boxed());
    *response.status_mut() = status;
    response
}

/// What this server is for. It has the whole body, and knows of no limit.
async fn handle(request: Request<Bytes>) -> Response<Body> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => text(StatusCode::OK, "Hello, World!\n"),
        (&Method::GET, "/download") => Response::new(Download(1024).boxed()),
        (&Method::GET, "/slow") => {
            sleep(Duration::from_secs(3600)).await;
            text(StatusCode::OK, "that took an hour\n")
        }
        (&Method::POST, "/upload") => {
            text(StatusCode::OK, format!("{} bytes\n", request.body().len()))
        }
        _ => text(StatusCode::NOT_FOUND, "no such page\n"),
    }
}

/// A body of `n` pieces of 64 KiB, made as fast as the client reads.
struct Download(usize);

impl hyper::body::Body for Download {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(left) = self.0.checked_sub(1) else { return Poll::Ready(None) };
        self.0 = left;
        let piece = Bytes::from_static(&[b'.'; 64 * 1024]);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

// ANCHOR: builder
pub fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_ANSWER);
    builder
}
// ANCHOR_END: builder

// ANCHOR: serve
pub async fn serve<T>(stream: T) -> Result<(), Error>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let begun = Arc::new(AtomicBool::new(false));
    let service = service_fn({
        let begun = begun.clone();
        move |request| {
            begun.store(true, Relaxed);
            limited(request)
        }
    });
    let io = TokioIo::new(WriteStall::new(stream, WRITE_STALL));
    let builder = builder();
    let mut conn = pin!(builder.serve_connection(io, service));
    // ANCHOR_END: serve

    // ANCHOR: first
    if let Ok(result) = timeout(FIRST_REQUEST, conn.as_mut()).await {
        return result;
    }
    if !begun.load(Relaxed) {
        return Err("no request in time".into());
    }
    // ANCHOR_END: first

    // ANCHOR: age
    if let Ok(result) = timeout(MAX_AGE - FIRST_REQUEST, conn.as_mut()).await {
        return result;
    }
    conn.as_mut().graceful_shutdown();
    timeout(LAST_RESPONSES, conn)
        .await
        .unwrap_or_else(|_| Err("closed at its maximum age".into()))
    // ANCHOR_END: age
}

pub fn report(error: &(dyn std::error::Error + 'static)) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", report(source)),
        None => error.to_string(),
    }
}

// ANCHOR: accept
#[tokio::main]
async fn main() -> Result<(), Error> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);

    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let slot = slots.clone().acquire_owned().await?;
        let (stream, _peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                eprintln!("accept failed: {error}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        tokio::spawn(async move {
            if let Err(error) = serve(stream).await {
                eprintln!("connection failed: {}", report(&*error));
            }
            drop(slot);
        });
    }
}
// ANCHOR_END: accept
// ANCHOR_END: program
