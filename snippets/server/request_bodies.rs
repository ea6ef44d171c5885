// ANCHOR: program
//! A server that reads bodies: whole, frame by frame, line by line, and as multipart.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::fmt::Write;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use multer::Multipart;
use serde::{Deserialize, Serialize};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf,
};
use tokio::net::TcpListener;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::io::StreamReader;

type BoxError = Box<dyn Error + Send + Sync>;
type Answer = Response<Full<Bytes>>;

// ANCHOR: limits
/// A body that is kept in memory, and a body that is not.
pub const MAX_WHOLE: usize = 64 * 1024;
pub const MAX_STREAM: usize = 8 * 1024 * 1024;
/// The longest line of a body that is read line by line.
pub const MAX_LINE: u64 = 4 * 1024;
/// The longest pause of a client that sends a body, and the minimum rate.
pub const PAUSE: Duration = Duration::from_secs(5);
pub const BYTES_PER_SECOND: u32 = 2_000;
/// What is read and thrown away before a connection is closed.
pub const MAX_REST: usize = 64 * 1024 * 1024;
pub const REST_TIME: Duration = Duration::from_secs(5);
// ANCHOR_END: limits

// ANCHOR: routes
async fn answer(request: Request<Incoming>) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let answer = match (&head.method, head.uri.path()) {
        (&Method::POST, "/orders") => orders(&head.headers, body).await,
        (&Method::POST, "/size") => size(body).await,
        (&Method::POST, "/lines") => lines(body).await,
        (&Method::POST, "/photos") => photos(&head.headers, body).await,
        _ => Err(Refusal::new(StatusCode::NOT_FOUND, "no such page")),
    };
    Ok(answer.unwrap_or_else(Refusal::into_answer))
}
// ANCHOR_END: routes

fn text(text: String) -> Answer {
    Response::new(text.into())
}

// ANCHOR: limited
/// A body with limits of size and time.
fn limited(body: Incoming, max: usize) -> Result<Limited<Steady>, Refusal> {
    if body.size_hint().lower() > max as u64 {
        return Err(StatusCode::PAYLOAD_TOO_LARGE.into());
    }
    Ok(Limited::new(Steady::new(body), max))
}
// ANCHOR_END: limited

// ANCHOR: orders
#[derive(Deserialize, Serialize)]
struct Order {
    item: String,
    count: u32,
}

async fn orders(headers: &HeaderMap, body: Incoming) -> Result<Answer, Refusal> {
    let form = match media_type(headers).as_deref() {
        Some("application/json") => false,
        Some("application/x-www-form-urlencoded") => true,
        _ => return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE.into()),
    };
    let bytes = limited(body, MAX_WHOLE)?.collect().await?.to_bytes();
    let order: Order = if form {
        serde_urlencoded::from_bytes(&bytes).map_err(Refusal::bad)?
    } else {
        serde_json::from_slice(&bytes).map_err(Refusal::bad)?
    };
    let json = serde_json::to_vec(&order).map_err(Refusal::bad)?;
    let mut answer = Response::new(json.into());
    let value = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, value);
    Ok(answer)
}
// ANCHOR_END: orders

// ANCHOR: media_type
/// `application/json` from `Application/JSON; charset=utf-8`.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let (media_type, _parameters) = value.split_once(';').unwrap_or((value, ""));
    Some(media_type.trim().to_ascii_lowercase())
}
// ANCHOR_END: media_type

// ANCHOR: size
async fn size(body: Incoming) -> Result<Answer, Refusal> {
    let mut body = limited(body, MAX_STREAM)?;
    let (mut size, mut trailers) = (0, HeaderMap::new());
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => size += data.len(),
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    Ok(text(format!("{size} bytes, {} trailers\n", trailers.len())))
}
// ANCHOR_END: size

// ANCHOR: lines
async fn lines(body: Incoming) -> Result<Answer, Refusal> {
    let body = limited(body, MAX_STREAM)?.map_err(io::Error::other);
    let mut reader = StreamReader::new(body.into_data_stream());
    let (mut line, mut orders, mut items) = (Vec::new(), 0, 0);
    while next_line(&mut reader, &mut line).await? {
        let order: Order = serde_json::from_slice(&line)?;
        orders += 1;
        items += u64::from(order.count);
    }
    Ok(text(format!("{orders} orders, {items} items\n")))
}

/// Reads a line, or as much of it as is allowed. Returns false at the end.
async fn next_line(
    reader: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
) -> io::Result<bool> {
    line.clear();
    Ok(reader.take(MAX_LINE).read_until(b'\n', line).await? > 0)
}
// ANCHOR_END: lines

// ANCHOR: photos
async fn photos(headers: &HeaderMap, body: Incoming) -> Result<Answer, Refusal> {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let boundary = multer::parse_boundary(value.unwrap_or_default())
        .map_err(|_| StatusCode::UNSUPPORTED_MEDIA_TYPE)?;
    let body = limited(body, MAX_STREAM)?.into_data_stream();
    let mut form = Multipart::new(body, boundary);
    let mut report = String::new();
    while let Some(mut field) = form.next_field().await? {
        let mut size = 0;
        while let Some(piece) = field.chunk().await? {
            size += piece.len();
        }
        let name = field.name().unwrap_or("no name");
        writeln!(report, "{name}: {size} bytes")?;
    }
    Ok(text(report))
}
// ANCHOR_END: photos

// ANCHOR: refusal
/// Why a request gets no other answer.
struct Refusal {
    status: StatusCode,
    reason: String,
    /// Whether a part of the body may be unread.
    close: bool,
}

impl<E: Into<BoxError>> From<E> for Refusal {
    fn from(error: E) -> Refusal {
        let error = error.into();
        Refusal { status: status(&*error), reason: report(&*error), close: true }
    }
}
// ANCHOR_END: refusal

// ANCHOR: status
/// The status for an error of a body, which may be wrapped in others.
fn status(error: &(dyn Error + 'static)) -> StatusCode {
    if error.is::<LengthLimitError>() {
        return StatusCode::PAYLOAD_TOO_LARGE;
    }
    let io = error.downcast_ref::<io::Error>();
    if io.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
        return StatusCode::REQUEST_TIMEOUT;
    }
    let inner = io.and_then(io::Error::get_ref);
    match inner.map(|error| error as &(dyn Error + 'static)).or(error.source()) {
        Some(error) => status(error),
        None => StatusCode::BAD_REQUEST,
    }
}
// ANCHOR_END: status

fn main() {}
