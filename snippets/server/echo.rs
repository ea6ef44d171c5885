// ANCHOR: program
//! A server that sends back what it is sent: as it is, in upper case, reversed.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

// ANCHOR: types
type Body = BoxBody<Bytes, hyper::Error>;

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(text.into()).map_err(|never| match never {});
    let mut response = Response::new(body.boxed());
    *response.status_mut() = status;
    response
}
// ANCHOR_END: types

// ANCHOR: routes
async fn echo(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    Ok(match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => {
            text(StatusCode::OK, "POST to /echo, /uppercase or /reversed\n")
        }
        (&Method::POST, "/echo") => Response::new(request.into_body().boxed()),
        (&Method::POST, "/uppercase") => uppercase(request.into_body()),
        (&Method::POST, "/reversed") => reversed(request.into_body()).await,
        _ => text(StatusCode::NOT_FOUND, "no such page\n"),
    })
}
// ANCHOR_END: routes

// ANCHOR: uppercase
fn uppercase(body: Incoming) -> Response<Body> {
    let body = body.map_frame(|frame| match frame.into_data() {
        Ok(data) => Frame::data(data.to_ascii_uppercase().into()),
        Err(trailers) => trailers,
    });
    Response::new(body.boxed())
}
// ANCHOR_END: uppercase

// ANCHOR: reversed
const MAX_BODY: usize = 64 * 1024;

async fn reversed(body: Incoming) -> Response<Body> {
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(whole) => {
            let mut bytes = whole.to_bytes().to_vec();
            bytes.reverse();
            text(StatusCode::OK, bytes)
        }
        Err(error) if error.is::<LengthLimitError>() => text(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("a body of at most {MAX_BODY} bytes, please\n"),
        ),
        Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}
// ANCHOR_END: reversed

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
