//! What the pages in src/upgrading promise of the two programs of a pair: the bytes that they
//! send, and how they stop.
//!
//! The bytes that a page shows stand in wire/: `NAME.http` where both send the same, `NAME.diff`
//! where they do not, from the program before to the program after. `SNAPSHOTS=overwrite cargo
//! test --test pairs` writes them anew.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_014 as old;
use hyper_014::body::HttpBody as _;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use regex::Regex;
use serde_json::Value;
use similar::{ChangeTag, TextDiff};
use snapbox::Assert;
use snapbox::data::Data;
use snapbox::report::Palette;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use harness::{LIMIT, Program, root};

/// Both programs of a pair, by the name of their bins.
fn pair(name: &str) -> [String; 2] {
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
fn same(name: &str, [before, after]: [String; 2]) {
    assert_eq!(
        before, after,
        "{name}: before and after no longer answer alike. Mend the program; or, if hyper has changed, show both by `different` and say why on the page"
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
        program.signal("INT");
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
    different("settings", settings);
}

#[tokio::test]
async fn large_headers_over_http2() {
    for (name, status) in [("before-hello-world", 200), ("after-hello-world", 431)] {
        let program = Program::start(name);
        let stream = tokio::net::TcpStream::connect(program.address).await.unwrap();
        let io = TokioIo::new(stream);
        let (mut sender, conn) =
            http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(conn);
        let request = Request::get("http://example.com/")
            .header("x-large", "x".repeat(20_000))
            .body(Empty::<Bytes>::new())
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), status, "{name}");
    }
}

/// The time limit for heads in the next test.
const HEAD_LIMIT: Duration = Duration::from_millis(50);

/// Whether the server at this address cuts off a client that goes silent: at once, after half of a
/// head, after a whole request.
async fn cuts_off(address: SocketAddr) -> [bool; 3] {
    let half = "GET / HTTP/1.1\r\nho";
    let whole = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut cuts = [false; 3];
    for (sent, cut) in ["", half, whole].iter().zip(&mut cuts) {
        let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
        client.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let end = client.read_to_end(&mut answer);
        *cut = timeout(HEAD_LIMIT * 10, end).await.is_ok();
    }
    cuts
}

/// Accepts connections and serves each by this.
async fn accept<F: Future<Output: Send> + Send + 'static>(
    serve: impl Fn(TokioIo<tokio::net::TcpStream>) -> F + Send + 'static,
) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(TokioIo::new(stream)));
        }
    });
    address
}

#[tokio::test]
async fn what_a_header_timeout_cuts_off() {
    let service =
        old::service::make_service_fn(|_: &old::server::conn::AddrStream| async {
            Ok::<_, old::Error>(old::service::service_fn(|_| async {
                Ok::<_, old::Error>(old::Response::new(old::Body::empty()))
            }))
        });
    let server = old::Server::bind(&([127, 0, 0, 1], 0).into())
        .http1_header_read_timeout(HEAD_LIMIT)
        .serve(service);
    let before = server.local_addr();
    tokio::spawn(server);
    assert_eq!(cuts_off(before).await, [true, true, false]);

    let hello =
        |_| async { Ok::<_, hyper::Error>(Response::new(Empty::<Bytes>::new())) };
    let http1 = accept(move |io| {
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_LIMIT)
            .serve_connection(io, service_fn(hello))
    });
    assert_eq!(cuts_off(http1.await).await, [true, true, true]);

    let auto = accept(move |io| async move {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT);
        builder.serve_connection(io, service_fn(hello)).await
    });
    assert_eq!(cuts_off(auto.await).await, [false, true, true]);
}

