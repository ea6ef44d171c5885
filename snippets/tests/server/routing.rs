//! What src/server/routing.md promises.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use harness::{Answer, Connection, LIMIT, Program};

use crate::server::hello_world::survives_running_out_of_descriptors;

/// The program itself, for a clock that a test moves.
#[allow(dead_code)]
#[path = "../../server/routing.rs"]
pub mod program;

use program::State;

/// Sends a request with a body to a new connection.
fn ask(program: &Program, method: &str, path: &str, body: &[u8]) -> Answer {
    let mut connection = program.connect();
    send(&mut connection, method, path, body);
    connection.response().unwrap()
}

fn send(connection: &mut Connection, method: &str, path: &str, body: &[u8]) {
    let length = body.len();
    connection.send(format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n"
    ));
    connection.send(body);
}

fn get(program: &Program, path: &str) -> Answer {
    ask(program, "GET", path, b"")
}

fn put(program: &Program, path: &str, body: &[u8]) {
    let answer = ask(program, "PUT", path, body);
    assert_eq!(answer.status(), "HTTP/1.1 201 Created", "PUT {path}");
}

#[test]
fn unknown_paths_get_404() {
    let program = Program::start("routing");
    put(&program, "/notes/a", b"hi");
    // Neither hyper nor the program repairs a path.
    for path in ["/nowhere", "//", "/notes/", "/notes/a/", "/../notes", "/NOTES", "*"]
    {
        for method in ["GET", "POST", "OPTIONS"] {
            let answer = ask(&program, method, path, b"");
            assert_eq!(answer.status(), "HTTP/1.1 404 Not Found", "{method} {path}");
        }
    }
    // The form that a client sends to a proxy names the same page.
    assert_eq!(get(&program, "http://x/notes/a").text(), "hi");
}

#[test]
fn other_methods_get_405_with_allow() {
    let program = Program::start("routing");
    for (path, allow) in [
        ("/", "GET, HEAD"),
        ("/whoami", "GET, HEAD"),
        ("/notes", "GET, HEAD"),
        ("/notes/a", "GET, HEAD, PUT, DELETE"),
    ] {
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PURGE"] {
            let mut connection = program.connect();
            send(&mut connection, method, path, b"");
            let head = connection.head().unwrap();
            let refused = head.starts_with("HTTP/1.1 405 Method Not Allowed\r\n");
            let allowed = allow.split(", ").any(|allowed| allowed == method);
            assert_eq!(refused, !allowed, "{method} {path}: {head}");
            let has_allow = head.contains(&format!("\r\nallow: {allow}\r\n"));
            assert_eq!(has_allow, !allowed, "{method} {path}: {head}");
        }
    }
}

#[test]
fn head_has_the_length_of_get_and_no_body() {
    let program = Program::start("routing");
    put(&program, "/notes/a", b"hello");
    for path in ["/notes", "/notes/a", "/notes/b", "/nowhere"] {
        let mut connection = program.connect();
        connection.get(path);
        let answer = connection.response().unwrap();
        send(&mut connection, "HEAD", path, b"");
        let head = connection.head().unwrap();
        let length = answer.header("content-length").unwrap();
        assert!(head.contains(&format!("content-length: {length}\r\n")), "{head}");
        assert_ne!(length, "0", "{path}");
        // What follows is the next response, not a body.
        connection.get(path);
        assert_eq!(connection.response().unwrap().status(), answer.status());

        let mut old = program.connect();
        old.send(format!("HEAD {path} HTTP/1.0\r\n\r\n"));
        let head = old.rest().unwrap();
        assert!(head.contains(&format!("content-length: {length}\r\n")), "{head}");
        assert!(head.ends_with("\r\n\r\n"), "{head}");
    }
}

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// The answer to HEAD over HTTP/2: its data, empty if it has none.
async fn head_over_http2(response: fn() -> Response<Full<Bytes>>) -> Vec<u8> {
    let (mut client, server) = duplex(64 * 1024);
    tokio::spawn(async move {
        let service = service_fn(move |_: Request<Incoming>| async move {
            Ok::<_, Infallible>(response())
        });
        let io = TokioIo::new(server);
        http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await
    });
    let (settings, headers) = (4, 1);
    let (end_headers, end_stream) = (4, 1);
    let fields = b"\x42\x04HEAD\x86\x84\x41\x01x";
    let bytes = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(settings, 0, 0, &[]),
        frame(headers, end_headers | end_stream, 1, fields),
    ];
    client.write_all(&bytes.concat()).await.unwrap();
    let mut data = Vec::new();
    let whole = async {
        loop {
            let mut head = [0; 9];
            client.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            client.read_exact(&mut payload).await.unwrap();
            let (kind, flags, stream) = (head[3], head[4], head[8]);
            if stream == 1 {
                assert!(
                    kind <= headers,
                    "data or headers, not a frame of type {kind}"
                );
                if kind == 0 {
                    data.extend(payload);
                }
                if flags & end_stream != 0 {
                    return;
                }
            }
        }
    };
    timeout(LIMIT, whole).await.expect("the answer ends");
    data
}

