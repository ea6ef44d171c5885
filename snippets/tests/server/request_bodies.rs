//! What src/server/request-bodies.md promises.

use std::convert::Infallible;
use std::error::Error;
use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, sleep, timeout};

use harness::{Answer, Connection, Program, page};

/// The program itself, for tests on an in-memory connection with a clock that they move.
#[allow(dead_code)]
#[path = "../../server/request_bodies.rs"]
mod program;

const JSON: &str = "content-type: application/json\r\n";
const TEA: &str = r#"{"item":"tea","count":2}"#;

// On the running program.

pub fn head(path: &str, headers: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n")
}

/// The head of a request with this length.
pub fn sized(path: &str, headers: &str, length: usize) -> String {
    head(path, &format!("{headers}content-length: {length}\r\n"))
}

pub fn chunked(
    path: &str,
    headers: &str,
    chunks: &[&[u8]],
    trailers: &str,
) -> Vec<u8> {
    let headers = format!("{headers}transfer-encoding: chunked\r\n");
    let mut request = head(path, &headers).into_bytes();
    for chunk in chunks {
        write!(request, "{:x}\r\n", chunk.len()).unwrap();
        request.extend_from_slice(chunk);
        request.extend(b"\r\n");
    }
    write!(request, "0\r\n{trailers}\r\n").unwrap();
    request
}

/// Sends this on a connection of its own.
pub fn ask(program: &Program, request: impl AsRef<[u8]>) -> Answer {
    let mut connection = program.connect();
    connection.send(request);
    connection.response().unwrap()
}

fn order(program: &Program, headers: &str, body: &str) -> Answer {
    ask(program, sized("/orders", headers, body.len()) + body)
}

/// Asserts that the request is refused with this status, a reason in plain text, and a close.
#[track_caller]
fn assert_refused(answer: &Answer, status: &str, reason: &str) {
    assert_eq!(answer.status(), format!("HTTP/1.1 {status}"));
    assert_eq!(answer.text(), format!("{reason}\n"));
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(answer.header("connection"), Some("close"));
}

fn assert_too_large(answer: &Answer) {
    assert_refused(answer, "413 Payload Too Large", "the body is too large");
}

#[test]
fn an_order_is_read_as_json() {
    let program = Program::start("request-bodies");
    let answer = order(&program, JSON, TEA);
    assert_eq!(answer.status(), "HTTP/1.1 201 Created");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.text(), TEA);
    let (start, end) = TEA.as_bytes().split_at(7);
    let answer = ask(&program, chunked("/orders", JSON, &[start, end], ""));
    assert_eq!(answer.text(), TEA);
}

