// ANCHOR: program
//! A server that limits its clients, and checks what it takes over from them.

use std::convert::Infallible;
use std::env;
use std::fmt::Display;
use std::io::{self, Write};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, COOKIE, HOST, HeaderName,
    HeaderValue, LOCATION, SET_COOKIE,
};
use hyper::http::HeaderMap;
use hyper::http::uri::Authority;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutWriter;

// ANCHOR: limits
/// Connections at a time. Stay well below `ulimit -n`.
pub const MAX_CONNECTIONS: usize = 64;
/// From the connect to the head of the first request.
pub const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// HTTP/1: for each head; also how long a connection may be idle.
pub const HEAD: Duration = Duration::from_secs(5);
/// HTTP/2: when to ask whether the client is there, and the time to answer.
pub const PING_AFTER: Duration = Duration::from_secs(20);
pub const PING_ANSWER: Duration = Duration::from_secs(10);
/// A request body: its size, and the time for all of it.
pub const MAX_BODY: usize = 16 * 1024;
pub const BODY: Duration = Duration::from_secs(10);
/// The work for a request.
pub const HANDLER: Duration = Duration::from_secs(5);
/// How long a client may take nothing of what we write.
pub const WRITE: Duration = Duration::from_secs(10);
/// When a connection must end, and the time for its last responses.
pub const MAX_AGE: Duration = Duration::from_secs(10 * 60);
pub const LAST_RESPONSES: Duration = Duration::from_secs(30);
// ANCHOR_END: limits

type Error = Box<dyn std::error::Error + Send + Sync>;
/// A response, or the status of a refusal.
type Answer = Result<Response<Full<Bytes>>, StatusCode>;

// ANCHOR: builder
pub fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_headers(50)
        .max_buf_size(64 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_ANSWER)
        .max_concurrent_streams(20)
        .max_pending_accept_reset_streams(10)
        .max_local_error_reset_streams(100)
        .max_header_list_size(8 * 1024);
    builder
}
// ANCHOR_END: builder

// ANCHOR: serve
pub async fn serve<T>(stream: T) -> Result<(), Error>
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let begun = AtomicBool::new(false);
    let service = service_fn(|request| {
        begun.store(true, Relaxed);
        guard(request)
    });
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(WRITE));
    let builder = builder();
    let io = TokioIo::new(Box::pin(stream));
    let mut conn = pin!(builder.serve_connection(io, service));
    // ANCHOR_END: serve

    if let Ok(result) = timeout(FIRST_REQUEST, conn.as_mut()).await {
        return result;
    }
    if !begun.load(Relaxed) {
        return Err("no request in time".into());
    }
    if let Ok(result) = timeout(MAX_AGE - FIRST_REQUEST, conn.as_mut()).await {
        return result;
    }
    conn.as_mut().graceful_shutdown();
    timeout(LAST_RESPONSES, conn)
        .await
        .unwrap_or_else(|_| Err("closed at its maximum age".into()))
}

// ANCHOR: guard
async fn guard(
    mut request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    hide_secrets(request.headers_mut());
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let response = check(request).await.unwrap_or_else(|status| {
        let mut response = text(status, format!("{status}\n"));
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        response
    });
    log(format_args!("{method} {:?} {}", uri.path(), response.status().as_u16()));
    Ok(response)
}
// ANCHOR_END: guard

// ANCHOR: secrets
/// Headers that do not belong in a log.
const SECRETS: [HeaderName; 2] = [AUTHORIZATION, COOKIE];

/// From here on `{:?}` prints them as `Sensitive`.
pub fn hide_secrets(headers: &mut HeaderMap) {
    for (name, value) in headers {
        if SECRETS.contains(name) {
            value.set_sensitive(true);
        }
    }
}
// ANCHOR_END: secrets

// ANCHOR: check
async fn check(request: Request<Incoming>) -> Answer {
    let host = host(&request).ok_or(StatusCode::BAD_REQUEST)?;
    if !HOSTS.iter().any(|ours| host.host().eq_ignore_ascii_case(ours)) {
        return Err(StatusCode::MISDIRECTED_REQUEST);
    }
    if request.headers().contains_key(CONTENT_ENCODING) {
        return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let (head, body) = request.into_parts();
    let body = timeout(BODY, Limited::new(body, MAX_BODY).collect())
        .await
        .map_err(|_| StatusCode::REQUEST_TIMEOUT)?
        .map_err(|error| match error.is::<LengthLimitError>() {
            true => StatusCode::PAYLOAD_TOO_LARGE,
            false => StatusCode::BAD_REQUEST,
        })?;
    timeout(HANDLER, handle(Request::from_parts(head, body.to_bytes())))
        .await
        .unwrap_or(Err(StatusCode::SERVICE_UNAVAILABLE))
}
// ANCHOR_END: check

// ANCHOR: host
/// The names of this site.
const HOSTS: [&str; 2] = ["localhost", "127.0.0.1"];

/// The host that the request is for, if it names one alone.
fn host<B>(request: &Request<B>) -> Option<Authority> {
    let mut headers = request.headers().get_all(HOST).into_iter();
    let (header, more) = (headers.next(), headers.next());
    let header = header.map(|host| Authority::try_from(host.as_bytes()));
    let header = header.transpose().ok()?;
    let host = match (request.uri().authority().cloned(), header, more) {
        (Some(host), None, None) | (None, Some(host), None) => host,
        (Some(uri), Some(header), None) if uri == header => uri,
        _ => return None,
    };
    // `Authority` also takes a user, and a port that is no number.
    let port = host.as_str().strip_prefix(host.host())?;
    (port.is_empty() || host.port_u16().is_some()).then_some(host)
}
// ANCHOR_END: host

/// What this server is for.
async fn handle(request: Request<Bytes>) -> Answer {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => Ok(text(StatusCode::OK, "Hello, World!\n")),
        (&Method::GET, "/report") => {
            sleep(Duration::from_secs(3600)).await;
            Ok(text(StatusCode::OK, "that took an hour\n"))
        }
        (&Method::POST, "/language") => language(&request),
        _ => Err(StatusCode::NOT_FOUND),
    }
}

