//! Sends files as hyper's example send_file does, by `tokio::fs` and `ReaderStream`; with a
//! content-length, for the client. With a third argument it does not set TCP_NODELAY, as the example.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::TryStreamExt;
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::CONTENT_LENGTH;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_util::io::ReaderStream;

async fn send(
    folder: Arc<PathBuf>,
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, std::io::Error>>, std::io::Error> {
    let name = request.uri().path().trim_start_matches('/');
    let file = tokio::fs::File::open(folder.join(name)).await?;
    let length = file.metadata().await?.len();
    let body = StreamBody::new(ReaderStream::new(file).map_ok(Frame::data)).boxed();
    let response = Response::builder().header(CONTENT_LENGTH, length);
    Ok(response.body(body).unwrap())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(env::args().nth(1).unwrap()).await?;
    let folder = Arc::new(PathBuf::from(env::args().nth(2).unwrap()));
    println!("listening on http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(env::args().len() < 4)?;
        let folder = folder.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| send(folder.clone(), request));
            let io = TokioIo::new(stream);
            http1::Builder::new().serve_connection(io, service).await.ok();
            Ok::<_, Infallible>(())
        });
    }
}
