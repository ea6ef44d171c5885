//! What the pages in src/upgrading promise of the two programs of a pair: the bytes that they
//! send, and how they stop.
//!
//! The bytes that a page shows stand in wire/: `NAME.http` where both send the same, `NAME.diff`
//! where they do not, from the program before to the program after. `SNAPSHOTS=overwrite cargo
//! test upgrading` writes them anew.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use harness::{Connection, LIMIT, Program, page, root, wait};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_014 as old;
use hyper_util::rt::{TokioExecutor, TokioIo};
use regex::Regex;
use serde_json::Value;
use similar::{ChangeTag, TextDiff};
use snapbox::Assert;
use snapbox::data::Data;
use snapbox::report::Palette;
use tokio::time::timeout;

/// Both programs of a pair, by the name of their bins.
pub fn pair(name: &str) -> [String; 2] {
    ["before", "after"].map(|side| format!("{side}-{name}"))
}

/// What both programs of a pair answer to this request, which ends its connection.
fn last_answers(name: &str, request: &str) -> [String; 2] {
    pair(name).map(|name| {
        let program = Program::start(&name);
        let mut connection = program.connect();
        connection.send(request);
        let answer = connection.rest().unwrap();
        masked(&answer)
    })
}

/// These bytes, with the date of an example in RFC 9110, section 5.6.7.
fn masked(bytes: &str) -> String {
    let date = Regex::new("date: [^\r]*").unwrap();
    date.replace_all(bytes, "date: Sun, 06 Nov 1994 08:49:37 GMT").into_owned()
}

/// What both programs of a pair answer to this request, which keeps its connection. One more
/// request ends it.
fn answers(name: &str, request: &str) -> [String; 2] {
    let last = "GET / HTTP/1.1\r\nhost: example.com\r\nconnection: close\r\n\r\n";
    last_answers(name, &format!("{request}{last}")).map(|mut both| {
        both.truncate(both.rfind("HTTP/1.").unwrap());
        assert!(!both.is_empty(), "{name} keeps the connection after {request}");
        both
    })
}

/// Both programs send these bytes, and the page shows them.
pub fn same(name: &str, [before, after]: [String; 2]) {
    assert_eq!(
        before, after,
        "{name}: before and after no longer answer alike. Fix the program; or, if hyper has changed, show both by `different` and say why on the page"
    );
    shown(&format!("{name}.http"), before.replace("\r\n", "\n"));
}

/// The programs send different bytes, and the page shows the difference.
fn different(name: &str, [before, after]: [String; 2]) {
    assert_ne!(
        before, after,
        "{name}: before and after answer alike now. Show it by `same`, and take the difference off the page"
    );
    let mut text = String::new();
    for change in TextDiff::from_lines(&before, &after).iter_all_changes() {
        let sign = match change.tag() {
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
            ChangeTag::Equal => ' ',
        };
        text += &format!("{sign}{}\n", change.value().trim_end());
    }
    shown(&format!("{name}.diff"), text);
}

/// Compares the text with the file that the page includes.
fn shown(file: &str, text: String) {
    let path = harness::root().join("snippets/upgrading/wire").join(file);
    let assert = Assert::new().palette(Palette::plain()).action_env("SNAPSHOTS");
    assert.eq(text.trim_end().to_owned() + "\n", Data::read_from(&path, None).raw());
}

#[test]
fn hello_world_answers_alike() {
    let get = "GET / HTTP/1.1\r\nhost: example.com\r\n\r\n";
    same("hello-world", answers("hello-world", get));
    let [before, after] = last_answers("hello-world", "GET / HTTP/1.0\r\n\r\n");
    assert_eq!(before, after);
    assert!(before.starts_with("HTTP/1.0 200 OK"), "{before}");
}

#[test]
fn the_last_response_of_a_connection_says_so() {
    let get = "GET / HTTP/1.1\r\nhost: example.com\r\nconnection: close\r\n\r\n";
    different("last-response", last_answers("hello-world", get));
    let bad = last_answers("hello-world", "nonsense\r\n\r\n");
    assert_eq!(bad[0].replace("content", "connection: close\r\ncontent"), bad[1]);
}

