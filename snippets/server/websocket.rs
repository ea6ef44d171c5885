// ANCHOR: program
//! A WebSocket server over HTTP/1.1 and HTTP/2: it sends each message back.

use std::convert::Infallible;
use std::env;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper::body::{Body, Bytes, Incoming};
use hyper::ext::Protocol;
use hyper::header::{
    ALLOW, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN,
    SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{Error as WsError, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// Connections at a time, WebSockets included.
pub const MAX_CONNECTIONS: usize = 256;
/// HTTP/2: WebSockets and requests at a time on one connection.
pub const MAX_STREAMS: u32 = 20;
/// HTTP/2: how much each may send ahead of what the server has read.
const STREAM_WINDOW: u32 = 64 * 1024;
/// From the connect to the head of the first request; HTTP/1: for each head.
pub const FIRST_REQUEST: Duration = Duration::from_secs(10);
pub const HEAD: Duration = Duration::from_secs(5);
// ANCHOR: limits
/// The largest message, in one frame or in many.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// A ping after this much silence, and the time for the answer.
pub const PING_AFTER: Duration = Duration::from_secs(20);
pub const PING_ANSWER: Duration = Duration::from_secs(10);
/// How long a message may wait for room in the buffers before the client.
pub const SEND: Duration = Duration::from_secs(10);
/// How long a client may take to end the connection after the last frame.
pub const LINGER: Duration = Duration::from_secs(2);

pub fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
        .read_buffer_size(8 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(2 * MAX_MESSAGE)
}
// ANCHOR_END: limits

type Error = Box<dyn std::error::Error + Send + Sync>;
type Text = Full<Bytes>;

// ANCHOR: slot
/// A place among `MAX_CONNECTIONS`, free again when the last clone is dropped.
type Slot = Arc<OwnedSemaphorePermit>;
// ANCHOR_END: slot

fn answer(request: Request<Incoming>, slot: Slot) -> Response<Text> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => text(StatusCode::OK, "the WebSocket is at /ws\n"),
        (&Method::GET | &Method::CONNECT, "/ws") => websocket(request, slot),
        (_, "/ws") => {
            let response = text(StatusCode::METHOD_NOT_ALLOWED, "GET, please\n");
            with(response, ALLOW, "GET")
        }
        _ => text(StatusCode::NOT_FOUND, "no such page\n"),
    }
}

fn text(status: StatusCode, text: &'static str) -> Response<Text> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}

fn with(
    mut response: Response<Text>,
    name: HeaderName,
    value: &'static str,
) -> Response<Text> {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}

// ANCHOR: websocket
/// Accepts a handshake, and leaves the connection to a task.
fn websocket(mut request: Request<Incoming>, slot: Slot) -> Response<Text> {
    let response = match handshake(&request) {
        Ok(accepted) => accepted,
        Err(why) => return refuse(why, request.version()),
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let result = match timeout(SEND, upgrade).await {
            Ok(Ok(upgraded)) => talk(TokioIo::new(upgraded)).await,
            Ok(Err(error)) => Err(report(&error).into()),
            Err(_) => Err("the client does not read the response".into()),
        };
        if let Err(error) = result {
            eprintln!("websocket failed: {error}");
        }
        drop(slot);
    });
    response
}
// ANCHOR_END: websocket

// ANCHOR: handshake
/// Why a handshake is refused.
enum Refusal {
    NoHandshake,
    Version,
    Origin,
    Key,
}

fn handshake<B: Body>(request: &Request<B>) -> Result<Response<Text>, Refusal> {
    let headers = request.headers();
    if !is_upgrade(request) && !is_connect(request) {
        return Err(Refusal::NoHandshake);
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Refusal::Version);
    }
    if !same_origin(request) {
        return Err(Refusal::Origin);
    }
    if is_connect(request) {
        return Ok(text(StatusCode::OK, ""));
    }
    accept(headers).ok_or(Refusal::Key)
}
// ANCHOR_END: handshake

// ANCHOR: refuse
fn refuse(why: Refusal, version: Version) -> Response<Text> {
    let (status, message) = match why {
        Refusal::Origin => (StatusCode::FORBIDDEN, "not from another site\n"),
        Refusal::Key => (StatusCode::BAD_REQUEST, "no host, or no key\n"),
        _ if version == Version::HTTP_2 => {
            (StatusCode::BAD_REQUEST, "this is a WebSocket\n")
        }
        _ => (StatusCode::UPGRADE_REQUIRED, "this is a WebSocket\n"),
    };
    let mut response = text(status, message);
    if status == StatusCode::UPGRADE_REQUIRED {
        response = with(with(response, CONNECTION, "upgrade"), UPGRADE, "websocket");
    }
    if let Refusal::Version = why {
        response = with(response, SEC_WEBSOCKET_VERSION, "13");
    }
    response
}
// ANCHOR_END: refuse

// ANCHOR: is_upgrade
/// HTTP/1.1: RFC 6455, section 4.2.1.
fn is_upgrade<B: Body>(request: &Request<B>) -> bool {
    request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && request.body().is_end_stream()
        && has(request.headers(), CONNECTION, "upgrade")
        && has(request.headers(), UPGRADE, "websocket")
}

/// Whether a header, which is a list, has this element.
fn has(headers: &HeaderMap, name: HeaderName, element: &str) -> bool {
    let lists = headers.get_all(name).iter().filter_map(|list| list.to_str().ok());
    lists
        .flat_map(|list| list.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case(element))
}
// ANCHOR_END: is_upgrade

