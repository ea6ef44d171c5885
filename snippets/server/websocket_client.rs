// ANCHOR: program
//! A WebSocket client: it sends each argument, and prints what comes back.

use std::env;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{
    CONNECTION, HOST, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::Upgraded;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// How long each step may take.
const STEP: Duration = Duration::from_secs(10);

// ANCHOR: connect
async fn connect(address: &str) -> Result<WebSocketStream<TokioIo<Upgraded>>, Error> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, conn) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(conn.with_upgrades());

    let key = generate_key();
    let request = Request::get("/ws")
        .header(HOST, address)
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, &key)
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    // ANCHOR_END: connect

    // ANCHOR: check
    let header = |name| response.headers().get(name).map(HeaderValue::as_bytes);
    let accepted = response.status() == StatusCode::SWITCHING_PROTOCOLS
        && header(UPGRADE).is_some_and(|v| v.eq_ignore_ascii_case(b"websocket"))
        && header(CONNECTION).is_some_and(|v| v.eq_ignore_ascii_case(b"upgrade"))
        && header(SEC_WEBSOCKET_ACCEPT)
            == Some(derive_accept_key(key.as_bytes()).as_bytes());
    if !accepted {
        return Err(format!("no WebSocket there: {}", response.status()).into());
    }
    let io = TokioIo::new(hyper::upgrade::on(response).await?);
    let config = Some(WebSocketConfig::default().max_message_size(Some(1024 * 1024)));
    Ok(WebSocketStream::from_raw_socket(io, Role::Client, config).await)
    // ANCHOR_END: check
}

// ANCHOR: main
#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut arguments = env::args().skip(1);
    let address = arguments.next().unwrap_or("127.0.0.1:3000".to_owned());
    let mut socket = timeout(STEP, connect(&address)).await??;
    for argument in arguments {
        timeout(STEP, socket.send(argument.into())).await??;
        if let Some(Message::Text(text)) = timeout(STEP, socket.next()).await?.transpose()? {
            println!("{text}");
        }
    }
    timeout(STEP, async {
        socket.close(None).await?;
        // The server answers with a close frame, and ends the connection.
        while socket.next().await.transpose()?.is_some() {}
        Ok(())
    })
    .await?
}
// ANCHOR_END: main
// ANCHOR_END: program
