// ANCHOR: program
//! A server that sorts its errors: those that it counts, those that it prints, and its own.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::fmt::{self, Display};
use std::io::{self, ErrorKind, Write};
use std::iter;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http_body_util::channel::Channel;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::select;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{error::Elapsed, sleep, timeout};

/// HTTP/1: for each head; also how long a connection may be idle.
pub const HEAD: Duration = Duration::from_secs(5);
/// HTTP/2: a PING after this long without a request, and the time for the answer.
pub const PING_AFTER: Duration = Duration::from_secs(20);
pub const PING_ANSWER: Duration = Duration::from_secs(10);
/// The size of a request body, and the time for it.
pub const MAX_BODY: usize = 1024 * 1024;
pub const BODY: Duration = Duration::from_secs(10);

type BoxError = Box<dyn Error + Send + Sync>;

// ANCHOR: severity
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Severity {
    /// The other side left or was slow, or something was stopped.
    Count,
    /// The other side broke the rules, is not there, or nobody knows.
    Warn,
    /// This program is wrong.
    Bug,
}

/// What an error of a connection asks for: the first known one of its chain decides.
pub fn severity(error: &(dyn Error + 'static)) -> Severity {
    chain(error).find_map(known).unwrap_or(Severity::Warn)
}

// ANCHOR_END: severity

// ANCHOR: chain
/// An error and its causes.
fn chain<'e>(
    error: &'e (dyn Error + 'static),
) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    iter::successors(Some(error), |&error| error.source())
}
// ANCHOR_END: chain

// ANCHOR: known
fn known(error: &(dyn Error + 'static)) -> Option<Severity> {
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        of_hyper(error)
    } else if let Some(error) = error.downcast_ref::<io::Error>() {
        of_io(error)
    } else if let Some(error) = error.downcast_ref::<h2::Error>() {
        of_h2(error)
    } else if let Some(error) = error.downcast_ref::<legacy::Error>() {
        error.is_connect().then_some(Severity::Warn)
    } else if let Some(error) = error.downcast_ref::<JoinError>() {
        Some(if error.is_panic() { Severity::Bug } else { Severity::Count })
    } else {
        error.is::<Elapsed>().then_some(Severity::Count)
    }
}
// ANCHOR_END: known

// ANCHOR: of_hyper
fn of_hyper(error: &hyper::Error) -> Option<Severity> {
    if error.is_user() {
        // Your service or body. It may have passed on what another connection did to it.
        let passed_on = chain(error).skip(1).any(|cause| cause.is::<hyper::Error>());
        Some(if passed_on { Severity::Warn } else { Severity::Bug })
    } else if error.is_parse() {
        Some(Severity::Warn)
    } else if error.is_incomplete_message()
        || error.is_timeout()
        || error.is_canceled()
        || error.is_closed()
    {
        Some(Severity::Count)
    } else {
        None
    }
}
// ANCHOR_END: of_hyper

// ANCHOR: of_io
fn of_io(error: &io::Error) -> Option<Severity> {
    match error.kind() {
        ErrorKind::BrokenPipe
        | ErrorKind::ConnectionAborted
        | ErrorKind::ConnectionReset
        | ErrorKind::NotConnected
        | ErrorKind::TimedOut
        | ErrorKind::UnexpectedEof => Some(Severity::Count),
        // `auto`, stopped before it knew the version.
        ErrorKind::Interrupted => Some(Severity::Count),
        // `source()` skips the error that an io::Error wraps.
        _ => error.get_ref().and_then(|inner| chain(inner).find_map(known)),
    }
}
// ANCHOR_END: of_io

// ANCHOR: of_h2
fn of_h2(error: &h2::Error) -> Option<Severity> {
    if let Some(error) = error.get_io() {
        return of_io(error);
    }
    match error.reason()? {
        h2::Reason::NO_ERROR | h2::Reason::CANCEL | h2::Reason::REFUSED_STREAM => {
            Some(Severity::Count)
        }
        _ => Some(Severity::Warn),
    }
}
// ANCHOR_END: of_h2

#[derive(Default)]
pub struct Log {
    pub counted: AtomicU64,
    requests: AtomicU64,
}

// ANCHOR: log
impl Log {
    pub fn add(
        &self,
        severity: Severity,
        place: impl Display,
        error: &(dyn Error + 'static),
    ) {
        let line = match severity {
            Severity::Count => {
                self.counted.fetch_add(1, Relaxed);
                return;
            }
            Severity::Warn => format!("warn: {place}: {}", report(error)),
            Severity::Bug => format!("bug: {place}: {}", report(error)),
        };
        writeln!(io::stderr(), "{}", one_line(&line)).ok();
    }
}
// ANCHOR_END: log

/// A part of a text may come from a client: it must not break the line, or be endless.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
}

/// An error with its causes: hyper's errors do not print theirs.
pub fn report(error: &(dyn Error + 'static)) -> String {
    let texts: Vec<_> = chain(error).map(ToString::to_string).collect();
    texts.join(": ")
}

// ANCHOR: failure
/// Why a request failed: for the client, its status; for the log, the rest.
#[derive(Debug)]
pub struct Failure {
    status: StatusCode,
    severity: Severity,
    error: BoxError,
}

/// By `?`, each error is ours, also an `io::Error` that looks like one of a client.
impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Failure { status, severity: Severity::Bug, error: error.into() }
    }
}

