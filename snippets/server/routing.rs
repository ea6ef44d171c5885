// ANCHOR: program
//! A server that keeps notes, and knows who is calling.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::fmt::Display;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use tokio::net::TcpListener;
use tokio::time::{error::Elapsed, sleep, timeout};

pub const MAX_NOTES: usize = 100;
pub const MAX_NAME: usize = 100;
pub const MAX_NOTE: usize = 64 * 1024;
const BODY_TIME: Duration = Duration::from_secs(10);

type Answer = Response<Full<Bytes>>;

// ANCHOR: state
/// What all requests share.
#[derive(Default)]
pub struct State {
    requests: AtomicU64,
    notes: Mutex<BTreeMap<String, Bytes>>,
}

impl State {
    pub fn notes(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        // After a panic in another thread that held the lock, use the map as it is.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
// ANCHOR_END: state

// ANCHOR: route
async fn route(state: &State, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let path: Vec<&str> = head.uri.path().split('/').skip(1).collect();
    match path[..] {
        [""] => match head.method {
            Method::GET | Method::HEAD => index(state),
            _ => not_allowed("GET, HEAD"),
        },
        ["whoami"] => match head.method {
            Method::GET | Method::HEAD => whoami(head.extensions.get()),
            _ => not_allowed("GET, HEAD"),
        },
        ["notes"] => match head.method {
            Method::GET | Method::HEAD => list(state, head.uri.query()),
            _ => not_allowed("GET, HEAD"),
        },
        ["notes", name] if !name.is_empty() => {
            note(state, head.method, name, body).await
        }
        _ => text(StatusCode::NOT_FOUND, "no such page\n"),
    }
}
// ANCHOR_END: route

// ANCHOR: not_allowed
fn not_allowed(allow: &'static str) -> Answer {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "not that method\n");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}
// ANCHOR_END: not_allowed

// ANCHOR: note
async fn note(state: &State, method: Method, name: &str, body: Incoming) -> Answer {
    let Ok(name) = percent_decode_str(name).decode_utf8() else {
        return text(StatusCode::BAD_REQUEST, "the name is not UTF-8\n");
    };
    match method {
        Method::GET | Method::HEAD => {
            let found = state.notes().get(&*name).cloned();
            found.map_or_else(no_such_note, |note| text(StatusCode::OK, note))
        }
        Method::PUT => match read(body).await {
            Ok(bytes) => put(state, &name, bytes),
            Err(refused) => refused,
        },
        Method::DELETE => {
            let removed = state.notes().remove(&*name);
            removed.map_or_else(no_such_note, |_| text(StatusCode::OK, "deleted\n"))
        }
        _ => not_allowed("GET, HEAD, PUT, DELETE"),
    }
}
// ANCHOR_END: note

fn no_such_note() -> Answer {
    text(StatusCode::NOT_FOUND, "no such note\n")
}

// ANCHOR: put
fn put(state: &State, name: &str, bytes: Bytes) -> Answer {
    if name.len() > MAX_NAME {
        return text(StatusCode::URI_TOO_LONG, "that name is too long\n");
    }
    let mut notes = state.notes();
    if notes.len() >= MAX_NOTES && !notes.contains_key(name) {
        return text(StatusCode::INSUFFICIENT_STORAGE, "delete a note first\n");
    }
    match notes.insert(name.to_owned(), bytes) {
        None => text(StatusCode::CREATED, "created\n"),
        Some(_) => text(StatusCode::OK, "replaced\n"),
    }
}
// ANCHOR_END: put

// ANCHOR: list
/// The names of the notes: `?prefix=to-do&limit=5`.
fn list(state: &State, query: Option<&str>) -> Answer {
    let (mut prefix, mut limit) = ("".into(), MAX_NOTES);
    for (key, value) in form_urlencoded::parse(query.unwrap_or("").as_bytes()) {
        match &*key {
            "prefix" => prefix = value,
            "limit" => match value.parse() {
                Ok(number) => limit = number,
                Err(_) => return text(StatusCode::BAD_REQUEST, "limit: a number\n"),
            },
            _ => {}
        }
    }
    let notes = state.notes();
    let names = notes.keys().filter(|name| name.starts_with(&*prefix));
    let names = names.take(limit).map(|name| encode(name) + "\n");
    text(StatusCode::OK, names.collect::<String>())
}

fn encode(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}
// ANCHOR_END: list

fn index(state: &State) -> Answer {
    let requests = state.requests.load(Relaxed);
    text(StatusCode::OK, format!("requests: {requests}\n"))
}

// ANCHOR: whoami
/// Who is calling: in the extensions of each request.
#[derive(Clone, Copy)]
struct Peer(SocketAddr);

fn whoami(peer: Option<&Peer>) -> Answer {
    match peer {
        Some(Peer(address)) => text(StatusCode::OK, format!("{address}\n")),
        None => text(StatusCode::INTERNAL_SERVER_ERROR, "nobody knows\n"),
    }
}
// ANCHOR_END: whoami

/// Why a request was refused, for the log: in the extensions of the response.
#[derive(Clone)]
struct Cause(String);

/// The whole body, or the answer to a body that does not come.
async fn read(body: Incoming) -> Result<Bytes, Answer> {
    let whole = Limited::new(body, MAX_NOTE).collect();
    let error = match timeout(BODY_TIME, whole).await {
        // A copy: what hyper has read may be a small part of a large buffer.
        Ok(Ok(whole)) => return Ok(Bytes::copy_from_slice(&whole.to_bytes())),
        Ok(Err(error)) => error,
        Err(late) => late.into(),
    };
    let (status, message) = if error.is::<LengthLimitError>() {
        (StatusCode::PAYLOAD_TOO_LARGE, "that note is too long\n")
    } else if error.is::<Elapsed>() {
        (StatusCode::REQUEST_TIMEOUT, "that took too long\n")
    } else {
        (StatusCode::BAD_REQUEST, "the body has no end\n")
    };
    // ANCHOR: cause
    let mut response = text(status, message);
    // The rest of the body may still come.
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response.extensions_mut().insert(Cause(report(&*error)));
    Err(response)
    // ANCHOR_END: cause
}

/// An error with its causes.
fn report(error: &(dyn Error + 'static)) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", report(source)),
        None => error.to_string(),
    }
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

/// Prints a line. `println!` panics once the standard output is closed.
fn log(line: impl Display) {
    writeln!(io::stdout(), "{line}").ok();
}

// ANCHOR: handle
pub async fn handle(
    state: Arc<State>,
    peer: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    state.requests.fetch_add(1, Relaxed);
    request.extensions_mut().insert(Peer(peer));
    let path = request.uri().path().escape_debug();
    let line = format!("{peer} {} {path}", request.method());
    let response = route(&state, request).await;
    let status = response.status().as_u16();
    match response.extensions().get() {
        Some(Cause(cause)) => log(format_args!("{line} {status}: {cause}")),
        None => log(format_args!("{line} {status}")),
    }
    Ok(response)
}
// ANCHOR_END: handle

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    log(format_args!("listening on http://{}", listener.local_addr()?));
    serve(listener, Arc::new(State::default())).await;
    Ok(())
}

// ANCHOR: serve
async fn serve(listener: TcpListener, state: Arc<State>) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                log(format_args!("accept failed: {error}"));
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // ANCHOR: clones
        let state = state.clone(); // for this connection
        let service = service_fn(move |request| {
            let state = state.clone(); // for this request
            handle(state, peer, request)
        });
        // ANCHOR_END: clones
        tokio::spawn(async move {
            let conn = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(5))
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = conn.await {
                log(format_args!("{peer} connection failed: {}", report(&error)));
            }
        });
    }
}
// ANCHOR_END: serve
// ANCHOR_END: program
