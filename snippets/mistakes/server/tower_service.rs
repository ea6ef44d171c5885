use std::convert::Infallible;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::service_fn;

async fn handle(_: Request<Incoming>) -> Result<Response<String>, Infallible> {
    Ok(Response::new("Hello, World!\n".to_owned()))
}

fn serve(stream: TcpStream) {
    let service = service_fn(handle);
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
}

fn main() {}
