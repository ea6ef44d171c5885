use std::convert::Infallible;

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

fn serve(stream: tokio::net::TcpStream, name: String) {
    let service = service_fn(|_| async {
        let body = Full::<Bytes>::from(name.clone());
        Ok::<_, Infallible>(Response::new(body))
    });
    let io = TokioIo::new(stream);
    tokio::spawn(http1::Builder::new().serve_connection(io, service));
}

fn main() {
    let _ = serve;
}
