//! What src/init/choosing.md promises.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::process::Command;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::extract::connect_info::MockConnectInfo;
use axum::http::StatusCode;
use axum::routing::post;
use harness::{page, root, rows};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, split};
use tokio::time::timeout;
use tower::ServiceExt;

use crate::server::axum::{DAY, axum_serve};
use crate::server::routing;

/// The program itself, for tests on an in-memory connection.
#[allow(dead_code)]
#[path = "../../init/choosing.rs"]
mod program;

/// The two programs, each with notes of its own.
struct Both<F> {
    hyper: Arc<routing::program::State>,
    axum: F,
}

fn both() -> Both<impl Fn() -> DuplexStream> {
    let router = program::router().layer(MockConnectInfo(routing::peer()));
    Both { hyper: Arc::default(), axum: axum_serve(router) }
}

impl<F: Fn() -> DuplexStream> Both<F> {
    /// What they answer to the same request, each on a new connection.
    async fn answers(&self, request: &Sent) -> [String; 2] {
        let (hyper, _conn) = routing::serve(&self.hyper);
        [answer(hyper, request).await, answer((self.axum)(), request).await]
    }
}

/// A request, and whether the client closes its side after it.
struct Sent {
    bytes: String,
    ends: bool,
}

fn send(head: &str, headers: &str, body: &str) -> Sent {
    let bytes = format!("{head} HTTP/1.1\r\nhost: x\r\n{headers}\r\n{body}");
    Sent { bytes, ends: false }
}

fn get(path: &str) -> Sent {
    send(&format!("GET {path}"), "", "")
}

/// A request with a whole body.
fn upload(head: &str, body: &str) -> Sent {
    send(head, &format!("content-length: {}\r\n", body.len()), body)
}

/// What a server sends until it closes the connection, or within a day; without the date.
async fn answer(stream: DuplexStream, request: &Sent) -> String {
    let (mut read, mut write) = split(stream);
    let mut answer = Vec::new();
    let send = async {
        // It may close before it has read all.
        write.write_all(request.bytes.as_bytes()).await.ok();
        if request.ends {
            write.shutdown().await.ok();
        }
    };
    let exchange = async { tokio::join!(send, read.read_to_end(&mut answer)) };
    timeout(DAY, exchange).await.ok();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 "), "{:?} gets {answer:?}", request.bytes);
    let lines = answer.split_inclusive("\r\n");
    lines.filter(|line| !line.starts_with("date: ")).collect()
}

