// ANCHOR: program
//! A client that uploads a file, as it is or in a form.

use std::collections::hash_map::RandomState;
use std::env;
use std::error::Error;
use std::future::Future;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Cursor, IoSlice};
use std::path::Path;
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::ext::on_informational;
use hyper::header::{CONTENT_TYPE, EXPECT, HeaderValue};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;
use tower::ServiceExt;

// ANCHOR: limits
/// What is read from the file at a time.
pub const PIECE: usize = 64 * 1024;
/// A longer upload waits for `100 Continue`, at most for `CONSENT`.
pub const ASK_ABOVE: u64 = 1024 * 1024;
pub const CONSENT: Duration = Duration::from_secs(1);
/// All of it may take this long, the connect included, and what the upload takes at this rate.
pub const TOTAL: Duration = Duration::from_secs(30);
pub const BYTES_PER_SECOND: u64 = 50_000;
/// The largest response that it keeps in memory.
pub const MAX_BODY: usize = 64 * 1024;
// ANCHOR_END: limits

type BoxError = Box<dyn Error + Send + Sync>;

// ANCHOR: upload
/// A body of known length, read piece by piece.
pub struct Upload {
    reader: Pin<Box<dyn AsyncRead + Send>>,
    left: u64,
    buffer: Vec<u8>,
    /// How many bytes hyper has taken.
    pub taken: Arc<AtomicU64>,
    /// The body begins when this is ready.
    consent: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send>>>,
}

impl Upload {
    pub fn new(reader: impl AsyncRead + Send + 'static, length: u64) -> Upload {
        Upload {
            reader: Box::pin(reader),
            left: length,
            buffer: vec![0; PIECE],
            taken: Arc::default(),
            consent: None,
        }
    }
}
// ANCHOR_END: upload

impl Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    // ANCHOR: poll_frame
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if let Some(consent) = &mut this.consent {
            ready!(consent.as_mut().poll(cx))?;
            this.consent = None;
        }
        if this.left == 0 {
            return Poll::Ready(None);
        }
        let most = this.left.min(PIECE as u64) as usize;
        let mut piece = ReadBuf::new(&mut this.buffer[..most]);
        ready!(this.reader.as_mut().poll_read(cx, &mut piece))?;
        let data = Bytes::copy_from_slice(piece.filled());
        if data.is_empty() {
            let error = io::Error::other("the file is shorter than it was");
            return Poll::Ready(Some(Err(error)));
        }
        this.left -= data.len() as u64;
        this.taken.fetch_add(data.len() as u64, Relaxed);
        Poll::Ready(Some(Ok(Frame::data(data))))
    }
    // ANCHOR_END: poll_frame

    // ANCHOR: size_hint
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
    // ANCHOR_END: size_hint
}

// ANCHOR: file
/// A request with a file as its body. Make a new one for each attempt.
pub async fn file(
    method: Method,
    url: &str,
    path: &str,
) -> Result<Request<Upload>, BoxError> {
    let (file, length) = open(path).await?;
    Ok(Request::builder()
        .method(method)
        .uri(url)
        .header(CONTENT_TYPE, "application/octet-stream")
        .body(Upload::new(file, length))?)
}

async fn open(path: &str) -> Result<(File, u64), BoxError> {
    let file = File::open(path).await?;
    let metadata = file.metadata().await?;
    if !metadata.is_file() {
        return Err(format!("not a file: {path}").into());
    }
    Ok((file, metadata.len()))
}
// ANCHOR_END: file

// ANCHOR: form
/// A POST request with a form of two parts: a title, and a file.
pub async fn form(url: &str, path: &str) -> Result<Request<Upload>, BoxError> {
    let (file, length) = open(path).await?;
    let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
    let boundary = boundary();
    let before = format!(
        "--{boundary}\r\n\
         content-disposition: form-data; name=\"title\"\r\n\r\n\
         {name}\r\n\
         --{boundary}\r\n\
         content-disposition: form-data; name=\"photo\"; filename=\"{}\"\r\n\
         content-type: application/octet-stream\r\n\r\n",
        quoted(&name)
    );
    let after = format!("\r\n--{boundary}--\r\n");
    // ANCHOR_END: form
    // ANCHOR: chain
    let whole = before.len() as u64 + length + after.len() as u64;
    let reader =
        Cursor::new(before).chain(file.take(length)).chain(Cursor::new(after));
    Ok(Request::post(url)
        .header(CONTENT_TYPE, format!("multipart/form-data; boundary={boundary}"))
        .body(Upload::new(reader, whole))?)
}
// ANCHOR_END: chain

// ANCHOR: boundary
/// A line that the file does not contain: it is drawn at random.
fn boundary() -> String {
    format!("boundary-{:016x}", RandomState::new().build_hasher().finish())
}

/// As browsers write a name between quotes.
fn quoted(name: &str) -> String {
    name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}
// ANCHOR_END: boundary

// ANCHOR: asked
/// A request that asked first. Keep it until the response is read.
pub struct Asked {
    /// Whether the response has come.
    pub answered: Arc<AtomicBool>,
    _reading: oneshot::Sender<()>,
}
// ANCHOR_END: asked