#[test]
fn a_server_reports_the_errors_of_its_connections_itself() {
    for (name, printed) in [
        ("before-hello-world", &[][..]),
        ("after-hello-world", &["connection failed: invalid HTTP method parsed"]),
    ] {
        let mut program = Program::start(name);
        let mut connection = program.connect();
        connection.send("nonsense\r\n\r\n");
        connection.rest().unwrap();
        let line = (!printed.is_empty()).then(|| program.line());
        // Not INT, which a shell that runs the tests in its background has ignored.
        program.signal("TERM");
        assert_eq!(
            line.into_iter().chain(program.wait().1).collect::<Vec<_>>(),
            printed
        );
    }
}

#[test]
fn the_settings_of_http2() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let settings = pair("hello-world").map(|name| {
        let program = Program::start(&name);
        let mut stream = TcpStream::connect(program.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(preface).unwrap();
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(head[3], 4, "the first frame is SETTINGS");
        let mut payload = vec![0; usize::from(head[2])];
        stream.read_exact(&mut payload).unwrap();
        // The identifiers of RFC 9113, section 6.5.2.
        let names = [
            "HEADER_TABLE_SIZE",
            "ENABLE_PUSH",
            "MAX_CONCURRENT_STREAMS",
            "INITIAL_WINDOW_SIZE",
            "MAX_FRAME_SIZE",
            "MAX_HEADER_LIST_SIZE",
        ];
        payload
            .chunks(6)
            .map(|setting| {
                let name = names[usize::from(setting[1]) - 1];
                let value = u32::from_be_bytes(setting[2..].try_into().unwrap());
                format!("{name} = {value}\n")
            })
            .collect::<String>()
    });
    let value = |side: usize, name: &str| -> u64 {
        let setting = settings[side].lines().find_map(|line| line.strip_prefix(name));
        setting
            .unwrap_or_else(|| panic!("no {name} in {}", settings[side]))
            .parse()
            .unwrap()
    };
    let page = page("upgrading/behaviour");
    let streams =
        page.number("hyper 1 allows a client at most {} requests under way");
    assert_eq!(value(1, "MAX_CONCURRENT_STREAMS = "), streams);
    let [kb, mb] =
        page.numbers("the limit for headers is {} kB; in 0.14 it was {} MB");
    assert_eq!(value(1, "MAX_HEADER_LIST_SIZE = "), kb * 1024);
    assert_eq!(value(0, "MAX_HEADER_LIST_SIZE = "), mb * 1024 * 1024);
    let names = harness::page("upgrading/names");
    assert_eq!(names.numbers("{} kB by default, {} MB in 0.14"), [kb, mb]);
    assert_eq!(names.number("{} by default"), streams);
    different("settings", settings);
}

#[tokio::test]
async fn large_headers_over_http2() {
    let size = page("upgrading/behaviour").number("A request with {} kB of headers");
    for (name, status) in [("before-hello-world", 200), ("after-hello-world", 431)] {
        let program = Program::start(name);
        let stream = tokio::net::TcpStream::connect(program.address).await.unwrap();
        let io = TokioIo::new(stream);
        let handshake = http2::handshake(TokioExecutor::new(), io);
        let (mut sender, conn) = timeout(LIMIT, handshake).await.unwrap().unwrap();
        tokio::spawn(conn);
        let request = Request::get("http://example.com/")
            .header("x-large", "x".repeat(size as usize * 1000))
            .body(Empty::<Bytes>::new())
            .unwrap();
        let response = timeout(LIMIT, sender.send_request(request)).await.unwrap();
        assert_eq!(response.unwrap().status(), status, "{name}");
    }
}

#[test]
fn echo_answers_alike() {
    let head = "HTTP/1.1\r\nhost: example.com";
    for path in ["/echo", "/uppercase", "/reversed"] {
        for body in [
            "content-length: 5\r\n\r\nhello",
            "transfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
            "expect: 100-continue\r\ncontent-length: 5\r\n\r\nhello",
        ] {
            let request = format!("POST {path} {head}\r\n{body}");
            let [before, after] = answers("echo", &request);
            assert_eq!(before, after, "{request}");
        }
    }
    let body = "content-length: 5\r\n\r\nhello";
    same("uppercase", answers("echo", &format!("POST /uppercase {head}\r\n{body}")));
}

