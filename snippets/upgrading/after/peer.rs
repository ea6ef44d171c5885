// ANCHOR: program
//! Per-connection state, the peer's address and socket options on hyper 1.

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn hello(
    _request: Request<Incoming>,
    peer: SocketAddr,
) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from(peer.to_string())))
}

async fn serve(listener: TcpListener) {
    loop {
        // ANCHOR: accept_errors
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                eprintln!("accept failed: {error}");
                let pause = Duration::from_secs(1);
                tokio::time::sleep(pause).await;
                continue;
            }
        };
        // ANCHOR_END: accept_errors

        // ANCHOR: options
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(60));
        let set = stream.set_nodelay(true).and_then(|()| {
            SockRef::from(&stream)
                .set_tcp_keepalive(&keepalive)
        });
        if let Err(error) = set {
            eprintln!("socket options: {error}");
        }
        // ANCHOR_END: options

        // ANCHOR: peer
        let service =
            service_fn(move |request| hello(request, peer));
        let conn = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(
                TokioIo::new(stream),
                service,
            );
        tokio::spawn(async move {
            if let Err(error) = conn.await {
                eprintln!("connection failed: {error}");
            }
        });
        // ANCHOR_END: peer
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(serve(listener));

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
