// ANCHOR: program
//! A server that reads forms, multipart uploads, and a body as `AsyncRead`.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use multer::Multipart;
use serde::Deserialize;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::io::StreamReader;

type BoxError = Box<dyn Error + Send + Sync>;
type Answer = Response<Full<Bytes>>;

// ANCHOR: limits
/// For a form, which is kept in memory.
pub const MAX_FORM: usize = 64 * 1024;
/// For an upload, which is not.
pub const MAX_UPLOAD: usize = 8 * 1024 * 1024;
/// The longest pause of a client that sends a body, and the minimum rate.
pub const PAUSE: Duration = Duration::from_secs(5);
pub const BYTES_PER_SECOND: u64 = 2_000;
/// For the parts of a multipart upload, and for what precedes the data of each.
pub const MAX_PARTS: usize = 100;
pub const MAX_PART_HEAD: usize = 8 * 1024;
// ANCHOR_END: limits

// ANCHOR: answer
pub async fn answer(request: Request<Incoming>) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let result = match (&head.method, head.uri.path()) {
        (&Method::POST, "/orders") => order(&head.headers, body).await,
        (&Method::POST, "/files") => file(body).await,
        (&Method::POST, "/photos") => photos(&head.headers, body).await,
        _ => Err(Refusal::new(StatusCode::NOT_FOUND, "no such page")),
    };
    Ok(result.unwrap_or_else(|refusal| {
        let path = head.uri.path().escape_debug();
        eprintln!("{} {path}: {:?}", head.method, refusal.reason);
        refusal.into_response()
    }))
}
// ANCHOR_END: answer

// ANCHOR: limited
/// A body with limits of size and time.
fn limited(body: Incoming, max: usize) -> Result<Limited<Steady>, Refusal> {
    if body.size_hint().lower() > max as u64 {
        let reason = "the body is too large";
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, reason));
    }
    Ok(Limited::new(Steady::new(body), max))
}
// ANCHOR_END: limited

// ANCHOR: order
#[derive(Debug, Deserialize)]
struct Order {
    item: String,
    count: u32,
}

async fn order(headers: &HeaderMap, body: Incoming) -> Result<Answer, Refusal> {
    if media_type(headers).as_deref() != Some("application/x-www-form-urlencoded") {
        let reason = "send application/x-www-form-urlencoded";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason));
    }
    let form = limited(body, MAX_FORM)?.collect().await?.to_bytes();
    let order: Order = serde_urlencoded::from_bytes(&form)?;
    Ok(text(StatusCode::CREATED, format!("{} × {:?}\n", order.count, order.item)))
}
// ANCHOR_END: order

/// `text/plain` from `Text/Plain; charset=utf-8`.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let (media_type, _parameters) = value.split_once(';').unwrap_or((value, ""));
    Some(media_type.trim().to_ascii_lowercase())
}

// ANCHOR: file
async fn file(body: Incoming) -> Result<Answer, Refusal> {
    let body = limited(body, MAX_UPLOAD)?.map_err(io::Error::other);
    let mut reader = StreamReader::new(body.into_data_stream());
    // It has no name, and is gone when it is closed.
    let file = spawn_blocking(tempfile::tempfile).await;
    let file = file.map_err(io::Error::from).flatten().map_err(Refusal::disk)?;
    let mut file = File::from_std(file);
    let copied = tokio::io::copy(&mut reader, &mut file).await;
    let size = copied.map_err(Refusal::copy)?;
    file.flush().await.map_err(Refusal::disk)?;
    Ok(text(StatusCode::OK, format!("{size} bytes\n")))
}
// ANCHOR_END: file

fn boundary(headers: &HeaderMap) -> Result<String, Refusal> {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    multer::parse_boundary(value.unwrap_or_default()).map_err(Refusal::media)
}

// ANCHOR: photos
async fn photos(headers: &HeaderMap, body: Incoming) -> Result<Answer, Refusal> {
    let boundary = boundary(headers)?;
    let held = Arc::new(AtomicUsize::new(0));
    let body = guarded(limited(body, MAX_UPLOAD)?, held.clone());
    let mut form = Multipart::new(body, boundary);
    let mut report = String::new();
    for _ in 0..MAX_PARTS {
        let Some(mut part) = form.next_field().await? else {
            return Ok(text(StatusCode::OK, report));
        };
        held.store(0, Relaxed);
        let mut size = 0;
        while let Some(piece) = part.chunk().await? {
            held.store(0, Relaxed);
            size += piece.len();
        }
        let name = part.name().unwrap_or_default();
        report += &format!("{name:?}: {size} bytes\n");
    }
    Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "there are too many parts"))
}
// ANCHOR_END: photos