#[test]
fn where_echo_answers_otherwise() {
    let head = "HTTP/1.1\r\nhost: example.com";
    let empty = format!("POST /uppercase {head}\r\n\r\n");
    different("uppercase-empty", answers("echo", &empty));

    let both = "content-length: 5\r\ntransfer-encoding: chunked";
    let request =
        format!("POST /echo {head}\r\n{both}\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    let [before, _] = ["before-echo", "after-echo"].map(|name| {
        let program = Program::start(name);
        let mut connection = program.connect();
        connection.send(&request);
        let answer = connection.response().unwrap();
        assert_eq!(answer.text(), "hello");
        answer.head
    });
    assert!(!before.contains("connection: close"), "{before}");
    let after = Program::start("after-echo");
    let mut connection = after.connect();
    connection.send(&request);
    assert_eq!(connection.response().unwrap().header("connection"), Some("close"));
    assert_eq!(connection.rest().unwrap(), "");

    // The program after has a limit, the one before has none.
    let limit = page("upgrading/bodies")
        .number("/reversed answers a body of more than {} kB with status 413");
    let answer = |name: &str, length: u64| {
        let program = Program::start(name);
        let mut connection = program.connect();
        let body = "x".repeat(length as usize);
        connection.send(format!(
            "POST /reversed {head}\r\ncontent-length: {length}\r\n\r\n{body}"
        ));
        let answer = connection.response();
        let answer = answer.unwrap_or_else(|error| {
            panic!("{name}, {length} bytes: {error}; {:?}", program.line())
        });
        (answer.status()[9..12].to_owned(), answer.body.len() as u64)
    };
    let [fits, too_long] = [limit * 1024, limit * 1024 + 1];
    assert_eq!(answer("before-echo", too_long), ("200".to_owned(), too_long));
    assert_eq!(answer("after-echo", fits), ("200".to_owned(), fits));
    assert_eq!(answer("after-echo", too_long), ("413".to_owned(), 0));
}

#[test]
fn middleware_answers_alike() {
    let get = "GET / HTTP/1.1\r\nhost: example.com\r\n\r\n";
    same("middleware", answers("middleware", get));
    // A service that fails ends its connection.
    let slow = "GET /slow HTTP/1.1\r\nhost: example.com\r\n\r\n";
    assert_eq!(last_answers("middleware", slow), ["", ""]);
}

/// In HTTP/2, an error of the service ends its request, not the connection.
#[tokio::test]
async fn an_error_of_the_service_resets_its_stream() {
    let (before_client, io) = tokio::io::duplex(1024);
    let service =
        old::service::service_fn(|request: old::Request<old::Body>| async move {
            match request.uri().path() {
                "/fail" => Err("the service fails"),
                _ => Ok(old::Response::new(old::Body::empty())),
            }
        });
    let mut http = old::server::conn::Http::new();
    tokio::spawn(http.http2_only(true).serve_connection(io, service));

    let (after_client, io) = tokio::io::duplex(1024);
    let service = service_fn(|request: Request<Incoming>| async move {
        match request.uri().path() {
            "/fail" => Err("the service fails"),
            _ => Ok(Response::new(Empty::<Bytes>::new())),
        }
    });
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    tokio::spawn(builder.serve_connection(TokioIo::new(io), service));

    for client in [before_client, after_client] {
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(client));
        let (mut sender, conn) = timeout(LIMIT, handshake).await.unwrap().unwrap();
        tokio::spawn(conn);
        for (path, fails) in [("/fail", true), ("/", false)] {
            let request = Request::get(format!("http://example.com{path}"));
            let request = request.body(Empty::<Bytes>::new()).unwrap();
            let answer = timeout(LIMIT, sender.send_request(request)).await.unwrap();
            assert_eq!(answer.is_err(), fails, "{path}: {answer:?}");
        }
    }
}

/// Begins a request that is in flight until [`HELD_BODY`] is sent.
fn hold(program: &Program) -> Connection {
    let mut connection = program.connect();
    connection
        .send("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\n\r\n");
    assert_eq!(program.line(), "a request");
    connection
}
const HELD_BODY: &str = "done";