// ANCHOR: accept
fn accept(headers: &HeaderMap) -> Option<Response<Text>> {
    headers.get(HOST)?;
    let key = headers.get(SEC_WEBSOCKET_KEY)?.as_bytes();
    if !is_key(key) {
        return None;
    }
    let accept = HeaderValue::try_from(derive_accept_key(key)).ok()?;
    let response = text(StatusCode::SWITCHING_PROTOCOLS, "");
    let mut response =
        with(with(response, CONNECTION, "upgrade"), UPGRADE, "websocket");
    response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    Some(response)
}

/// Whether this is the base64 of 16 bytes.
fn is_key(key: &[u8]) -> bool {
    let base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    key.len() == 24 && key[..22].iter().all(base64) && key.ends_with(b"==")
}
// ANCHOR_END: accept

// ANCHOR: is_connect
/// HTTP/2: RFC 8441.
fn is_connect<B>(request: &Request<B>) -> bool {
    let protocol = request.extensions().get::<Protocol>();
    request.method() == Method::CONNECT
        && protocol.is_some_and(|protocol| protocol.as_str() == "websocket")
}
// ANCHOR_END: is_connect

// ANCHOR: same_origin
/// Whether no page of another site sent this. Clients other than browsers
/// send no origin.
fn same_origin<B>(request: &Request<B>) -> bool {
    let Some(origin) = request.headers().get(ORIGIN) else { return true };
    let host = match request.uri().authority() {
        Some(authority) => authority.as_str().as_bytes(),
        None => request.headers().get(HOST).map_or(&[][..], HeaderValue::as_bytes),
    };
    let origin = origin.as_bytes();
    let site =
        origin.strip_prefix(b"https://").or_else(|| origin.strip_prefix(b"http://"));
    site.is_some_and(|site| site.eq_ignore_ascii_case(host))
}
// ANCHOR_END: same_origin

// ANCHOR: echo
async fn echo<T>(socket: &mut WebSocketStream<T>) -> Result<(), Error>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut pinged = false;
    loop {
        let patience = if pinged { PING_ANSWER } else { PING_AFTER };
        let reply = match timeout(patience, socket.next()).await {
            Ok(Some(message)) => {
                pinged = false;
                Some(message?).filter(|m| m.is_text() || m.is_binary())
            }
            Ok(None) => return Ok(()),
            Err(_) if pinged => return Err("no answer to a ping".into()),
            Err(_) => {
                pinged = true;
                Some(Message::Ping(Bytes::new()))
            }
        };
        // ANCHOR_END: echo
        // ANCHOR: send
        let sent = async {
            if let Some(reply) = reply {
                socket.feed(reply).await?;
            }
            // This also sends what tungstenite has answered to a ping or a close.
            socket.flush().await
        };
        timeout(SEND, sent).await.map_err(|_| "the client does not read")??;
    }
}
// ANCHOR_END: send

// ANCHOR: talk
/// A WebSocket from its first frame to the end of its connection.
pub async fn talk<T>(io: T) -> Result<(), Error>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut socket =
        WebSocketStream::from_raw_socket(io, Role::Server, Some(config())).await;
    let result = echo(&mut socket).await;
    if let Err(error) = &result {
        let Some(code) = code(error) else { return result };
        let frame = CloseFrame { code, reason: Utf8Bytes::default() };
        timeout(SEND, socket.close(Some(frame))).await.ok();
    }
    timeout(LINGER, linger(socket.get_mut())).await.ok();
    result
}
// ANCHOR_END: talk

// ANCHOR: code
/// What a client is told about an error. `None`: there is nobody to tell.
fn code(error: &Error) -> Option<CloseCode> {
    match error.downcast_ref()? {
        WsError::Capacity(_) => Some(CloseCode::Size),
        WsError::Utf8(_) => Some(CloseCode::Invalid),
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        WsError::Protocol(_) => Some(CloseCode::Protocol),
        _ => None,
    }
}

/// Ends our side, and reads until the client has ended the other.
async fn linger<T>(io: &mut T) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    io.shutdown().await?;
    tokio::io::copy(io, &mut tokio::io::sink()).await?;
    Ok(())
}
// ANCHOR_END: code

// ANCHOR: builder
pub fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_concurrent_streams(MAX_STREAMS)
        // Nobody can use up the window of the others.
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(MAX_STREAMS * STREAM_WINDOW)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_ANSWER);
    builder
}
// ANCHOR_END: builder

// ANCHOR: serve
pub async fn serve<T>(stream: T, slot: Slot) -> Result<(), Error>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let begun = Arc::new(AtomicBool::new(false));
    let has_begun = begun.clone();
    let service = service_fn(move |request| {
        begun.store(true, Relaxed);
        let slot = slot.clone();
        async { Ok::<_, Infallible>(answer(request, slot)) }
    });
    let builder = builder();
    let io = TokioIo::new(stream);
    let mut conn = pin!(builder.serve_connection_with_upgrades(io, service));
    match timeout(FIRST_REQUEST, conn.as_mut()).await {
        Ok(result) => result,
        Err(_) if has_begun.load(Relaxed) => conn.await,
        Err(_) => Err("no request in time".into()),
    }
}
// ANCHOR_END: serve

fn report(error: &(dyn std::error::Error + 'static)) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", report(source)),
        None => error.to_string(),
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);

    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let slot = Arc::new(slots.clone().acquire_owned().await?);
        let (stream, _peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                eprintln!("accept failed: {error}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Send small messages at once.
        stream.set_nodelay(true).ok();
        tokio::spawn(async move {
            if let Err(error) = serve(stream, slot).await {
                eprintln!("connection failed: {}", report(&*error));
            }
        });
    }
}
// ANCHOR_END: program