#[test]
fn bad_json_gets_400_and_the_reason() {
    let program = Program::start("request-bodies");
    for (body, reason) in [
        ("", "EOF while parsing a value at line 1 column 0"),
        ("tea", "expected ident at line 1 column 2"),
        (r#"{"item":"tea"}"#, "missing field `count` at line 1 column 14"),
        (r#"{"item":"tea","count":2} 3"#, "trailing characters at line 1 column 26"),
    ] {
        let answer = order(&program, JSON, body);
        assert_refused(&answer, "400 Bad Request", reason);
        assert_eq!(program.line(), format!("POST /orders: {reason:?}"));
    }
}

#[test]
fn only_json_is_taken_however_its_type_is_written() {
    let program = Program::start("request-bodies");
    for content_type in ["Application/JSON", "application/json ; charset=utf-8"] {
        let header = format!("content-type: {content_type}\r\n");
        let answer = order(&program, &header, TEA);
        assert_eq!(answer.status(), "HTTP/1.1 201 Created", "{content_type}");
    }
    for header in ["", "content-type: text/plain\r\n", "content-type: \u{e9}\r\n"] {
        let answer = order(&program, header, TEA);
        let reason = "send application/json";
        assert_refused(&answer, "415 Unsupported Media Type", reason);
    }
}

#[test]
fn too_large_a_body_gets_413_however_it_is_sent() {
    let program = Program::start("request-bodies");
    let whole = format!("{TEA}{}", " ".repeat(program::MAX_JSON - TEA.len()));
    let more = whole.clone() + " ";
    assert_eq!(order(&program, JSON, &whole).status(), "HTTP/1.1 201 Created");
    assert_too_large(&order(&program, JSON, &more));
    let (start, end) = more.as_bytes().split_at(30_000);
    assert_too_large(&ask(&program, chunked("/orders", JSON, &[start, end], "")));
    let (start, end) = whole.as_bytes().split_at(30_000);
    let answer = ask(&program, chunked("/orders", JSON, &[start, end], ""));
    assert_eq!(answer.status(), "HTTP/1.1 201 Created");
    // Nothing comes of what is announced.
    assert_too_large(&ask(&program, sized("/orders", JSON, usize::MAX / 4)));
    assert_too_large(&ask(&program, sized("/uploads", "", program::MAX_UPLOAD + 1)));
}

/// Less is announced than comes: hyper takes the rest for the next request.
#[test]
fn a_body_has_the_length_that_is_announced() {
    let program = Program::start("request-bodies");
    let mut connection = program.connect();
    connection.send(sized("/uploads", "", 4) + "teatime\r\n\r\n");
    assert_eq!(connection.response().unwrap().text(), "4 bytes\n");
    assert_eq!(connection.response().unwrap().status(), "HTTP/1.1 400 Bad Request");
}

/// Nothing is announced: a request, unlike a response, does not end with the connection.
#[test]
fn a_body_without_length_and_chunks_is_empty() {
    page("server/request-bodies").says("The handler gets an empty body, and the next request gets a 400.");
    let program = Program::start("request-bodies");
    let mut connection = program.connect();
    connection.send(head("/uploads", "") + "teatime\r\n\r\n");
    assert_eq!(connection.response().unwrap().text(), "0 bytes\n");
    assert_eq!(connection.response().unwrap().status(), "HTTP/1.1 400 Bad Request");
}

#[test]
fn a_client_that_still_sends_gets_its_413() {
    let program = Program::start("request-bodies");
    // More than the buffers of both sockets hold, several times.
    let (piece, count) = (vec![b'.'; 1024 * 1024], 48);
    let sized = sized("/uploads", "", count * piece.len()).into_bytes();
    let chunked = head("/uploads", "transfer-encoding: chunked\r\n").into_bytes();
    let chunk =
        [format!("{:x}\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat();
    for (head, piece) in [(sized, piece), (chunked, chunk)] {
        let mut stream = TcpStream::connect(program.address).unwrap();
        let mut connection = Connection::new(stream.try_clone().unwrap());
        stream.set_write_timeout(Some(harness::LIMIT)).unwrap();
        stream.write_all(&head).unwrap();
        for sent in 0..count {
            let result = stream.write_all(&piece);
            let result = result.map_err(|error| format!("{error} after {sent} MiB"));
            assert_eq!(result, Ok(()), "the server reads on after its answer");
        }
        assert_too_large(&connection.response().unwrap());
        assert_eq!(connection.rest().unwrap(), "");
    }
}

#[test]
fn an_upload_is_counted_and_its_trailers_are_read() {
    let program = Program::start("request-bodies");
    let body = vec![b'.'; program::MAX_UPLOAD];
    let answer =
        ask(&program, [sized("/uploads", "", body.len()).into(), body].concat());
    assert_eq!(answer.text(), format!("{} bytes\n", program::MAX_UPLOAD));
    let trailers = "checksum: 42\r\n";
    let answer = ask(&program, chunked("/uploads", "", &[b"hi", b"!"], trailers));
    assert_eq!(answer.text(), "3 bytes\nchecksum \"42\"\n");
}

#[test]
fn hyper_sends_100_continue_when_the_body_is_read_and_not_before() {
    let program = Program::start("request-bodies");
    let expect = format!("{JSON}expect: 100-continue\r\n");
    let mut connection = program.connect();
    connection.send(sized("/orders", &expect, TEA.len()));
    assert_eq!(connection.head().unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    connection.send(TEA);
    assert_eq!(connection.response().unwrap().text(), TEA);

    // Nobody reads these.
    assert_too_large(&ask(
        &program,
        sized("/orders", &expect, program::MAX_JSON + 1),
    ));
    let answer = ask(&program, sized("/orders", "expect: 100-continue\r\n", 2));
    assert_eq!(answer.status(), "HTTP/1.1 415 Unsupported Media Type");
}

#[test]
fn an_upload_that_breaks_off_leaves_a_line_in_the_log() {
    let program = Program::start("request-bodies");
    for (request, reason) in [
        (
            sized("/uploads", "", 10) + "hi",
            "end of file before message length reached",
        ),
        (
            head("/uploads", "transfer-encoding: chunked\r\n") + "2\r\nhi\r\n",
            "unexpected EOF during chunk size line",
        ),
    ] {
        let mut connection = program.connect();
        connection.send(request);
        drop(connection);
        let error = format!("error reading a body from connection: {reason}");
        assert_eq!(program.line(), format!("POST /uploads: {error:?}"));
    }
}

#[test]
fn running_out_of_descriptors_is_survived() {
    crate::server::hello_world::survives_running_out_of_descriptors("request-bodies");
}

// On connections in memory, with the clock paused.

type Conn = tokio::task::JoinHandle<hyper::Result<()>>;

/// A connection to the program.
fn start() -> (DuplexStream, Conn) {
    let (client, server) = duplex(64 * 1024);
    (client, tokio::spawn(program::serve(server)))
}

/// What comes of a connection, and after which time.
async fn end(conn: Conn) -> (Duration, Result<(), String>) {
    let start = Instant::now();
    let result = timeout(Duration::from_secs(3600), conn).await;
    let result = result.expect("the connection ends").unwrap();
    (start.elapsed(), result.map_err(|error| program::report(&error)))
}

async fn rest(client: &mut DuplexStream) -> String {
    let mut rest = String::new();
    client.read_to_string(&mut rest).await.unwrap();
    rest
}

/// A second is the accuracy of all that follows.
#[track_caller]
fn assert_about(time: Duration, expected: Duration) {
    let (low, high) = (expected, expected + Duration::from_secs(1));
    assert!((low..high).contains(&time), "{time:?}, expected {expected:?}");
}

/// The second has sent enough to be on time for long, and pauses.
#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_is_given_up() {
    for sent in [2, 100_000] {
        let (mut client, _conn) = start();
        let begun = Instant::now();
        let request = sized("/uploads", "", 200_000) + &".".repeat(sent);
        client.write_all(request.as_bytes()).await.unwrap();
        let answer = rest(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nthe body is too slow\n"), "{answer}");
        assert_about(begun.elapsed(), program::PAUSE);
    }
}

/// Sends so many bytes a second. When the answer came, and its status.
async fn trickle(rate: u64) -> (Duration, String) {
    let (client, _conn) = start();
    let (mut reader, mut writer) = tokio::io::split(client);
    let begun = Instant::now();
    let seconds = 60;
    let head = sized("/uploads", "", (seconds * rate) as usize);
    let sender = tokio::spawn(async move {
        writer.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..seconds {
            sleep(Duration::from_secs(1)).await;
            writer.write_all(&vec![b'.'; rate as usize]).await.ok();
        }
        // A client that ends keeps the connection open.
        writer
    });
    let mut status = [0; 12];
    reader.read_exact(&mut status).await.unwrap();
    let time = begun.elapsed();
    sender.abort();
    (time, String::from_utf8_lossy(&status).into_owned())
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_too_slow_is_given_up_and_a_steady_one_is_read() {
    let (time, status) = trickle(program::BYTES_PER_SECOND).await;
    assert_eq!(status, "HTTP/1.1 200");
    assert_about(time, Duration::from_secs(60));
    let (time, status) = trickle(program::BYTES_PER_SECOND / 2).await;
    assert_eq!(status, "HTTP/1.1 408");
    assert!(time < Duration::from_secs(20), "{time:?}");
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_body_has_a_limit_of_time() {
    let (mut client, conn) = start();
    let head = sized("/uploads", "", program::MAX_UPLOAD + 1);
    client.write_all(head.as_bytes()).await.unwrap();
    // The answer comes at once, and the client stays.
    let begun = Instant::now();
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_about(begun.elapsed(), Duration::ZERO);
    let (time, result) = end(conn).await;
    assert_eq!(result, Ok(()));
    assert_about(time, program::REST_TIME);
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_body_has_a_limit_of_size() {
    let (mut client, conn) = start();
    let head = sized("/uploads", "", usize::MAX / 4);
    client.write_all(head.as_bytes()).await.unwrap();
    let piece = vec![b'.'; 1024 * 1024];
    let mut sent = 0;
    while client.write_all(&piece).await.is_ok() {
        sent += piece.len();
        assert!(sent < program::MAX_REST + 2 * piece.len(), "the server reads on");
    }
    assert!(sent >= program::MAX_REST, "the server has read {sent} bytes");
    assert_eq!(end(conn).await, (Duration::ZERO, Ok(())));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_closes_is_not_waited_for() {
    let (mut client, conn) = start();
    client.write_all(sized("/uploads", "", 1 << 40).as_bytes()).await.unwrap();
    assert!(rest(&mut client).await.starts_with("HTTP/1.1 413 "));
    drop(client);
    assert_eq!(end(conn).await, (Duration::ZERO, Ok(())));
}

// What hyper does by itself.

/// Sends these pieces, each when the server has done its work, to a service that does not read the body.
/// The heads of its answers, and whether it closes.
async fn unread(pieces: &[&[u8]]) -> (String, bool) {
    let (mut client, server) = duplex(1024 * 1024);
    let service = service_fn(async |_: Request<Incoming>| {
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let conn = http1::Builder::new().serve_connection(TokioIo::new(server), service);
    let conn = tokio::spawn(conn);
    for piece in pieces {
        client.write_all(piece).await.ok();
        sleep(Duration::from_millis(1)).await;
    }
    let closed = conn.is_finished();
    conn.abort();
    (rest(&mut client).await, closed)
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

/// Asserts what comes of a request whose body nobody reads, and of the one that follows it.
async fn assert_unread(request: Vec<u8>, rest: &[u8], lives_on: bool) {
    let (answers, closed) = unread(&[&request, rest, GET]).await;
    let what =
        String::from_utf8_lossy(&request[..request.len().min(100)]).into_owned();
    assert_eq!(closed, !lives_on, "{what}");
    let expected = if lives_on { 2 } else { 1 };
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), expected, "{what}");
    assert!(!answers.contains("connection: close"), "{answers}");
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_an_unread_body_is_discarded_if_it_is_there_and_small() {
    assert_unread((sized("/", "", 4) + "body").into(), b"", true).await;
    assert_unread(chunked("/", "", &[b"body"], ""), b"", true).await;
    let expect = "expect: 100-continue\r\n";
    assert_unread((sized("/", expect, 4) + "body").into(), b"", true).await;

    let large = ".".repeat(400_000);
    assert_unread((sized("/", "", large.len()) + &large).into(), b"", false).await;
    assert_unread(sized("/", "", 4).into(), b"body", false).await;
    assert_unread(sized("/", expect, 4).into(), b"body", false).await;
}

/// How a connection ends whose client sends this and then goes. What the handler got, if it was called.
async fn broken(bytes: Vec<u8>) -> (Result<(), hyper::Error>, Option<Got>) {
    let (mut client, server) = duplex(1024);
    client.write_all(&bytes).await.unwrap();
    let got = Arc::new(Mutex::new(None));
    let service = service_fn(|request: Request<Incoming>| {
        let got = got.clone();
        async move {
            *got.lock().unwrap() = Some(Got::Dropped);
            match request.into_body().collect().await {
                Ok(_) => sleep(Duration::from_secs(60)).await,
                Err(error) => *got.lock().unwrap() = Some(Got::Error(error)),
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let conn = http1::Builder::new().serve_connection(TokioIo::new(server), service);
    let leaves = async {
        sleep(Duration::from_millis(1)).await;
        client.shutdown().await.unwrap();
    };
    let start = Instant::now();
    let (result, ()) = tokio::join!(conn, leaves);
    assert!(start.elapsed() < Duration::from_secs(60), "the handler goes on");
    (result, got.lock().unwrap().take())
}

#[derive(Debug)]
enum Got {
    Error(hyper::Error),
    /// It was called, and did not end.
    Dropped,
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_in_the_body_gives_the_handler_an_error() {
    for (body, reason) in [
        (sized("/", "", 4) + "bo", "end of file before message length reached"),
        (
            head("/", "transfer-encoding: chunked\r\n") + "4\r\nbody\r\n",
            "unexpected EOF during chunk size line",
        ),
    ] {
        let (result, got) = broken(body.into()).await;
        result.expect("the response can be written");
        let Some(Got::Error(error)) = got else { panic!("{got:?}") };
        let text = format!("error reading a body from connection: {reason}");
        assert_eq!(program::report(&error), text);
        let io = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
        assert_eq!(io.kind(), io::ErrorKind::UnexpectedEof);
        let says_yes = [
            error.is_parse(),
            error.is_user(),
            error.is_canceled(),
            error.is_closed(),
            error.is_incomplete_message(),
            error.is_body_write_aborted(),
            error.is_shutdown(),
            error.is_timeout(),
        ];
        assert!(!says_yes.contains(&true), "{says_yes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_before_or_after_its_body_ends_the_connection() {
    let (result, got) = broken(b"POST / HTTP/1.1\r\nhost: x\r\n".into()).await;
    assert!(result.unwrap_err().is_incomplete_message());
    assert!(got.is_none(), "the handler is not called");
    let (result, got) = broken((sized("/", "", 4) + "body").into()).await;
    let error = result.unwrap_err();
    assert!(error.is_incomplete_message());
    assert_eq!(error.to_string(), "connection closed before message completed");
    assert!(matches!(got, Some(Got::Dropped)), "{got:?}");
}

/// Nothing looks at the socket before the handler asks for more of the body.
#[tokio::test(start_paused = true)]
async fn a_handler_that_does_not_read_does_not_notice() {
    let (mut client, server) = duplex(1024);
    client.write_all((sized("/", "", 4) + "bo").as_bytes()).await.unwrap();
    let service = service_fn(async |request: Request<Incoming>| {
        let mut body = request.into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "bo");
        sleep(Duration::from_secs(60)).await;
        body.frame().await.unwrap().map(|_| Response::new(Empty::<Bytes>::new()))
    });
    let conn = http1::Builder::new().serve_connection(TokioIo::new(server), service);
    let leaves = async {
        sleep(Duration::from_millis(1)).await;
        drop(client);
    };
    let start = Instant::now();
    let (result, ()) = tokio::join!(conn, leaves);
    assert_eq!(start.elapsed().as_secs(), 60);
    assert!(
        result.unwrap_err().is_user(),
        "the service returns the error of the body"
    );
}

#[tokio::test(start_paused = true)]
async fn a_response_shorter_than_it_says_is_a_body_write_that_is_aborted() {
    let (mut client, server) = duplex(1024);
    client.write_all(GET).await.unwrap();
    let service = service_fn(async |_: Request<Incoming>| {
        let (mut sender, body) = Channel::<Bytes>::new(1);
        sender.send_data("hi".into()).await.unwrap();
        Response::builder().header("content-length", 10).body(body)
    });
    let conn = http1::Builder::new().serve_connection(TokioIo::new(server), service);
    let error = conn.await.unwrap_err();
    assert!(error.is_body_write_aborted());
    let text = "user body write aborted: early end, expected 8 more bytes";
    assert_eq!(program::report(&error), text);
}

#[tokio::test(start_paused = true)]
async fn max_buf_size_is_no_limit_for_a_body() {
    let (mut client, server) = duplex(64 * 1024);
    let service = service_fn(async |request: Request<Incoming>| {
        let size = request.into_body().collect().await?.to_bytes().len();
        Ok::<_, hyper::Error>(Response::new(Full::<Bytes>::from(size.to_string())))
    });
    let mut builder = http1::Builder::new();
    builder.max_buf_size(8192).keep_alive(false);
    let conn = builder.serve_connection(TokioIo::new(server), service);
    let conn = tokio::spawn(conn);
    let request = sized("/", "", 1_000_000) + &".".repeat(1_000_000);
    client.write_all(request.as_bytes()).await.unwrap();
    let answer = rest(&mut client).await;
    assert!(answer.ends_with("\r\n\r\n1000000"), "{answer}");
    conn.await.unwrap().unwrap();
}

/// Over HTTP/2 the client gets its answer, and may use the connection for others.
#[tokio::test(start_paused = true)]
async fn over_http2_only_the_stream_of_an_unread_body_ends() {
    let (client, server) = duplex(64 * 1024);
    let service = service_fn(async |_: Request<Incoming>| {
        let mut response = Response::new(Empty::<Bytes>::new());
        *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
        Ok::<_, Infallible>(response)
    });
    let conn = http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(server), service);
    tokio::spawn(conn);
    let (mut client, driver) = hyper::client::conn::http2::handshake(
        TokioExecutor::new(),
        TokioIo::new(client),
    )
    .await
    .unwrap();
    tokio::spawn(driver);
    for _ in 0..2 {
        // An upload that goes on for ever.
        let (mut sender, body) = Channel::<Bytes>::new(1);
        let upload = tokio::spawn(async move {
            let piece = Bytes::from_static(&[b'.'; 16 * 1024]);
            while sender.send_data(piece.clone()).await.is_ok() {}
        });
        let request = Request::post("http://x/").body(body).unwrap();
        let answer = client.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 413);
        timeout(Duration::from_secs(60), upload).await.expect("it ends").unwrap();
    }
}

/// An idle connection that is told to stop waits for a client that does not close it.
#[tokio::test(start_paused = true)]
async fn a_graceful_shutdown_waits_for_the_rest_of_an_idle_connection() {
    harness::page("server/request-bodies").says("A graceful shutdown waits for it too, also on an idle connection. So give it a longer deadline than REST_TIME.");
    let (_client, server) = duplex(1024);
    let answer = service_fn(|_: Request<Incoming>| async {
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let io = TokioIo::new(program::Linger::new(server));
    let mut conn = std::pin::pin!(http1::Builder::new().serve_connection(io, answer));
    timeout(Duration::from_secs(1), conn.as_mut()).await.expect_err("it is idle");
    let stopped = Instant::now();
    conn.as_mut().graceful_shutdown();
    conn.await.unwrap();
    assert_eq!(stopped.elapsed().as_secs(), program::REST_TIME.as_secs());
}
