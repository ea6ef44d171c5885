// ANCHOR: program
//! Echo on hyper 0.14.

extern crate hyper_014 as hyper;

use std::convert::Infallible;
use std::env;
use std::error::Error;

use futures_util::TryStreamExt;
use hyper::body::Bytes;
use hyper::service::{make_service_fn, service_fn};
use hyper::{
    Body, Method, Request, Response, Server, StatusCode,
};

// ANCHOR: routes
async fn echo(
    request: Request<Body>,
) -> hyper::Result<Response<Body>> {
    let route = (request.method(), request.uri().path());
    let body = match route {
        (&Method::POST, "/echo") => request.into_body(),
        (&Method::POST, "/uppercase") => {
            uppercase(request.into_body())
        }
        (&Method::POST, "/reversed") => {
            reversed(request.into_body()).await?
        }
        _ => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_FOUND;
            return Ok(response);
        }
    };
    Ok(Response::new(body))
}
// ANCHOR_END: routes

// ANCHOR: uppercase
fn uppercase(body: Body) -> Body {
    Body::wrap_stream(body.map_ok(|chunk| {
        Bytes::from(chunk.to_ascii_uppercase())
    }))
}
// ANCHOR_END: uppercase

// ANCHOR: reversed
async fn reversed(body: Body) -> hyper::Result<Body> {
    let whole = hyper::body::to_bytes(body).await?;
    let mut bytes = whole.to_vec();
    bytes.reverse();
    Ok(Body::from(bytes))
}
// ANCHOR_END: reversed

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = env::args()
        .nth(1)
        .unwrap_or("127.0.0.1:3000".to_owned())
        .parse()?;
    let make_service = make_service_fn(|_conn| async {
        Ok::<_, Infallible>(service_fn(echo))
    });
    let server = Server::bind(&address).serve(make_service);
    println!("listening on http://{}", server.local_addr());
    server.await?;
    Ok(())
}
// ANCHOR_END: program
