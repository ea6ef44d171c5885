//! What src/init/other-runtimes.md promises.

use std::collections::HashSet;
use std::env;
use std::process::Command;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Request, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::task::spawn_local;

use super::runtime::panics;
use harness::{LIMIT, Program, Prose, Server, page, root};

fn other() -> Prose {
    page("init/other-runtimes")
}

#[tokio::test]
async fn an_rc_counts_over_http1_and_http2() {
    other().says("The state is an Rc, and both versions count in it");
    let program = Program::start("one-thread");
    let mut connection = program.connect();
    connection.get("/");
    assert!(connection.response().unwrap().text().ends_with("request 1\n"));

    let stream = TcpStream::connect(program.address).await.unwrap();
    let (mut sender, conn) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(conn);
    let request = Request::get("http://localhost/").body(Empty::<Bytes>::new());
    let response = sender.send_request(request.unwrap()).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "request 2\n");
}

#[test]
fn each_thread_answers_some_of_many_connections() {
    other().says("With many connections, each thread answered some");
    let program = Program::start("per-core");
    let threads = available_parallelism().unwrap().get();
    assert_eq!(program.line(), format!("{threads} threads"));
    let mut seen = HashSet::new();
    let start = Instant::now();
    while seen.len() < threads {
        assert!(start.elapsed() < LIMIT, "{} of {threads}", seen.len());
        let mut connection = program.connect();
        connection.get("/");
        seen.insert(connection.response().unwrap().text().to_owned());
    }
}

#[test]
fn smol_answers_and_its_timer_ends_a_slow_head() {
    let seconds =
        other().number("ends a connection whose head is not there after {} seconds");
    let program = Program::start("smol-server");
    let mut connection = program.connect();
    connection.get("/");
    assert!(connection.response().unwrap().text().ends_with("Hello from smol!\n"));

    let start = Instant::now();
    let mut slow = program.connect();
    slow.send("GET / HTTP/1.1\r\n");
    assert_eq!(slow.rest().unwrap(), "");
    assert!(start.elapsed() >= Duration::from_secs(seconds));
}

#[test]
fn the_package_has_no_runtime_of_tokio() {
    other().says("feature rt is off");
    let features = |package: &str| {
        let output = Command::new(env::var_os("CARGO").unwrap())
            .args(["tree", "--offline", "--locked", "--prefix=none"])
            .args(["--edges=normal", "--format={p} [{f}]", "--package", package])
            .current_dir(root())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find(|line| line.starts_with("tokio v"));
        let features = line.unwrap().split_once('[').unwrap().1;
        let features = features.split(']').next().unwrap();
        features.split(',').map(str::to_owned).collect::<HashSet<_>>()
    };
    assert!(features("snippets").contains("rt"));
    assert_eq!(
        features("smol-server"),
        HashSet::from(["default".into(), "sync".into()])
    );
}

#[test]
fn spawn_local_panics_outside_of_a_local_set() {
    let text = "`spawn_local` called from outside of a `task::LocalSet` or `runtime::LocalRuntime`";
    other().says(text);
    let printed = panics(|| {
        let runtime = runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { drop(spawn_local(async {})) });
    });
    assert_eq!(printed, text);
}

/// The client's program, with a server that speaks HTTP/1 alone.
#[test]
fn the_client_prints_the_whole_error() {
    let server = Server::start();
    let mut program = Program::client("one-thread-client", &[&server.url("/")]);
    let mut first = server.accept();
    first.head().unwrap();
    first.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let mut second = server.accept();
    // The preface, and frames up to the HEADERS of the request.
    second.bytes("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len()).unwrap();
    const HEADERS: u8 = 1;
    loop {
        let frame = second.bytes(9).unwrap();
        let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
        second.bytes(length as usize).unwrap();
        if frame[3] == HEADERS {
            break;
        }
    }
    second.send("HTTP/1.1 400 Bad Request\r\n\r\n");
    let (status, printed) = program.wait();
    assert_eq!(status.code(), Some(1));
    let error = "http2 error: connection error detected: frame with invalid size";
    assert_eq!(printed, [error]);
}

/// What the page says of WebAssembly is read from the sources: nothing here compiles for it.
#[test]
fn on_webassembly_tokio_refuses_what_the_legacy_client_needs() {
    let text = "Only features sync,macros,io-util,rt,time are supported on wasm.";
    other().says(text);
    let tokio = sources::locked("tokio", "1").text("src/lib.rs");
    assert!(tokio.contains(text), "tokio has other words");
    other().says("client-legacy of hyper-util needs net");
    let manifest = sources::locked("hyper-util", "0.1").text("Cargo.toml");
    let (_, legacy) = manifest.split_once("\nclient-legacy = [").unwrap();
    let (legacy, _) = legacy.split_once(']').unwrap();
    assert!(legacy.contains("\"tokio/net\""), "{legacy}");
}
