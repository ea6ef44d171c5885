// ANCHOR: program
//! Idle connections of the client of hyper-util.

use std::time::Duration;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

type Pool = Client<HttpConnector, Empty<Bytes>>;

// ANCHOR: client
fn client() -> Pool {
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(Duration::from_millis(100))
        .pool_timer(TokioTimer::new())
        .build_http()
}
// ANCHOR_END: client

// ANCHOR: forgetful
fn client_without_timer() -> Pool {
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(Duration::from_millis(100))
        .build_http()
}
// ANCHOR_END: forgetful

/// Asks once. Whether the connection is closed within a second.
async fn closes(client: Pool) -> bool {
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
    assert!(!closes(client_without_timer()).await);
}
// ANCHOR_END: program
