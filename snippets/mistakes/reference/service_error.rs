use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

enum NoSuchNote {}

async fn handle(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, NoSuchNote> {
    Ok(Response::new(Full::from("hello")))
}

fn serve(stream: tokio::net::TcpStream) {
    let io = TokioIo::new(stream);
    drop(http1::Builder::new().serve_connection(io, service_fn(handle)));
}

fn main() {
    let _ = serve;
}
