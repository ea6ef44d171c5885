//! What src/server/websocket.md promises.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::pin::pin;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::ext::Protocol;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex,
};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{self, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use harness::{LIMIT, Program, Prose, page};

/// The program itself, for tests on an in-memory connection with a clock that they move.
#[allow(dead_code)]
#[path = "../../server/websocket.rs"]
mod program;

fn websocket() -> Prose {
    page("server/websocket")
}

fn max_message() -> usize {
    1024 * websocket().number("A message may have {} KiB") as usize
}

fn ping_after() -> u64 {
    websocket().number("has finished no message for {} seconds gets a ping")
}

fn ping_answer() -> u64 {
    websocket().number("arrives within another {} seconds, the connection is dropped")
}

fn send() -> u64 {
    websocket()
        .number("no room for a message within {} seconds, the client is dropped")
}

fn too_long() -> u16 {
    websocket().number("{} for a message that is too long") as u16
}

fn linger() -> u64 {
    websocket().number("then reads on for up to {} seconds")
}

// On the running program.

/// A client with an open WebSocket.
fn open(program: &Program) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(program.address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let url = format!("ws://{}/ws", program.address);
    tungstenite::client(url, stream).unwrap().0
}

/// Reads the close frame that the server sends, and says its code.
fn closed(socket: &mut WebSocket<TcpStream>) -> u16 {
    match socket.read().unwrap() {
        Message::Close(Some(frame)) => frame.code.into(),
        other => panic!("no close frame but {other:?}"),
    }
}

#[test]
fn messages_come_back_and_pings_are_answered() {
    let program = Program::start("websocket");
    let mut socket = open(&program);
    for message in [
        Message::text("hello"),
        Message::text(""),
        Message::text("é".repeat(max_message() / 2)),
        Message::binary(vec![0; max_message()]),
    ] {
        socket.send(message.clone()).unwrap();
        assert!(socket.read().unwrap() == message, "{} bytes", message.len());
    }
    socket.send(Message::Ping("are you there".into())).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Pong("are you there".into()));
    socket.close(None).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Close(None));
    let end = socket.read().unwrap_err();
    assert!(matches!(end, tungstenite::Error::ConnectionClosed), "{end}");
}

#[test]
fn a_client_that_sends_too_much_reads_1009_while_it_is_still_sending() {
    let program = Program::start("websocket");
    let mut socket = open(&program);
    // More than the kernel's buffers hold: the server must read on for this to end.
    socket.send(Message::binary(vec![0; 16 * 1024 * 1024])).unwrap();
    assert_eq!(closed(&mut socket), too_long());
    assert_eq!(
        program.line(),
        format!(
            "websocket failed: Space limit exceeded: Message too long: {} > {}",
            16 * 1024 * 1024,
            max_message()
        )
    );
}

#[test]
fn the_client_prints_what_comes_back() {
    let program = Program::start("websocket");
    let (output, success) = run_client(&program.address.to_string());
    assert_eq!(output, "hello\nyou there\n");
    assert!(success);
}

/// What the client prints, and whether it succeeds.
fn run_client(address: &str) -> (String, bool) {
    let client = harness::cargo::program("websocket-client");
    let (mut child, lines) = harness::spawn({
        let mut command = Command::new(client);
        command.args([address, "hello", "you there"]);
        command
    });
    harness::wait("the end of the client", || child.try_wait().unwrap().is_some());
    let output: String = lines.iter().map(|line| line + "\n").collect();
    (output, child.wait().unwrap().success())
}

#[test]
fn the_client_does_not_take_everything_for_a_websocket() {
    // hello-world has a page at this path.
    let program = Program::start("hello-world");
    let (output, success) = run_client(&program.address.to_string());
    assert!(output.contains("no WebSocket: the answer is 200 OK"), "{output}");
    assert!(!success);

    let accept = "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    for head in [
        // The key of another.
        format!("connection: upgrade\r\nupgrade: websocket\r\n{accept}"),
        "connection: upgrade\r\nupgrade: websocket".to_owned(),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).unwrap() > 0);
            let head = format!("HTTP/1.1 101 Switching Protocols\r\n{head}\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
        });
        let (output, success) = run_client(&address);
        server.join().unwrap();
        assert!(output.contains("no WebSocket: the answer is 101"), "{output}");
        assert!(!success);
    }
}

// On an in-memory connection, with a clock that stands still while there is work to do.

type Conn = JoinHandle<Result<(), String>>;

/// What serves a stream with the program, in the last of so many places.
fn serve<T>(stream: T, slots: &Arc<Semaphore>) -> Conn
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let slot = Arc::new(slots.clone().try_acquire_owned().unwrap());
    tokio::spawn(async move {
        program::serve(stream, slot).await.map_err(|error| error.to_string())
    })
}

