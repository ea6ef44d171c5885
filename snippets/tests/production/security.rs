//! What src/production/security.md promises: each row of its checklist is an attack on the program.

use std::fs;
use std::process::Command;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper::ext::ReasonPhrase;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Request, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use harness::block::tests_of_variant;
use harness::{Program, Prose, page, root, rows};

use crate::server::limits::{
    END_HEADERS_AND_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, PREFACE, REFUSED_STREAM,
    RST_STREAM, SETTINGS, answer, end, frame, goaway, malformed, requests,
};

/// The program itself, for attacks on an in-memory connection with a clock that they move.
#[allow(dead_code)]
#[path = "../../production/security.rs"]
mod program;

const DATA: u8 = 0;
const CONTINUATION: u8 = 9;

const PAGE: &str = "src/production/security.md";

fn security() -> Prose {
    page("production/security")
}

/// The rows of the checklist, and the test that mounts the attack.
const ATTACKS: &[(&str, fn())] = &[
    ("connects and sends nothing, or half a head", silence_and_half_a_head),
    ("keeps an idle connection", idle_connections),
    ("sends its body slowly", a_slow_body),
    ("asks for work that takes long", long_work),
    ("does not read the response", a_client_that_does_not_read),
    ("asks now and then, or opens no HTTP/2 window", a_client_that_stays),
    ("opens many connections", many_connections),
    ("sends many headers, or large ones", many_and_large_headers),
    ("sends a large body", a_large_body),
    ("sends a small body that grows when it is decompressed", a_compressed_body),
    ("sends many requests at a time", many_streams),
    ("resets its requests at once (rapid reset)", rapid_reset),
    ("sends requests that the server must reset", resets_by_the_server),
    ("sends `CONTINUATION` frames without an end", endless_continuation),
    ("sends empty `DATA` frames without an end", endless_empty_data),
    ("sends two different lengths, or one that is no number", bad_lengths),
    ("sends a length and chunks", a_length_and_chunks),
    ("sends a chunk whose size is no number", a_bad_chunk_size),
    ("names no host, or several", no_host_and_several),
    ("names a host that is not yours", another_host),
    ("puts a line break into a header of the response", a_line_break_in_a_header),
    ("adds an attribute to a cookie", an_attribute_of_a_cookie),
    ("makes a redirect lead elsewhere", a_redirect_elsewhere),
    ("writes lines into the log", lines_in_the_log),
    ("looks for passwords in the log", secrets_in_the_log),
];

#[test]
fn each_row_of_the_checklist_has_its_attack() {
    let rows = rows(PAGE, "The checklist");
    for row in &rows {
        assert!(
            ATTACKS.iter().any(|(attack, _)| *attack == row.cells[0]),
            "{PAGE}:{}: no test mounts the attack \"{}\": write one, and add both to ATTACKS",
            row.line,
            row.cells[0]
        );
    }
    for (attack, _) in ATTACKS {
        assert!(
            rows.iter().any(|row| row.cells[0] == *attack),
            "{PAGE} has no row \"{attack}\" any more: write it again, or remove its test"
        );
    }
}

/// What stops an attack is in the program; or it is hyper's, or HTTP's.
#[test]
fn what_stops_an_attack_is_in_the_program() {
    let program = source();
    let others = ["REFUSED_STREAM", "ENHANCE_YOUR_CALM", "h2"];
    for row in rows(PAGE, "The checklist") {
        for code in row.codes(1) {
            assert!(
                program.contains(code)
                    || others.contains(&code)
                    || code.parse::<u16>().is_ok(),
                "{PAGE}:{}: `{code}` is not in snippets/production/security.rs: correct the name",
                row.line
            );
        }
    }
}

fn source() -> String {
    fs::read_to_string(root().join("snippets/production/security.rs")).unwrap()
}

/// The status that the page promises in the row of this attack.
#[track_caller]
fn promised(attack: &str) -> u16 {
    let rows = rows(PAGE, "The checklist");
    let row = rows.iter().find(|row| row.cells[0] == attack);
    let row = row.unwrap_or_else(|| panic!("{PAGE} has no row \"{attack}\""));
    let status = row.codes(1).into_iter().find_map(|code| code.parse().ok());
    status.unwrap_or_else(|| panic!("{PAGE}:{}: the row should name a status", row.line))
}

// On an in-memory connection.

