// ANCHOR: program
//! Connectors for the client of hyper-util, and its errors.

use std::error::Error as _;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::{Response, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

// ANCHOR: connector
async fn get_from(
    address: SocketAddr,
    url: Uri,
) -> Result<Response<Incoming>, Error> {
    // Wherever the URL points to, this is the server.
    let connector = tower::service_fn(move |_: Uri| {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await;
            stream.map(TokioIo::new)
        })
    });
    let client: Client<_, Empty<Bytes>> =
        Client::builder(TokioExecutor::new())
            .build(connector);
    client.get(url).await
}
// ANCHOR_END: connector

// ANCHOR: options
fn client() -> Client<HttpConnector, Empty<Bytes>> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let limit = Duration::from_secs(5);
    connector.set_connect_timeout(Some(limit));
    Client::builder(TokioExecutor::new()).build(connector)
}
// ANCHOR_END: options

// ANCHOR: errors
fn explain(error: Error) -> String {
    if error.is_connect() {
        return "no connection".to_owned();
    }
    let message = error.to_string();
    match error.source() {
        Some(cause) => format!("{message}: {cause}"),
        None => message,
    }
}
// ANCHOR_END: errors

/// Answers one request with these bytes; the address where it does.
async fn answer(bytes: &'static [u8]) -> SocketAddr {
    let listener =
        TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) =
            listener.accept().await.unwrap();
        let n = stream.read(&mut [0; 1024]).await.unwrap();
        assert!(n > 0);
        stream.write_all(bytes).await.unwrap();
    });
    address
}

#[tokio::main]
async fn main() {
    let url = Uri::from_static("http://anywhere.test/");
    let server =
        answer(b"HTTP/1.1 204 No Content\r\n\r\n").await;
    let response = get_from(server, url).await.unwrap();
    assert_eq!(response.status(), 204);

    // Nothing listens on port 1.
    let url = Uri::from_static("http://127.0.0.1:1/");
    let error = client().get(url).await.unwrap_err();
    assert_eq!(explain(error), "no connection");

    let server = answer(b"not HTTP\r\n\r\n").await;
    let url = format!("http://{server}/").parse().unwrap();
    let error = client().get(url).await.unwrap_err();
    assert_eq!(
        explain(error),
        "client error (SendRequest): invalid HTTP version parsed"
    );
}
// ANCHOR_END: program
