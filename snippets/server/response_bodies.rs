// ANCHOR: program
//! A server that sends each kind of body.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::io;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Body as _, Bytes, Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, TRAILER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::time::sleep;

type BoxError = Box<dyn Error + Send + Sync>;

// ANCHOR: body
/// One type for all bodies of this server.
type Body = BoxBody<Bytes, BoxError>;

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

fn streamed<S>(frames: S) -> Body
where
    S: Stream<Item = Result<Frame<Bytes>, BoxError>> + Send + Sync + 'static,
{
    BodyExt::boxed(StreamBody::new(frames))
}
// ANCHOR_END: body

// ANCHOR: lines
fn lines() -> impl Stream<Item = Result<Frame<Bytes>, BoxError>> {
    let lines = ["one\n", "two\n", "three\n"];
    stream::iter(lines).map(|line| Ok(Frame::data(Bytes::from(line))))
}
// ANCHOR_END: lines

// ANCHOR: sized
/// A stream whose length is known from elsewhere.
fn sized() -> Response<Body> {
    let mut response = Response::new(streamed(lines()));
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(14));
    response
}
// ANCHOR_END: sized

// ANCHOR: trailers
fn trailers() -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("lines", HeaderValue::from(3));
    let end = stream::iter([Ok(Frame::trailers(trailers))]);
    let mut response = Response::new(streamed(lines().chain(end)));
    response.headers_mut().insert(TRAILER, HeaderValue::from_static("lines"));
    response
}
// ANCHOR_END: trailers

// ANCHOR: broken
/// Fails after the first piece.
fn broken() -> Response<Body> {
    let failed = io::Error::other("the disk is gone");
    let end = stream::iter([Err(BoxError::from(failed))]);
    Response::new(streamed(lines().take(1).chain(end)))
}
// ANCHOR_END: broken

pub async fn handle<B>(request: Request<B>) -> Result<Response<Body>, Infallible> {
    let response = match request.uri().path() {
        "/full" => Response::new(full("Hello, World!\n")),
        "/stream" => Response::new(streamed(lines())),
        "/sized" => sized(),
        "/trailers" => trailers(),
        "/broken" => broken(),
        "/nothing" => status(StatusCode::NO_CONTENT, empty()),
        _ => status(StatusCode::NOT_FOUND, full("no such page\n")),
    };
    Ok(match request.method() {
        &Method::HEAD => head_only(response),
        _ => response,
    })
}

// ANCHOR: head_only
/// The response to a `HEAD`, made of that to a `GET`.
fn head_only(response: Response<Body>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    if let Some(length @ 1..) = body.size_hint().exact() {
        head.headers.entry(CONTENT_LENGTH).or_insert(HeaderValue::from(length));
    }
    Response::from_parts(head, empty())
}
// ANCHOR_END: head_only

fn status(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

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
            let conn = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(5))
                .serve_connection(
                    TokioIo::new(stream),
                    service_fn(handle::<Incoming>),
                );
            if let Err(error) = conn.await {
                eprintln!("connection failed: {}", report(&error));
            }
        });
    }
}
// ANCHOR_END: program