#[tokio::test]
async fn over_http2_the_answer_to_head_has_the_body_that_the_service_returns() {
    let data = head_over_http2(|| Response::new("hello".into())).await;
    assert_eq!(data, b"hello", "hyper leaves it out now: change the page");
    let empty = || {
        let length = ("content-length", "5");
        let response = Response::builder().header(length.0, length.1);
        response.body(Full::default()).unwrap()
    };
    assert_eq!(head_over_http2(empty).await, b"");
}

#[test]
fn parameters_are_decoded_once_and_after_the_split() {
    let program = Program::start("routing");
    for (name, same) in [
        ("caf%C3%A9", "caf%c3%a9"),
        ("caf%C3%A9", "café"),
        ("a%2Fb", "%61%2fb"),
        ("a+b", "a%2Bb"),
        ("a%20b", "%61%20b"),
        ("100%25", "100%2525"),
        ("%2E%2E", ".."),
        ("%0A", "%0a"),
    ] {
        let text = name.as_bytes();
        ask(&program, "PUT", &format!("/notes/{name}"), text);
        let answer = get(&program, &format!("/notes/{same}"));
        if same == "100%2525" {
            assert_eq!(answer.text(), "no such note\n", "decoded twice");
        } else {
            assert_eq!(answer.text(), name, "{same}");
        }
    }
    // They are encoded when they are listed, so that each is a line and a URL.
    let list = get(&program, "/notes");
    let mut lines: Vec<_> = list.text().lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["%0A", "%2E%2E", "100%25", "a%20b", "a%2Bb", "a%2Fb", "caf%C3%A9"]
    );
}

#[test]
fn bad_encodings_are_answered() {
    let program = Program::start("routing");
    put(&program, "/notes/%zz", b"as it is");
    let mut connection = program.connect();
    for (path, status, text) in [
        ("/notes/%FF", "400 Bad Request", "the name is not UTF-8\n"),
        ("/notes/%C3", "400 Bad Request", "the name is not UTF-8\n"),
        ("/notes/%ED%A0%80", "400 Bad Request", "the name is not UTF-8\n"),
        ("/notes/%zz", "200 OK", "as it is"),
        ("/notes/%25zz", "200 OK", "as it is"),
        ("/notes/%", "404 Not Found", "no such note\n"),
        ("/notes/%00", "404 Not Found", "no such note\n"),
        ("/notes?prefix=%FF", "200 OK", ""),
        ("/notes?prefix=%zz", "200 OK", "%25zz\n"),
        ("/notes?%FF=%FF&&==&%", "200 OK", "%25zz\n"),
    ] {
        connection.get(path);
        let answer = connection.response().unwrap();
        assert_eq!(answer.status(), format!("HTTP/1.1 {status}"), "{path}");
        assert_eq!(answer.text(), text, "{path}");
    }
    // What is no URL at all is refused by hyper.
    connection.send(b"GET /notes/\xFF HTTP/1.1\r\nhost: x\r\n\r\n");
    let answer = connection.response().unwrap();
    assert_eq!(answer.status(), "HTTP/1.1 400 Bad Request");
}

#[test]
fn bytes_of_a_query_that_are_not_utf8_become_a_replacement_character() {
    let program = Program::start("routing");
    put(&program, "/notes/%EF%BF%BD", b"the character itself");
    assert_eq!(get(&program, "/notes?prefix=%FF").text(), "%EF%BF%BD\n");
}

