//! What src/server/limits.md promises.

use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex,
};
use tokio::task::JoinHandle;
use tokio::time::{self, sleep, timeout};

use harness::{Connection, LIMIT, Program, Prose, page};

/// The program itself, for tests on an in-memory connection with a clock that they move.
#[allow(dead_code)]
#[path = "../../server/limits.rs"]
pub mod program;

pub const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
const UNREAD: &str = "the client does not read";

fn limits() -> Prose {
    page("server/limits")
}

fn first_request() -> u64 {
    limits().number("sent no request after {} seconds is dropped")
}

fn head() -> u64 {
    limits().number(
        "after {} seconds the server closes the connection, without an answer",
    )
}

fn body_start() -> u64 {
    limits().numbers::<2>(
        "A client may pause for {} seconds, and must send {} bytes per second on average",
    )[0]
}

fn body_rate() -> u64 {
    limits().numbers::<2>(
        "A client may pause for {} seconds, and must send {} bytes per second on average",
    )[1]
}

fn write_stall() -> u64 {
    limits().number("A client that takes nothing for {} seconds is cut off")
}

fn handler() -> u64 {
    limits().number("The work for a request has {} seconds")
}

fn connections() -> usize {
    limits().number("With {} connections open, the next clients connect") as usize
}

fn max_age() -> u64 {
    60 * limits().number("After {} minutes an HTTP/1 connection takes no new request")
}

fn last_responses() -> u64 {
    limits().number("Requests in progress have {} seconds more")
}

fn ping() -> u64 {
    limits().number("a client that has been silent for {} seconds")
        + limits().number("no answer within another {} seconds")
}

// On the running program.

fn connect(address: SocketAddr) -> Connection {
    Connection::new(TcpStream::connect(address).unwrap())
}

/// Is true from its drop on, so that threads end when a test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Waits until the server has closed the connection.
fn gone(mut stream: TcpStream) {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    match stream.read_to_end(&mut Vec::new()) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
}

/// The next lines of the program, sorted.
fn lines(program: &Program, count: usize) -> Vec<String> {
    let mut lines: Vec<_> = (0..count).map(|_| program.line()).collect();
    lines.sort();
    lines
}

#[test]
fn each_hostile_client_goes_and_the_others_are_served_meanwhile() {
    let program = Program::start("limits");
    let address = program.address;
    let upload = "POST /upload HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n";
    let hostile = |bytes: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(bytes.as_bytes()).unwrap();
        stream
    };
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let guard = Over(&over);
        let over = &over;
        // These send one byte a second. The server closes between two bytes, or at one.
        let mut clients = Vec::new();
        for begun in ["", upload] {
            let mut stream = hostile(begun);
            clients.push(stream.try_clone().unwrap());
            scope.spawn(move || {
                while !over.load(Relaxed) && stream.write_all(b"G").is_ok() {
                    thread::sleep(Duration::from_secs(1));
                }
            });
        }
        for bytes in [
            "",
            "P",
            "PRI * HTTP/2.0\r\n",
            PREFACE,
            "GET / HTTP/1.1\r\n",
            upload,
            GET,
        ] {
            clients.push(hostile(bytes));
        }

        // This one asks for a download and does not read it, nor does the other read its answers.
        let unread = hostile("GET /download HTTP/1.1\r\nhost: x\r\n\r\n");
        let mut pipelining = hostile("");
        pipelining.set_write_timeout(Some(LIMIT)).unwrap();
        scope.spawn(move || {
            let many = GET.repeat(1_000);
            while pipelining.write_all(many.as_bytes()).is_ok() {}
        });

        let served = scope.spawn(move || {
            let mut served = 0;
            while !over.load(Relaxed) {
                let mut connection = connect(address);
                connection.get("/");
                assert_eq!(connection.response().unwrap().text(), "Hello, World!\n");
                served += 1;
                thread::sleep(Duration::from_millis(20));
            }
            served
        });

        clients.into_iter().for_each(gone);
        let no_request = "connection failed: no request in time";
        let head = "connection failed: read header from client timeout";
        // An upload that gets 408 is no error.
        assert_eq!(
            lines(&program, 9),
            [
                format!(
                    "connection failed: error writing a body to connection: {UNREAD}"
                ),
                format!(
                    "connection failed: error writing a body to connection: {UNREAD}"
                ),
                no_request.to_owned(),
                no_request.to_owned(),
                no_request.to_owned(),
                no_request.to_owned(),
                head.to_owned(),
                head.to_owned(),
                head.to_owned(),
            ]
        );
        drop(guard);
        assert!(served.join().unwrap() > 10);
        drop(unread);
    });
}

