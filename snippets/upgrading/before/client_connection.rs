// ANCHOR: program
//! A client on a connection of one's own on hyper 0.14.

extern crate hyper_014 as hyper;

use hyper::client::conn;
use hyper::service::Service;
use hyper::{Body, Request};
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
    let (mut sender, connection) = conn::Builder::new()
        .http1_title_case_headers(true)
        .handshake(stream)
        .await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            eprintln!("connection failed: {error}");
        }
    });

    let request = Request::get("/")
        .header("host", "example.com")
        .body(Body::empty())
        .expect("a valid request");
    let response = sender.send_request(request).await?;
    // ANCHOR_END: conn
    assert_eq!(response.status(), 204);

    let request = Request::get("/")
        .header("host", "example.com")
        .body(Body::empty())
        .expect("a valid request");
    // ANCHOR: send_request
    std::future::poll_fn(|cx| sender.poll_ready(cx))
        .await?;
    let response = sender.call(request).await?;
    // ANCHOR_END: send_request
    assert_eq!(response.status(), 204);
    Ok(())
}
// ANCHOR_END: program
