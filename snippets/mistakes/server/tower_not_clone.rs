use std::convert::Infallible;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tower::ServiceBuilder;

async fn handle(_: Request<Incoming>) -> Result<Response<String>, Infallible> {
    Ok(Response::new("Hello, World!\n".to_owned()))
}

fn serve(stream: TcpStream) {
    let service = ServiceBuilder::new()
        .rate_limit(100, Duration::from_secs(1))
        .service_fn(handle);
    let service = TowerToHyperService::new(service);
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
}

fn main() {}
