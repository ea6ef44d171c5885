use http_body_util::{Empty, combinators::BoxBody};
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Error, Request, Response};
use hyper_util::rt::TokioIo;

async fn handle(
    _: Request<BoxBody<Bytes, Error>>,
) -> Result<Response<Empty<Bytes>>, Error> {
    Ok(Response::new(Empty::new()))
}

fn serve(stream: tokio::net::TcpStream) {
    let io = TokioIo::new(stream);
    let _ = http1::Builder::new().serve_connection(io, service_fn(handle));
}

fn main() {
    let _ = serve;
}