const GET: &str = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// A connection to the program, and how it ends.
fn start(buffer: usize) -> (DuplexStream, JoinHandle<Result<(), String>>) {
    let (client, server) = duplex(buffer);
    let conn = tokio::spawn(async {
        program::serve(server).await.map_err(|error| program::report(&*error))
    });
    (client, conn)
}

/// What the program answers to these bytes, after how long, and whether it then closes the connection.
async fn ask(bytes: impl AsRef<[u8]>) -> (String, Duration, bool) {
    let (mut client, conn) = start(1024 * 1024);
    let start = Instant::now();
    client.write_all(bytes.as_ref()).await.unwrap();
    let answer = timeout(2 * program::MAX_AGE, answer(&mut client)).await;
    let time = start.elapsed();
    sleep(Duration::from_millis(1)).await;
    (answer.expect("the program answers"), time, conn.is_finished())
}

/// The status, with the head of the answer in the message if it is another one.
#[track_caller]
fn assert_status(answer: &str, status: u16) {
    assert_eq!(answer.get(9..12), Some(&*status.to_string()), "{answer}");
}

fn post(path: &str, headers: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test(start_paused = true)]
async fn a_good_client_is_served() {
    let (answer, time, closed) = ask(GET).await;
    assert_status(&answer, 200);
    assert_eq!((time, closed), (Duration::ZERO, false));
    let (answer, ..) = ask(post("/language?next=/a?b", "", "de-CH")).await;
    assert_status(&answer, 303);
    assert!(answer.contains("\r\nlocation: /a?b\r\n"), "{answer}");
    let cookie = "\r\nset-cookie: language=de-CH; HttpOnly; SameSite=Lax\r\n";
    assert!(answer.contains(cookie), "{answer}");
    for host in ["LOCALHOST", "localhost:3000", "127.0.0.1"] {
        let (answer, ..) = ask(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
        assert_status(&answer, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn silence_and_half_a_head() {
    for (bytes, time, error) in [
        ("", program::FIRST_REQUEST, "no request in time"),
        ("P", program::FIRST_REQUEST, "no request in time"),
        (PREFACE, program::FIRST_REQUEST, "no request in time"),
        ("GET / HTTP/1.1\r\n", program::HEAD, "read header from client timeout"),
    ] {
        let (mut client, conn) = start(1024);
        client.write_all(bytes.as_bytes()).await.unwrap();
        let expected = (time.as_secs(), Err(error.to_owned()));
        assert_eq!(end(conn).await, expected, "{bytes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn idle_connections() {
    let (mut client, conn) = start(1024);
    client.write_all(GET.as_bytes()).await.unwrap();
    assert_status(&answer(&mut client).await, 200);
    let idle = Err("read header from client timeout".to_owned());
    assert_eq!(end(conn).await, (program::HEAD.as_secs(), idle));

    // Over HTTP/2 a client that does not answer the PING.
    let (mut client, conn) = start(64 * 1024);
    client.write_all(&http2_requests(1)).await.unwrap();
    let gone = Err("http2 error: keep-alive timed out: operation timed out".to_owned());
    let time = program::PING_AFTER + program::PING_ANSWER;
    assert_eq!(end(conn).await, (time.as_secs(), gone));
}

#[tokio::test(start_paused = true)]
async fn a_slow_body() {
    let head = "POST /language HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n";
    let (answer, time, closed) = ask(format!("{head}f")).await;
    assert_status(&answer, promised("sends its body slowly"));
    assert_eq!((time, closed), (program::BODY, true));

    let (mut client, conn) = start(1024);
    client.write_all(head.replace('9', "999").as_bytes()).await.unwrap();
    let steady = tokio::spawn(async move {
        while client.write_all(b"f").await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    });
    assert_eq!(end(conn).await, (program::BODY.as_secs(), Ok(())), "a byte a second");
    steady.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn long_work() {
    let (answer, time, closed) = ask(GET.replace("/ ", "/report ")).await;
    assert_status(&answer, promised("asks for work that takes long"));
    assert_eq!((time, closed), (program::HANDLER, true));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read() {
    let (mut client, conn) = start(64);
    client.write_all(GET.as_bytes()).await.unwrap();
    let (time, result) = end(conn).await;
    assert_eq!(time, program::WRITE.as_secs());
    assert!(result.unwrap_err().ends_with("timed out"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stays() {
    let (mut client, conn) = start(1024);
    tokio::spawn(async move {
        while client.write_all(GET.as_bytes()).await.is_ok() {
            answer(&mut client).await;
            sleep(program::HEAD - Duration::from_secs(1)).await;
        }
    });
    assert_eq!(end(conn).await, (program::MAX_AGE.as_secs(), Ok(())));

    // hyper's client answers each PING.
    let (client, conn) = start(64 * 1024);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(0);
    let (mut client, driver) =
        builder.handshake::<_, Empty<Bytes>>(TokioIo::new(client)).await.unwrap();
    tokio::spawn(driver);
    let request = Request::get("http://localhost/").body(Empty::new()).unwrap();
    let response = client.send_request(request).await.unwrap();
    let body = tokio::spawn(response.into_body().collect());
    let time = program::MAX_AGE + program::LAST_RESPONSES;
    let too_old = Err("closed at its maximum age".to_owned());
    assert_eq!(end(conn).await, (time.as_secs(), too_old));
    body.await.unwrap().unwrap_err();
}

#[test]
fn many_connections() {
    let cap = program::MAX_CONNECTIONS;
    // Without the cap there would be no descriptor for the last clients.
    let program = Program::start_with_descriptors("security", cap as u32 + 16);
    let silent: Vec<_> = (0..cap + 30).map(|_| program.connect()).collect();
    let mut last = program.connect();
    last.get("/");
    let answer = last.response().expect("the last client is served when others have gone");
    assert_eq!(answer.text(), "Hello, World!\n");
    for _ in 0..31 {
        assert_eq!(program.line(), "connection failed: no request in time");
    }
    drop(silent);
}

#[tokio::test(start_paused = true)]
async fn many_and_large_headers() {
    let head = |lines: &str| format!("GET / HTTP/1.1\r\nhost: localhost\r\n{lines}\r\n");
    assert_status(&ask(head(&"a: b\r\n".repeat(49))).await.0, 200);
    let many = head(&"a: b\r\n".repeat(50));
    let large = head(&format!("a: {}\r\n", "b".repeat(200_000)));
    let too_large = promised("sends many headers, or large ones");
    for head in [many, large] {
        let (answer, _, closed) = ask(head).await;
        assert_status(&answer, too_large);
        assert!(closed);
    }
    for (size, status) in [(7_000, 200), (8 * 1024, too_large)] {
        let request = Request::get("http://localhost/").header("a", "b".repeat(size));
        let (answer, _conn) = http2(request.body(Full::default()).unwrap()).await;
        assert_eq!(answer, status);
    }
}

/// The status of the answer to a request over HTTP/2.
async fn http2(request: Request<Full<Bytes>>) -> (u16, JoinHandle<Result<(), String>>) {
    let (client, conn) = start(64 * 1024);
    let (mut client, driver) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
    tokio::spawn(driver);
    (client.send_request(request).await.unwrap().status().as_u16(), conn)
}

#[tokio::test(start_paused = true)]
async fn a_large_body() {
    let largest = "x".repeat(program::MAX_BODY);
    assert_status(&ask(post("/language", "", &largest)).await.0, 303);
    let (answer, _, closed) = ask(post("/language", "", &format!("{largest}x"))).await;
    let too_large = promised("sends a large body");
    assert_status(&answer, too_large);
    assert!(closed);
    let chunks = format!(
        "POST /language HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n\
         {:x}\r\n{largest}x\r\n",
        program::MAX_BODY + 1
    );
    assert_status(&ask(chunks).await.0, too_large);
    let body = Bytes::from(largest + "x");
    let request = Request::post("http://localhost/language").body(body.into()).unwrap();
    assert_eq!(http2(request).await.0, too_large);
}

#[tokio::test(start_paused = true)]
async fn a_compressed_body() {
    let (answer, _, closed) =
        ask(post("/language", "content-encoding: gzip\r\n", "\x1f")).await;
    assert_status(
        &answer,
        promised("sends a small body that grows when it is decompressed"),
    );
    assert!(closed);
}

/// GET /report over http from localhost.
const REPORT: &[u8] = b"\x82\x86\x04\x07/report\x41\x09localhost";

fn report(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS_AND_STREAM, stream, REPORT)
}

/// The begin of a connection over HTTP/2, with so many requests.
fn http2_requests(count: u32) -> Vec<u8> {
    let settings = frame(SETTINGS, 0, 0, &[]);
    [PREFACE.as_bytes(), &settings, &requests(0, count, report)].concat()
}

/// The code of the GOAWAY that ends a connection on which these frames come, and those of its RST_STREAM frames.
async fn flood(frames: Vec<u8>) -> (Option<u32>, Vec<u32>) {
    let (client, _conn) = start(1024 * 1024);
    goaway(client, vec![frames]).await
}

#[tokio::test(start_paused = true)]
async fn many_streams() {
    // Nobody answers the PING that comes later, so the end is a GOAWAY without an error.
    assert_eq!(flood(requests(0, 20, report)).await, (Some(0), vec![]));
    let refused = (Some(0), vec![REFUSED_STREAM]);
    assert_eq!(flood(requests(0, 21, report)).await, refused);
}

#[tokio::test(start_paused = true)]
async fn rapid_reset() {
    let reset = |stream| {
        [report(stream), frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    };
    assert_eq!(flood(requests(0, 10, reset)).await.0, Some(0));
    assert_eq!(flood(requests(0, 11, reset)).await.0, Some(ENHANCE_YOUR_CALM));
}

#[tokio::test(start_paused = true)]
async fn resets_by_the_server() {
    let (end, resets) = flood(requests(0, 100, malformed)).await;
    assert_eq!((end, resets.len()), (None, 100));
    let more = flood(requests(0, 101, malformed)).await;
    assert_eq!(more.0, Some(ENHANCE_YOUR_CALM));
}

/// POST /language over http to localhost.
const POST: &[u8] = b"\x83\x86\x04\x09/language\x41\x09localhost";

#[tokio::test(start_paused = true)]
async fn endless_continuation() {
    let begin = frame(HEADERS, 1, 1, POST);
    let endless = frame(CONTINUATION, 0, 1, &[]).repeat(100);
    let end = flood([begin, endless].concat()).await.0;
    assert_eq!(end, Some(ENHANCE_YOUR_CALM));
}

#[tokio::test(start_paused = true)]
async fn endless_empty_data() {
    let begin = frame(HEADERS, 4, 1, POST);
    let endless = frame(DATA, 0, 1, &[]).repeat(1000);
    let end = flood([begin, endless].concat()).await.0;
    assert_eq!(end, Some(ENHANCE_YOUR_CALM));
}

#[tokio::test(start_paused = true)]
async fn bad_lengths() {
    let status = promised("sends two different lengths, or one that is no number");
    for lengths in ["1\r\ncontent-length: 2", "+2", "0x2", "2, 2", "-1", "18446744073709551616"] {
        let (answer, _, closed) = ask(format!(
            "POST /language HTTP/1.1\r\nhost: localhost\r\ncontent-length: {lengths}\r\n\r\nfr"
        ))
        .await;
        assert_status(&answer, status);
        assert!(closed, "{lengths}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_length_and_chunks() {
    let (length, chunks) = ("content-length: 12\r\n", "transfer-encoding: chunked\r\n");
    for headers in [[length, chunks].concat(), [chunks, length].concat()] {
        let (mut client, conn) = start(1024);
        let request = format!(
            "POST /language HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n2\r\nfr\r\n0\r\n\r\n{GET}"
        );
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_status(&answer, 303);
        assert!(answer.contains("language=fr;"), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "what follows is no request");
        assert_eq!(end(conn).await, (0, Ok(())));
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_chunk_size() {
    let status = promised("sends a chunk whose size is no number");
    for size in ["x", "-2", "+2", "0x2", "", "10000000000000000"] {
        let (answer, _, closed) = ask(format!(
            "POST /language HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n{size}\r\nfr\r\n0\r\n\r\n"
        ))
        .await;
        assert_status(&answer, status);
        assert!(closed, "{size}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_host_and_several() {
    let status = promised("names no host, or several");
    for request in [
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.0\r\n",
        "GET / HTTP/1.1\r\nhost: \r\n",
        "GET / HTTP/1.1\r\nhost: localhost\r\nhost: evil.test\r\n",
        "GET / HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n",
        "GET / HTTP/1.1\r\nhost: localhost, evil.test\r\n",
        "GET / HTTP/1.1\r\nhost: localhost/evil.test\r\n",
        "GET / HTTP/1.1\r\nhost: evil.test@localhost\r\n",
        "GET / HTTP/1.1\r\nhost: user:password@localhost\r\n",
        "GET / HTTP/1.1\r\nhost: localhost@evil.test\r\n",
        "GET / HTTP/1.1\r\nhost: localhost:80@evil.test\r\n",
        "GET / HTTP/1.1\r\nhost: localhost:.evil.test\r\n",
        "GET / HTTP/1.1\r\nhost: localhost:99999\r\n",
        "GET http://localhost/ HTTP/1.1\r\nhost: evil.test\r\n",
        "GET http://evil.test/ HTTP/1.1\r\nhost: localhost\r\n",
    ] {
        assert_status(&ask(format!("{request}\r\n")).await.0, status);
    }
    let request = Request::get("http://localhost/").header("host", "evil.test");
    assert_eq!(http2(request.body(Full::default()).unwrap()).await.0, status);
}

#[tokio::test(start_paused = true)]
async fn another_host() {
    let status = promised("names a host that is not yours");
    for request in [
        "GET / HTTP/1.1\r\nhost: evil.test\r\n",
        "GET / HTTP/1.1\r\nhost: localhost.evil.test\r\n",
        "GET http://evil.test/ HTTP/1.1\r\nhost: evil.test\r\n",
    ] {
        assert_status(&ask(format!("{request}\r\n")).await.0, status);
    }
    let request = Request::get("http://evil.test/").body(Full::default()).unwrap();
    assert_eq!(http2(request).await.0, status);
}

#[tokio::test(start_paused = true)]
async fn a_line_break_in_a_header() {
    let status = promised("puts a line break into a header of the response");
    for language in ["fr\r\nset-cookie: admin=1", "fr\n", "fr\0"] {
        let (answer, ..) = ask(post("/language", "", language)).await;
        assert_status(&answer, status);
    }
    security().says("refuses line breaks and other control characters besides the tab");
    for byte in (0..32).chain([127]) {
        let bytes = [b'a', byte, b'b'];
        assert_eq!(HeaderValue::from_bytes(&bytes).is_ok(), byte == b'\t', "{byte}");
        assert_eq!(ReasonPhrase::try_from(&bytes[..]).is_ok(), byte == b'\t', "{byte}");
        HeaderName::from_bytes(&bytes).unwrap_err();
    }
    security().says("failed to parse header value");
    let error = HeaderValue::from_str("a\r\nb").unwrap_err();
    assert_eq!(error.to_string(), "failed to parse header value");
}

#[tokio::test(start_paused = true)]
async fn an_attribute_of_a_cookie() {
    security().says("takes a ; without an error");
    HeaderValue::from_str("language=fr; Domain=evil.test").unwrap();
    let status = promised("adds an attribute to a cookie");
    let (answer, ..) = ask(post("/language", "", "fr; Domain=evil.test")).await;
    assert_status(&answer, status);
}

#[tokio::test(start_paused = true)]
async fn a_redirect_elsewhere() {
    let status = promised("makes a redirect lead elsewhere");
    for next in ["//evil.test", "/\\evil.test", "https://evil.test/", "evil.test", ""] {
        let (answer, ..) = ask(post(&format!("/language?next={next}"), "", "fr")).await;
        assert_status(&answer, status);
    }
}

// On the running program.

#[test]
fn lines_in_the_log() {
    let program = Program::start("security");
    let mut connection = program.connect();
    // No path has a real line break.
    Uri::try_from("/a\nb").unwrap_err();
    connection.get("/a\u{2028}b\u{202e}c%0ad");
    connection.response().unwrap();
    assert_eq!(program.line(), r#"GET "/a\u{2028}b\u{202e}c%0ad" 404"#);
    // A GOAWAY that says something.
    let mut connection = program.connect();
    connection.send(PREFACE);
    connection.send(frame(SETTINGS, 0, 0, &[]));
    connection.send(frame(GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\x0ba\nGET b 200"));
    connection.rest().ok();
    let line = program.line();
    assert!(line.contains(r"a\nGET b 200"), "{line}");
}

#[test]
fn secrets_in_the_log() {
    let program = Program::start("security");
    let mut connection = program.connect();
    connection.send("GET /?token=s3cret HTTP/1.1\r\nhost: localhost\r\nauthorization: s3cret\r\n\r\n");
    connection.response().unwrap();
    assert_eq!(program.line(), "GET \"/\" 200");

    let request = Request::get("/").header("authorization", "s3cret");
    let request = request.header("cookie", "s3cret").header("cookie", "s3cret");
    let mut request = request.header("accept", "text/plain").body(()).unwrap();
    assert_eq!(format!("{request:?}").matches("s3cret").count(), 3);
    program::hide_secrets(request.headers_mut());
    let printed = format!("{request:?}");
    assert!(!printed.contains("s3cret") && printed.contains("text/plain"), "{printed}");
}

// Any bytes.

/// The tests of the program that fail if it is changed like this, and what they print.
fn fail_if(name: &str, from: &str, to: &str) -> (Vec<&'static str>, String) {
    let source = source();
    assert_eq!(source.matches(from).count(), 1, "`{from}` is there once");
    let mut tests = Command::new(tests_of_variant(name, &source.replace(from, to)));
    tests.env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1");
    // Many, so that chance has no say.
    tests.env("PROPTEST_CASES", "4096");
    let output = String::from_utf8(tests.output().unwrap().stdout).unwrap();
    assert!(output.contains("running 2 tests"), "{output}");
    let fails = |test: &&str| output.contains(&format!("{test} ... FAILED"));
    ([GONE, REDIRECT].into_iter().filter(fails).collect(), output)
}

const GONE: &str = "whatever_a_client_sends_it_is_gone_in_time";
const REDIRECT: &str = "a_redirect_stays_on_this_site";

#[test]
fn the_properties_find_what_is_missing() {
    security().says("is gone within a minute");
    assert!(source().contains("const ALL: Duration = Duration::from_secs(60);"));
    security().says("Take out FIRST_REQUEST, BODY, or the time limit for heads, and it fails");
    for (name, from, to) in [
        ("first", "return Err(\"no request in time\".into());", "()"),
        ("body", "timeout(BODY,", "timeout(2 * MAX_AGE,"),
        ("head", ".header_read_timeout(HEAD)", ".header_read_timeout(None)"),
    ] {
        let (failing, _) = fail_if(&format!("security_{name}"), from, to);
        assert_eq!(failing, [GONE], "without the limit for `{name}`");
    }
    security().says("With a check for // alone, it fails with next =");
    let (from, to) = ("starts_with(['/', '\\\\'])", "starts_with('/')");
    let (failing, output) = fail_if("security_slashes", from, to);
    assert_eq!(failing, [REDIRECT]);
    assert!(output.contains(r#"minimal failing input: next = "/\\""#), "{output}");
    security().says("they skip a tab in between");
    let (from, to) = ("rest.bytes().all(|b| b.is_ascii_graphic())", "true");
    assert_eq!(fail_if("security_tab", from, to).0, [REDIRECT]);
}

// What the server does not do.

/// Where another page stops an attack, it has a test.
#[test]
fn other_pages_stop_the_other_attacks() {
    let tests = [
        (
            "ask for a path that leads out of the folder",
            "server/files",
            "what_is_outside_stays_outside",
        ),
        ("stop in the handshake", "server/tls", "a_handshake_ends_at_its_limit"),
        (
            "offer nothing newer than TLS 1.1",
            "server/tls",
            "versions_before_tls_1_2_are_refused",
        ),
        (
            "claim another address",
            "server/proxy_protocol",
            "only_a_load_balancer_may_connect",
        ),
        (
            "send parts without an end",
            "server/forms_and_uploads",
            "the_number_of_parts_is_limited",
        ),
        (
            "connect from a page of another site",
            "server/websocket",
            "a_page_of_another_site_gets_403",
        ),
        (
            "claim another address, or hide a request",
            "server/proxy_headers",
            "no_request_is_forwarded_with_two_meanings",
        ),
        (
            "reach your own network",
            "server/connect_proxy",
            "a_name_that_resolves_to_a_private_address_is_refused",
        ),
        (
            "(as a server) ask for your credentials",
            "client/redirects",
            "another_host_port_or_scheme_gets_no_credentials",
        ),
        (
            "(as a server) send a bomb",
            "client/decompression",
            "a_bomb_is_stopped_at_the_limit",
        ),
    ];
    for row in rows(PAGE, "What this server does not do") {
        let attack = &row.cells[1];
        let test = tests.iter().find(|(what, ..)| what == attack);
        let (_, file, test) = test.unwrap_or_else(|| {
            panic!("{PAGE}:{}: name the test that stops \"{attack}\" here", row.line)
        });
        let page = file.replace('_', "-");
        assert!(row.cells[2].contains(&page), "{PAGE}:{}: link {page}", row.line);
        let path = root().join("snippets/tests").join(file).with_extension("rs");
        let source = fs::read_to_string(path).unwrap();
        assert!(
            source.contains(&format!("fn {test}()")),
            "{PAGE}:{}: {file} has no test {test} any more: name another",
            row.line
        );
    }
}

#[test]
fn the_whole_body_has_its_time() {
    let time = security().number("The whole body has {} seconds");
    assert_eq!(time, program::BODY.as_secs());
}
