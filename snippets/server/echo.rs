// ANCHOR: program
//! A server that sends back what it is sent: as it is, in upper case, reversed.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, EXPECT, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::time::{Sleep, sleep};

// ANCHOR: types
type BoxError = Box<dyn Error + Send + Sync>;
type Answer = Response<BoxBody<Bytes, BoxError>>;

fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let body = Full::new(text.into()).map_err(|never| match never {});
    let mut response = Response::new(body.boxed());
    *response.status_mut() = status;
    response
}
// ANCHOR_END: types

// ANCHOR: routes
async fn echo(request: Request<Incoming>) -> Result<Answer, Infallible> {
    let request = request.map(InTime::new);
    Ok(match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => {
            text(StatusCode::OK, "POST to /echo, /uppercase or /reversed\n")
        }
        (&Method::POST, "/echo") => Response::new(request.into_body().boxed()),
        (&Method::POST, "/uppercase") => uppercase(request.into_body()),
        (&Method::POST, "/reversed") => reversed(request).await,
        _ => text(StatusCode::NOT_FOUND, "no such page\n"),
    })
}
// ANCHOR_END: routes

// ANCHOR: in_time
const BODY_TIME: Duration = Duration::from_secs(10);

/// The body of a request. Reading it fails if it takes too long to arrive.
struct InTime {
    body: Incoming,
    deadline: Pin<Box<Sleep>>,
}

impl InTime {
    fn new(body: Incoming) -> InTime {
        InTime { body, deadline: Box::pin(sleep(BODY_TIME)) }
    }
}
// ANCHOR_END: in_time

impl Body for InTime {
    type Data = Bytes;
    type Error = BoxError;

    // ANCHOR: poll_frame
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|result| result.map_err(BoxError::from)));
        }
        self.deadline.as_mut().poll(cx).map(|()| {
            let error =
                io::Error::new(io::ErrorKind::TimedOut, "the body is too slow");
            Some(Err(error.into()))
        })
    }
    // ANCHOR_END: poll_frame

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

// ANCHOR: uppercase
fn uppercase(body: InTime) -> Answer {
    let body = body.map_frame(|frame| match frame.into_data() {
        Ok(data) => Frame::data(data.to_ascii_uppercase().into()),
        Err(trailers) => trailers,
    });
    Response::new(body.boxed())
}
// ANCHOR_END: uppercase

// ANCHOR: reversed
const MAX_BODY: usize = 64 * 1024;

async fn reversed(request: Request<InTime>) -> Answer {
    if asks_to_send_too_much(&request) {
        return too_large(false);
    }
    let mut body = request.into_body();
    match Limited::new(&mut body, MAX_BODY).collect().await {
        Ok(whole) => {
            let mut bytes = whole.to_bytes().to_vec();
            bytes.reverse();
            text(StatusCode::OK, bytes)
        }
        Err(error) if error.is::<LengthLimitError>() => {
            too_large(discard(body).await)
        }
        Err(error) => unreadable(error),
    }
}
// ANCHOR_END: reversed

// ANCHOR: unreadable
fn unreadable(error: BoxError) -> Answer {
    let status = if error.is::<io::Error>() {
        StatusCode::REQUEST_TIMEOUT
    } else {
        StatusCode::BAD_REQUEST
    };
    last(text(status, format!("{error}\n")))
}

/// Tells the client that no other response follows on this connection.
fn last(mut response: Answer) -> Answer {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
// ANCHOR_END: unreadable

// ANCHOR: discard
const MAX_REST: usize = 1024 * 1024;

/// Reads the rest of a body, up to a limit. Returns whether the body has ended.
async fn discard(body: InTime) -> bool {
    let mut rest = Limited::new(body, MAX_REST);
    while let Some(frame) = rest.frame().await {
        if frame.is_err() {
            return false;
        }
    }
    true
}

fn too_large(body_has_ended: bool) -> Answer {
    let message = format!("a body of at most {MAX_BODY} bytes, please\n");
    let response = text(StatusCode::PAYLOAD_TOO_LARGE, message);
    if body_has_ended { response } else { last(response) }
}
// ANCHOR_END: discard

// ANCHOR: expect
/// Whether the client announces too long a body, and waits before it sends it.
fn asks_to_send_too_much(request: &Request<InTime>) -> bool {
    request.headers().contains_key(EXPECT)
        && request.body().size_hint().lower() > MAX_BODY as u64
}
// ANCHOR_END: expect

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);

    loop {
        let (stream, _peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                eprintln!("accept failed: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };

        tokio::spawn(async move {
            let conn = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(5))
                .serve_connection(TokioIo::new(stream), service_fn(echo));
            if let Err(error) = conn.await {
                eprintln!("connection failed: {error}");
            }
        });
    }
}
// ANCHOR_END: program
