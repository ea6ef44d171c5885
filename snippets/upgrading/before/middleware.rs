// ANCHOR: program
//! A server with tower middleware on hyper 0.14.

extern crate hyper_014 as hyper;

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::time::Duration;

use hyper::header::{HeaderValue, SERVER};
use hyper::{Body, Request, Response, Server};
use tokio::time::sleep;
use tower::ServiceBuilder;

async fn hello(
    request: Request<Body>,
) -> Result<Response<Body>, Infallible> {
    if request.uri().path() == "/slow" {
        sleep(Duration::from_secs(60)).await;
    }
    Ok(Response::new(Body::from("Hello, World!\n")))
}

// ANCHOR: sign
fn sign(mut response: Response<Body>) -> Response<Body> {
    let name = HeaderValue::from_static("tower");
    response.headers_mut().insert(SERVER, name);
    response
}
// ANCHOR_END: sign

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = env::args()
        .nth(1)
        .unwrap_or("127.0.0.1:3000".to_owned())
        .parse()?;
    // ANCHOR: stack
    let service = ServiceBuilder::new()
        .map_response(sign)
        .concurrency_limit(100)
        .timeout(Duration::from_millis(300))
        .service_fn(hello);
    // ANCHOR_END: stack

    // ANCHOR: serve
    let make_service =
        tower::service_fn(move |_conn: &_| {
            let service = service.clone();
            async { Ok::<_, Infallible>(service) }
        });
    let server = Server::bind(&address).serve(make_service);
    // ANCHOR_END: serve
    println!("listening on http://{}", server.local_addr());
    server.await?;
    Ok(())
}
// ANCHOR_END: program
