// ANCHOR: program
//! A client on a connection of one's own on hyper 1.

use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{
    AsyncReadExt, AsyncWriteExt, DuplexStream, duplex,
};

async fn answer(mut server: DuplexStream) {
    let mut request = [0; 1024];
    let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
    while server.read(&mut request).await.unwrap() > 0 {
        server.write_all(answer).await.unwrap();
    }
}

#[tokio::main]
async fn main() -> hyper::Result<()> {
    let (stream, server) = duplex(1024);
    tokio::spawn(answer(server));

    // ANCHOR: conn
    let (mut sender, connection) = http1::Builder::new()
        .title_case_headers(true)
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            eprintln!("connection failed: {error}");
        }
    });

    let request = Request::get("/")
        .header("host", "example.com")
        .body(Empty::<Bytes>::new())
        .expect("a valid request");
    let response = sender.send_request(request).await?;
    // ANCHOR_END: conn
    assert_eq!(response.status(), 204);

    let request = Request::get("/")
        .header("host", "example.com")
        .body(Empty::<Bytes>::new())
        .expect("a valid request");
    // ANCHOR: send_request
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    // ANCHOR_END: send_request
    assert_eq!(response.status(), 204);
    Ok(())
}
// ANCHOR_END: program
