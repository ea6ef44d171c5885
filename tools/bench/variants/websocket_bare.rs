//! Sends each message back and has no limits: by tokio-tungstenite or, with a second argument, by
//! fastwebsockets.

use std::convert::Infallible;
use std::env;
use std::error::Error;

use fastwebsockets::{FragmentCollector, OpCode, WebSocket};
use futures_util::{SinkExt, StreamExt};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::Role;

type Io = TokioIo<Upgraded>;

async fn tungstenite(io: Io) -> Result<(), Box<dyn Error>> {
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
    while let Some(message) = socket.next().await.transpose()? {
        if message.is_binary() || message.is_text() {
            socket.send(message).await?;
        }
    }
    Ok(())
}

async fn fast(io: Io) -> Result<(), Box<dyn Error>> {
    let socket = WebSocket::after_handshake(io, fastwebsockets::Role::Server);
    let mut socket = FragmentCollector::new(socket);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            _ => {}
        }
    }
}

async fn upgrade(upgrade: OnUpgrade) {
    let io = TokioIo::new(upgrade.await.unwrap());
    if env::args().len() > 2 {
        fast(io).await.ok();
    } else {
        tungstenite(io).await.ok();
    }
}

async fn accept(
    mut request: Request<Incoming>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let response = create_response_with_body(&request, Empty::new).unwrap();
    tokio::spawn(upgrade(hyper::upgrade::on(&mut request)));
    Ok(response)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(env::args().nth(1).unwrap()).await?;
    println!("listening on http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let io = TokioIo::new(stream);
        let conn = http1::Builder::new().serve_connection(io, service_fn(accept));
        tokio::spawn(async { conn.with_upgrades().await.ok() });
    }
}
