//! What src/init/other-runtimes.md promises.

use std::collections::HashSet;
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::rt::{Executor, Timer};
use hyper::{Request, client::conn::http2};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::task::spawn_local;
use tower_service::Service;

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

/// What a panic says.
fn panics(panics: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(panics)).expect_err("it panics");
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => (*panic.downcast::<&str>().unwrap()).to_owned(),
    }
}

#[test]
fn what_the_panics_say() {
    let local = "`spawn_local` called from outside of a `task::LocalSet` or `runtime::LocalRuntime`";
    let runtime = runtime::Builder::new_current_thread().build().unwrap();
    let text = panics(|| {
        runtime.block_on(async { drop(spawn_local(async {})) });
    });
    assert_eq!(text, local);
    let reactor = "there is no reactor running, must be called from the context of a Tokio 1.x runtime";
    let executor: fn() = || TokioExecutor::new().execute(async {});
    let timer: fn() = || drop(TokioTimer::new().sleep(Duration::from_secs(1)));
    for uses_tokio in [executor, timer] {
        assert_eq!(panics(uses_tokio), reactor);
    }
    let text = panics(|| {
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let uri = format!("http://{}/", address.local_addr().unwrap());
        let connecting = HttpConnector::new().call(uri.parse().unwrap());
        drop(smol::block_on(connecting));
    });
    assert_eq!(text, reactor);
    for text in [local, reactor] {
        other().says(text);
    }
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
    second.send("HTTP/1.1 400 Bad Request\r\n\r\n");
    let (status, printed) = program.wait();
    assert_eq!(status.code(), Some(1));
    let error = "http2 error: connection error detected: frame with invalid size";
    assert_eq!(printed, [error]);
}
