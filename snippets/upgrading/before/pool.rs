// ANCHOR: program
//! Idle connections of the client of hyper 0.14.

extern crate hyper_014 as hyper;

use std::time::Duration;

use hyper::client::HttpConnector;
use hyper::{Body, Client};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

// ANCHOR: client
fn client() -> Client<HttpConnector, Body> {
    Client::builder()
        .pool_idle_timeout(Duration::from_millis(100))
        .build_http()
}
// ANCHOR_END: client

/// Asks once. Whether the connection is closed within a second.
async fn closes(
    client: Client<HttpConnector, Body>,
) -> bool {
    let listener =
        TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = format!("http://{address}/").parse().unwrap();
    let request = tokio::spawn(client.get(url));
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut bytes = [0; 1024];
    assert!(stream.read(&mut bytes).await.unwrap() > 0);
    let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
    stream.write_all(answer).await.unwrap();
    request.await.unwrap().unwrap();
    let end = stream.read(&mut bytes);
    let end = timeout(Duration::from_secs(1), end).await;
    drop(client); // Alive until now.
    end.is_ok()
}

#[tokio::main]
async fn main() {
    assert!(closes(client()).await);
}
// ANCHOR_END: program
