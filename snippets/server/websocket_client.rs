// ANCHOR: program
//! A WebSocket client: it sends each argument, and prints what comes back.

use std::env;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::Upgraded;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// How long each step may take.
const STEP: Duration = Duration::from_secs(10);
/// The largest message that it takes.
const MAX_MESSAGE: usize = 1024 * 1024;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

// ANCHOR: connect
async fn connect(address: &str) -> Result<Socket, Error> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, conn) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async {
        if let Err(error) = conn.with_upgrades().await {
            eprintln!("connection failed: {error}");
        }
    });

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
    let headers = response.headers();
    let accept = headers.get(SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
    if response.status() != StatusCode::SWITCHING_PROTOCOLS
        || !has(headers, CONNECTION, "upgrade")
        || !has(headers, UPGRADE, "websocket")
        || accept != Some(derive_accept_key(key.as_bytes()).as_bytes())
        // We have asked for none.
        || headers.contains_key(SEC_WEBSOCKET_PROTOCOL)
        || headers.contains_key(SEC_WEBSOCKET_EXTENSIONS)
    {
        return Err(
            format!("no WebSocket: the answer is {}", response.status()).into()
        );
    }
    let io = TokioIo::new(hyper::upgrade::on(response).await?);
    let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE));
    Ok(WebSocketStream::from_raw_socket(io, Role::Client, Some(config)).await)
    // ANCHOR_END: check
}

/// Whether a header, which is a list, has this element.
fn has(headers: &HeaderMap, name: HeaderName, element: &str) -> bool {
    let lists = headers.get_all(name).iter().filter_map(|list| list.to_str().ok());
    lists
        .flat_map(|list| list.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case(element))
}

/// The next text. Pings and pongs may come before it.
async fn text(socket: &mut Socket) -> Result<Utf8Bytes, Error> {
    while let Some(message) = socket.next().await.transpose()? {
        if let Message::Text(text) = message {
            return Ok(text);
        }
    }
    Err("the server has closed the WebSocket".into())
}

// ANCHOR: main
#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut arguments = env::args().skip(1);
    let address = arguments.next().unwrap_or("127.0.0.1:3000".to_owned());
    let mut socket = timeout(STEP, connect(&address)).await??;
    for argument in arguments {
        let reply = async {
            socket.send(argument.into()).await?;
            text(&mut socket).await
        };
        println!("{}", timeout(STEP, reply).await??);
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
