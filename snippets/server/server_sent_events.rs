// ANCHOR: program
//! A server that sends what is published to everyone who listens.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::signal::ctrl_c;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

// ANCHOR: limits
/// How many events are kept for clients that come back.
const HISTORY: usize = 100;
/// The largest event, in bytes.
const MAX_EVENT: usize = 16 * 1024;
/// How long a client may take to send one.
const PUBLISH: Duration = Duration::from_secs(5);
/// A comment is sent after this long without an event.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long clients may take to read the last events when the server stops.
const LAST_EVENTS: Duration = Duration::from_secs(5);
// ANCHOR_END: limits

type BoxError = Box<dyn Error + Send + Sync>;
type Answer = Response<BoxBody<Bytes, BoxError>>;

// ANCHOR: history
/// The newest events, ready to be sent. The ids count up from 1.
#[derive(Default)]
pub struct History {
    events: VecDeque<Bytes>,
    /// How many were discarded: the id before that of `events[0]`.
    discarded: u64,
    /// No event follows these.
    pub ended: bool,
}

impl History {
    pub fn last_id(&self) -> u64 {
        self.discarded + self.events.len() as u64
    }

    pub fn push(&mut self, text: &str) {
        if self.events.len() == HISTORY {
            self.events.pop_front();
            self.discarded += 1;
        }
        let id = self.last_id() + 1;
        self.events.push_back(event(id, text));
    }
}
// ANCHOR_END: history

// ANCHOR: event
fn event(id: u64, text: &str) -> Bytes {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let data: String =
        text.split('\n').map(|line| format!("data: {line}\n")).collect();
    format!("id: {id}\n{data}\n").into()
}
// ANCHOR_END: event

// ANCHOR: subscribe
/// Sends the events after `seen`, and then each new one.
pub async fn subscribe(
    mut history: watch::Receiver<History>,
    mut seen: u64,
    sender: Sender<Bytes>,
) -> Result<(), BoxError> {
    sender.send("retry: 2000\n\n".into()).await?;
    loop {
        let (next, ended) = {
            let history = history.borrow_and_update();
            (next(&history, &mut seen), history.ended)
        };
        if let Some(event) = next {
            sender.send(event).await?;
        } else if ended {
            return Ok(());
        } else if let Ok(changed) = timeout(HEARTBEAT, history.changed()).await {
            changed?;
        } else {
            sender.send(":\n\n".into()).await?;
        }
    }
}
// ANCHOR_END: subscribe

// ANCHOR: next
/// What a client gets that has seen the events up to `seen`.
fn next(history: &History, seen: &mut u64) -> Option<Bytes> {
    if *seen > history.last_id() {
        // An id of another run of this program.
        *seen = 0;
    }
    let Some(index) = seen.checked_sub(history.discarded) else {
        let missed = history.discarded - *seen;
        *seen = history.discarded;
        return Some(format!("event: missed\ndata: {missed}\n\n").into());
    };
    let event = history.events.get(index as usize)?;
    *seen += 1;
    Some(event.clone())
}
// ANCHOR_END: next

// ANCHOR: events
/// The stream of a client: from where it was, or from now on.
fn events(headers: &HeaderMap, history: &watch::Sender<History>) -> Answer {
    let history = history.subscribe();
    let seen =
        headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let seen = seen.unwrap_or_else(|| history.borrow().last_id());
    eprintln!("a client listens from event {} on", seen.saturating_add(1));
    let body = Streamed::new(|sender| subscribe(history, seen, sender));
    let mut response = Response::new(body.boxed());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
// ANCHOR_END: events

// ANCHOR: publish
async fn publish(body: Incoming, history: &watch::Sender<History>) -> Answer {
    let body = Limited::new(body, MAX_EVENT).collect();
    let body = match timeout(PUBLISH, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return refuse(StatusCode::PAYLOAD_TOO_LARGE);
        }
        Ok(Err(_)) => return refuse(StatusCode::BAD_REQUEST),
        Err(_) => return refuse(StatusCode::REQUEST_TIMEOUT),
    };
    let Ok(text) = str::from_utf8(&body) else {
        return refuse(StatusCode::BAD_REQUEST);
    };
    history.send_modify(|history| history.push(text));
    answer(StatusCode::ACCEPTED, "published\n")
}
// ANCHOR_END: publish

fn answer(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let body = Full::new(text.into()).map_err(|never| match never {});
    let mut response = Response::new(body.boxed());
    *response.status_mut() = status;
    response
}

fn refuse(status: StatusCode) -> Answer {
    let mut response = answer(status, format!("{status}\n"));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// A body, and the task that makes it. Explained on the page about streaming.
pub struct Streamed {
    pieces: Receiver<Bytes>,
    producer: JoinSet<Result<(), BoxError>>,
}

impl Streamed {
    pub fn new<F>(produce: impl FnOnce(Sender<Bytes>) -> F) -> Streamed
    where
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let (sender, pieces) = mpsc::channel(1);
        let mut producer = JoinSet::new();
        producer.spawn(produce(sender));
        Streamed { pieces, producer }
    }
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(piece) = ready!(self.pieces.poll_recv(cx)) {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        Poll::Ready(match ready!(self.producer.poll_join_next(cx)) {
            None | Some(Ok(Ok(()))) => None,
            Some(Ok(Err(error))) => Some(Err(error)),
            Some(Err(panic)) => Some(Err(panic.into())),
        })
    }
}

pub async fn handle(
    request: Request<Incoming>,
    history: Arc<watch::Sender<History>>,
) -> Result<Answer, Infallible> {
    Ok(match (request.method(), request.uri().path()) {
        (&Method::GET, "/events") => events(request.headers(), &history),
        (&Method::POST, "/events") => publish(request.into_body(), &history).await,
        _ => answer(StatusCode::NOT_FOUND, "no such page\n"),
    })
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);

    let history = Arc::new(watch::Sender::new(History::default()));
    let graceful = GracefulShutdown::new();
    let mut stop = pin!(ctrl_c());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut stop => break,
        };
        let (stream, _peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                eprintln!("accept failed: {error}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let history = history.clone();
        let service = service_fn(move |request| handle(request, history.clone()));
        let conn = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(5))
            .serve_connection(TokioIo::new(stream), service);
        let conn = graceful.watch(conn);
        tokio::spawn(async move {
            match conn.await {
                // Clients leave a stream like this.
                Err(error) if error.is_incomplete_message() => {}
                Err(error) => eprintln!("connection failed: {error}"),
                Ok(()) => {}
            }
        });
    }

    // ANCHOR: stop
    drop(listener);
    history.send_modify(|history| history.ended = true);
    if timeout(LAST_EVENTS, graceful.shutdown()).await.is_err() {
        eprintln!("stopped: some clients were cut off");
    }
    Ok(())
    // ANCHOR_END: stop
}
// ANCHOR_END: program