// ANCHOR: language
/// Remembers the language in the body, and leads to the page in `?next=`.
fn language(request: &Request<Bytes>) -> Answer {
    let bad = StatusCode::BAD_REQUEST;
    let next = request.uri().query().unwrap_or_default();
    let next = local(next.strip_prefix("next=").unwrap_or("/")).ok_or(bad)?;
    let language = str::from_utf8(request.body()).map_err(|_| bad)?;
    if language.contains(|c: char| !c.is_ascii_alphanumeric() && c != '-') {
        return Err(bad);
    }
    let cookie = format!("language={language}; HttpOnly; SameSite=Lax");
    let cookie = HeaderValue::try_from(cookie).map_err(|_| bad)?;
    let mut response = text(StatusCode::SEE_OTHER, "");
    response.headers_mut().insert(LOCATION, next);
    response.headers_mut().insert(SET_COOKIE, cookie);
    Ok(response)
}
// ANCHOR_END: language

// ANCHOR: local
/// A `location` on this site. `//` and `/\` begin the name of another one.
fn local(next: &str) -> Option<HeaderValue> {
    let rest = next.strip_prefix('/')?;
    let plain = rest.bytes().all(|b| b.is_ascii_graphic());
    let elsewhere = rest.starts_with(['/', '\\']);
    (plain && !elsewhere).then(|| HeaderValue::from_str(next).ok())?
}
// ANCHOR_END: local

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response
}

/// Writes a line to the log. `eprintln!` panics when that fails.
fn log(line: impl Display) {
    writeln!(io::stderr(), "{line}").ok();
}

pub fn report(error: &(dyn std::error::Error + 'static)) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", report(source)),
        None => error.to_string(),
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
        let (stream, _peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                log(format_args!("accept failed: {error}"));
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        tokio::spawn(async move {
            if let Err(error) = serve(stream).await {
                log(format_args!("connection failed: {}", report(&*error)));
            }
            drop(slot);
        });
    }
}
// ANCHOR_END: program

// ANCHOR: tests
#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;
    use tokio::io::{AsyncWriteExt, copy, duplex, sink, split};
    use tokio::runtime;
    use url::Url;

    use super::*;

    proptest! {
        // ANCHOR: redirect
        #[test]
        fn a_redirect_stays_on_this_site(next in r"/?[/\\\t:a]{0,4}") {
            if let Some(location) = local(&next) {
                let page = Url::parse("https://localhost/").unwrap();
                let target = page.join(location.to_str().unwrap());
                prop_assert_eq!(target.unwrap().origin(), page.origin());
            }
        }
        // ANCHOR_END: redirect

        // ANCHOR: bytes
        #[test]
        fn whatever_a_client_sends_it_is_gone_in_time(pieces in vec(piece(), 0..6)) {
            let mut runtime = runtime::Builder::new_current_thread();
            let runtime = runtime.enable_time().start_paused(true).build()?;
            let end = runtime.block_on(async {
                let (client, server) = duplex(1024);
                let (mut answers, mut client) = split(client);
                tokio::spawn(async move { copy(&mut answers, &mut sink()).await });
                let conn = tokio::spawn(timeout(ALL, serve(server)));
                for piece in pieces {
                    client.write_all(&piece).await.ok();
                }
                conn.await.expect("no panic")
            });
            prop_assert!(end.is_ok(), "its connection goes on");
        }
        // ANCHOR_END: bytes
    }

    // ANCHOR: piece
    /// A client that sends no more must be gone by then.
    const ALL: Duration = Duration::from_secs(60);

    const PIECES: [&[u8]; 7] = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\
            \0\0\x0e\x01\x05\0\0\0\x01\x82\x86\x84\x41\x09localhost",
        b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"POST /language HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99\r\n\r\n",
        b"POST / HTTP/1.1\r\n",
        b"transfer-encoding: chunked\r\n",
        b"host: localhost\r\n\r\n",
        b"0\r\n\r\n",
    ];

    fn piece() -> impl Strategy<Value = Vec<u8>> {
        let known = select(&PIECES[..]).prop_map(Vec::from);
        prop_oneof![3 => known, 1 => vec(any::<u8>(), 0..20)]
    }
    // ANCHOR_END: piece
}
// ANCHOR_END: tests