#[tokio::test]
async fn the_error_of_auto_holds_that_of_hyper() {
    let (mut client, io) = tokio::io::duplex(1024);
    client.write_all(b"GET / HTTP/1.1\r\nho").await.unwrap();
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT);
    let hello =
        |_| async { Ok::<_, hyper::Error>(Response::new(Empty::<Bytes>::new())) };
    let conn = builder.serve_connection(TokioIo::new(io), service_fn(hello));
    let error = conn.await.unwrap_err();
    assert!(error.downcast_ref::<hyper::Error>().unwrap().is_timeout());
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
    let long = "x".repeat(64 * 1024 + 1);
    let request = format!(
        "POST /reversed {head}\r\ncontent-length: {}\r\n\r\n{long}",
        long.len()
    );
    let before = Program::start("before-echo");
    let mut connection = before.connect();
    connection.send(&request);
    assert_eq!(connection.response().unwrap().body.len(), long.len());
    let after = Program::start("after-echo");
    let mut connection = after.connect();
    connection.send(&request);
    connection.response().expect_err("the connection ends without a response");
}

#[tokio::test]
async fn only_hyper_1_receives_trailers_over_http1() {
    let request =
        b"POST / HTTP/1.1\r\nhost: example.com\r\ntransfer-encoding: chunked\r\n\r\n\
        5\r\nhello\r\n0\r\nchecksum: 5d41\r\n\r\n";

    let (sender, received) = tokio::sync::oneshot::channel();
    let sender = Arc::new(Mutex::new(Some(sender)));
    let service = hyper_014::service::service_fn(
        move |mut request: old::Request<old::Body>| {
            let sender = sender.lock().unwrap().take().unwrap();
            async move {
                while let Some(data) = request.body_mut().data().await {
                    data?;
                }
                sender.send(request.body_mut().trailers().await?).unwrap();
                Ok::<_, old::Error>(old::Response::new(old::Body::empty()))
            }
        },
    );
    let (mut client, io) = tokio::io::duplex(1024);
    tokio::spawn(hyper_014::server::conn::Http::new().serve_connection(io, service));
    client.write_all(request).await.unwrap();
    assert_eq!(received.await.unwrap(), None, "hyper 0.14 drops them");

    let (sender, received) = tokio::sync::oneshot::channel();
    let sender = Arc::new(Mutex::new(Some(sender)));
    let service = service_fn(move |request: Request<Incoming>| {
        let sender = sender.lock().unwrap().take().unwrap();
        async move {
            let body = request.into_body().collect().await?;
            sender.send(body.trailers().cloned()).unwrap();
            Ok::<_, hyper::Error>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let (mut client, io) = tokio::io::duplex(1024);
    tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(io), service));
    client.write_all(request).await.unwrap();
    let trailers = received.await.unwrap().expect("hyper 1 delivers them");
    assert_eq!(trailers["checksum"], "5d41");
}

const UPGRADE: &[u8] =
    b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: greeting\r\n\r\n";

#[tokio::test]
async fn the_server_of_0_14_allows_upgrades() {
    let service =
        old::service::make_service_fn(|_: &old::server::conn::AddrStream| async {
            Ok::<_, old::Error>(old::service::service_fn(|mut request| async move {
                let upgrade = old::upgrade::on(&mut request);
                tokio::spawn(async {
                    upgrade.await.unwrap().write_all(b"hello").await
                });
                old::Response::builder()
                    .status(101)
                    .header("upgrade", "greeting")
                    .body(old::Body::empty())
            }))
        });
    let server = old::Server::bind(&([127, 0, 0, 1], 0).into()).serve(service);
    let mut client =
        tokio::net::TcpStream::connect(server.local_addr()).await.unwrap();
    tokio::spawn(server);
    client.write_all(UPGRADE).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
}

#[tokio::test]
async fn without_with_upgrades_an_upgrade_fails() {
    let (sender, failed) = tokio::sync::oneshot::channel();
    let sender = Arc::new(Mutex::new(Some(sender)));
    let service = service_fn(move |mut request| {
        let sender = sender.lock().unwrap().take().unwrap();
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async { sender.send(upgrade.await.unwrap_err().to_string()) });
        async {
            let response =
                Response::builder().status(101).header("upgrade", "greeting");
            response.body(Empty::<Bytes>::new())
        }
    });
    let (mut client, io) = tokio::io::duplex(1024);
    tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(io), service));
    client.write_all(UPGRADE).await.unwrap();
    assert_eq!(failed.await.unwrap(), "upgrade expected but low level API in use");
}

