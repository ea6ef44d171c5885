// ANCHOR: program
//! A server that reads request bodies, as JSON and frame by frame, and refuses some.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::time::{Instant, Sleep, sleep, timeout_at};

type BoxError = Box<dyn Error + Send + Sync>;
type Answer = Response<Full<Bytes>>;

// ANCHOR: limits
/// For a body that is kept in memory, and for one that is not.
pub const MAX_JSON: usize = 64 * 1024;
pub const MAX_UPLOAD: usize = 8 * 1024 * 1024;
/// The longest pause of a client that sends a body, and the minimum rate.
pub const PAUSE: Duration = Duration::from_secs(5);
pub const BYTES_PER_SECOND: u64 = 2_000;
/// What is read and thrown away after the last response of a connection.
pub const MAX_REST: usize = 64 * 1024 * 1024;
pub const REST_TIME: Duration = Duration::from_secs(5);
// ANCHOR_END: limits

// ANCHOR: answer
async fn answer(request: Request<Incoming>) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let result = match (&head.method, head.uri.path()) {
        (&Method::POST, "/orders") => order(&head.headers, body).await,
        (&Method::POST, "/uploads") => upload(body).await,
        _ => Err(Refusal::new(StatusCode::NOT_FOUND, "no such page")),
    };
    Ok(result.unwrap_or_else(|refusal| {
        let path = head.uri.path().escape_debug();
        eprintln!("{} {path}: {:?}", head.method, refusal.reason);
        refusal.into_response()
    }))
}
// ANCHOR_END: answer

// ANCHOR: read
/// Passes each piece of a body to `take`. Returns the trailers.
async fn read(
    body: Incoming,
    max: usize,
    mut take: impl FnMut(Bytes),
) -> Result<HeaderMap, Refusal> {
    if body.size_hint().lower() > max as u64 {
        return Err(Refusal::too_large());
    }
    let mut body = Limited::new(body, max);
    let start = Instant::now() + PAUSE;
    let (mut size, mut trailers) = (0, HeaderMap::new());
    // ANCHOR_END: read
    // ANCHOR: frames
    loop {
        let earned = Duration::from_secs(size / BYTES_PER_SECOND);
        let deadline = (start + earned).min(Instant::now() + PAUSE);
        let frame = match timeout_at(deadline, body.frame()).await {
            Ok(Some(frame)) => frame.map_err(Refusal::unreadable)?,
            Ok(None) => return Ok(trailers),
            Err(_) => return Err(Refusal::too_slow()),
        };
        match frame.into_data() {
            Ok(data) => {
                size += data.len() as u64;
                take(data);
            }
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    // ANCHOR_END: frames
}

// ANCHOR: order
#[derive(Deserialize, Serialize)]
struct Order {
    item: String,
    count: u32,
}

async fn order(headers: &HeaderMap, body: Incoming) -> Result<Answer, Refusal> {
    if media_type(headers).as_deref() != Some("application/json") {
        let reason = "send application/json";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason));
    }
    let mut json = Vec::new();
    read(body, MAX_JSON, |piece| json.extend(piece)).await?;
    let order: Order = serde_json::from_slice(&json).map_err(Refusal::bad)?;
    let answer = serde_json::to_vec(&order).map_err(Refusal::bad)?;
    Ok(response(StatusCode::CREATED, "application/json", answer))
}
// ANCHOR_END: order

// ANCHOR: media_type
/// `application/json` from `Application/JSON; charset=utf-8`.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let (media_type, _parameters) = value.split_once(';').unwrap_or((value, ""));
    Some(media_type.trim().to_ascii_lowercase())
}
// ANCHOR_END: media_type

// ANCHOR: upload
async fn upload(body: Incoming) -> Result<Answer, Refusal> {
    let mut size = 0;
    let trailers = read(body, MAX_UPLOAD, |piece| size += piece.len()).await?;
    let mut text = format!("{size} bytes\n");
    if let Some(checksum) = trailers.get("checksum") {
        text += &format!("checksum {checksum:?}\n");
    }
    Ok(response(StatusCode::OK, TEXT, text))
}
// ANCHOR_END: upload

// ANCHOR: refusal
/// Why a request is not served.
struct Refusal {
    status: StatusCode,
    reason: String,
}

impl Refusal {
    fn unreadable(error: BoxError) -> Refusal {
        if error.is::<LengthLimitError>() {
            return Refusal::too_large();
        }
        Refusal::new(StatusCode::BAD_REQUEST, report(&*error))
    }

    fn into_response(self) -> Answer {
        let mut response = response(self.status, TEXT, self.reason + "\n");
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        response
    }
}
// ANCHOR_END: refusal

impl Refusal {
    fn new(status: StatusCode, reason: impl Into<String>) -> Refusal {
        Refusal { status, reason: reason.into() }
    }

    fn bad(error: serde_json::Error) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, error.to_string())
    }

    fn too_large() -> Refusal {
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large")
    }

    fn too_slow() -> Refusal {
        Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body is too slow")
    }
}

const TEXT: &str = "text/plain; charset=utf-8";

fn response(
    status: StatusCode,
    media_type: &'static str,
    body: impl Into<Bytes>,
) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let value = HeaderValue::from_static(media_type);
    response.headers_mut().insert(CONTENT_TYPE, value);
    response
}

pub fn report(error: &(dyn Error + 'static)) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", report(source)),
        None => error.to_string(),
    }
}

// ANCHOR: linger
/// Reads on for a while after the last response, so that it arrives.
pub struct Linger<T> {
    io: T,
    rest: usize,
    /// None until the last response is sent.
    deadline: Option<Pin<Box<Sleep>>>,
    /// The client has been told that nothing more will come.
    closed: bool,
}

impl<T: AsyncRead + Unpin> Linger<T> {
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [0; 16 * 1024];
        while self.rest > 0 {
            let mut bytes = ReadBuf::new(&mut bytes);
            let result = ready!(Pin::new(&mut self.io).poll_read(cx, &mut bytes));
            if result.is_err() || bytes.filled().is_empty() {
                break;
            }
            self.rest = self.rest.saturating_sub(bytes.filled().len());
        }
        Poll::Ready(())
    }
}
// ANCHOR_END: linger

impl<T> Linger<T> {
    pub fn new(io: T) -> Self {
        Linger { io, rest: MAX_REST, deadline: None, closed: false }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Linger<T> {
    // ANCHOR: shutdown
    /// hyper calls this when it has sent its last response.
    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let deadline =
            this.deadline.get_or_insert_with(|| Box::pin(sleep(REST_TIME)));
        if deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if !this.closed {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
            this.closed = true;
        }
        this.poll_rest(cx).map(Ok)
    }
    // ANCHOR_END: shutdown

    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Linger<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

// ANCHOR: serve
pub async fn serve<T>(stream: T) -> hyper::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(5))
        .serve_connection(TokioIo::new(Linger::new(stream)), service_fn(answer))
        .await
}
// ANCHOR_END: serve

#[tokio::main]
async fn main() -> Result<(), BoxError> {
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
            if let Err(error) = serve(stream).await {
                eprintln!("connection failed: {}", report(&error));
            }
        });
    }
}
// ANCHOR_END: program
