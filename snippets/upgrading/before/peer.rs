// ANCHOR: program
//! Per-connection state, the peer's address and socket options on hyper 0.14.

extern crate hyper_014 as hyper;

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::server::conn::{AddrIncoming, AddrStream};
use hyper::service::{make_service_fn, service_fn};
use hyper::{Body, Request, Response, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn hello(
    _request: Request<Body>,
    peer: SocketAddr,
) -> Result<Response<Body>, Infallible> {
    Ok(Response::new(Body::from(peer.to_string())))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = ([127, 0, 0, 1], 0).into();

    // ANCHOR: options
    let mut incoming = AddrIncoming::bind(&address)?;
    incoming.set_nodelay(true);
    incoming.set_keepalive(Some(Duration::from_secs(60)));
    incoming.set_sleep_on_errors(true);
    let server = Server::builder(incoming);
    // ANCHOR_END: options

    // ANCHOR: peer
    let make_service =
        make_service_fn(|stream: &AddrStream| {
            let peer = stream.remote_addr();
            let service = service_fn(move |request| {
                hello(request, peer)
            });
            async move { Ok::<_, Infallible>(service) }
        });
    // ANCHOR_END: peer

    let server = server.serve(make_service);
    let address = server.local_addr();
    tokio::spawn(server);

    // A client is told its own address.
    let mut client = TcpStream::connect(address).await?;
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    client.read_to_string(&mut answer).await?;
    let me = client.local_addr()?.to_string();
    assert!(answer.ends_with(&me), "{answer}");
    Ok(())
}
// ANCHOR_END: program
