// ANCHOR: program
//! An upgrade, seen from both sides, on hyper 0.14.

extern crate hyper_014 as hyper;

use std::convert::Infallible;
use std::error::Error;

use hyper::body::Bytes;
use hyper::client::conn::handshake;
use hyper::header::{CONNECTION, HOST, UPGRADE};
use hyper::server::conn::Http;
use hyper::service::service_fn;
use hyper::{Body, Request, Response, StatusCode};
use tokio::io::{
    AsyncReadExt, AsyncWriteExt, DuplexStream, duplex,
};

// ANCHOR: server
async fn greet(
    mut request: Request<Body>,
) -> Result<Response<Body>, Infallible> {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(mut upgraded) => {
                upgraded.write_all(b"hello").await.ok();
            }
            Err(error) => eprintln!("no upgrade: {error}"),
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() =
        StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, "upgrade".parse().unwrap());
    headers.insert(UPGRADE, "greeting".parse().unwrap());
    Ok(response)
}

async fn serve(io: DuplexStream) -> hyper::Result<()> {
    Http::new()
        .serve_connection(io, service_fn(greet))
        .with_upgrades()
        .await
}
// ANCHOR_END: server

// ANCHOR: client
async fn ask(
    io: DuplexStream,
) -> Result<String, Box<dyn Error>> {
    let (mut sender, connection) = handshake(io).await?;
    tokio::spawn(async {
        if let Err(error) = connection.await {
            eprintln!("connection failed: {error}");
        }
    });
    let request = Request::get("/")
        .header(HOST, "example.com")
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, "greeting")
        .body(Body::empty())?;
    let response = sender.send_request(request).await?;
    let mut upgraded = hyper::upgrade::on(response).await?;
    let mut text = String::new();
    upgraded.read_to_string(&mut text).await?;
    Ok(text)
}
// ANCHOR_END: client

// ANCHOR: downcast
/// The stream, and what was read after the request.
fn io_of(
    upgraded: hyper::upgrade::Upgraded,
) -> (DuplexStream, Bytes) {
    let parts = upgraded
        .downcast::<DuplexStream>()
        .expect("the IO that was served");
    (parts.io, parts.read_buf)
}
// ANCHOR_END: downcast

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (client, server) = duplex(1024);
    tokio::spawn(serve(server));
    assert_eq!(ask(client).await?, "hello");

    let (mut client, server) = duplex(1024);
    let service = service_fn(|mut request| async move {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async {
            let upgraded = upgrade.await.unwrap();
            let (mut io, early) = io_of(upgraded);
            io.write_all(&early).await.unwrap();
        });
        greet(request).await
    });
    let conn = Http::new()
        .serve_connection(server, service)
        .with_upgrades();
    tokio::spawn(conn);
    let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: greeting\r\n\r\nearly";
    client.write_all(request).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("\r\n\r\nearly"), "{answer}");
    Ok(())
}
// ANCHOR_END: program