// ANCHOR: guarded
/// Fails if multer takes too much without giving us a piece of data.
fn guarded(
    body: Limited<Steady>,
    held: Arc<AtomicUsize>,
) -> impl Stream<Item = Result<Bytes, BoxError>> {
    let mut body = body.into_data_stream();
    let mut given = false;
    stream::poll_fn(move |cx| {
        // multer takes all that is ready. Let it look at each piece.
        if std::mem::take(&mut given) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Some(piece) = ready!(body.poll_next_unpin(cx)) else {
            return None.into();
        };
        let piece = piece?;
        given = true;
        Poll::Ready(Some(match held.fetch_add(piece.len(), Relaxed) {
            ..MAX_PART_HEAD => Ok(piece),
            _ => Err("the head of a part is too large".into()),
        }))
    })
}
// ANCHOR_END: guarded

// ANCHOR: steady
/// A body that fails if the client lets us wait too long.
pub struct Steady {
    body: Incoming,
    size: u64,
    /// How long we have waited for the client, and since when we do again.
    waited: Duration,
    since: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}
// ANCHOR_END: steady

impl Steady {
    pub fn new(body: Incoming) -> Steady {
        let (waited, timer) = (Duration::ZERO, Box::pin(sleep(PAUSE)));
        Steady { body, size: 0, waited, since: None, timer }
    }
}

impl Body for Steady {
    type Data = Bytes;
    type Error = BoxError;

    // ANCHOR: poll_frame
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            return this.poll_timer(cx).map(|error| Some(Err(error.into())));
        };
        if let Some(since) = this.since.take() {
            this.waited += since.elapsed();
        }
        if let Some(Ok(frame)) = &frame {
            this.size += frame.data_ref().map_or(0, Bytes::len) as u64;
        }
        Poll::Ready(frame.map(|result| result.map_err(BoxError::from)))
    }
    // ANCHOR_END: poll_frame

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

const TOO_SLOW: &str = "the body is too slow";

impl Steady {
    // ANCHOR: poll_timer
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.since.is_none() {
            let now = Instant::now();
            let earned = Duration::from_secs(self.size / BYTES_PER_SECOND);
            let left = (PAUSE + earned).saturating_sub(self.waited);
            self.timer.as_mut().reset(now + left.min(PAUSE));
            self.since = Some(now);
        }
        self.timer
            .as_mut()
            .poll(cx)
            .map(|()| io::Error::new(io::ErrorKind::TimedOut, TOO_SLOW))
    }
    // ANCHOR_END: poll_timer
}

/// Why a request is not served.
struct Refusal {
    status: StatusCode,
    reason: String,
}

impl<E: Into<BoxError>> From<E> for Refusal {
    fn from(error: E) -> Refusal {
        let error = error.into();
        Refusal::new(status(&*error), report(&*error))
    }
}

// ANCHOR: status
/// The status for an error of a body, which may be wrapped in others.
fn status(error: &(dyn Error + 'static)) -> StatusCode {
    if error.is::<LengthLimitError>() {
        return StatusCode::PAYLOAD_TOO_LARGE;
    }
    let inner = match error.downcast_ref::<io::Error>() {
        Some(io) if io.kind() == io::ErrorKind::TimedOut => {
            return StatusCode::REQUEST_TIMEOUT;
        }
        Some(io) => io.get_ref().map(|error| error as &(dyn Error + 'static)),
        None => error.source(),
    };
    inner.map_or(StatusCode::BAD_REQUEST, status)
}
// ANCHOR_END: status

impl Refusal {
    fn new(status: StatusCode, reason: impl Into<String>) -> Refusal {
        Refusal { status, reason: reason.into() }
    }

    fn media(error: multer::Error) -> Refusal {
        Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error.to_string())
    }

    // ANCHOR: copy
    /// An error of the body is inside the error of `copy`. Others are of the disk.
    fn copy(error: io::Error) -> Refusal {
        let of_body = error.get_ref().is_some_and(|inner| {
            inner.is::<LengthLimitError>()
                || inner.is::<hyper::Error>()
                || inner.is::<io::Error>()
        });
        if of_body { error.into() } else { Refusal::disk(error) }
    }

    /// Not the client's fault, and not its business.
    fn disk(error: io::Error) -> Refusal {
        eprintln!("cannot store a file: {error}");
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "cannot store the file")
    }
    // ANCHOR_END: copy

    fn into_response(self) -> Answer {
        let mut response = text(self.status, self.reason + "\n");
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        response
    }
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let value = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, value);
    response
}

fn report(error: &(dyn Error + 'static)) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", report(source)),
        None => error.to_string(),
    }
}

pub async fn serve<T>(stream: T) -> hyper::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(5))
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .await
}

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
