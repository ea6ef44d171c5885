use http_body_util::Empty;
use hyper::Uri;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tower::service_fn;

fn main() {
    let connector = service_fn(|_: Uri| async {
        TcpStream::connect("127.0.0.1:3000").await.map(TokioIo::new)
    });
    let _: Client<_, Empty<Bytes>> =
        Client::builder(TokioExecutor::new()).build(connector);
}
