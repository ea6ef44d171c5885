// ANCHOR: program
//! A server that sends its responses while it makes them.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::fmt::{self, Write};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinSet;
use tokio::time::sleep;

type BoxError = Box<dyn Error + Send + Sync>;
type Answer = Response<BoxBody<Bytes, BoxError>>;

// ANCHOR: streamed
/// A body, and the task that makes it.
pub struct Streamed {
    pieces: Receiver<Bytes>,
    /// Holds one task, and ends it when the body is dropped.
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
// ANCHOR_END: streamed

impl Body for Streamed {
    type Data = Bytes;
    type Error = BoxError;

    // ANCHOR: poll_frame
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(piece) = ready!(self.pieces.poll_recv(cx)) {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        // The producer has dropped its sender. Is the body whole?
        Poll::Ready(match ready!(self.producer.poll_join_next(cx)) {
            None | Some(Ok(Ok(()))) => None,
            Some(Ok(Err(error))) => Some(Err(error)),
            Some(Err(panic)) => Some(Err(panic.into())),
        })
    }
    // ANCHOR_END: poll_frame
}

#[derive(Default)]
pub struct Stats {
    pub made: AtomicU64,
    pub streams: AtomicUsize,
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (made, streams) = (self.made.load(Relaxed), self.streams.load(Relaxed));
        writeln!(f, "{made} numbers made, {streams} streams open")
    }
}

// ANCHOR: open
/// Counts a stream for as long as its producer is there.
struct Open(Arc<Stats>);

impl Open {
    fn new(stats: Arc<Stats>) -> Open {
        stats.streams.fetch_add(1, Relaxed);
        Open(stats)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Relaxed);
    }
}
// ANCHOR_END: open

// ANCHOR: numbers
/// The numbers up to `last`, 1,000 in a piece.
pub async fn numbers(
    sender: Sender<Bytes>,
    last: u64,
    stats: Arc<Stats>,
) -> Result<(), BoxError> {
    let open = Open::new(stats);
    for first in (1..=last).step_by(1000) {
        let room = sender.reserve().await?;
        let mut piece = String::new();
        for number in first..=last.min(first.saturating_add(999)) {
            writeln!(piece, "{number}")?;
            open.0.made.fetch_add(1, Relaxed);
        }
        room.send(piece.into());
    }
    Ok(())
}
// ANCHOR_END: numbers

// ANCHOR: order
/// Places an order, even if the client does not wait for it.
async fn order() -> Answer {
    let work = tokio::spawn(async {
        eprintln!("an order has come");
        sleep(Duration::from_secs(1)).await;
        eprintln!("the order is placed");
    });
    match work.await {
        Ok(()) => text(StatusCode::CREATED, "the order is placed\n"),
        Err(panic) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{panic}\n")),
    }
}
// ANCHOR_END: order

fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let body = Full::new(text.into()).map_err(|never| match never {});
    let mut response = Response::new(body.boxed());
    *response.status_mut() = status;
    response
}

// ANCHOR: routes
async fn handle(
    request: Request<Incoming>,
    stats: Arc<Stats>,
) -> Result<Answer, Infallible> {
    Ok(match (request.method(), request.uri().path()) {
        (&Method::GET, "/numbers") => {
            let last = request.uri().query().and_then(|query| query.parse().ok());
            let last = last.unwrap_or(u64::MAX);
            let body = Streamed::new(|sender| numbers(sender, last, stats));
            Response::new(body.boxed())
        }
        (&Method::GET, "/stats") => text(StatusCode::OK, stats.to_string()),
        (&Method::POST, "/orders") => order().await,
        _ => text(StatusCode::NOT_FOUND, "no such page\n"),
    })
}
// ANCHOR_END: routes

/// An error with its causes.
pub fn report(error: &(dyn Error + 'static)) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", report(source)),
        None => error.to_string(),
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);

    let stats = Arc::new(Stats::default());
    loop {
        let (stream, _peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                eprintln!("accept failed: {error}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let stats = stats.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| handle(request, stats.clone()));
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
