// ANCHOR: program
//! Hello World on hyper 0.14.

extern crate hyper_014 as hyper;

use std::convert::Infallible;
use std::env;
use std::error::Error;

// ANCHOR: visible
use hyper::service::{make_service_fn, service_fn};
use hyper::{Body, Request, Response, Server};

async fn hello(
    _request: Request<Body>,
) -> Result<Response<Body>, Infallible> {
    Ok(Response::new(Body::from("Hello, World!\n")))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // ANCHOR_END: visible
    let address = env::args()
        .nth(1)
        .unwrap_or("127.0.0.1:3000".to_owned())
        .parse()?;
    // ANCHOR: visible
    let make_service = make_service_fn(|_conn| async {
        Ok::<_, Infallible>(service_fn(hello))
    });
    let server = Server::bind(&address).serve(make_service);
    println!("listening on http://{}", server.local_addr());
    server.await?;
    Ok(())
}
// ANCHOR_END: visible
// ANCHOR_END: program