#[test]
fn middleware_answers_alike() {
    let get = "GET / HTTP/1.1\r\nhost: example.com\r\n\r\n";
    same("middleware", answers("middleware", get));
    // A service that fails ends its connection.
    let slow = "GET /slow HTTP/1.1\r\nhost: example.com\r\n\r\n";
    assert_eq!(last_answers("middleware", slow), ["", ""]);
}

/// What a client asks of a server that answers this to each request: all its bytes, and how many
/// connections it makes.
fn asks(client: &str, answer: &str) -> (String, usize) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut command = Command::new(harness::cargo::program(client));
    let mut client = command
        .arg(format!("http://{address}/path?query"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    listener.set_nonblocking(true).unwrap();
    let (mut bytes, mut connections) = (String::new(), Vec::new());
    let deadline = Instant::now() + LIMIT;
    while client.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "the client does not end");
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true).unwrap();
            connections.push((stream, String::new()));
        }
        for (stream, received) in &mut connections {
            let mut buffer = [0; 1024];
            if let Ok(n) = stream.read(&mut buffer) {
                received.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
            }
            if received.ends_with("\r\n\r\n") {
                bytes.push_str(&std::mem::take(received));
                stream.write_all(answer.as_bytes()).unwrap();
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    assert!(client.wait().unwrap().success());
    (bytes.replace(&address.to_string(), "example.com"), connections.len())
}

#[test]
fn the_clients_ask_alike() {
    let keeping = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
    let closing =
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello";
    for (answer, count) in [(keeping, 1), (closing, 2)] {
        let [before, after] = pair("client").map(|client| asks(&client, answer));
        assert_eq!((before.1, after.1), (count, count));
        same("client", [before.0, after.0]);
    }
}

/// The answer to a request that is in flight when the signal comes.
fn in_flight(name: &str) -> String {
    let mut program = Program::start(name);
    let mut connection = program.connect();
    connection.get("/");
    assert_eq!(program.line(), "a request");
    program.signal("INT");
    let answer = connection.response().expect("a request in flight is answered");
    assert_eq!(answer.text(), "Hello, World");
    assert_eq!(connection.rest().unwrap(), "");
    let (status, printed) = program.wait();
    assert_eq!((status.code(), printed.len()), (Some(0), 0));
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
        let mut busy = program.connect();
        busy.get("/");
        assert_eq!(program.line(), "a request");
        program.signal("INT");
        assert_eq!(idle.rest().unwrap(), "");
        // hyper 0.14 closes the idle connection before the listener.
        let deadline = Instant::now() + Duration::from_millis(300);
        let error = loop {
            assert!(Instant::now() < deadline, "{name}: the listener is still there");
            if let Err(error) = TcpStream::connect(program.address) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        busy.response().expect("a request in flight is answered");
        assert!(program.wait().0.success());
    }
}

/// Whether a program ends within four seconds of the signal, though a client has sent no more than
/// this.
fn ends(name: &str, begun: &str) -> bool {
    let mut program = Program::start(name);
    let mut connection = program.connect();
    connection.send(begun);
    // The program knows the connection by the time that it has answered a later one.
    let mut later = program.connect();
    later.get("/");
    later.response().unwrap();
    program.signal("INT");
    let deadline = Instant::now() + Duration::from_secs(4);
    while !program.has_ended() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    program.has_ended()
}

#[test]
fn silent_clients_hold_only_the_program_before() {
    thread::scope(|scope| {
        for begun in ["", "GET / HTTP/1.1\r\nhost: "] {
            for name in pair("graceful-shutdown") {
                scope.spawn(move || {
                    let after = name.starts_with("after");
                    assert_eq!(ends(&name, begun), after, "{name}, sent: {begun:?}");
                });
            }
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