#[test]
fn a_steady_client_is_served_however_long_it_takes() {
    let program = Program::start("limits");
    let address = program.address;
    thread::scope(|scope| {
        // A download that takes longer than the limit on writes.
        scope.spawn(move || {
            let mut connection = connect(address);
            let start = Instant::now();
            connection.get("/download");
            connection.head().unwrap();
            let mut size = 0;
            while let Some(chunk) = connection.chunk().unwrap() {
                size += chunk.len();
                if start.elapsed() < Duration::from_secs(write_stall() + 1) {
                    thread::sleep(Duration::from_millis(50));
                }
            }
            assert_eq!(size, 64 * 1024 * 1024);
        });
        // An upload that takes longer than a client has to start.
        scope.spawn(move || {
            let mut connection = connect(address);
            let size = 2 * body_rate() / 10;
            let pieces = 10 * (body_start() + 1);
            connection.send(format!(
                "POST /upload HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
                size * pieces
            ));
            for _ in 0..pieces {
                connection.send(vec![b'.'; size as usize]);
                thread::sleep(Duration::from_millis(100));
            }
            let answer = connection.response().unwrap();
            assert_eq!(answer.text(), format!("{} bytes\n", size * pieces));
        });
    });
}

#[test]
fn clients_over_the_cap_wait_for_a_place() {
    // Without the cap there would be no descriptor for the last clients.
    let cap = connections();
    let program = Program::start_with_descriptors("limits", cap as u32 + 16);
    let silent: Vec<Connection> = (0..cap + 30).map(|_| program.connect()).collect();
    let mut last = program.connect();
    last.get("/");
    assert_eq!(last.response().unwrap().text(), "Hello, World!\n");
    // It was served after the first had gone, and descriptors never ran out.
    for _ in 0..31 {
        assert_eq!(program.line(), "connection failed: no request in time");
    }
    drop(silent);
}

#[test]
fn bodies_over_the_limit_get_413() {
    let program = Program::start("limits");
    let mut body = vec![b'.'; program::MAX_BODY];
    for (extra, status) in [(0, "200 OK"), (1, "413 Payload Too Large")] {
        body.resize(program::MAX_BODY + extra, b'.');
        let length = body.len();
        for (framing, start, end) in [
            (format!("content-length: {length}"), String::new(), ""),
            (
                "transfer-encoding: chunked".to_owned(),
                format!("{length:x}\r\n"),
                "\r\n0\r\n\r\n",
            ),
        ] {
            let mut connection = program.connect();
            connection.send(format!(
                "POST /upload HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n{start}"
            ));
            connection.send(&body);
            if extra == 0 {
                connection.send(end);
            }
            let answer = connection.response().unwrap();
            assert_eq!(answer.status(), format!("HTTP/1.1 {status}"));
            assert_eq!(answer.header("connection") == Some("close"), extra > 0);
        }
    }
}

#[test]
fn a_client_that_sends_on_after_the_413_is_reset() {
    let program = Program::start("limits");
    let mut stream = TcpStream::connect(program.address).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    let head =
        "POST /upload HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let piece = vec![b'.'; 64 * 1024];
    let error = (0..10_000)
        .find_map(|_| stream.write_all(&piece).err())
        .expect("the server takes no gigabyte");
    let reset = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
    assert!(reset.contains(&error.kind()), "{error}");
}

// On an in-memory connection, with a clock that stands still while there is work to do.

/// A connection to the program, and how it ends.
fn start(buffer: usize) -> (DuplexStream, JoinHandle<Result<(), String>>) {
    let (client, server) = duplex(buffer);
    let conn = tokio::spawn(async {
        program::serve(server).await.map_err(|error| program::report(&*error))
    });
    (client, conn)
}

/// Waits for the end of a connection: after how many seconds it came, and why.
pub async fn end(conn: JoinHandle<Result<(), String>>) -> (u64, Result<(), String>) {
    let start = time::Instant::now();
    let end = timeout(Duration::from_secs(86_400), conn).await;
    (start.elapsed().as_secs(), end.expect("the connection ends").unwrap())
}

