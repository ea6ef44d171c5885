use std::convert::Infallible;

use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::HttpService;
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpStream;

fn serve<S>(stream: TcpStream, service: S, graceful: &GracefulShutdown)
where
    S: HttpService<Incoming, ResBody = Full<Bytes>, Error = Infallible>,
{
    let conn = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let _ = graceful.watch(conn);
}

fn main() {}
