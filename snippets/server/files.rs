// ANCHOR: program
//! A server that sends the files of one folder, and nothing outside of it.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cap_fs_ext::OpenOptionsSyncExt;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};
use http_body_util::channel::{Channel, Sender};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use httpdate::HttpDate;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT_RANGES, ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

type BoxError = Box<dyn Error + Send + Sync>;
type Body = BoxBody<Bytes, io::Error>;

// ANCHOR: service
async fn serve(root: Arc<Dir>, request: Request<Incoming>) -> Response<Body> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED);
        let allowed = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, allowed);
        return response;
    }
    let (head, _body) = request.into_parts();
    match spawn_blocking(move || answer(&root, &head)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            eprintln!("request failed: {error}");
            refuse(StatusCode::INTERNAL_SERVER_ERROR)
        }
        Err(_panic) => refuse(StatusCode::INTERNAL_SERVER_ERROR),
    }
}
// ANCHOR_END: service

fn refuse(status: StatusCode) -> Response<Body> {
    let text = Full::from(format!("{status}\n")).map_err(never);
    let mut response = Response::new(text.boxed());
    *response.status_mut() = status;
    response
}

// ANCHOR: name
/// The name of a file below the root, or None if the path is no such name.
fn name(path: &str) -> Option<String> {
    let mut names = Vec::new();
    for part in path.strip_prefix('/')?.split('/') {
        let name = percent_decode_str(part).decode_utf8().ok()?;
        if name.is_empty()
            || name.starts_with('.')
            || name.contains(['/', '\\', '\0'])
        {
            return None;
        }
        names.push(name);
    }
    Some(names.join("/"))
}
// ANCHOR_END: name

// ANCHOR: open
/// Opens a regular file below the root. None if there is none.
fn open(root: &Dir, name: &str) -> io::Result<Option<Found>> {
    let mut options = OpenOptions::new();
    options.read(true).nonblock(true);
    let file = match root.open_with(name, &options) {
        Ok(file) => file.into_std(),
        Err(error) => {
            return match error.kind() {
                ErrorKind::NotFound
                | ErrorKind::NotADirectory
                | ErrorKind::PermissionDenied
                | ErrorKind::InvalidFilename => Ok(None),
                _ => Err(error),
            };
        }
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(None);
    }
    // ANCHOR_END: open

    // ANCHOR: validators
    let size = metadata.len();
    let modified = metadata.modified()?;
    let nanoseconds = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    let etag = format!("\"{size:x}-{:x}\"", nanoseconds.as_nanos());
    // An HTTP date has four digits for the year, and is not in the future.
    let modified = modified.min(SystemTime::now()).max(UNIX_EPOCH).into();
    Ok(Some(Found { file, size, etag, modified }))
}

struct Found {
    file: File,
    size: u64,
    etag: String,
    modified: HttpDate,
}
// ANCHOR_END: validators

impl Found {
    // ANCHOR: conditions
    /// What to answer in place of the file, by RFC 9110, section 13.2.2.
    fn condition(&self, headers: &HeaderMap) -> Option<StatusCode> {
        let date = |name| -> Option<HttpDate> {
            headers.get(name)?.to_str().ok()?.parse().ok()
        };
        if headers.contains_key(IF_MATCH) {
            if !tags(headers, IF_MATCH).any(|tag| tag == "*" || tag == self.etag) {
                return Some(StatusCode::PRECONDITION_FAILED);
            }
        } else if date(IF_UNMODIFIED_SINCE).is_some_and(|d| d < self.modified) {
            return Some(StatusCode::PRECONDITION_FAILED);
        }
        let same = if headers.contains_key(IF_NONE_MATCH) {
            tags(headers, IF_NONE_MATCH)
                .map(|tag| tag.strip_prefix("W/").unwrap_or(tag))
                .any(|tag| tag == "*" || tag == self.etag)
        } else {
            date(IF_MODIFIED_SINCE).is_some_and(|d| d >= self.modified)
        };
        same.then_some(StatusCode::NOT_MODIFIED)
    }
    // ANCHOR_END: conditions

    // ANCHOR: range
    /// The bytes that the request asks for, an empty range if there are none such.
    /// None means the whole file.
    fn range(&self, headers: &HeaderMap) -> Option<Range<u64>> {
        if headers.get(IF_RANGE).is_some_and(|tag| *tag != *self.etag) {
            return None;
        }
        let mut lines = headers.get_all(RANGE).iter();
        let (Some(line), None) = (lines.next(), lines.next()) else { return None };
        let (unit, range) = line.to_str().ok()?.split_once('=')?;
        let (first, last) = range.split_once('-')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        if first.is_empty() {
            return Some(self.size.saturating_sub(number(last)?)..self.size);
        }
        let first = number(first)?;
        let last = if last.is_empty() { u64::MAX } else { number(last)? };
        (first <= last).then(|| first..last.saturating_add(1).min(self.size))
    }
    // ANCHOR_END: range
}

