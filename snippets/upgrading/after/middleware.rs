// ANCHOR: program
//! A server with tower middleware, moved from hyper 0.14 to hyper 1.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderValue, SERVER};
use hyper::server::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::time::sleep;
use tower::ServiceBuilder;

async fn hello(
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == "/slow" {
        sleep(Duration::from_secs(60)).await;
    }
    Ok(Response::new(Full::from("Hello, World!\n")))
}

// ANCHOR: sign
fn sign<B>(mut response: Response<B>) -> Response<B> {
    let name = HeaderValue::from_static("tower");
    response.headers_mut().insert(SERVER, name);
    response
}
// ANCHOR_END: sign

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = env::args()
        .nth(1)
        .unwrap_or("127.0.0.1:3000".to_owned());
    // ANCHOR: stack
    let service = ServiceBuilder::new()
        .map_response(sign)
        .concurrency_limit(100)
        .timeout(Duration::from_millis(300))
        .service_fn(hello);
    // ANCHOR_END: stack

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
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // ANCHOR: serve
        let service =
            TowerToHyperService::new(service.clone());
        let conn = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(
                TokioIo::new(stream),
                service,
            );
        // ANCHOR_END: serve
        tokio::spawn(async move {
            if let Err(error) = conn.await {
                eprintln!("connection failed: {error}");
            }
        });
    }
}
// ANCHOR_END: program
