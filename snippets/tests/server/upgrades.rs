//! What src/server/upgrades.md promises.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn;
use hyper::header::{CONNECTION, UPGRADE};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex,
};
use tokio::task::JoinHandle;
use tokio::time::{self, sleep, timeout};

use harness::{LIMIT, Program, Prose, page};

/// The program itself, for tests on an in-memory connection with a clock that they move.
#[allow(dead_code)]
#[path = "../../server/upgrades.rs"]
mod program;

fn upgrades() -> Prose {
    page("server/upgrades")
}

const REQUEST: &str =
    "GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: shout\r\n\r\n";
const HOUR: Duration = Duration::from_secs(3600);

/// Reads the head of a response, and not a byte more.
pub async fn read_head(client: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.expect("a response"));
    }
    String::from_utf8(head).unwrap()
}

// The programs.

/// What the client prints, and whether it succeeds.
fn run_client(address: &str, arguments: &[&str]) -> (String, bool) {
    let mut command = Command::new(harness::cargo::program("upgrades-client"));
    command.arg(address).args(arguments);
    let (mut child, lines) = harness::spawn(command);
    harness::wait("the end of the client", || child.try_wait().unwrap().is_some());
    let output: String = lines.iter().map(|line| line + "\n").collect();
    (output, child.wait().unwrap().success())
}

#[test]
fn each_line_comes_back_in_capitals() {
    let program = Program::start("upgrades");
    let (output, success) =
        run_client(&program.address.to_string(), &["hello", "you there"]);
    assert_eq!(output, "HELLO\nYOU THERE\n");
    assert!(success);
}

#[test]
fn the_client_says_when_there_is_no_upgrade() {
    let program = Program::start("hello-world");
    let (output, success) = run_client(&program.address.to_string(), &["hello"]);
    assert!(output.contains("no upgrade, but 200 OK"), "{output}");
    assert!(!success);
}

#[test]
fn the_client_checks_both_headers_without_regard_to_case() {
    for (head, expected) in [
        ("connection: x, Upgrade\r\nupgrade: Shout", "HELLO\n"),
        ("upgrade: shout", "no upgrade, but 101"),
        ("connection: upgrade\r\nupgrade: whisper", "no upgrade, but 101"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).unwrap() > 0);
            let head = format!("HTTP/1.1 101 Switching Protocols\r\n{head}\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(b"HELLO\n").unwrap();
            // Until the client is gone.
            std::io::copy(&mut stream, &mut std::io::sink()).ok();
        });
        let (output, success) = run_client(&address, &["hello"]);
        server.join().unwrap();
        assert!(output.contains(expected), "{head}: {output}");
        assert_eq!(success, expected == "HELLO\n");
    }
}

#[test]
fn the_client_says_when_the_server_closes() {
    let program = Program::start("upgrades");
    let long = "x".repeat(2000);
    let (output, success) = run_client(&program.address.to_string(), &[&long]);
    assert!(output.contains("UnexpectedEof") || output.contains("reset"), "{output}");
    assert!(!success);
    let line = program.line();
    assert_eq!(line, "shout failed: half a line, or one too long");
}

fn start() -> DuplexStream {
    let (client, server) = duplex(4096);
    tokio::spawn(program::serve(server));
    client
}