#[test]
fn a_query_has_its_own_rules() {
    let program = Program::start("routing");
    for name in ["a%20b", "a%2Bb", "caf%C3%A9", "d"] {
        put(&program, &format!("/notes/{name}"), b"");
    }
    for (query, names) in [
        ("", "a%20b\na%2Bb\ncaf%C3%A9\nd\n"),
        ("?", "a%20b\na%2Bb\ncaf%C3%A9\nd\n"),
        ("?prefix=a+b", "a%20b\n"),
        ("?prefix=a%2Bb", "a%2Bb\n"),
        ("?prefix=caf%C3%A9", "caf%C3%A9\n"),
        ("?prefix=x&prefix=d", "d\n"),
        ("?limit=1", "a%20b\n"),
        ("?limit=0", ""),
        ("?limit=1&prefix=c&other=x", "caf%C3%A9\n"),
        ("?limit=18446744073709551615", "a%20b\na%2Bb\ncaf%C3%A9\nd\n"),
    ] {
        let answer = get(&program, &format!("/notes{query}"));
        assert_eq!(answer.status(), "HTTP/1.1 200 OK", "{query}");
        assert_eq!(answer.text(), names, "{query}");
    }
    for limit in ["", "x", "-1", "1e9", "18446744073709551616", "%FF"] {
        let answer = get(&program, &format!("/notes?limit={limit}"));
        assert_eq!(answer.status(), "HTTP/1.1 400 Bad Request", "{limit}");
    }
}

#[test]
fn each_of_many_parallel_requests_is_counted() {
    const CLIENTS: usize = 8;
    const REQUESTS: usize = 50;
    let program = Program::start("routing");
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let mut connection = program.connect();
            scope.spawn(move || {
                let one = "GET /whoami HTTP/1.1\r\nhost: x\r\n\r\n";
                connection.send(one.repeat(REQUESTS));
                for _ in 0..REQUESTS {
                    connection.response().unwrap();
                }
            });
        }
    });
    let requests = CLIENTS * REQUESTS + 1;
    assert_eq!(get(&program, "/").text(), format!("requests: {requests}\n"));
}

#[test]
fn what_one_connection_stores_another_finds() {
    let program = Program::start("routing");
    put(&program, "/notes/a", b"hi");
    assert_eq!(get(&program, "/notes/a").text(), "hi");
    assert_eq!(ask(&program, "PUT", "/notes/a", b"ho").text(), "replaced\n");
    assert_eq!(get(&program, "/notes/a").text(), "ho");
    assert_eq!(ask(&program, "DELETE", "/notes/a", b"").text(), "deleted\n");
    for method in ["GET", "DELETE"] {
        let answer = ask(&program, method, "/notes/a", b"");
        assert_eq!(answer.status(), "HTTP/1.1 404 Not Found");
    }
}

#[test]
fn the_handler_and_the_log_know_the_address_of_the_client() {
    let program = Program::start("routing");
    for _ in 0..2 {
        let stream = TcpStream::connect(program.address).unwrap();
        let peer = stream.local_addr().unwrap();
        let mut connection = Connection::new(stream);
        for _ in 0..2 {
            connection.get("/whoami?secret");
            assert_eq!(connection.response().unwrap().text(), format!("{peer}\n"));
            assert_eq!(program.line(), format!("{peer} GET /whoami 200"));
        }
        connection.get("/nowhere");
        assert_eq!(program.line(), format!("{peer} GET /nowhere 404"));
    }
}

#[test]
fn control_characters_are_escaped_in_the_log() {
    let program = Program::start("routing");
    // U+009B begins a command to the terminal, as ESC and [ do; hyper refuses ESC itself.
    for (path, logged) in [("/\u{9b}31m", r"/\u{9b}31m"), ("/caf\u{e9}", "/café")] {
        get(&program, path);
        let line = program.line();
        assert!(line.ends_with(&format!(" GET {logged} 404")), "{line:?}");
    }
    let mut connection = program.connect();
    connection.get("/\u{1b}[31m");
    let refused = connection.response().unwrap();
    assert_eq!(refused.status(), "HTTP/1.1 400 Bad Request");
}

#[test]
fn a_client_that_vanishes_in_its_upload_is_logged_with_the_cause() {
    let program = Program::start("routing");
    for (framing, start, cause) in [
        ("content-length: 10", "hi", "end of file before message length reached"),
        (
            "transfer-encoding: chunked",
            "2\r\nhi\r\n",
            "unexpected EOF during chunk size line",
        ),
        // It has not read the 100 Continue, so its side resets the connection.
        (
            "expect: 100-continue\r\ncontent-length: 10",
            "",
            "Connection reset by peer",
        ),
    ] {
        let stream = TcpStream::connect(program.address).unwrap();
        let peer = stream.local_addr().unwrap();
        let waits = framing.starts_with("expect");
        let mut connection = Connection::new(stream.try_clone().unwrap());
        connection
            .send(format!("PUT /notes/a HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n"));
        connection.send(start);
        if waits {
            // The handler is reading: 100 Continue has come, and is left unread.
            stream.peek(&mut [0]).unwrap();
        }
        drop((connection, stream));
        let expected = format!(
            "{peer} PUT /notes/a 400: error reading a body from connection: {cause}"
        );
        let line = program.line();
        assert!(line.starts_with(&expected), "not {expected}, but {line}");
        // The connection may fail as well, when the answer cannot be written.
        let answer = get(&program, "/notes/a");
        assert_eq!(answer.status(), "HTTP/1.1 404 Not Found", "nothing is stored");
        while !program.line().contains("GET /notes/a 404") {}
    }
}