fn start() -> DuplexStream {
    let (client, server) = duplex(64 * 1024);
    serve(server, &Arc::new(Semaphore::new(1)));
    client
}

const HANDSHAKE: &str = "GET /ws HTTP/1.1
host: example.com
connection: upgrade
upgrade: websocket
sec-websocket-version: 13
sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==

";

/// A request with the line breaks of HTTP.
fn head(request: &str) -> String {
    request.replace('\n', "\r\n")
}

/// Reads the head of a response, and not a byte more.
async fn read_head(client: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.expect("a response"));
    }
    String::from_utf8(head).unwrap()
}

/// The response to a request, in lines.
async fn ask(request: &str) -> Vec<String> {
    let mut client = start();
    client.write_all(head(request).as_bytes()).await.unwrap();
    read_head(&mut client).await.lines().map(str::to_owned).collect()
}

#[tokio::test(start_paused = true)]
async fn a_handshake_is_accepted() {
    let response = ask(HANDSHAKE).await;
    assert_eq!(response[0], "HTTP/1.1 101 Switching Protocols");
    // The key and the answer are those of RFC 6455, section 1.3.
    for header in [
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    ] {
        assert!(response.contains(&header.to_owned()), "{response:?}");
    }
    let upper_case = HANDSHAKE
        .replace("connection: upgrade", "Connection: keep-alive, Upgrade")
        .replace("upgrade: websocket", "Upgrade: WebSocket");
    let in_two_lines = HANDSHAKE.replace(
        "connection: upgrade",
        "connection: keep-alive\nconnection: upgrade",
    );
    for request in [upper_case, in_two_lines] {
        let response = ask(&request).await;
        assert_eq!(response[0], "HTTP/1.1 101 Switching Protocols", "{request}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_plain_request_gets_426_with_the_protocol() {
    for (old, new) in [
        ("connection: upgrade\nupgrade: websocket\n", ""),
        ("connection: upgrade\n", ""),
        ("connection: upgrade", "connection: no-upgrade"),
        ("upgrade: websocket\n", ""),
        ("upgrade: websocket", "upgrade: h2c"),
    ] {
        let response = ask(&HANDSHAKE.replace(old, new)).await;
        assert_eq!(response[0], "HTTP/1.1 426 Upgrade Required", "{new:?}");
        for header in ["upgrade: websocket", "connection: upgrade"] {
            assert!(response.contains(&header.to_owned()), "{response:?}");
        }
        assert!(!response.iter().any(|h| h.starts_with("sec-websocket-version")));
    }
    let response = ask(&HANDSHAKE.replace("HTTP/1.1", "HTTP/1.0")).await;
    assert_eq!(response[0], "HTTP/1.0 426 Upgrade Required");
    // What a body is to others must not become frames.
    for (length, status) in [
        ("content-length: 0", "101 Switching Protocols"),
        ("content-length: 7", "426 Upgrade Required"),
        ("transfer-encoding: chunked", "426 Upgrade Required"),
    ] {
        let request =
            HANDSHAKE.replace("\nconnection", &format!("\n{length}\nconnection"));
        let response = ask(&request).await;
        assert_eq!(response[0], format!("HTTP/1.1 {status}"), "{length}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_version_gets_426_with_version_13() {
    for version in ["12", "8", "14", "13, 8", ""] {
        let request = HANDSHAKE.replace(": 13", &format!(": {version}"));
        let response = ask(&request).await;
        assert_eq!(response[0], "HTTP/1.1 426 Upgrade Required", "{version:?}");
        for header in ["upgrade: websocket", "sec-websocket-version: 13"] {
            assert!(response.contains(&header.to_owned()), "{response:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_malformed_handshake_is_refused() {
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    for (old, new, status) in [
        ("GET", "POST", "405 Method Not Allowed"),
        ("host: example.com\n", "", "400 Bad Request"),
        (key, "", "400 Bad Request"),
        // 15 bytes, 17 bytes, and no base64.
        (key, "dGhlIHNhbXBsZSBub25j", "400 Bad Request"),
        (key, "dGhlIHNhbXBsZSBub25jZWQ=", "400 Bad Request"),
        (key, "dGhlIHNhbXBsZSBub25j!Q==", "400 Bad Request"),
    ] {
        let response = ask(&HANDSHAKE.replace(old, new)).await;
        assert_eq!(response[0], format!("HTTP/1.1 {status}"), "{old:?} -> {new:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_of_another_site_gets_403() {
    for (origin, status) in [
        ("https://example.com", "101 Switching Protocols"),
        ("http://EXAMPLE.com", "101 Switching Protocols"),
        ("https://evil.example", "403 Forbidden"),
        ("https://example.com.evil.example", "403 Forbidden"),
        ("https://evil.example/example.com", "403 Forbidden"),
        ("https://example.com:8443", "403 Forbidden"),
        ("example.com", "403 Forbidden"),
        ("null", "403 Forbidden"),
        ("", "403 Forbidden"),
    ] {
        let request = HANDSHAKE
            .replace("\nconnection", &format!("\norigin: {origin}\nconnection"));
        let response = ask(&request).await;
        assert_eq!(response[0], format!("HTTP/1.1 {status}"), "{origin:?}");
    }
}

// Frames.

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FIN: u8 = 0x80;

/// A frame of a client: its payload is masked.
fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    let mask = [1, 2, 3, 4];
    frame.extend(mask);
    frame.extend(
        payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask),
    );
    frame
}

/// Reads a frame of the server: its first byte, and its payload.
async fn read_frame(client: &mut (impl AsyncRead + Unpin)) -> Option<(u8, Vec<u8>)> {
    let first = client.read_u8().await.ok()?;
    let length = match client.read_u8().await.unwrap() {
        126 => client.read_u16().await.unwrap().into(),
        127 => client.read_u64().await.unwrap(),
        length => length.into(),
    };
    assert!(length < 1 << 30, "a frame that is not masked");
    let mut payload = vec![0; length as usize];
    client.read_exact(&mut payload).await.unwrap();
    Some((first, payload))
}

/// A WebSocket of the program, and how it ends.
fn talk(buffer: usize) -> (DuplexStream, Conn) {
    let (client, server) = duplex(buffer);
    let talk = tokio::spawn(async {
        program::talk(server).await.map_err(|error| error.to_string())
    });
    (client, talk)
}

/// What the server sends to a client that sends these frames, until it ends the connection.
async fn replies(frames: &[Vec<u8>]) -> Vec<(u8, Vec<u8>)> {
    let (mut client, _talk) = talk(64 * 1024);
    client.write_all(&frames.concat()).await.unwrap();
    let mut replies = Vec::new();
    while let Some(reply) = read_frame(&mut client).await {
        replies.push(reply);
    }
    replies
}

/// The payload of a close frame.
fn close(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

#[tokio::test(start_paused = true)]
async fn frames_become_messages() {
    let end = || frame(FIN | CLOSE, close(1000, ""));
    let ended = (FIN | CLOSE, close(1000, ""));
    let text = |text: &str| (FIN | TEXT, text.as_bytes().to_vec());
    for (name, frames, expected) in [
        ("text", vec![frame(FIN | TEXT, "hello")], vec![text("hello")]),
        (
            "two frames",
            vec![frame(TEXT, "hel"), frame(FIN, "lo")],
            vec![text("hello")],
        ),
        (
            "empty frames",
            vec![frame(TEXT, ""), frame(CONTINUATION, ""), frame(FIN, "")],
            vec![text("")],
        ),
        (
            "a ping between two frames",
            vec![frame(TEXT, "hel"), frame(FIN | PING, "x"), frame(FIN, "lo")],
            vec![(FIN | PONG, b"x".to_vec()), text("hello")],
        ),
        (
            "a pong that nobody asked for",
            vec![frame(FIN | PONG, "x"), frame(FIN | TEXT, "hello")],
            vec![text("hello")],
        ),
        (
            "a letter in two frames",
            vec![frame(TEXT, b"\xc3"), frame(FIN, b"\xa9")],
            vec![text("é")],
        ),
        (
            "the largest ping",
            vec![frame(FIN | PING, [0; 125])],
            vec![(FIN | PONG, vec![0; 125])],
        ),
        (
            "binary is not UTF-8",
            vec![frame(FIN | BINARY, b"\xff")],
            vec![(FIN | BINARY, b"\xff".to_vec())],
        ),
        (
            "the length in two bytes",
            vec![frame(FIN | BINARY, [0; 126])],
            vec![(FIN | BINARY, vec![0; 126])],
        ),
        (
            "the largest message, in frames",
            vec![frame(BINARY, vec![0; max_message() - 1]), frame(FIN, [0])],
            vec![(FIN | BINARY, vec![0; max_message()])],
        ),
        ("nothing", vec![], vec![]),
    ] {
        let frames = [frames, vec![end()]].concat();
        let (expected, replies) =
            ([expected, vec![ended.clone()]].concat(), replies(&frames).await);
        assert!(replies == expected, "{name}: {replies:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_violation_has_its_code() {
    let mut unmasked = frame(FIN | TEXT, "");
    unmasked[1] = 0;
    unmasked.truncate(2);
    let max = max_message();
    for (name, frames, code) in [
        ("unmasked", vec![unmasked], 1002),
        ("first reserved bit", vec![frame(FIN | 0x40 | TEXT, "x")], 1002),
        ("second reserved bit", vec![frame(FIN | 0x20 | TEXT, "x")], 1002),
        ("third reserved bit", vec![frame(FIN | 0x10 | PING, "x")], 1002),
        ("reserved opcode", vec![frame(FIN | 3, "x")], 1002),
        ("reserved control opcode", vec![frame(FIN | 11, "")], 1002),
        ("ping too long", vec![frame(FIN | PING, [0; 126])], 1002),
        ("ping in two frames", vec![frame(PING, ""), frame(FIN, "")], 1002),
        ("close in two frames", vec![frame(CLOSE, "")], 1002),
        ("nothing to continue", vec![frame(FIN, "x")], 1002),
        ("nothing to continue, not final", vec![frame(CONTINUATION, "x")], 1002),
        ("text within a text", vec![frame(TEXT, "x"), frame(FIN | TEXT, "x")], 1002),
        ("close of one byte", vec![frame(FIN | CLOSE, [3])], 1002),
        ("invalid UTF-8", vec![frame(FIN | TEXT, b"\xff")], 1007),
        ("half a letter", vec![frame(FIN | TEXT, b"\xc3")], 1007),
        ("a surrogate", vec![frame(FIN | TEXT, b"\xed\xa0\x80")], 1007),
        (
            "invalid UTF-8, in two frames",
            vec![frame(TEXT, b"\xc3"), frame(FIN, b"\x28")],
            1007,
        ),
        ("invalid UTF-8, and no last frame", vec![frame(TEXT, b"\xff")], 1007),
        ("invalid UTF-8 in a close", vec![frame(FIN | CLOSE, b"\x03\xe8\xff")], 1007),
        (
            "a message too long",
            vec![frame(FIN | BINARY, vec![0; max + 1])],
            too_long(),
        ),
        (
            "a message too long, in frames",
            vec![frame(BINARY, vec![0; max]), frame(CONTINUATION, [0])],
            too_long(),
        ),
        (
            "a frame of 16 exabytes, announced",
            vec![b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0".to_vec()],
            too_long(),
        ),
    ] {
        // What follows is not read as frames.
        let frames = [frames, vec![frame(FIN | TEXT, "later")]].concat();
        assert_eq!(
            replies(&frames).await,
            [(FIN | CLOSE, close(code, ""))],
            "{name}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_is_answered() {
    let protocol = (FIN | CLOSE, close(1002, "Protocol violation"));
    for code in [1000, 1001, 1003, 1007, 1008, 1011, 3000, 3999, 4000, 4999] {
        let sent = close(code, "bye");
        let replies = replies(&[frame(FIN | CLOSE, &sent)]).await;
        assert_eq!(replies, [(FIN | CLOSE, sent)], "{code}");
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
        let replies = replies(&[frame(FIN | CLOSE, close(code, "bye"))]).await;
        assert_eq!(replies, std::slice::from_ref(&protocol), "{code}");
    }
    // Without a code, and with frames after it.
    for late in [vec![], frame(FIN | TEXT, "late"), frame(FIN | PING, "late")] {
        let frames = [frame(FIN | CLOSE, ""), late];
        assert_eq!(replies(&frames).await, [(FIN | CLOSE, vec![])]);
    }
}

/// How a WebSocket ends: after how many seconds, and why.
async fn end(talk: Conn) -> (u64, Result<(), String>) {
    let start = time::Instant::now();
    let end = timeout(Duration::from_secs(86_400), talk).await;
    (start.elapsed().as_secs(), end.expect("the connection ends").unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_dead_client_is_noticed() {
    let (mut client, talk) = talk(1024);
    let silent = end(talk);
    let pinged = async {
        let start = time::Instant::now();
        assert_eq!(read_frame(&mut client).await, Some((FIN | PING, vec![])));
        start.elapsed().as_secs()
    };
    let (pinged, (seconds, result)) = tokio::join!(pinged, silent);
    assert_eq!(pinged, ping_after());
    assert_eq!(seconds, ping_after() + ping_answer());
    assert_eq!(result, Err("no answer to a ping".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_one_message_too_slowly_is_dropped() {
    let (client, talk) = talk(1024);
    let (_reader, mut writer) = tokio::io::split(client);
    tokio::spawn(async move {
        for byte in frame(FIN | BINARY, [0; 1000]) {
            writer.write_all(&[byte]).await.ok();
            time::sleep(Duration::from_secs(1)).await;
        }
    });
    let (seconds, result) = end(talk).await;
    assert_eq!(seconds, ping_after() + ping_answer());
    assert_eq!(result, Err("no answer to a ping".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn what_the_buffers_hold_may_wait() {
    let (mut client, _talk) = talk(4096);
    for _ in 0..2 {
        client.write_all(&frame(FIN | BINARY, [0; 1000])).await.unwrap();
    }
    time::sleep(Duration::from_secs(send() + 5)).await;
    for _ in 0..2 {
        assert_eq!(
            read_frame(&mut client).await,
            Some((FIN | BINARY, vec![0; 1000]))
        );
    }
    client.write_all(&frame(FIN | TEXT, "hello")).await.unwrap();
    assert_eq!(read_frame(&mut client).await, Some((FIN | TEXT, b"hello".to_vec())));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_pings_stays() {
    let (mut client, talk) = talk(1024);
    let start = time::Instant::now();
    while start.elapsed() < Duration::from_secs(3600) {
        assert_eq!(read_frame(&mut client).await, Some((FIN | PING, vec![])));
        time::sleep(Duration::from_secs(ping_answer() - 1)).await;
        client.write_all(&frame(FIN | PONG, "")).await.unwrap();
    }
    // The start of a message is no answer.
    assert_eq!(read_frame(&mut client).await, Some((FIN | PING, vec![])));
    client.write_all(&frame(TEXT, "x")).await.unwrap();
    let (seconds, result) = end(talk).await;
    assert_eq!(seconds, ping_answer());
    assert_eq!(result, Err("no answer to a ping".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_dropped() {
    for (kind, payload) in [(BINARY, vec![0; 1000]), (PING, vec![0; 100])] {
        let (client, talk) = talk(4096);
        let (_reader, mut writer) = tokio::io::split(client);
        let message = frame(FIN | kind, payload);
        let sending = tokio::spawn(async move {
            let mut sent = 0;
            while sent < 1024 * 1024 && writer.write_all(&message).await.is_ok() {
                sent += message.len();
            }
            sent
        });
        let (seconds, result) = end(talk).await;
        assert_eq!(seconds, send());
        assert_eq!(result, Err("the client does not read".to_owned()));
        // What fits into the two directions, the buffer for reading and one message.
        let sent = sending.await.unwrap();
        assert!(sent < 32 * 1024, "the server has taken {sent} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn after_the_last_frame_the_server_reads_on_for_a_while() {
    let (mut client, talk) = talk(1024);
    client.write_all(&frame(FIN | 3, "")).await.unwrap();
    // It neither answers nor ends the connection, but sends on.
    let (mut reader, mut writer) = tokio::io::split(client);
    tokio::spawn(async move {
        while writer.write_all(&[0; 1000]).await.is_ok() {
            time::sleep(Duration::from_millis(100)).await;
        }
    });
    assert_eq!(read_frame(&mut reader).await, Some((FIN | CLOSE, close(1002, ""))));
    assert_eq!(read_frame(&mut reader).await, None, "the server has ended its side");
    let (seconds, _) = end(talk).await;
    assert_eq!(seconds, linger());
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_comes_with_the_handshake_is_not_lost() {
    let mut client = start();
    let bytes = [head(HANDSHAKE).as_bytes(), &frame(FIN | TEXT, "early")].concat();
    client.write_all(&bytes).await.unwrap();
    let response = read_head(&mut client).await;
    assert!(response.starts_with("HTTP/1.1 101"), "{response}");
    assert_eq!(read_frame(&mut client).await, Some((FIN | TEXT, b"early".to_vec())));
}

#[tokio::test(start_paused = true)]
async fn a_websocket_keeps_its_place_after_http_has_ended() {
    let slots = Arc::new(Semaphore::new(1));
    let (mut client, server) = duplex(1024);
    let conn = serve(server, &slots);
    client.write_all(head(HANDSHAKE).as_bytes()).await.unwrap();
    read_head(&mut client).await;
    assert_eq!(conn.await.unwrap(), Ok(()), "the HTTP connection ends");
    assert_eq!(slots.available_permits(), 0);
    client.write_all(&frame(FIN | TEXT, "hello")).await.unwrap();
    assert_eq!(read_frame(&mut client).await, Some((FIN | TEXT, b"hello".to_vec())));
    drop(client);
    let free = timeout(LIMIT, slots.acquire()).await;
    assert!(free.is_ok(), "the place is free again");
}

#[tokio::test(start_paused = true)]
async fn before_the_upgrade_the_limits_of_http_hold() {
    let slots = Arc::new(Semaphore::new(1));
    for bytes in ["", "P", "GET /ws HTTP/1.1\r\n"] {
        let (mut client, server) = duplex(1024);
        let conn = serve(server, &slots);
        client.write_all(bytes.as_bytes()).await.unwrap();
        let (seconds, result) = end(conn).await;
        assert!(seconds <= program::FIRST_REQUEST.as_secs(), "{seconds}");
        result.unwrap_err();
    }
}

// TLS.

#[tokio::test(start_paused = true)]
async fn over_tls_it_is_the_same() {
    let (connector, acceptor) = super::auto::tls(&[], &[]);
    let (near, far) = duplex(64 * 1024);
    tokio::spawn(async move {
        let stream = acceptor.accept(far).await.unwrap();
        serve(stream, &Arc::new(Semaphore::new(1))).await.unwrap().unwrap();
    });
    let name = "localhost".try_into().unwrap();
    let stream = connector.connect(name, near).await.unwrap();
    let (mut socket, _) =
        tokio_tungstenite::client_async("wss://localhost/ws", stream).await.unwrap();
    let message = Message::binary(vec![0; max_message()]);
    socket.send(message.clone()).await.unwrap();
    assert!(socket.next().await.unwrap().unwrap() == message);
    socket.close(None).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::Close(None));
    // TLS too is ended properly: else this were an UnexpectedEof.
    assert!(socket.next().await.is_none());
}

// HTTP/2.

type Client = SendRequest<Empty<Bytes>>;

async fn connect(client: DuplexStream) -> Client {
    let (sender, conn) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
    tokio::spawn(conn);
    sender
}

/// An extended CONNECT for this protocol.
fn extended(protocol: &'static str) -> Request<Empty<Bytes>> {
    Request::connect("https://example.com/ws")
        .extension(Protocol::from_static(protocol))
        .header("sec-websocket-version", "13")
        .body(Empty::new())
        .unwrap()
}

async fn accepted(
    response: Response<Incoming>,
) -> WebSocketStream<TokioIo<Upgraded>> {
    assert_eq!(response.status(), 200);
    assert!(!response.headers().contains_key("sec-websocket-accept"));
    let io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    WebSocketStream::from_raw_socket(io, Role::Client, None).await
}

/// A future that ends in time by the paused clock.
async fn in_time<T>(future: impl Future<Output = T>) -> T {
    timeout(LIMIT, future).await.expect("it ends")
}

#[tokio::test(start_paused = true)]
async fn over_http2_the_answer_is_200_and_one_connection_has_many_websockets() {
    let mut client = connect(start()).await;
    let mut sockets = Vec::new();
    for _ in 0..3 {
        let response = in_time(client.send_request(extended("websocket"))).await;
        sockets.push(accepted(response.unwrap()).await);
    }
    for (index, socket) in sockets.iter_mut().enumerate() {
        let message = Message::text(format!("hello {index}"));
        socket.send(message.clone()).await.unwrap();
        assert_eq!(in_time(socket.next()).await.unwrap().unwrap(), message);
    }
    let mut first = sockets.remove(0);
    first.close(None).await.unwrap();
    assert_eq!(in_time(first.next()).await.unwrap().unwrap(), Message::Close(None));
    assert!(in_time(first.next()).await.is_none(), "the server ends the stream");
    let message = Message::binary(vec![0; max_message()]);
    sockets[0].send(message.clone()).await.unwrap();
    assert!(in_time(sockets[0].next()).await.unwrap().unwrap() == message);
}

#[tokio::test(start_paused = true)]
async fn over_http2_handshakes_are_checked_too() {
    let mut client = connect(start()).await;
    let plain = || Request::get("https://example.com/ws").body(Empty::new()).unwrap();
    let response = client.send_request(plain()).await.unwrap();
    assert_eq!(response.status(), 400);
    assert!(!response.headers().contains_key("upgrade"), "HTTP/2 has no such header");

    let response = client.send_request(extended("chat")).await.unwrap();
    assert_eq!(response.status(), 400);

    let mut request = extended("websocket");
    request.headers_mut().remove("sec-websocket-version");
    let response = client.send_request(request).await.unwrap();
    assert_eq!(response.status(), 400);
    assert_eq!(response.headers()["sec-websocket-version"], "13");

    for (origin, status) in
        [("https://example.com", 200), ("https://evil.example", 403)]
    {
        let mut request = extended("websocket");
        request.headers_mut().insert("origin", origin.parse().unwrap());
        let response = in_time(client.send_request(request)).await.unwrap();
        assert_eq!(response.status(), status, "{origin}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_enable_connect_protocol_the_stream_is_reset() {
    let (near, far) = duplex(64 * 1024);
    let service = service_fn(async |request: Request<Incoming>| {
        let protocol = request.extensions().get::<Protocol>();
        assert!(protocol.is_none(), "the service sees no extended CONNECT");
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let conn = builder
        .serve_connection_with_upgrades(TokioIo::new(far), service)
        .into_owned();
    tokio::spawn(conn);
    let mut client = connect(near).await;
    let error =
        in_time(client.send_request(extended("websocket"))).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "stream error received: unspecific protocol error detected");
}

#[tokio::test(start_paused = true)]
async fn a_client_over_http2_is_told_that_it_may() {
    let io = TokioIo::new(start());
    let (mut sender, conn) =
        http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let told = Arc::new(AtomicBool::new(false));
    let allowed = told.clone();
    tokio::spawn(async move {
        let mut conn = pin!(conn);
        poll_fn(|cx| {
            let poll = conn.as_mut().poll(cx);
            allowed.store(conn.is_extended_connect_protocol_enabled(), Relaxed);
            poll
        })
        .await
    });
    let request = Request::get("https://example.com/").body(Empty::<Bytes>::new());
    sender.send_request(request.unwrap()).await.unwrap();
    assert!(told.load(Relaxed));
}

#[tokio::test(start_paused = true)]
async fn each_websocket_is_a_stream_of_its_connection() {
    let mut client = connect(start()).await;
    let mut sockets = Vec::new();
    for _ in 0..program::MAX_STREAMS {
        let response = in_time(client.send_request(extended("websocket"))).await;
        sockets.push(accepted(response.unwrap()).await);
    }
    let second = Duration::from_secs(1);
    let mut next = pin!(client.send_request(extended("websocket")));
    assert!(timeout(second, next.as_mut()).await.is_err(), "it waits for a place");
    let mut first = sockets.remove(0);
    first.close(None).await.unwrap();
    while in_time(first.next()).await.is_some() {}
    drop(first);
    assert_eq!(in_time(next).await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn over_http2_too_a_client_that_does_not_read_is_dropped() {
    let mut client = narrow(start()).await;
    let response = in_time(client.send_request(extended("websocket"))).await.unwrap();
    let mut socket = accepted(response).await;
    let message = Message::binary(vec![0; max_message()]);
    let sent = 8;
    for _ in 0..sent {
        in_time(socket.feed(message.clone())).await.unwrap();
        timeout(Duration::from_secs(1), socket.flush()).await.ok();
    }
    time::sleep(Duration::from_secs(2 * send())).await;
    // What hyper has taken from the server still arrives; then the stream ends.
    let mut read = 0;
    while let Some(Ok(message)) = in_time(socket.next()).await {
        read += usize::from(message.is_binary());
    }
    assert!((1..sent).contains(&read), "{read} of {sent} messages came back");
}

/// A client over HTTP/2 that opens a small window for each WebSocket.
async fn narrow(stream: DuplexStream) -> Client {
    let (client, conn) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1024)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(conn);
    client
}

#[tokio::test(start_paused = true)]
async fn over_http2_clients_that_do_not_read_leave_room_for_the_others() {
    let mut client = narrow(start()).await;
    for _ in 1..program::MAX_STREAMS {
        let response = in_time(client.send_request(extended("websocket"))).await;
        let mut stalled = accepted(response.unwrap()).await;
        tokio::spawn(async move {
            let message = Message::binary(vec![0; max_message()]);
            while stalled.send(message.clone()).await.is_ok() {}
        });
    }
    let response = in_time(client.send_request(extended("websocket"))).await.unwrap();
    let mut socket = accepted(response).await;
    let second = Duration::from_secs(1);
    time::sleep(second).await;
    let reply = async {
        socket.send("hello".into()).await.unwrap();
        socket.next().await.unwrap().unwrap()
    };
    let reply = timeout(second, reply).await;
    assert_eq!(
        reply.expect("the others have not used up the window of the connection"),
        Message::text("hello")
    );
}

#[tokio::test(start_paused = true)]
async fn over_http2_small_messages_that_nobody_reads_end_the_connection() {
    let (near, far) = duplex(64 * 1024);
    let slot = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    let server = tokio::spawn(async {
        let end = program::serve(far, Arc::new(slot)).await;
        end.map_err(|error| format!("{error:?}"))
    });
    let mut client = narrow(near).await;
    let mut sockets = Vec::new();
    for _ in 0..2 {
        let response = in_time(client.send_request(extended("websocket"))).await;
        sockets.push(accepted(response.unwrap()).await);
    }
    let [mut stalled, mut other] = <[_; 2]>::try_from(sockets).unwrap();
    loop {
        let sent = stalled.send("hello".into());
        let sent = timeout(Duration::from_secs(1), sent).await;
        if sent.expect("the connection ends before the window is full").is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    in_time(other.next()).await.unwrap().unwrap_err();
    let end = in_time(server).await.unwrap().unwrap_err();
    assert!(end.contains("ENHANCE_YOUR_CALM"), "{end}");
}

#[tokio::test(start_paused = true)]
async fn over_http2_many_small_messages_that_are_read_do_no_harm() {
    let mut client = connect(start()).await;
    let response = in_time(client.send_request(extended("websocket"))).await.unwrap();
    let (mut writer, mut reader) = accepted(response).await.split();
    let sent = 10_000;
    let reading = async {
        for _ in 0..sent {
            reader.next().await.unwrap().unwrap();
        }
    };
    let writing = async {
        for _ in 0..sent {
            writer.send("hello".into()).await.unwrap();
        }
    };
    in_time(async { tokio::join!(reading, writing) }).await;
}

// fastwebsockets.

/// A server of fastwebsockets with a limit of 1,000 bytes, and its client.
fn fast() -> (fastwebsockets::FragmentCollector<DuplexStream>, DuplexStream) {
    let (client, server) = duplex(64 * 1024);
    let role = fastwebsockets::Role::Server;
    let mut socket = fastwebsockets::WebSocket::after_handshake(server, role);
    socket.set_max_message_size(1000);
    (fastwebsockets::FragmentCollector::new(socket), client)
}

#[tokio::test(start_paused = true)]
async fn fastwebsockets_limits_frames_and_not_messages() {
    let (mut server, mut client) = fast();
    client.write_all(&frame(BINARY, [0; 900])).await.unwrap();
    client.write_all(&frame(CONTINUATION, [0; 900])).await.unwrap();
    client.write_all(&frame(FIN, [0; 900])).await.unwrap();
    assert_eq!(server.read_frame().await.unwrap().payload.len(), 2700);
    let (mut server, mut client) = fast();
    client.write_all(&frame(FIN | BINARY, [0; 1100])).await.unwrap();
    assert!(server.read_frame().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn fastwebsockets_accepts_frames_without_a_mask() {
    let (mut server, mut client) = fast();
    client.write_all(b"\x82\x02hi").await.unwrap();
    assert_eq!(&*server.read_frame().await.unwrap().payload, b"hi");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_read_loses_bytes_in_fastwebsockets_and_not_in_tungstenite() {
    let message = frame(FIN | BINARY, [7; 100]);
    let (start, rest) = message.split_at(50);
    let second = Duration::from_secs(1);

    let (mut server, mut client) = fast();
    client.write_all(start).await.unwrap();
    assert!(timeout(second, server.read_frame()).await.is_err());
    client.write_all(rest).await.unwrap();
    let whole = timeout(second, server.read_frame()).await;
    let whole =
        whole.is_ok_and(|frame| frame.is_ok_and(|frame| *frame.payload == [7; 100]));
    assert!(!whole);

    let (mut client, server) = duplex(1024);
    let mut server =
        WebSocketStream::from_raw_socket(server, Role::Server, None).await;
    client.write_all(start).await.unwrap();
    assert!(timeout(second, server.next()).await.is_err());
    client.write_all(rest).await.unwrap();
    assert_eq!(server.next().await.unwrap().unwrap(), Message::binary(vec![7; 100]));
}

// What tungstenite does by default.

#[test]
fn the_defaults_are_large() {
    let config = WebSocketConfig::default();
    let mib = websocket().number("accepts messages of up to {} MiB by default");
    assert_eq!(config.max_message_size, Some(1024 * 1024 * mib as usize));
    let kib = websocket().number("reserves a read buffer of {} KiB");
    assert_eq!(config.read_buffer_size, 1024 * kib as usize);
    assert_eq!(config.max_write_buffer_size, usize::MAX);
}

#[tokio::test(start_paused = true)]
async fn by_default_pings_make_the_write_buffer_grow() {
    let (client, server) = duplex(1024);
    let mut server =
        WebSocketStream::from_raw_socket(server, Role::Server, None).await;
    let (_reader, mut writer) = tokio::io::split(client);
    tokio::spawn(async move { while let Some(Ok(_)) = server.next().await {} });
    let ping = frame(FIN | PING, [0; 125]);
    for _ in 0..8_000 {
        timeout(LIMIT, writer.write_all(&ping)).await.expect("it reads on").unwrap();
    }
}
