//! What src/server/request-bodies.md promises.

use std::convert::Infallible;
use std::error::Error;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use harness::{Answer, Connection, Program};

/// The program itself, for tests on an in-memory connection with a clock that they move.
#[allow(dead_code)]
#[path = "../../server/request_bodies.rs"]
mod program;

const JSON: &str = "content-type: application/json\r\n";
const TEA: &str = r#"{"item":"tea","count":2}"#;

// On the running program.

fn head(path: &str, headers: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n")
}

/// The head of a request with this length.
fn sized(path: &str, headers: &str, length: usize) -> String {
    head(path, &format!("{headers}content-length: {length}\r\n"))
}

fn chunked(path: &str, headers: &str, chunks: &[&[u8]], trailers: &str) -> Vec<u8> {
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
fn ask(program: &Program, request: impl AsRef<[u8]>) -> Answer {
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

#[test]
fn a_client_that_still_sends_gets_its_413() {
    let program = Program::start("request-bodies");
    // More than the buffers of both sockets hold, several times.
    let (piece, count) = (vec![b'.'; 1024 * 1024], 48);
    let sized = sized("/uploads", "", count * piece.len()).into_bytes();
    let chunked = head("/uploads", "transfer-encoding: chunked\r\n").into_bytes();
    let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat();
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
    let answer = ask(&program, [sized("/uploads", "", body.len()).into(), body].concat());
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
    assert_too_large(&ask(&program, sized("/orders", &expect, program::MAX_JSON + 1)));
    let answer = ask(&program, sized("/orders", "expect: 100-continue\r\n", 2));
    assert_eq!(answer.status(), "HTTP/1.1 415 Unsupported Media Type");
}

#[test]
fn an_upload_that_breaks_off_leaves_a_line_in_the_log() {
    let program = Program::start("request-bodies");
    for (request, reason) in [
        (sized("/uploads", "", 10) + "hi", "end of file before message length reached"),
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

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_is_given_up() {
    let (mut client, _conn) = start();
    let begun = Instant::now();
    client.write_all((sized("/uploads", "", 10) + "hi").as_bytes()).await.unwrap();
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nthe body is too slow\n"), "{answer}");
    assert_about(begun.elapsed(), program::PAUSE);
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

/// Serves a connection with a service that does not read the body, and sends it these pieces, each when
/// the server has nothing else to do. All that it answers until it closes, or waits.
async fn unread(pieces: &[&[u8]]) -> (String, bool) {
    let (mut client, server) = duplex(1024 * 1024);
    let service = service_fn(async |_: Request<Incoming>| {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("ok")))
    });
    let conn = http1::Builder::new().serve_connection(TokioIo::new(server), service);
    let conn = tokio::spawn(conn);
    for piece in pieces {
        client.write_all(piece).await.ok();
        sleep(Duration::from_millis(1)).await;
    }
    let mut answers = String::new();
    let closed = timeout(Duration::from_secs(1), client.read_to_string(&mut answers));
    let closed = closed.await.is_ok();
    conn.abort();
    (answers, closed)
}

#[tokio::test(start_paused = true)]
async fn probe_unread() {
    let get = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".as_slice();
    for pieces in [
        vec![(sized("/", "", 4) + "body").into_bytes(), get.to_vec()],
        vec![sized("/", "", 4).into_bytes(), b"body".to_vec(), get.to_vec()],
        vec![(sized("/", "", 400000) + &"x".repeat(400000)).into_bytes(), get.to_vec()],
        vec![chunked("/", "", &[b"body"], ""), get.to_vec()],
        vec![chunked("/", "", &[], ""), get.to_vec()],
        vec![(sized("/", "expect: 100-continue\r\n", 4) + "body").into_bytes(), get.to_vec()],
        vec![sized("/", "expect: 100-continue\r\n", 4).into_bytes(), get.to_vec()],
    ] {
        let pieces: Vec<&[u8]> = pieces.iter().map(|p| &p[..]).collect();
        println!("{:?}\n   {:?}", String::from_utf8_lossy(&pieces[0][..100.min(pieces[0].len())]), unread(&pieces).await);
    }
}

#[tokio::test(start_paused = true)]
async fn probe_broken() {
    for (bytes, what) in [
        (b"POST / HTTP/1.1\r\nhost: x\r\n".to_vec(), "head"),
        ((sized("/", "", 4) + "bo").into_bytes(), "body"),
        (b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbo".to_vec(), "chunk"),
        (b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n".to_vec(), "chunks"),
        (b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nhello".to_vec(), "nonsense"),
        ((sized("/", "", 4) + "body").into_bytes(), "whole"),
    ] {
        let (mut client, server) = duplex(1024);
        client.write_all(&bytes).await.unwrap();
        let service = service_fn(async |request: Request<Incoming>| {
            struct D; impl Drop for D { fn drop(&mut self) { println!("  handler dropped"); } }
            let d = D;
            match request.into_body().collect().await {
                Ok(_) => { sleep(Duration::from_secs(60)).await; }
                Err(e) => println!("  handler: {} | parse {} user {} canceled {} closed {} inc {} abort {} shut {} timeout {} {:?}", program::report(&e), e.is_parse(), e.is_user(), e.is_canceled(), e.is_closed(), e.is_incomplete_message(), e.is_body_write_aborted(), e.is_shutdown(), e.is_timeout(), e),
            }
            std::mem::forget(d);
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("ok")))
        });
        println!("{what}");
        let conn = http1::Builder::new().serve_connection(TokioIo::new(server), service);
        let conn = tokio::spawn(conn);
        sleep(Duration::from_millis(5)).await;
        client.shutdown().await.unwrap();
        let answer = rest(&mut client).await;
        println!("  answer {answer:?} conn {:?}", conn.await.unwrap().map_err(|e| (program::report(&e), e.is_incomplete_message())));
    }
}
