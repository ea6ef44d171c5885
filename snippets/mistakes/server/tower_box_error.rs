use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tower::BoxError;
use tower::util::BoxCloneService;

type Stack = BoxCloneService<Request<Incoming>, Response<String>, BoxError>;

fn serve(stream: TcpStream, stack: Stack) {
    let conn = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(stack));
    tokio::spawn(async move {
        if let Err(error) = conn.await {
            eprintln!("connection failed: {error}");
        }
    });
}

fn main() {}
