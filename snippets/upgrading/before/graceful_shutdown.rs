// ANCHOR: program
//! "Gracefully Shutdown a Server", as it was written for hyper 0.14. A request
//! is read to its end and takes half a second, so that there is something to
//! wait for.

extern crate hyper_014 as hyper;

use hyper::body::HttpBody;
use hyper::service::{make_service_fn, service_fn};
use hyper::{Body, Request, Response, Server};
use std::convert::Infallible;
use std::env;
use std::time::Duration;

async fn hello_world(
    req: Request<Body>,
) -> Result<Response<Body>, Infallible> {
    println!("a request");
    req.into_body().collect().await.ok();
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(Response::new("Hello, World".into()))
}

// ANCHOR: visible
async fn shutdown_signal() {
    // Wait for the CTRL+C signal
    tokio::signal::ctrl_c()
        .await
        .expect("failed to install CTRL+C signal handler");
}

// ANCHOR_END: visible
// A line of the author's is longer than rustfmt allows here.
#[rustfmt::skip]
// ANCHOR: visible
#[tokio::main]
async fn main() {
    // ANCHOR_END: visible
    let address = env::args()
        .nth(1)
        .unwrap_or("127.0.0.1:3000".to_owned());
    let addr = address.parse().unwrap();
    let make_svc = make_service_fn(|_conn| async {
        Ok::<_, Infallible>(service_fn(hello_world))
    });
    // ANCHOR: visible
    // Constructed `addr` and `make_svc` from your app above..

    // And construct the `Server` like normal...
    let server = Server::bind(&addr).serve(make_svc);
    // ANCHOR_END: visible
    println!("listening on http://{}", server.local_addr());
    // ANCHOR: visible

    // And now add a graceful shutdown signal...
    let graceful = server.with_graceful_shutdown(shutdown_signal());

    // Run this server for... forever!
    if let Err(e) = graceful.await {
        eprintln!("server error: {}", e);
    }
}
// ANCHOR_END: visible
// ANCHOR_END: program
