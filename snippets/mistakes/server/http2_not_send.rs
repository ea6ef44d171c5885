use std::convert::Infallible;
use std::rc::Rc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};

async fn handle(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let text = Rc::new("hello");
    tokio::task::yield_now().await;
    Ok(Response::new(Full::from(*text)))
}

fn serve(stream: tokio::net::TcpStream) {
    let http2 = http2::Builder::new(TokioExecutor::new());
    let _conn = http2.serve_connection(TokioIo::new(stream), service_fn(handle));
}

fn main() {}
