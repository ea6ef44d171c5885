// ANCHOR: program
//! Echo, moved from hyper 0.14 to hyper 1.

use std::env;
use std::error::Error;
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{
    BodyExt, Empty, Full, LengthLimitError, Limited,
};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

// ANCHOR: routes
type BoxError = Box<dyn Error + Send + Sync>;
type Body = BoxBody<Bytes, hyper::Error>;

async fn echo(
    request: Request<Incoming>,
) -> Result<Response<Body>, BoxError> {
    let route = (request.method(), request.uri().path());
    let body = match route {
        (&Method::POST, "/echo") => {
            request.into_body().boxed()
        }
        (&Method::POST, "/uppercase") => {
            uppercase(request.into_body())
        }
        (&Method::POST, "/reversed") => {
            return reversed(request.into_body()).await;
        }
        _ => return Ok(empty(StatusCode::NOT_FOUND)),
    };
    Ok(Response::new(body))
}

fn empty(status: StatusCode) -> Response<Body> {
    let body = Empty::new().map_err(|e| match e {});
    let mut response = Response::new(body.boxed());
    *response.status_mut() = status;
    response
}
// ANCHOR_END: routes

// ANCHOR: uppercase
fn uppercase(body: Incoming) -> Body {
    body.map_frame(|frame| match frame.into_data() {
        Ok(chunk) => {
            Frame::data(chunk.to_ascii_uppercase().into())
        }
        Err(trailers) => trailers,
    })
    .boxed()
}
// ANCHOR_END: uppercase

// ANCHOR: reversed
async fn reversed(
    body: Incoming,
) -> Result<Response<Body>, BoxError> {
    let body = Limited::new(body, 64 * 1024);
    let whole = match body.collect().await {
        Ok(whole) => whole.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return Ok(empty(
                StatusCode::PAYLOAD_TOO_LARGE,
            ));
        }
        Err(error) => return Err(error),
    };
    let mut bytes = whole.to_vec();
    bytes.reverse();
    let body = Full::from(bytes).map_err(|e| match e {});
    Ok(Response::new(body.boxed()))
}
// ANCHOR_END: reversed

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = env::args()
        .nth(1)
        .unwrap_or("127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!(
        "listening on http://{}",
        listener.local_addr()?
    );
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _peer)) => stream,
            Err(error) => {
                eprintln!("accept failed: {error}");
                let pause = Duration::from_millis(100);
                tokio::time::sleep(pause).await;
                continue;
            }
        };
        let conn = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(
                TokioIo::new(stream),
                service_fn(echo),
            );
        tokio::spawn(async move {
            if let Err(error) = conn.await {
                eprintln!("connection failed: {error}");
            }
        });
    }
}
// ANCHOR_END: program