#[tokio::test(start_paused = true)]
async fn what_comes_with_the_request_is_not_lost() {
    let mut client = start();
    client.write_all(format!("{REQUEST}early\nlate").as_bytes()).await.unwrap();
    let head = read_head(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert!(head.contains("\r\nconnection: upgrade\r\n"), "{head}");
    assert!(head.contains("\r\nupgrade: shout\r\n"), "{head}");
    client.write_all(b"r\n").await.unwrap();
    let mut lines = [0; 12];
    client.read_exact(&mut lines).await.unwrap();
    assert_eq!(&lines, b"EARLY\nLATER\n");
}

#[tokio::test(start_paused = true)]
async fn a_request_without_the_upgrade_gets_426_and_keeps_its_connection() {
    for (old, new) in [
        ("upgrade: shout\r\n", ""),
        ("upgrade: shout", "upgrade: h2c"),
        ("connection: upgrade\r\n", ""),
        ("GET", "POST"),
    ] {
        let mut client = start();
        let request = REQUEST.replace(old, new);
        for _ in 0..2 {
            client.write_all(request.as_bytes()).await.unwrap();
            let head = read_head(&mut client).await;
            assert!(head.starts_with("HTTP/1.1 426 Upgrade Required\r\n"), "{head}");
            assert!(head.contains("\r\nconnection: upgrade\r\n"), "{head}");
            assert!(head.contains("\r\nupgrade: shout\r\n"), "{head}");
        }
    }
    // HTTP/1.0 has no upgrades.
    let mut client = start();
    let request = REQUEST.replace("HTTP/1.1", "HTTP/1.0");
    client.write_all(request.as_bytes()).await.unwrap();
    let head = read_head(&mut client).await;
    assert!(head.starts_with("HTTP/1.0 426 Upgrade Required\r\n"), "{head}");
}

#[tokio::test(start_paused = true)]
async fn a_request_with_a_body_is_refused() {
    for (length, body, status) in [
        ("content-length: 0", "", "101 Switching Protocols"),
        ("content-length: 6", "hello\n", "426 Upgrade Required"),
        ("transfer-encoding: chunked", "0\r\n\r\n", "426 Upgrade Required"),
    ] {
        let request = REQUEST.replace("host: x", &format!("host: x\r\n{length}"));
        // The body may come with the head, or later.
        for [first, second] in [[&*request, body], [&(request.clone() + body), ""]] {
            let mut client = start();
            client.write_all(first.as_bytes()).await.unwrap();
            let head = read_head(&mut client).await;
            assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{head}");
            // The server may have closed the connection.
            client.write_all(second.as_bytes()).await.ok();
            client.shutdown().await.ok();
            let answer = rest(client).await;
            let answer = String::from_utf8_lossy(&answer);
            assert!(!answer.contains("HELLO"), "the body was read as lines");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_protocol_has_its_own_limits() {
    let [max] = upgrades().numbers::<1>("A line may have {} bytes");
    let seconds = upgrades().number("has {} seconds to send it");
    let max = max as usize;
    for (line, answered) in [(max - 1, true), (max, false)] {
        let mut client = start();
        let line = [&vec![b'x'; line][..], b"\n"].concat();
        client.write_all(REQUEST.as_bytes()).await.unwrap();
        read_head(&mut client).await;
        client.write_all(&line).await.unwrap();
        let answer = client.read_exact(&mut vec![0; line.len()]).await;
        assert_eq!(answer.is_ok(), answered, "{} bytes", line.len());
    }
    // Silent, or a byte a second.
    for bytes in [false, true] {
        let client = start();
        let (mut reader, mut writer) = tokio::io::split(client);
        writer.write_all(REQUEST.as_bytes()).await.unwrap();
        read_head(&mut reader).await;
        let start = time::Instant::now();
        let sending = tokio::spawn(async move {
            for _ in 0..if bytes { 100 } else { 0 } {
                writer.write_all(b"x").await.ok();
                sleep(Duration::from_secs(1)).await;
            }
            writer
        });
        let end = timeout(HOUR, reader.read(&mut [0])).await;
        assert_eq!(end.expect("the server ends the connection").unwrap(), 0);
        assert_eq!(start.elapsed().as_secs(), seconds);
        sending.await.unwrap();
    }
    // One that does not read.
    let client = start();
    let (mut reader, mut writer) = tokio::io::split(client);
    writer.write_all(REQUEST.as_bytes()).await.unwrap();
    read_head(&mut reader).await;
    let start = time::Instant::now();
    let mut lines = 0;
    while lines < 10_000 && writer.write_all(b"hello\n").await.is_ok() {
        lines += 1;
    }
    assert_eq!(start.elapsed().as_secs(), seconds);
}

// What hyper does by itself.

type Result = std::result::Result<(), String>;

/// An error with its sources.
fn report(error: &(dyn Error + 'static)) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", report(source)),
        None => error.to_string(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_connect_is_an_upgrade_after_any_2xx_and_in_http_1_0_too() {
    for (version, status) in [("1.1", 200), ("1.1", 204), ("1.0", 200)] {
        let note = Note::default();
        let (mut client, _conn) = serve(&note, status, true);
        let request = format!("CONNECT x:80 HTTP/{version}\r\nhost: x:80\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        read_head(&mut client).await;
        assert_eq!(note.wait().await, Ok(()), "HTTP/{version}, {status}");
    }
    let note = Note::default();
    let (mut client, conn) = serve(&note, 403, true);
    client.write_all(b"CONNECT x:80 HTTP/1.1\r\nhost: x:80\r\n\r\n").await.unwrap();
    read_head(&mut client).await;
    sleep(HOUR).await;
    assert_eq!(note.get(), None, "refused");
    drop(conn);
}

/// Notes what `on` resolves with.
#[derive(Clone, Default)]
struct Note(Arc<Mutex<Option<Result>>>);

impl Note {
    fn get(&self) -> Option<Result> {
        self.0.lock().unwrap().clone()
    }

    /// Waits for the upgrade in a task.
    fn spawn(&self, request: &mut Request<Incoming>) {
        let (note, upgrade) = (self.clone(), hyper::upgrade::on(request));
        tokio::spawn(async move {
            let result = upgrade.await.map(|_| ()).map_err(|error| report(&error));
            *note.0.lock().unwrap() = Some(result);
        });
    }

    async fn wait(&self) -> Result {
        let wait = async {
            loop {
                if let Some(result) = self.get() {
                    return result;
                }
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(HOUR, wait).await.expect("`on` resolves")
    }
}

fn answer(status: u16) -> Response<Empty<Bytes>> {
    let mut response = Response::new(Empty::new());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// Serves a connection: a task waits for its upgrade, and each answer has this status.
fn serve(note: &Note, status: u16, upgrades: bool) -> (DuplexStream, JoinHandle<()>) {
    let (client, server) = duplex(4096);
    let note = note.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        note.spawn(&mut request);
        async move { Ok::<_, Infallible>(answer(status)) }
    });
    let conn = http1::Builder::new().serve_connection(TokioIo::new(server), service);
    let conn = tokio::spawn(async move {
        match upgrades {
            true => conn.with_upgrades().await.ok(),
            false => conn.await.ok(),
        };
    });
    (client, conn)
}

const CANCELED: &str = "operation was canceled: upgrade expected but not completed";
const NONE: &str = "no upgrade available";
const LOW_LEVEL: &str = "upgrade expected but low level API in use";

/// Serves a connection that may be upgraded.
fn serve_upgrades<F, R, E>(
    server: DuplexStream,
    handle: F,
) -> JoinHandle<hyper::Result<()>>
where
    F: Fn(Request<Incoming>) -> R + Send + 'static,
    R: Future<Output = std::result::Result<Response<Empty<Bytes>>, E>>
        + Send
        + 'static,
    E: Into<Box<dyn Error + Send + Sync>> + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new());
    let conn = builder.serve_connection(TokioIo::new(server), service_fn(handle));
    tokio::spawn(conn.with_upgrades())
}

#[tokio::test(start_paused = true)]
async fn awaited_in_the_handler_it_hangs() {
    let (mut client, server) = duplex(4096);
    let handle = async |request: Request<Incoming>| {
        hyper::upgrade::on(request).await?;
        Ok::<_, hyper::Error>(answer(101))
    };
    let conn = serve_upgrades(server, handle);
    client.write_all(REQUEST.as_bytes()).await.unwrap();
    assert!(timeout(HOUR, client.read_u8()).await.is_err(), "no answer");
    assert!(!conn.is_finished());
}

#[tokio::test(start_paused = true)]
async fn it_resolves_after_the_response_was_sent() {
    // The client has not read, and the response does not fit into the buffer between the two.
    let note = Note::default();
    let (mut client, server) = duplex(8);
    let handle = {
        let note = note.clone();
        move |mut request: Request<Incoming>| {
            note.spawn(&mut request);
            async { Ok::<_, Infallible>(answer(101)) }
        }
    };
    serve_upgrades(server, handle);
    client.write_all(REQUEST.as_bytes()).await.unwrap();
    sleep(HOUR).await;
    assert_eq!(note.get(), None);
    read_head(&mut client).await;
    assert_eq!(note.wait().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_upgrades_says_so() {
    let note = Note::default();
    let (mut client, _conn) = serve(&note, 101, false);
    client.write_all(REQUEST.as_bytes()).await.unwrap();
    let head = read_head(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 101"), "the client is told that it may");
    assert_eq!(note.wait().await, Err(LOW_LEVEL.to_owned()));
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "and the connection ends");
}

#[tokio::test(start_paused = true)]
async fn auto_allows_upgrades_with_the_method_of_that_name_only() {
    for upgrades in [false, true] {
        let note = Note::default();
        let (mut client, server) = duplex(4096);
        let service = service_fn({
            let note = note.clone();
            move |mut request: Request<Incoming>| {
                note.spawn(&mut request);
                async { Ok::<_, Infallible>(answer(101)) }
            }
        });
        let io = TokioIo::new(server);
        let builder = auto::Builder::new(TokioExecutor::new());
        if upgrades {
            let conn = builder.serve_connection_with_upgrades(io, service);
            tokio::spawn(conn.into_owned());
        } else {
            tokio::spawn(builder.serve_connection(io, service).into_owned());
        }
        client.write_all(REQUEST.as_bytes()).await.unwrap();
        let expected = if upgrades { Ok(()) } else { Err(LOW_LEVEL.to_owned()) };
        assert_eq!(note.wait().await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn after_another_status_the_next_request_cancels_it() {
    let note = Note::default();
    let (mut client, _conn) = serve(&note, 426, true);
    for _ in 0..2 {
        client.write_all(REQUEST.as_bytes()).await.unwrap();
        read_head(&mut client).await;
    }
    assert_eq!(note.wait().await, Err(CANCELED.to_owned()));
}

#[tokio::test(start_paused = true)]
async fn after_another_status_the_end_of_the_connection_fulfils_it() {
    // Nobody has switched, and the task has the stream all the same.
    let note = Note::default();
    let (mut client, _conn) = serve(&note, 426, true);
    client.write_all(REQUEST.as_bytes()).await.unwrap();
    read_head(&mut client).await;
    drop(client);
    assert_eq!(note.wait().await, Ok(()));

    let (mut client, server) = duplex(4096);
    let handle = |mut request: Request<Incoming>| {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async {
            let mut io = TokioIo::new(upgrade.await.unwrap());
            io.write_all(b"not HTTP").await.unwrap();
        });
        let mut response = answer(426);
        response.headers_mut().insert(CONNECTION, "close".parse().unwrap());
        async { Ok::<_, Infallible>(response) }
    };
    serve_upgrades(server, handle);
    client.write_all(REQUEST.as_bytes()).await.unwrap();
    let head = read_head(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 426"), "{head}");
    assert_eq!(rest(client).await, b"not HTTP");
}

#[tokio::test(start_paused = true)]
async fn it_is_cancelled_with_its_connection() {
    let note = Note::default();
    let (mut client, server) = duplex(4096);
    let handle = {
        let note = note.clone();
        move |mut request: Request<Incoming>| {
            note.spawn(&mut request);
            std::future::pending::<
                std::result::Result<Response<Empty<Bytes>>, Infallible>,
            >()
        }
    };
    let conn = serve_upgrades(server, handle);
    client.write_all(REQUEST.as_bytes()).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    conn.abort();
    assert_eq!(note.wait().await, Err(CANCELED.to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_asks_for_no_upgrade_has_none() {
    for request in [
        REQUEST.replace("upgrade: shout\r\n", ""),
        REQUEST.replace("HTTP/1.1", "HTTP/1.0"),
    ] {
        let note = Note::default();
        let (mut client, _conn) = serve(&note, 200, true);
        client.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(note.wait().await, Err(NONE.to_owned()), "{request}");
    }
    // hyper looks at the upgrade header alone.
    let note = Note::default();
    let (mut client, _conn) = serve(&note, 101, true);
    let request = REQUEST.replace("connection: upgrade\r\n", "");
    client.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(note.wait().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_second_call_has_none() {
    let note = Note::default();
    let (mut client, server) = duplex(4096);
    let handle = {
        let note = note.clone();
        move |mut request: Request<Incoming>| {
            tokio::spawn(hyper::upgrade::on(&mut request));
            note.spawn(&mut request);
            async { Ok::<_, Infallible>(answer(101)) }
        }
    };
    serve_upgrades(server, handle);
    client.write_all(REQUEST.as_bytes()).await.unwrap();
    assert_eq!(note.wait().await, Err(NONE.to_owned()));
}

#[tokio::test(start_paused = true)]
async fn http2_needs_no_permission_and_a_connect() {
    for method in ["GET", "CONNECT"] {
        let note = Note::default();
        let (client, server) = duplex(64 * 1024);
        let service = service_fn({
            let note = note.clone();
            move |mut request: Request<Incoming>| {
                note.spawn(&mut request);
                async { Ok::<_, Infallible>(answer(200)) }
            }
        });
        let conn = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(server), service);
        tokio::spawn(conn);
        let io = TokioIo::new(client);
        let (mut sender, conn) =
            conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(conn);
        let uri = if method == "GET" { "http://x/" } else { "x:80" };
        let request = Request::builder().method(method).uri(uri);
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
        let expected = if method == "GET" { Err(NONE.to_owned()) } else { Ok(()) };
        assert_eq!(note.wait().await, expected, "{method}");
    }
}

/// hyper#4049: what is written waits, in hyper and in h2, for a client that does not read.
#[tokio::test(start_paused = true)]
async fn over_http2_a_writer_waits_for_its_peer() {
    page("reference/versions").says("an upgraded stream waits for its peer");
    let (client, server) = duplex(64 * 1024);
    let written = Arc::new(AtomicUsize::new(0));
    let count = written.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (on, count) = (hyper::upgrade::on(&mut request), count.clone());
        tokio::spawn(async move {
            let mut stream = TokioIo::new(on.await.unwrap());
            while stream.write_all(&[b'.'; 1024]).await.is_ok() {
                count.fetch_add(1024, Relaxed);
            }
        });
        async { Ok::<_, Infallible>(answer(200)) }
    });
    let conn = http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(server), service);
    tokio::spawn(conn);
    let io = TokioIo::new(client);
    let mut builder = conn::http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(65_535);
    let (mut sender, conn) = builder.handshake(io).await.unwrap();
    tokio::spawn(conn);
    let request = Request::connect("x:80").body(Empty::<Bytes>::new()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let tunnel = hyper::upgrade::on(response).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    let first = written.load(Relaxed);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(written.load(Relaxed), first, "it still writes");
    assert!((65_535..256 * 1024).contains(&first), "{first} bytes");
    drop(tunnel);
}

#[test]
fn a_connection_of_http2_has_no_with_upgrades() {
    upgrades().says("so a connection of http2 has no with_upgrades");
    let hyper = sources::locked("hyper", "1");
    let has = |file| {
        let methods = hyper.methods(file, "Connection");
        methods.iter().any(|it| it.name == "with_upgrades")
    };
    assert!(has("src/server/conn/http1.rs"));
    assert!(!has("src/server/conn/http2.rs"));
}

#[tokio::test]
async fn without_shutdown_gives_the_stream_back() {
    upgrades().says("gives its stream back in place of closing it");
    let (mut client, server) = duplex(1024);
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let service = service_fn(async |_: Request<Incoming>| Ok::<_, Infallible>(answer(200)));
    let conn = http1::Builder::new().serve_connection(TokioIo::new(server), service);
    let mut server = conn.without_shutdown().await.unwrap().io.into_inner();
    server.write_all(b"more").await.unwrap();
    drop(server);
    let mut received = String::new();
    client.read_to_string(&mut received).await.unwrap();
    let (head, rest) = received.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert_eq!(rest, "more");
}

/// A connection whose upgrade is taken apart by `take`, after a request with some bytes behind it.
async fn taken<T, F>(auto: bool, take: T) -> String
where
    T: Fn(hyper::upgrade::Upgraded) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Vec<u8>> + Send + 'static,
{
    let (mut client, server) = duplex(4096);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (take, upgrade) = (take.clone(), hyper::upgrade::on(&mut request));
        let task = tokio::spawn(async move { take(upgrade.await.unwrap()).await });
        // For the test.
        let (sender, receiver) = tokio::sync::oneshot::channel();
        tokio::spawn(async move { sender.send(task.await.unwrap()).ok() });
        RECEIVED.with(|received| received.replace(Some(receiver)));
        async { Ok::<_, Infallible>(answer(101)) }
    });
    let io = TokioIo::new(server);
    if auto {
        let builder = auto::Builder::new(TokioExecutor::new());
        tokio::spawn(
            builder.serve_connection_with_upgrades(io, service).into_owned(),
        );
    } else {
        tokio::spawn(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(io, service)
                .with_upgrades(),
        );
    }
    client.write_all(format!("{REQUEST}early ").as_bytes()).await.unwrap();
    read_head(&mut client).await;
    // The other side may be gone.
    client.write_all(b"late").await.ok();
    drop(client);
    let receiver = RECEIVED.with(|received| received.take()).unwrap();
    String::from_utf8(receiver.await.unwrap()).unwrap()
}

thread_local! {
    static RECEIVED: std::cell::RefCell<Option<tokio::sync::oneshot::Receiver<Vec<u8>>>> =
        const { std::cell::RefCell::new(None) };
}

async fn rest(mut io: impl AsyncRead + AsyncWrite + Unpin) -> Vec<u8> {
    let mut bytes = Vec::new();
    timeout(LIMIT, io.read_to_end(&mut bytes)).await.expect("the end").unwrap();
    bytes
}

#[tokio::test(start_paused = true)]
async fn the_stream_alone_lacks_what_was_read_already() {
    type Io = TokioIo<DuplexStream>;
    let whole = async |upgraded| rest(TokioIo::new(upgraded)).await;
    assert_eq!(taken(false, whole).await, "early late");
    assert_eq!(taken(true, whole).await, "early late");
    let lost = async |upgraded: hyper::upgrade::Upgraded| {
        rest(upgraded.downcast::<Io>().unwrap().io.into_inner()).await
    };
    assert_eq!(taken(false, lost).await, "late");
    let kept = async |upgraded: hyper::upgrade::Upgraded| {
        let parts = upgraded.downcast::<Io>().unwrap();
        [parts.read_buf.to_vec(), rest(parts.io.into_inner()).await].concat()
    };
    assert_eq!(taken(false, kept).await, "early late");
    // auto wraps the stream once more.
    let other = async |upgraded: hyper::upgrade::Upgraded| {
        assert!(upgraded.downcast::<Io>().is_err());
        vec![]
    };
    assert_eq!(taken(true, other).await, "");
    let kept = async |upgraded| {
        let parts = auto::upgrade::downcast::<Io>(upgraded).unwrap();
        [parts.read_buf.to_vec(), rest(parts.io.into_inner()).await].concat()
    };
    assert_eq!(taken(true, kept).await, "early late");
}

// The client.

/// A client of hyper, with or without upgrades, and a server that sends these bytes.
async fn client(upgrades: bool, bytes: &'static str) -> Response<Incoming> {
    let (near, mut far) = duplex(4096);
    tokio::spawn(async move {
        read_head(&mut far).await;
        far.write_all(bytes.as_bytes()).await.unwrap();
    });
    let (mut sender, conn) =
        conn::http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(async move {
        match upgrades {
            true => conn.with_upgrades().await.ok(),
            false => conn.await.ok(),
        };
    });
    let request = Request::get("/")
        .header("host", "x")
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, "shout")
        .body(Empty::<Bytes>::new())
        .unwrap();
    sender.send_request(request).await.unwrap()
}

const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: shout\r\n\r\nearly";

#[tokio::test(start_paused = true)]
async fn a_client_allows_upgrades_too_and_loses_nothing() {
    let response = client(true, SWITCHING).await;
    assert_eq!(response.status(), 101);
    let upgraded = hyper::upgrade::on(response).await.unwrap();
    assert_eq!(rest(TokioIo::new(upgraded)).await, b"early");

    let response = client(false, SWITCHING).await;
    assert_eq!(response.status(), 101);
    let error = hyper::upgrade::on(response).await.unwrap_err();
    assert_eq!(report(&error), LOW_LEVEL);

    let response = client(
        true,
        "HTTP/1.1 426 Upgrade Required\r\ncontent-length: 3\r\n\r\nno\n",
    )
    .await;
    assert_eq!(response.status(), 426);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "no\n");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_refused_has_no_upgrade() {
    let response = client(true, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let error = timeout(HOUR, hyper::upgrade::on(response))
        .await
        .expect("it resolves")
        .unwrap_err();
    assert_eq!(report(&error), NONE);
}