#[tokio::test(start_paused = true)]
async fn the_table_has_the_answers_that_differ() {
    let part = "content-length: 10\r\n";
    let chunked = "transfer-encoding: chunked\r\n";
    let long = "n".repeat(program::MAX_NAME + 1);
    let long = format!("PUT /notes/{long}");
    let big = ".".repeat(program::MAX_NOTE + 1);
    let broken = Sent { ends: true, ..send("PUT /notes/a", part, "hi") };
    let requests = [
        ("`HEAD /notes`, when there are none", send("HEAD /notes", "", "")),
        ("no notes", get("/notes")),
        ("the count", get("/")),
        ("the address", get("/whoami")),
        ("no such page", get("/nowhere")),
        ("a slash too many", get("/notes/")),
        ("two slashes", get("//")),
        ("dots", get("/../notes")),
        ("no path", send("OPTIONS *", "", "")),
        ("a new note", upload("PUT /notes/caf%C3%A9", "open until six")),
        ("the note again", upload("PUT /notes/caf%c3%a9", "open")),
        ("in chunks", send("PUT /notes/b", chunked, "2\r\nhi\r\n0\r\n\r\n")),
        ("of no bytes", upload("PUT /notes/empty", "")),
        ("a slash in a name", upload("PUT /notes/a%2Fb", "hi")),
        ("no encoding", upload("PUT /notes/%zz", "hi")),
        ("a note", get("/notes/caf%C3%A9")),
        ("a note by its absolute URL", get("http://x/notes/caf%C3%A9")),
        ("the head of a note", send("HEAD /notes/caf%C3%A9", "", "")),
        ("no such note", get("/notes/none")),
        ("the head of no note", send("HEAD /notes/none", "", "")),
        ("a list", get("/notes?prefix=caf%C3%A9&limit=5")),
        ("the head of a list", send("HEAD /notes?limit=%31", "", "")),
        ("a plus", get("/notes?prefix=a+b")),
        ("no UTF-8 in a query", get("/notes?prefix=%FF")),
        ("keys that nobody knows", get("/notes?x=1&x=2&&=")),
        ("a deletion", send("DELETE /notes/a%2Fb", "", "")),
        ("the deletion again", send("DELETE /notes/a%2Fb", "", "")),
        ("a name that is too long", upload(&long, "")),
        ("no HTTP", get("/ /")),
        ("`POST /notes`", upload("POST /notes", "hi")),
        ("`GET /notes/%FF`", get("/notes/%FF")),
        ("`POST /notes/%FF`", send("POST /notes/%FF", "", "")),
        ("`GET /notes?limit=x`", get("/notes?limit=x")),
        ("`GET /notes?limit=1&limit=2`", get("/notes?limit=1&limit=2")),
        ("`PUT /notes/a`, a body that is too long", upload("PUT /notes/a", &big)),
        ("`PUT /notes/a`, a body that breaks off", broken),
        ("`PUT /notes/a`, a body that stalls", send("PUT /notes/a", part, "hi")),
    ];

    let rows = rows("src/init/choosing.md", "What differs on the wire");
    for row in &rows {
        let known = requests.iter().any(|(name, _)| *name == row.cells[0]);
        assert!(known, "line {}: no request here is `{}`", row.line, row.cells[0]);
    }
    let both = both();
    for (name, request) in &requests {
        let answers = both.answers(request).await;
        let [hyper, axum] = &answers;
        let Some(row) = rows.iter().find(|row| row.cells[0] == *name) else {
            assert_eq!(hyper, axum, "{name}: give the page a row with this difference");
            continue;
        };
        for (cell, it, other) in [(1, hyper, axum), (2, axum, hyper)] {
            for words in row.codes(cell) {
                assert!(it.contains(words), "line {}: `{words}` is not in {it}", row.line);
                assert!(
                    !other.contains(words),
                    "line {}: `{words}` is no difference, it is also in {other}",
                    row.line,
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn with_connection_close_the_order_of_the_headers_differs_too() {
    page("init/choosing").says("the order of the headers differs as well");
    let [hyper, axum] =
        both().answers(&send("GET /", "connection: close\r\n", "")).await;
    assert_ne!(hyper, axum, "the same order: remove the sentence");
    let sorted = |answer: &str| BTreeSet::from_iter(answer.lines().map(str::to_owned));
    assert_eq!(sorted(&hyper), sorted(&axum));
}

/// The lines of a program, without blank ones and comments.
fn lines(program: &str) -> u64 {
    let program = fs::read_to_string(root().join("snippets").join(program)).unwrap();
    let lines = program.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with("//")).count() as u64
}

#[test]
fn the_program_on_axum_has_fewer_lines() {
    assert_eq!(
        page("init/choosing")
            .numbers("lines, without blank ones and comments | {} | {}"),
        [lines("server/routing.rs"), lines("init/choosing.rs")],
        "the lines of both programs",
    );
}

/// How many crates cargo builds for a package of this workspace, besides itself.
fn crates(package: &str) -> u64 {
    let cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["tree", "--locked", "--offline", "--edges=normal,build"])
        .args(["--prefix=none", "--format={p}", "--package", package])
        .current_dir(root())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&cargo.stderr);
    assert!(cargo.status.success(), "cargo tree --package {package}: {error}");
    let tree = String::from_utf8(cargo.stdout).unwrap();
    let crates = tree.lines().filter_map(|line| line.split_once(" v"));
    let crates = crates.map(|(name, rest)| (name, rest.split(' ').next()));
    BTreeSet::from_iter(crates).len() as u64 - 1
}

#[test]
#[cfg(target_os = "linux")]
fn the_program_on_axum_has_more_crates() {
    assert_eq!(
        page("init/choosing").numbers("crates that Cargo builds on Linux | {} | {}"),
        [crates("routing"), crates("choosing")],
        "the crates of both programs",
    );
}

#[test]
fn axum_stands_on_hyper_and_matchit() {
    page("init/choosing").says("matchit, which axum has inside");
    page("init/choosing").says("The libraries on hyper share its types");
    let _the_same_type: hyper::StatusCode = StatusCode::OK;
    let packages = &harness::cargo::metadata().packages;
    let axum = packages.iter().find(|it| *it.name == "axum").unwrap();
    for name in ["hyper", "hyper-util", "matchit"] {
        let found = axum.dependencies.iter().any(|it| it.name == name);
        assert!(found, "axum does not depend on {name}: change the page");
    }
}

#[tokio::test]
async fn the_extractors_of_axum_have_a_limit_by_themselves() {
    let limit =
        page("init/choosing").number("extractors Bytes and String stop at {} MiB")
            as usize
            * 1024
            * 1024;
    let router = Router::new()
        .route("/bytes", post(async |_: Bytes| ()))
        .route("/string", post(async |_: String| ()));
    for path in ["/bytes", "/string"] {
        for (size, status) in
            [(limit, StatusCode::OK), (limit + 1, StatusCode::PAYLOAD_TOO_LARGE)]
        {
            let request = Request::post(path).body(Body::from(vec![0; size])).unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), status, "{path}, {size} bytes");
        }
    }
}