/// The entity tags of a header: a list, perhaps on several lines.
fn tags(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|l| l.split(','))
        .map(str::trim)
}

/// The number that these digits are, or the greatest one if it is too large.
fn number(digits: &str) -> Option<u64> {
    let valid = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    valid.then(|| digits.parse().unwrap_or(u64::MAX))
}

fn answer(root: &Dir, head: &Parts) -> Result<Response<Body>, BoxError> {
    let Some(name) = name(head.uri.path()) else {
        return Ok(refuse(StatusCode::NOT_FOUND));
    };
    let found = open(root, &name).map_err(|error| format!("{name:?}: {error}"))?;
    let Some(mut found) = found else {
        return Ok(refuse(StatusCode::NOT_FOUND));
    };
    let mut response = Response::builder()
        .header(ETAG, &found.etag)
        .header(LAST_MODIFIED, found.modified.to_string())
        .header(ACCEPT_RANGES, "bytes");
    if let Some(status) = found.condition(&head.headers) {
        return Ok(response.status(status).body(empty())?);
    }

    let size = found.size;
    let range = found.range(&head.headers).filter(|_| head.method == Method::GET);
    let part = match range {
        None => 0..size,
        Some(part) if part.is_empty() => {
            response = response.status(StatusCode::RANGE_NOT_SATISFIABLE);
            response = response.header(CONTENT_RANGE, format!("bytes */{size}"));
            return Ok(response.body(empty())?);
        }
        Some(part) => {
            let range = format!("bytes {}-{}/{size}", part.start, part.end - 1);
            response = response.status(StatusCode::PARTIAL_CONTENT);
            response = response.header(CONTENT_RANGE, range);
            part
        }
    };

    // ANCHOR: body
    let length = part.end - part.start;
    let media_type = mime_guess::from_path(&name).first_raw();
    let response = response
        .header(CONTENT_TYPE, media_type.unwrap_or("application/octet-stream"))
        .header(CONTENT_LENGTH, length);
    if head.method == Method::HEAD {
        return Ok(response.body(empty())?);
    }
    found.file.seek(SeekFrom::Start(part.start))?;
    let first = read(&mut found.file, length)?;
    let rest = length - first.len() as u64;
    if rest == 0 {
        return Ok(response.body(Full::new(first).map_err(never).boxed())?);
    }
    let (sender, body) = Channel::new(1);
    tokio::spawn(send(found.file, first, rest, sender));
    Ok(response.body(body.boxed())?)
    // ANCHOR_END: body
}

fn empty() -> Body {
    Empty::new().map_err(never).boxed()
}

fn never(never: Infallible) -> io::Error {
    match never {}
}

// ANCHOR: read
const PIECE: u64 = 128 * 1024;

/// Reads the next piece. Fewer bytes than expected are an error.
fn read(file: &mut File, rest: u64) -> io::Result<Bytes> {
    let mut piece = vec![0; rest.min(PIECE) as usize];
    file.read_exact(&mut piece).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => {
            io::Error::new(error.kind(), "the file has become shorter")
        }
        _ => error,
    })?;
    Ok(piece.into())
}
// ANCHOR_END: read

// ANCHOR: send
/// Sends a piece, and reads the next one meanwhile.
async fn send(
    mut file: File,
    mut piece: Bytes,
    mut rest: u64,
    mut sender: Sender<Bytes, io::Error>,
) {
    while sender.send_data(piece).await.is_ok() && rest > 0 {
        let next = spawn_blocking(move || {
            let piece = read(&mut file, rest)?;
            Ok((file, piece))
        });
        match next.await.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            Ok(read) => (file, piece) = read,
            Err(error) => return sender.abort(error),
        }
        rest -= piece.len() as u64;
    }
}
// ANCHOR_END: send

fn report(error: &(dyn Error + 'static)) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", report(source)),
        None => error.to_string(),
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let folder = env::args().nth(2).unwrap_or(".".to_owned());
    let root = Dir::open_ambient_dir(&folder, ambient_authority())
        .map_err(|error| format!("{folder}: {error}"))?;
    let root = Arc::new(root);
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
        // Otherwise the last bytes of a file may wait for the client's ACK.
        stream.set_nodelay(true).ok();
        let root = root.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let root = root.clone();
                async { Ok::<_, Infallible>(serve(root, request).await) }
            });
            let conn = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(5))
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = conn.await {
                eprintln!("connection failed: {}", report(&error));
            }
        });
    }
}
// ANCHOR_END: program
