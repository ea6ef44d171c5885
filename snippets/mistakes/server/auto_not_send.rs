use std::convert::Infallible;
use std::rc::Rc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;

async fn serve(stream: TcpStream, text: Rc<str>) {
    let service = service_fn(move |_: Request<Incoming>| {
        let text = text.clone();
        async move {
            let body = Full::new(Bytes::copy_from_slice(text.as_bytes()));
            Ok::<_, Infallible>(Response::new(body))
        }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    builder.serve_connection(TokioIo::new(stream), service).await.ok();
}

fn main() {}
