use std::convert::Infallible;
use std::pin::Pin;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http2;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};

struct Hello;

impl Service<Request<Incoming>> for Hello {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>>>>;

    fn call(&self, _: Request<Incoming>) -> Self::Future {
        Box::pin(async { Ok(Response::new(Full::from("hello"))) })
    }
}

fn serve(stream: tokio::net::TcpStream) {
    let http2 = http2::Builder::new(TokioExecutor::new());
    let _conn = http2.serve_connection(TokioIo::new(stream), Hello);
}

fn main() {}