// ANCHOR_END: failure

impl Failure {
    // ANCHOR: of_client
    /// The client did not send its body as it should.
    fn of_client(error: BoxError) -> Self {
        let status = if error.is::<Elapsed>() {
            StatusCode::REQUEST_TIMEOUT
        } else if error.is::<LengthLimitError>() {
            StatusCode::PAYLOAD_TOO_LARGE
        } else {
            StatusCode::BAD_REQUEST
        };
        Failure { status, severity: severity(&*error), error }
    }
    // ANCHOR_END: of_client
}

async fn respond(
    request: Request<Incoming>,
    log: Arc<Log>,
) -> Result<Response<BoxBody<Bytes, Logged>>, Infallible> {
    // ANCHOR: respond
    let id = log.requests.fetch_add(1, Relaxed) + 1;
    let (method, path) = (request.method(), request.uri().path());
    let place = format!("request {id} ({method} {path})");

    // A panic ends this task alone. It is aborted when hyper drops the request.
    let mut task = JoinSet::from_iter([handle(request, log.clone())]);
    let result = match task.join_next().await {
        Some(Ok(result)) => result,
        Some(Err(panic)) => Err(panic.into()),
        None => unreachable!("there is one task"),
    };
    let mut response = result.unwrap_or_else(|failure| {
        log.add(failure.severity, &place, &*failure.error);
        tell(failure.status, id)
    });
    let name = HeaderName::from_static("x-request-id");
    response.headers_mut().insert(name, HeaderValue::from(id));
    Ok(response.map(|body| logged(body, log, place)))
    // ANCHOR_END: respond
}

/// The response to a request that failed, without the reason.
fn tell(status: StatusCode, id: u64) -> Response<Body> {
    let mut response = text(format!("{status} (request {id})\n"));
    *response.status_mut() = status;
    if status.is_client_error() {
        // The rest of the body may still be on its way.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The error of a body that is in the log already.
#[derive(Debug)]
pub struct Logged;

impl Error for Logged {}

impl Display for Logged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("logged")
    }
}

// ANCHOR: logged
/// Logs the error of a body. Over HTTP/2 nobody else does.
fn logged(body: Body, log: Arc<Log>, place: String) -> BoxBody<Bytes, Logged> {
    body.map_err(move |error| {
        log.add(Severity::Bug, &place, &*error);
        Logged
    })
    .boxed()
}
// ANCHOR_END: logged

type Body = BoxBody<Bytes, BoxError>;

fn text(text: impl Into<Bytes>) -> Response<Body> {
    Response::new(Full::new(text.into()).map_err(BoxError::from).boxed())
}

async fn handle(
    request: Request<Incoming>,
    log: Arc<Log>,
) -> Result<Response<Body>, Failure> {
    Ok(match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => text("Hello, World!\n"),
        (&Method::GET, "/counted") => text(format!("{:?}\n", log.counted)),
        (&Method::GET, "/users") => Err(io::Error::other("no such table: users"))?,
        (&Method::GET, "/panic") => panic!("index out of range"),
        (&Method::GET, "/report") => Response::new(half_a_report()),
        (&Method::GET, "/page") => text("page").map(|body| {
            let panics = body.map_frame(|_| panic!("no such template"));
            panics.boxed()
        }),
        (&Method::GET, "/slow") => {
            sleep(Duration::from_secs(30)).await;
            text("that took a while\n")
        }
        (&Method::POST, "/upload") => {
            let body = read(request.into_body()).await.map_err(Failure::of_client)?;
            text(format!("{} bytes\n", body.len()))
        }
        _ => {
            let mut response = text("no such page\n");
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    })
}

async fn read(body: Incoming) -> Result<Bytes, BoxError> {
    let body = Limited::new(body, MAX_BODY);
    Ok(timeout(BODY, body.collect()).await??.to_bytes())
}

/// A body that fails after its first piece.
fn half_a_report() -> Body {
    let (mut sender, body) = Channel::new(1);
    tokio::spawn(async move {
        sender.send_data(Bytes::from("the first half\n")).await.ok();
        sleep(Duration::from_millis(100)).await;
        sender.abort(io::Error::other("the disk is gone").into());
    });
    body.boxed()
}

pub async fn serve<T>(stream: T, peer: IpAddr, log: Arc<Log>)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let builder = builder();
    let service = service_fn(|request| respond(request, log.clone()));
    let conn = builder.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = conn.await
        && !chain(&*error).any(|error| error.is::<Logged>())
    {
        let place = format_args!("connection from {peer}");
        log.add(severity(&*error), place, &*error);
    }
}

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

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    writeln!(io::stdout(), "listening on http://{}", listener.local_addr()?).ok();

    // ANCHOR: accept
    let log = Arc::new(Log::default());
    let mut connections = JoinSet::new();
    loop {
        let accepted = select! {
            accepted = listener.accept() => accepted,
            Some(ended) = connections.join_next() => {
                if let Err(panic) = ended {
                    log.add(severity(&panic), "a connection", &panic);
                }
                continue;
            }
        };
        match accepted {
            Ok((stream, peer)) => {
                connections.spawn(serve(stream, peer.ip(), log.clone()));
            }
            Err(error) => {
                log.add(severity(&error), "accept", &error);
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
    // ANCHOR_END: accept
}
// ANCHOR_END: program