#[test]
fn an_upload_holds_no_lock() {
    let program = Program::start("routing");
    let mut slow = program.connect();
    slow.send("PUT /notes/a HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n");
    // The handler is reading.
    assert_eq!(slow.head().unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    put(&program, "/notes/b", b"");
    assert_eq!(get(&program, "/notes").text(), "b\n");
    slow.send("hi");
    assert_eq!(slow.response().unwrap().text(), "created\n");
}

#[test]
fn notes_are_limited_in_size_and_number() {
    let program = Program::start("routing");
    let mut body = vec![b'.'; program::MAX_NOTE];
    put(&program, "/notes/0", &body);
    body.push(b'.');
    let answer = ask(&program, "PUT", "/notes/x", &body);
    assert_eq!(answer.status(), "HTTP/1.1 413 Payload Too Large");
    assert_eq!(answer.header("connection"), Some("close"));
    for note in 1..program::MAX_NOTES {
        put(&program, &format!("/notes/{note}"), b"");
    }
    let full = "HTTP/1.1 507 Insufficient Storage";
    assert_eq!(ask(&program, "PUT", "/notes/x", b"").status(), full);
    assert_eq!(ask(&program, "PUT", "/notes/0", b"").text(), "replaced\n");
    ask(&program, "DELETE", "/notes/0", b"");
    let name = "n".repeat(program::MAX_NAME);
    put(&program, &format!("/notes/{name}"), b"");
    let answer = ask(&program, "PUT", &format!("/notes/{name}n"), b"");
    assert_eq!(answer.status(), "HTTP/1.1 414 URI Too Long");
}

/// The client of the connections in memory.
pub fn peer() -> SocketAddr {
    ([127, 0, 0, 1], 4000).into()
}

/// A connection to the program on its own state.
pub fn serve(state: &Arc<State>) -> (DuplexStream, JoinHandle<hyper::Result<()>>) {
    let (client, server) = duplex(1024);
    let state = state.clone();
    let service = service_fn(move |request| {
        program::handle(state.clone(), peer(), request)
    });
    let conn = http1::Builder::new().serve_connection(TokioIo::new(server), service);
    (client, tokio::spawn(conn))
}

#[tokio::test]
async fn a_note_takes_no_more_memory_than_its_bytes() {
    let state = Arc::default();
    let (mut client, conn) = serve(&state);
    // The body comes in the same buffer as a large head.
    let head = "h".repeat(100_000);
    let request = format!(
        "PUT /notes/a HTTP/1.1\r\nhost: x\r\nx: {head}\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi"
    );
    let mut answer = String::new();
    let whole = async {
        client.write_all(request.as_bytes()).await?;
        client.read_to_string(&mut answer).await
    };
    timeout(LIMIT, whole).await.expect("the answer comes").unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 Created\r\n"), "{answer}");
    conn.await.unwrap().unwrap();

    let note = state.notes().remove("a").unwrap();
    let buffer = note.try_into_mut().expect("nothing else has its buffer");
    assert!(buffer.capacity() < 100, "{} bytes for two", buffer.capacity());
}

#[test]
fn a_panic_under_the_lock_does_not_fail_later_requests() {
    let state = State::default();
    let panic = catch_unwind(AssertUnwindSafe(|| {
        let _notes = state.notes();
        panic!("under the lock, on purpose");
    }));
    assert!(panic.is_err());
    assert!(state.notes().is_empty(), "the lock can be taken again");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_end_gets_408() {
    let (mut client, conn) = serve(&Arc::default());
    let head = b"PUT /notes/a HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhi";
    client.write_all(head).await.unwrap();
    let mut answer = String::new();
    let whole = client.read_to_string(&mut answer);
    timeout(Duration::from_secs(3600), whole).await.expect("the wait ends").unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    conn.await.unwrap().unwrap();
}

#[test]
fn running_out_of_descriptors_is_survived() {
    survives_running_out_of_descriptors("routing");
}