/// Waits until the program refuses connections, as it does once it has seen the signal.
fn wait_for_refusal(program: &mut Program) {
    wait("the end of the listener", || {
        TcpStream::connect(program.address)
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
    assert!(
        !program.has_ended(),
        "it refuses connections while a request is in flight"
    );
}

/// The answer to a request that is in flight when the signal comes.
fn in_flight(name: &str) -> String {
    let mut program = Program::start(name);
    let mut connection = hold(&program);
    program.signal("INT");
    wait_for_refusal(&mut program);
    connection.send(HELD_BODY);
    let answer = connection.response().expect("a request in flight is answered");
    assert_eq!(answer.text(), "Hello, World");
    assert_eq!(connection.rest().unwrap(), "");
    // What it prints is about the connections that tried whether it refuses them.
    let (status, printed) = program.wait();
    assert_eq!(status.code(), Some(0), "{printed:?}");
    masked(&format!("{}{}", answer.head, answer.text()))
}

#[test]
fn a_request_in_flight_is_answered() {
    let [before, after] = pair("graceful-shutdown");
    different("in-flight", [in_flight(&before), in_flight(&after)]);
}

#[test]
fn idle_connections_are_closed_and_new_ones_are_refused() {
    for name in pair("graceful-shutdown") {
        let mut program = Program::start(&name);
        let mut idle = program.connect();
        idle.get("/");
        idle.response().unwrap();
        assert_eq!(program.line(), "a request");
        let mut busy = hold(&program);
        program.signal("INT");
        assert_eq!(idle.rest().unwrap(), "");
        wait_for_refusal(&mut program);
        busy.send(HELD_BODY);
        busy.response().expect("a request in flight is answered");
        assert!(program.wait().0.success());
    }
}

/// A program that has got the signal, while a client has sent no more than this; and when that
/// client connected.
fn stopping(name: &str, begun: &str) -> (Program, Connection, Instant) {
    let program = Program::start(name);
    let start = Instant::now();
    let mut connection = program.connect();
    connection.send(begun);
    // The program knows the connection by the time that it has answered a later one.
    let mut later = program.connect();
    later.get("/");
    later.response().unwrap();
    program.signal("INT");
    (program, connection, start)
}

#[test]
fn silent_clients_hold_only_the_program_before() {
    let limit = page("upgrading/servers").number("It gives half a head {} seconds");
    let limit = Duration::from_secs(limit);
    let half = "GET / HTTP/1.1\r\nhost: ";
    thread::scope(|scope| {
        for begun in ["", half] {
            scope.spawn(move || {
                let (mut program, _client, start) =
                    stopping("after-graceful-shutdown", begun);
                wait("the end of the program", || program.has_ended());
                assert!(begun.is_empty() || start.elapsed() >= limit);
            });
            scope.spawn(move || {
                let (mut program, client, _) =
                    stopping("before-graceful-shutdown", begun);
                thread::sleep(limit * 2);
                assert!(!program.has_ended(), "sent: {begun:?}");
                drop(client);
                wait("the end of the program", || program.has_ended());
            });
        }
    });
}

#[test]
fn the_backports_answer_alike() {
    let get = "GET / HTTP/1.1\r\nhost: example.com\r\n\r\n";
    let [before, after] = answers("backports", get);
    assert_eq!(before, after);
    assert_eq!(before, answers("hello-world", get)[0]);
}

/// What the feature `deprecated` of hyper 0.14 warns about in each program.
#[test]
fn deprecated() {
    let output = Command::new(env!("CARGO"))
        .args(["check", "--locked", "--offline", "--package=upgrading", "--bins"])
        .args(["--features=deprecated", "--message-format=json", "--target-dir"])
        .arg(root().join("target/deprecated"))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let mut warnings = BTreeMap::<String, BTreeSet<String>>::new();
    for line in output.stdout.lines() {
        let message: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let Some(program) = message["target"]["src_path"].as_str() else {
            continue;
        };
        let Some((_, program)) = program.split_once("/upgrading/before/") else {
            continue;
        };
        let names = warnings.entry(program.to_owned()).or_default();
        if message["message"]["code"]["code"] == "deprecated" {
            let text = message["message"]["message"].as_str().unwrap();
            names.insert(text.split('`').nth(1).unwrap().to_owned());
        }
    }
    let lines = warnings.into_iter().map(|(program, names)| {
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        format!(
            "{program:22} {}\n",
            if names.is_empty() { "nothing" } else { &names }
        )
    });
    shown("deprecated.txt", lines.collect());
}