// ANCHOR: expect
/// Asks the server first: the body waits for `100 Continue`, but not for long.
pub fn ask_first(request: &mut Request<Upload>) -> Asked {
    let consent = Arc::new(Notify::new());
    let given = consent.clone();
    on_informational(request, move |response| {
        if response.status() == StatusCode::CONTINUE {
            given.notify_one();
        }
    });
    let expect = HeaderValue::from_static("100-continue");
    request.headers_mut().insert(EXPECT, expect);
    // ANCHOR_END: expect
    // ANCHOR: consent
    let answered = Arc::new(AtomicBool::new(false));
    let (reading, read) = oneshot::channel();
    let asked = Asked { answered: answered.clone(), _reading: reading };
    request.body_mut().consent = Some(Box::pin(async move {
        timeout(CONSENT, consent.notified()).await.ok();
        if !answered.load(Relaxed) {
            return Ok(());
        }
        // Refused. An error now would also end the response.
        read.await.ok();
        Err(io::Error::other("the server does not want the body"))
    }));
    asked
}
// ANCHOR_END: consent

// ANCHOR: reads_on
/// A stream that reads on after the server has closed it: what is written then
/// is lost, without an error.
#[derive(Debug)]
pub struct ReadsOn<T>(pub T);

fn or_lost<R>(result: Poll<io::Result<R>>, lost: R) -> Poll<io::Result<R>> {
    use io::ErrorKind::{BrokenPipe, ConnectionReset};
    match result {
        Poll::Ready(Err(error))
            if matches!(error.kind(), BrokenPipe | ConnectionReset) =>
        {
            Poll::Ready(Ok(lost))
        }
        result => result,
    }
}
// ANCHOR_END: reads_on

// ANCHOR: write
impl<T: Write + Unpin> Write for ReadsOn<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        or_lost(Pin::new(&mut self.0).poll_write(cx, bytes), bytes.len())
    }
    // ANCHOR_END: write

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bytes.iter().map(|bytes| bytes.len()).sum();
        or_lost(Pin::new(&mut self.0).poll_write_vectored(cx, bytes), length)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        or_lost(Pin::new(&mut self.0).poll_flush(cx), ())
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl<T: Read + Unpin> Read for ReadsOn<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<T: Connection> Connection for ReadsOn<T> {
    fn connected(&self) -> Connected {
        self.0.connected()
    }
}

// ANCHOR: send
async fn send(mut request: Request<Upload>) -> Result<String, BoxError> {
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .build(HttpConnector::new().map_response(ReadsOn));
    let asks = request.body().left > ASK_ABOVE;
    let asked = asks.then(|| ask_first(&mut request));
    let response = client.request(request).await?;
    if let Some(asked) = &asked {
        asked.answered.store(true, Relaxed);
    }
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_BODY).collect().await?;
    let text = String::from_utf8(body.to_bytes().into())?;
    if !status.is_success() {
        return Err(format!("{status}: {}", text.trim()).into());
    }
    Ok(format!("{status}\n{}\n", text.trim_end()))
}
// ANCHOR_END: send

// ANCHOR: progress
async fn in_time(request: Request<Upload>) -> Result<String, BoxError> {
    let (length, taken) = (request.body().left, request.body().taken.clone());
    let time = TOTAL + Duration::from_secs(length / BYTES_PER_SECOND);
    let mut sending = pin!(timeout(time, send(request)));
    let result = loop {
        match timeout(Duration::from_secs(1), sending.as_mut()).await {
            Ok(Ok(result)) => break result,
            Ok(Err(_)) => break Err("the upload took too long".into()),
            Err(_) => eprintln!("{} of {length} bytes", taken.load(Relaxed)),
        }
    };
    eprintln!("{} of {length} bytes", taken.load(Relaxed));
    result
}
// ANCHOR_END: progress

pub async fn run(arguments: &[String]) -> Result<String, BoxError> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let request = match arguments[..] {
        [url, "put", path] => file(Method::PUT, url, path).await?,
        [url, "post", path] => file(Method::POST, url, path).await?,
        [url, "form", path] => form(url, path).await?,
        _ => return Err("usage: uploads URL (put | post | form) FILE".into()),
    };
    check_port(request.uri())?;
    in_time(request).await
}

/// For a port such as 99999, hyper would take the default one.
fn check_port(url: &Uri) -> Result<(), BoxError> {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    // Behind a user, and behind the brackets of an IPv6 address.
    let rest = authority.rsplit(['@', ']']).next().unwrap_or_default();
    match rest.split_once(':') {
        Some((_, port)) if !port.is_empty() && port.parse::<u16>().is_err() => {
            Err("the port is not a number up to 65535".into())
        }
        _ => Ok(()),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match run(&arguments).await {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}", report(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes: hyper's errors do not print theirs.
fn report(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += ": ";
        text += &error.to_string();
        cause = error.source();
    }
    text
}
// ANCHOR_END: program