fn error(seconds: u64, text: &str) -> (u64, Result<(), String>) {
    (seconds, Err(text.to_owned()))
}

/// The head of an answer, and as much of its body as came with it.
pub async fn answer(client: &mut DuplexStream) -> String {
    let mut bytes = [0; 4096];
    let count = client.read(&mut bytes).await.unwrap();
    String::from_utf8_lossy(&bytes[..count]).into_owned()
}

#[tokio::test(start_paused = true)]
async fn a_client_without_a_first_request_is_dropped() {
    for bytes in ["", "P", "PRI * HTTP/2.0\r\n", PREFACE] {
        let (mut client, conn) = start(1024);
        client.write_all(bytes.as_bytes()).await.unwrap();
        let expected = error(first_request(), "no request in time");
        assert_eq!(end(conn).await, expected, "{bytes:?}");
    }
    // A preface at one byte a second, and the start of a head that comes late.
    let (mut client, conn) = start(1024);
    tokio::spawn(async move {
        for byte in PREFACE.bytes() {
            sleep(Duration::from_secs(1)).await;
            client.write_all(&[byte]).await.ok();
        }
    });
    assert_eq!(end(conn).await, error(first_request(), "no request in time"));
    let (mut client, conn) = start(1024);
    let late = tokio::spawn(async move {
        sleep(Duration::from_secs(first_request() - 1)).await;
        client.write_all(b"GET ").await.ok();
        client
    });
    assert_eq!(end(conn).await, error(first_request(), "no request in time"));
    late.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_is_cut_off_and_so_is_an_idle_connection() {
    let text = "read header from client timeout";
    let (mut client, conn) = start(1024);
    client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    assert_eq!(end(conn).await, error(head(), text));
    assert_eq!(answer(&mut client).await, "", "no answer");

    let (mut client, conn) = start(1024);
    tokio::spawn(async move {
        while client.write_all(b"G").await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    });
    assert_eq!(end(conn).await, error(head(), text));

    let (mut client, conn) = start(1024);
    client.write_all(GET.as_bytes()).await.unwrap();
    assert!(answer(&mut client).await.contains("200 OK"));
    assert_eq!(end(conn).await, error(head(), text));
}

/// Uploads this much each second; the status, and after how many seconds it came.
async fn upload(at_once: u64, bytes_per_second: u64, seconds: u64) -> (u64, String) {
    let (client, conn) = start(1024);
    let start = time::Instant::now();
    let (mut reader, mut writer) = tokio::io::split(client);
    let length = at_once + bytes_per_second * seconds + 1;
    let sending = tokio::spawn(async move {
        let head = format!(
            "POST /upload HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n"
        );
        writer.write_all(head.as_bytes()).await.unwrap();
        writer.write_all(&vec![b'.'; at_once as usize]).await.unwrap();
        let piece = vec![b'.'; bytes_per_second as usize];
        for _ in 0..seconds {
            sleep(Duration::from_secs(1)).await;
            writer.write_all(&piece).await.ok();
        }
        writer.write_all(b".").await.ok();
        writer
    });
    let mut status = [0; 12];
    reader.read_exact(&mut status).await.unwrap();
    let elapsed = start.elapsed().as_secs();
    let (_, result) = end(conn).await;
    let ended = result.err().unwrap_or_default();
    assert!(["", "read header from client timeout"].contains(&&*ended), "{ended}");
    sending.await.unwrap();
    (elapsed, String::from_utf8_lossy(&status[9..]).into_owned())
}

#[tokio::test(start_paused = true)]
async fn a_body_must_keep_its_rate() {
    let late = |(seconds, status): (u64, String)| {
        assert_eq!(status, "408");
        seconds
    };
    assert_eq!(late(upload(0, 0, 100).await), body_start(), "stalled");
    let fast = 100 * body_rate();
    assert_eq!(late(upload(fast, 0, 100).await), body_start(), "fast, then stalled");
    assert_eq!(late(upload(0, 1, 100).await), body_start(), "a byte a second");
    // Half the rate uses up the start at half speed; whole seconds count.
    assert_eq!(late(upload(0, body_rate() / 2, 100).await), 2 * body_start() - 1);
    let (seconds, status) = upload(0, body_rate(), 200).await;
    assert_eq!((seconds, &*status), (200, "200"));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_takes_too_long_gets_503() {
    let (mut client, conn) = start(1024);
    client.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert_eq!(end(conn).await, (handler(), Ok(())));
    let answer = answer(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_cut_off() {
    let (mut client, conn) = start(1024);
    client.write_all(b"GET /download HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let text = format!("error writing a body to connection: {UNREAD}");
    assert_eq!(end(conn).await, error(write_stall(), &text));

    let (client, conn) = start(1024);
    let (_reader, mut writer) = tokio::io::split(client);
    tokio::spawn(
        async move { while writer.write_all(GET.as_bytes()).await.is_ok() {} },
    );
    assert_eq!(end(conn).await, error(write_stall(), &text));
}

/// A stream that never takes anything.
struct Stuck;

impl AsyncWrite for Stuck {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_shutdown(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn each_way_to_write_is_limited() {
    let limit = Duration::from_secs(write_stall());
    let new = || program::WriteStall::new(Stuck, limit);
    let slice = [io::IoSlice::new(b"x")];
    let start = time::Instant::now();
    let (mut a, mut b, mut c, mut d) = (new(), new(), new(), new());
    let (written, vectored, flushed, shut) =
        timeout(Duration::from_secs(3600), async {
            tokio::join!(
                a.write(b"x"),
                b.write_vectored(&slice),
                c.flush(),
                d.shutdown()
            )
        })
        .await
        .expect("each of them ends");
    assert_eq!(start.elapsed(), limit);
    let errors = [
        written.unwrap_err(),
        vectored.unwrap_err(),
        flushed.unwrap_err(),
        shut.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(error.to_string(), UNREAD);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_a_little_now_and_then_is_not_cut_off() {
    let (mut client, conn) = start(1024);
    client.write_all(b"GET /download HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    for _ in 0..20 {
        sleep(Duration::from_secs(write_stall() - 1)).await;
        client.read_exact(&mut [0; 16]).await.unwrap();
    }
    assert!(!conn.is_finished());
    // Nor is one that reads nothing while there is nothing to read.
    let (mut client, conn) = start(1024);
    let piece = vec![b'.'; body_rate() as usize];
    let head = format!(
        "POST /upload HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        60 * piece.len()
    );
    client.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..60 {
        sleep(Duration::from_secs(1)).await;
        client.write_all(&piece).await.unwrap();
    }
    assert!(answer(&mut client).await.contains("200 OK"));
    assert!(!conn.is_finished());
}

#[tokio::test(start_paused = true)]
async fn the_age_of_a_connection_is_limited() {
    // It asks again and again.
    let (mut client, conn) = start(1024);
    let requests = tokio::spawn(async move {
        while client.write_all(GET.as_bytes()).await.is_ok() {
            answer(&mut client).await;
            sleep(Duration::from_secs(head() - 1)).await;
        }
    });
    assert_eq!(end(conn).await, (max_age(), Ok(())));
    requests.await.unwrap();

    // It reads its response slowly.
    let (mut client, conn) = start(1024);
    client.write_all(b"GET /download HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    tokio::spawn(async move {
        while client.read_exact(&mut [0; 16]).await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    });
    let too_old = error(max_age() + last_responses(), "closed at its maximum age");
    assert_eq!(end(conn).await, too_old);
}

// HTTP/2.

type Client = SendRequest<Empty<Bytes>>;

/// A connection of hyper's client to the program.
async fn http2() -> (Client, JoinHandle<Result<(), String>>) {
    let (client, conn) = start(64 * 1024);
    let io = TokioIo::new(client);
    let (client, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
            .await
            .unwrap();
    tokio::spawn(driver);
    (client, conn)
}

pub fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("http://x{path}")).body(Empty::new()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_http2_client_that_answers_pings_may_stay_idle_up_to_the_maximum_age() {
    let (mut client, conn) = http2().await;
    assert_eq!(client.send_request(get("/")).await.unwrap().status(), 200);
    // The client closes too when it is told to leave, so the connection may end with an error.
    assert_eq!(end(conn).await.0, max_age());
}

#[tokio::test(start_paused = true)]
async fn only_the_age_ends_a_response_that_the_client_does_not_let_flow() {
    let (mut client, conn) = http2().await;
    // Nobody reads this body, so the window of its stream stays shut.
    let response = client.send_request(get("/download")).await.unwrap();
    let too_old = error(max_age() + last_responses(), "closed at its maximum age");
    assert_eq!(end(conn).await, too_old);
    drop(response);
}

#[tokio::test(start_paused = true)]
async fn over_http2_too_the_limits_are_answered() {
    let (mut client, _conn) = http2().await;
    assert_eq!(client.send_request(get("/slow")).await.unwrap().status(), 503);
    let (client, _conn) = start(64 * 1024);
    let io = TokioIo::new(client);
    let (mut client, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
            .await
            .unwrap();
    tokio::spawn(driver);
    let body = vec![b'.'; program::MAX_BODY + 1];
    let request =
        Request::post("http://x/upload").body(Full::<Bytes>::from(body)).unwrap();
    assert_eq!(client.send_request(request).await.unwrap().status(), 413);
}

/// An HTTP/2 frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const GOAWAY: u8 = 7;
pub const REFUSED_STREAM: u32 = 7;
pub const ENHANCE_YOUR_CALM: u32 = 11;
pub const END_HEADERS_AND_STREAM: u8 = 5;

/// GET /slow over http, authority x.
const SLOW: &[u8] = b"\x82\x86\x04\x05/slow\x41\x01x";

/// Reads a frame: its type, its stream and its payload.
pub async fn read_frame(
    client: &mut (impl AsyncRead + Unpin),
) -> io::Result<(u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    client.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    client.read_exact(&mut payload).await?;
    Ok((head[3], u32::from_be_bytes(head[5..].try_into().unwrap()), payload))
}

pub fn code(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().unwrap())
}

/// Sends these frames, a second after each other, on an HTTP/2 connection. The code of the GOAWAY that
/// ends it, None if it goes on; and those of the RST_STREAM frames before that.
pub async fn goaway(
    client: DuplexStream,
    frames: Vec<Vec<u8>>,
) -> (Option<u32>, Vec<u32>) {
    let (mut reader, mut writer) = tokio::io::split(client);
    let start = [PREFACE.as_bytes(), &frame(SETTINGS, 0, 0, &[])].concat();
    writer.write_all(&start).await.unwrap();
    tokio::spawn(async move {
        for frames in frames {
            writer.write_all(&frames).await.ok();
            sleep(Duration::from_secs(1)).await;
        }
        // The connection stays open.
        std::future::pending::<()>().await;
    });
    let mut resets = Vec::new();
    while let Ok(Ok((kind, _, payload))) =
        timeout(Duration::from_secs(3600), read_frame(&mut reader)).await
    {
        match kind {
            RST_STREAM => resets.push(code(&payload)),
            GOAWAY => return (Some(code(&payload[4..])), resets),
            _ => {}
        }
    }
    (None, resets)
}

/// The frames of so many requests in one write, the first of which is `from`.
pub fn requests(from: u32, count: u32, frames: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    (from..from + count).flat_map(|n| frames(2 * n + 1)).collect()
}

pub fn slow(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS_AND_STREAM, stream, SLOW)
}

pub fn slow_and_reset(stream: u32) -> Vec<u8> {
    [slow(stream), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
}

/// A `connection` header is malformed in HTTP/2.
pub fn malformed(stream: u32) -> Vec<u8> {
    let headers = b"\x82\x86\x84\x41\x01x\x00\x0aconnection\x05close";
    frame(HEADERS, END_HEADERS_AND_STREAM, stream, headers)
}

/// What comes of these frames on a connection with hyper's defaults.
pub async fn by_default(frames: Vec<Vec<u8>>) -> (Option<u32>, Vec<u32>) {
    let (client, _conn) = bare(with_timers());
    goaway(client, frames).await
}

#[tokio::test(start_paused = true)]
async fn an_http2_client_that_is_gone_is_found_by_its_missing_answer() {
    let (mut client, conn) = start(64 * 1024);
    client.write_all(PREFACE.as_bytes()).await.unwrap();
    client.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    client
        .write_all(&frame(
            HEADERS,
            END_HEADERS_AND_STREAM,
            1,
            b"\x82\x86\x84\x41\x01x",
        ))
        .await
        .unwrap();
    let (seconds, result) = end(conn).await;
    assert_eq!(
        (seconds, result),
        error(ping(), "http2 error: keep-alive timed out: operation timed out")
    );
}

#[tokio::test(start_paused = true)]
async fn the_requests_of_a_connection_are_limited() {
    let max = limits().number("the program allows only {} requests at a time") as u32;
    for (count, refused) in [(max, vec![]), (max + 1, vec![REFUSED_STREAM])] {
        let (client, conn) = start(1024 * 1024);
        let frames = vec![requests(0, count, slow)];
        let (goaway, resets) = goaway(client, frames).await;
        assert_eq!(resets, refused);
        assert_eq!(goaway, Some(0), "keep-alive ends it: nobody answers the PING");
        conn.await.unwrap().unwrap_err();
    }
}

// What hyper does by itself.

/// Serves a connection as `auto` does with timers and nothing else.
pub fn bare(
    builder: auto::Builder<TokioExecutor>,
) -> (DuplexStream, JoinHandle<Result<(), String>>) {
    let (client, server) = duplex(1024 * 1024);
    let conn = tokio::spawn(async move {
        let service = service_fn(async |request: Request<Incoming>| {
            let response = match request.uri().path() {
                "/large" => Full::<Bytes>::from(vec![b'.'; 4 * 1024 * 1024]),
                "/slow" => std::future::pending().await,
                _ => request.into_body().collect().await?.to_bytes().into(),
            };
            Ok::<_, hyper::Error>(Response::new(response))
        });
        let result = builder.serve_connection(TokioIo::new(server), service).await;
        result.map_err(|error| program::report(&*error))
    });
    (client, conn)
}

pub fn with_timers() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder.http2().timer(TokioTimer::new());
    builder
}

#[tokio::test(start_paused = true)]
async fn by_default_these_clients_stay() {
    let hour = Duration::from_secs(3600);
    for bytes in [
        "",
        "P",
        "PRI * HTTP/2.0\r\n",
        PREFACE,
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n.",
        "GET /large HTTP/1.1\r\nhost: x\r\n\r\n",
    ] {
        let (mut client, conn) = bare(with_timers());
        client.write_all(bytes.as_bytes()).await.unwrap();
        assert!(timeout(hour, conn).await.is_err(), "{bytes:?} stays");
    }
}

#[tokio::test(start_paused = true)]
async fn with_a_timer_the_head_has_30_s_by_default() {
    let default = limits().number("header_read_timeout, {} s with a Timer");
    for bytes in ["GET ", GET] {
        let (mut client, conn) = bare(with_timers());
        client.write_all(bytes.as_bytes()).await.unwrap();
        assert_eq!(
            end(conn).await,
            error(default, "read header from client timeout")
        );
        let (mut client, conn) = bare(auto::Builder::new(TokioExecutor::new()));
        client.write_all(bytes.as_bytes()).await.unwrap();
        assert!(timeout(Duration::from_secs(3600), conn).await.is_err(), "no timer");
    }
}

#[tokio::test(start_paused = true)]
async fn the_http1_builder_limits_silence_by_itself() {
    let (_client, server) = duplex(1024);
    let service = service_fn(async |_: Request<Incoming>| {
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new());
    let conn = tokio::spawn(builder.serve_connection(TokioIo::new(server), service));
    let conn = tokio::spawn(async { conn.await.unwrap().map_err(|e| e.to_string()) });
    let default = limits().number("header_read_timeout, {} s with a Timer");
    assert_eq!(end(conn).await, error(default, "read header from client timeout"));
}

#[tokio::test(start_paused = true)]
async fn keep_alive_ends_silence_after_the_preface() {
    let mut builder = with_timers();
    builder
        .http2()
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    let (mut client, conn) = bare(builder);
    client.write_all(PREFACE.as_bytes()).await.unwrap();
    let text = "http2 error: keep-alive timed out: operation timed out";
    assert_eq!(end(conn).await, error(30, text));
}

#[tokio::test]
async fn limits_without_a_timer_panic_in_the_task() {
    let limit = Duration::from_secs(5);
    let mut http1 = auto::Builder::new(TokioExecutor::new());
    http1.http1().header_read_timeout(limit);
    let mut http2 = auto::Builder::new(TokioExecutor::new());
    http2.http2().keep_alive_interval(limit);
    for (builder, bytes, message) in [
        (http1, "GET ", "timeout `header_read_timeout` set, but no timer set"),
        (http2, PREFACE, "You must supply a timer."),
    ] {
        let (mut client, conn) = bare(builder);
        client.write_all(bytes.as_bytes()).await.unwrap();
        let panic = conn.await.expect_err("no timer").into_panic();
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or(panic.downcast_ref::<&str>().copied());
        assert_eq!(text, Some(message));
    }
}
