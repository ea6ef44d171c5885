//! What src/production/observability.md promises.

use std::error::Error;
use std::future::{Future, pending};
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::header::{CONTENT_LENGTH, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{CurrentSpanExecutor, TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use prometheus_client::encoding::prometheus_text;
use regex::Regex;
use tracing::subscriber::DefaultGuard;
use tracing::{Instrument, info, info_span};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use harness::{Connection, LIMIT, Program, Prose, page, root, rows};
use program::{Metrics, Route, observe};

use super::super::client::failures::read_head;

/// The program itself, for tests on a connection in memory with a clock that they move.
#[allow(dead_code)]
#[path = "../../production/observability.rs"]
mod program;

type BoxError = Box<dyn Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, BoxError>;

const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
const GET_200: &str = "{method=\"GET\",route=\"/\",status=\"200\"}";

fn observability() -> Prose {
    page("production/observability")
}

/// The lines of the log of this thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// What this thread logs until the guard is dropped. `CLOSE` adds a line when a span ends.
    fn record(filter: &str, spans: FmtSpan) -> (Lines, DefaultGuard) {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(filter))
            .with_span_events(spans)
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .with_target(false)
            .without_time()
            .finish();
        (lines, tracing::subscriber::set_default(subscriber))
    }

    /// The lines so far, without the level.
    fn take(&self) -> Vec<String> {
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap();
        text.lines().map(|line| line.trim_start().split_once(' ').unwrap().1.to_owned()).collect()
    }
}

/// What Prometheus gets.
fn numbers(metrics: &Metrics) -> String {
    let mut text = String::new();
    prometheus_text::encode(&mut text, &metrics.registry).unwrap();
    text
}

/// The `sum` of the durations with these labels, in seconds, or their `count`.
#[track_caller]
fn duration(metrics: &Metrics, what: &str, labels: &str) -> f64 {
    let (name, text) = (format!("seconds_{what}{labels} "), numbers(metrics));
    let value = text.lines().find_map(|line| line.split_once(&name));
    value.unwrap_or_else(|| panic!("no {name}in\n{text}")).1.parse().unwrap()
}

fn text(text: &'static str) -> Response<Body> {
    let mut response = Response::new(Full::from(text).map_err(Into::into).boxed_unsync());
    response.extensions_mut().insert(Route("/"));
    response
}

/// A first piece, and then nothing.
fn stalls() -> Response<Body> {
    let first = stream::iter([Ok(Frame::data(Bytes::from("some")))]);
    let body = StreamBody::new(first.chain(stream::pending()));
    text("").map(|_| body.boxed_unsync())
}

/// A first piece, and then an error.
fn fails() -> Response<Body> {
    let pieces = [Ok(Frame::data(Bytes::from("some"))), Err("the disk is gone".into())];
    text("").map(|_| StreamBody::new(stream::iter(pieces)).boxed_unsync())
}

fn panics() -> Response<Body> {
    text("page").map(|body| body.map_frame(|_| panic!("no template")).boxed_unsync())
}

/// A connection in memory to this handler, in the span of a connection.
fn connect<F, R>(metrics: &Arc<Metrics>, handle: F) -> (DuplexStream, JoinHandle<()>)
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = io::Result<Response<Body>>> + Send + 'static,
{
    let (client, server) = duplex(16 * 1024);
    let metrics = metrics.clone();
    let serve = async move {
        let service =
            service_fn(|request| observe(request, metrics.clone(), handle.clone()));
        let builder = program::builder();
        builder.serve_connection(TokioIo::new(server), service).await.ok();
    };
    (client, tokio::spawn(serve.instrument(info_span!("connection", peer = "a"))))
}

/// Sends requests one after another over one connection of this version, and reads each response
/// to its end, or only its beginning.
async fn ask(stream: DuplexStream, version: u8, requests: &[(&str, &str)], to_the_end: bool) {
    let io = TokioIo::new(stream);
    let (mut first, mut second);
    let conn: Pin<Box<dyn Future<Output = hyper::Result<()>>>>;
    if version == 1 {
        let (sender, connection) = http1::handshake(io).await.unwrap();
        ((first, second), conn) = ((Some(sender), None), Box::pin(connection));
    } else {
        let handshake = http2::handshake(TokioExecutor::new(), io);
        let (sender, connection) = handshake.await.unwrap();
        ((first, second), conn) = ((None, Some(sender)), Box::pin(connection));
    }
    let exchanges = async {
        for (method, path) in requests {
            let uri = if version == 1 { path.to_string() } else { format!("http://x{path}") };
            let request = Request::builder().method(*method).uri(uri).header("host", "x");
            let request = request.body(Empty::<Bytes>::new()).unwrap();
            let response = match (&mut first, &mut second) {
                (Some(sender), _) => sender.send_request(request).await?,
                (_, Some(sender)) => sender.send_request(request).await?,
                _ => unreachable!(),
            };
            let mut body = response.into_body();
            while let Some(frame) = body.frame().await {
                frame?;
                if !to_the_end {
                    break;
                }
            }
        }
        Ok::<_, hyper::Error>(())
    };
    // Whoever is not done by then leaves.
    tokio::select! {
        _ = conn => {}
        _ = timeout(Duration::from_secs(1), exchanges) => {}
    }
}

/// A handler that says where it is, and a body that does.
async fn speaks(_: Request<Incoming>) -> io::Result<Response<Body>> {
    info!("handler");
    Ok(text("Hello").map(|body| body.map_frame(|frame| { info!("body"); frame }).boxed_unsync()))
}

const TREE: [&str; 6] = [
    "connection{peer=\"a\"}:request{id=1 method=GET path=\"/a\"}: handler",
    "connection{peer=\"a\"}:request{id=1 method=GET path=\"/a\"}: body",
    "connection{peer=\"a\"}:request{id=1 method=GET path=\"/a\"}: response status=200 bytes=5 ms=0 complete=true",
    "connection{peer=\"a\"}:request{id=2 method=GET path=\"/b\"}: handler",
    "connection{peer=\"a\"}:request{id=2 method=GET path=\"/b\"}: body",
    "connection{peer=\"a\"}:request{id=2 method=GET path=\"/b\"}: response status=200 bytes=5 ms=0 complete=true",
];

#[tokio::test(start_paused = true)]
async fn the_spans_of_two_requests_on_one_connection() {
    for version in [1, 2] {
        let (lines, _recording) = Lines::record("info", FmtSpan::NONE);
        let (stream, _serving) = connect(&Arc::new(Metrics::default()), speaks);
        ask(stream, version, &[("GET", "/a"), ("GET", "/b")], true).await;
        assert_eq!(lines.take(), TREE, "HTTP/{version}");
    }
}

#[tokio::test(start_paused = true)]
async fn with_tokio_executor_http2_requests_have_no_parent() {
    for version in [1, 2] {
        let (lines, _recording) = Lines::record("info", FmtSpan::NONE);
        let (client, server) = duplex(16 * 1024);
        let serve = async move {
            let metrics = Arc::new(Metrics::default());
            let service = service_fn(|request| observe(request, metrics.clone(), speaks));
            let builder = auto::Builder::new(TokioExecutor::new());
            builder.serve_connection(TokioIo::new(server), service).await.ok();
        };
        tokio::spawn(serve.instrument(info_span!("connection", peer = "a")));
        ask(client, version, &[("GET", "/a"), ("GET", "/b")], true).await;
        let expected = TREE.map(|line| match version {
            1 => line,
            _ => line.strip_prefix("connection{peer=\"a\"}:").unwrap(),
        });
        assert_eq!(lines.take(), expected, "HTTP/{version}");
    }
}

/// How a request ends, and what is counted, as the page's table has it.
#[tokio::test(start_paused = true)]
async fn each_end_of_a_request_is_counted_once() {
    let ends = rows("src/production/observability.md", "Until the end of the response");
    let names: Vec<_> = ends.iter().map(|row| row.cells[0].as_str()).collect();
    let known = [
        "The response is sent",
        "The request is HEAD",
        "The handler fails",
        "The handler panics",
        "The client leaves before the response",
        "The client leaves during the response",
        "The body fails",
        "The body panics",
    ];
    assert_eq!(names, known, "this test has an arm for each row of the page's table");
    for row in ends {
        for version in [1, 2] {
            let (lines, _recording) = Lines::record("info", FmtSpan::NONE);
            let metrics = Arc::new(Metrics::default());
            end(&row.cells[0], version, &metrics).await;
            let (status, complete) = (row.codes(1), row.cells[2] == "yes");
            let place = format!("{}:{}, HTTP/{version}", row.line, row.cells[0]);
            assert_eq!(metrics.active.get(), 0, "{place}: it is still counted");
            assert_eq!(metrics.connections.get(), 0);
            let method = if row.cells[0].contains("HEAD") { "HEAD" } else { "GET" };
            let route = if status.is_empty() { "" } else { "/" };
            let status = status.first().copied().unwrap_or_default();
            let labels = format!("{{method=\"{method}\",route=\"{route}\",status=\"{status}\"}}");
            assert_eq!(duration(&metrics, "count", &labels), 1.0, "{place}");
            let line = lines.take();
            assert!(line[0].ends_with(&format!("complete={complete}")), "{place}: {line:?}");
        }
    }
}

/// Makes a request end in this way, and waits until the server has noticed.
async fn end(how: &str, version: u8, metrics: &Arc<Metrics>) {
    let name = how.to_owned();
    let handle = move |_| {
        let name = name.clone();
        async move {
            Ok(match name.as_str() {
                "The request is HEAD" => text(""),
                "The handler fails" => return Err(io::Error::other("no database")),
                "The handler panics" => panic!("index out of range"),
                "The client leaves before the response" => pending().await,
                "The client leaves during the response" => stalls(),
                "The body fails" => fails(),
                "The body panics" => panics(),
                _ => text("Hello"),
            })
        }
    };
    let (stream, _serving) = connect(metrics, handle);
    let method = if how.contains("HEAD") { "HEAD" } else { "GET" };
    ask(stream, version, &[(method, "/")], !how.contains("leaves")).await;
    let counted = async {
        while metrics.active.get() != 0 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(1), counted).await.ok();
}

/// hyper takes no more of a body than its buffer holds, so the time until the client reads is
/// a part of the request's.
#[tokio::test(start_paused = true)]
async fn the_duration_has_the_time_of_a_client_that_does_not_read() {
    let metrics = Arc::new(Metrics::default());
    let (mut client, _serving) = connect(&metrics, async |_| {
        let pieces = (0..64).map(|_| Ok(Frame::data(Bytes::from_static(&[b'.'; 64 * 1024]))));
        Ok(text("").map(|_| StreamBody::new(stream::iter(pieces)).boxed_unsync()))
    });
    client.write_all(GET.as_bytes()).await.unwrap();
    read_head(&mut client).await;
    let stalled = observability().number("reads nothing for {} seconds");
    sleep(Duration::from_secs(stalled)).await;
    assert_eq!(metrics.active.get(), 1);
    let mut read = vec![0; 4 * 1024 * 1024];
    client.read_exact(&mut read).await.unwrap();
    drop(client);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(duration(&metrics, "sum", GET_200), stalled as f64);
}

/// hyper drops a body when it has the bytes of its `content-length`, before the body says that it
/// has ended.
#[tokio::test(start_paused = true)]
async fn a_stream_with_a_length_is_complete() {
    for version in [1, 2] {
        let (lines, _recording) = Lines::record("info", FmtSpan::NONE);
        let (stream, _serving) = connect(&Arc::new(Metrics::default()), async |_| {
            let pieces = ["He", "llo"].map(|piece| Ok(Frame::data(Bytes::from(piece))));
            let body = StreamBody::new(stream::iter(pieces)).boxed_unsync();
            let mut response = text("").map(|_| body);
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(5));
            Ok(response)
        });
        ask(stream, version, &[("GET", "/")], true).await;
        let line = lines.take().pop().unwrap();
        assert!(line.ends_with("bytes=5 ms=0 complete=true"), "HTTP/{version}: {line}");
    }
}

/// hyper takes a frame at once, whatever its size: it does not show how fast a client reads.
#[tokio::test(start_paused = true)]
async fn a_large_full_is_over_when_hyper_has_taken_it() {
    observability().says("hyper takes a frame at once, whatever its size, and a Full is one frame");
    let metrics = Arc::new(Metrics::default());
    let (mut client, _serving) = connect(&metrics, async |_| {
        let body = Full::from(vec![b'.'; 50 << 20]).map_err(Into::into);
        Ok(text("").map(|_| body.boxed_unsync()))
    });
    client.write_all(GET.as_bytes()).await.unwrap();
    read_head(&mut client).await;
    sleep(Duration::from_secs(30)).await;
    assert_eq!(metrics.active.get(), 0);
    assert_eq!(duration(&metrics, "sum", GET_200), 0.0);
}

/// The program's answer to HEAD, which hyper's client would reject if it had a body over HTTP/2.
#[tokio::test]
async fn head_has_the_length_and_no_body() {
    for (path, length) in [("/", Some("14")), ("/nothing", Some("13"))] {
        let (client, server) = duplex(16 * 1024);
        tokio::spawn(program::serve(server, Arc::new(Metrics::default())));
        let (mut sender, conn) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
        tokio::spawn(conn);
        let request = Request::head(format!("http://x{path}")).body(Empty::<Bytes>::new());
        let response = sender.send_request(request.unwrap()).await.unwrap();
        let given = response.headers().get(CONTENT_LENGTH).map(|it| it.to_str().unwrap());
        assert_eq!(given, length);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "");
    }
}

/// What is escaped in a line: fields of text, and not the message, nor a field with `%`.
#[test]
fn a_message_is_not_escaped() {
    let (lines, _recording) = Lines::record("info", FmtSpan::NONE);
    let path = "a\nb";
    info!(path);
    info!(path = path.to_owned());
    info!(path = ?path);
    info!("{path}");
    info!(%path);
    let text = String::from_utf8(std::mem::take(&mut *lines.0.lock().unwrap())).unwrap();
    let escaped = r#" INFO path="a\nb""#;
    let expected = format!("{0}\n{0}\n{0}\n INFO a\nb\n INFO path=a\nb\n", escaped);
    assert_eq!(text, expected);
}

#[test]
fn without_its_guard_the_writer_writes_nothing() {
    let lines = Lines::default();
    let (mut writer, guard) = tracing_appender::non_blocking(lines.clone());
    writer.write_all(b"one\n").unwrap();
    drop(guard);
    writer.write_all(b"two\n").ok();
    assert_eq!(lines.0.lock().unwrap().as_slice(), b"one\n");
}

#[tokio::test]
async fn a_filter_turns_spans_off() {
    for (filter, expected) in [("warn", "late"), ("warn,guide=info", "request: late")] {
        let (lines, _recording) = Lines::record(filter, FmtSpan::NONE);
        info_span!("request").in_scope(|| tracing::warn!("late"));
        assert_eq!(lines.take(), [expected]);
    }
}

/// A task is not in the span of whoever spawns it.
#[tokio::test]
async fn a_spawned_task_needs_in_current_span() {
    let (lines, _recording) = Lines::record("info", FmtSpan::NONE);
    let spawn = async {
        tokio::spawn(async { info!("spawned") }).await.unwrap();
        tokio::spawn(async { info!("in the span") }.in_current_span()).await.unwrap();
    };
    spawn.instrument(info_span!("request")).await;
    assert_eq!(lines.take(), ["spawned", "request: in the span"]);
}

/// Both gauges, on the page's own connections.
#[tokio::test(start_paused = true)]
async fn connections_are_counted_while_they_are_open() {
    let metrics = Arc::new(Metrics::default());
    let (client, server) = duplex(1024);
    let serving = tokio::spawn(program::serve(server, metrics.clone()));
    sleep(Duration::from_millis(1)).await;
    assert_eq!(metrics.connections.get(), 1);
    drop(client);
    serving.await.unwrap();
    assert_eq!(metrics.connections.get(), 0);
}

/// The program's log of a request in these bytes, and its numbers.
async fn exchange(bytes: impl AsRef<[u8]>) -> (Vec<String>, Arc<Metrics>) {
    let (lines, _recording) = Lines::record("info", FmtSpan::NONE);
    let metrics = Arc::new(Metrics::default());
    let (mut client, server) = duplex(64 * 1024);
    let serving = tokio::spawn(program::serve(server, metrics.clone()));
    client.write_all(bytes.as_ref()).await.unwrap();
    read_head(&mut client).await;
    drop(client);
    serving.await.unwrap();
    (lines.take(), metrics)
}

#[tokio::test(start_paused = true)]
async fn a_client_can_neither_add_labels_nor_lines() {
    observability().says("all methods that the program does not know are _OTHER");
    let (_, metrics) = exchange("BREW /1 HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let labels = "{method=\"_OTHER\",route=\"\",status=\"404\"}";
    assert_eq!(duration(&metrics, "count", labels), 1.0);

    let (lines, metrics) = exchange("GET /%0Aadmin?password=1 HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(lines, ["request{id=1 method=GET path=\"/%0Aadmin\"}: response status=404 bytes=13 ms=0 complete=true"]);
    assert!(!numbers(&metrics).contains("admin"));

    let (lines, _) = exchange(format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(5000))).await;
    assert!(lines[0].len() < 400, "{lines:?}");

    // A control character that is not ASCII, and a quotation mark, which would end the field.
    let (lines, _) = exchange("GET /\u{e9}\u{9b}\" HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let line = lines.join("\n");
    assert!(!line.contains("\u{9b}") && line.contains(r#"\u{9b}\""#), "{line}");
}

// As a process.

/// What the program prints, and answers to /metrics, without what differs from run to run.
#[test]
fn the_log_and_the_numbers_are_those_of_the_page() {
    let program = Program::start("observability");
    let mut connection = program.connect();
    for path in ["/", "/hello/you"] {
        connection.get(path);
        connection.response().unwrap();
    }
    let printed = [program.line(), program.line()];
    connection.get("/metrics");
    let answer = connection.response().unwrap();
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));

    let own = Regex::new(r"\d{4}-\S+Z|peer=[^}]+|_sum\{.*\} \S+").unwrap();
    let without_own = |text: &str| own.replace_all(text, "…").into_owned();
    let page = fs::read_to_string(root().join("src/production/observability.md")).unwrap();
    let page = without_own(&page);
    assert!(page.contains(&without_own(&printed.join("\n"))), "{}", printed.join("\n"));
    let shown = page.split("```text\n# HELP").nth(1).expect("the page shows the numbers");
    let shown: Vec<_> = shown.split("```").next().unwrap().lines().skip(1).collect();
    let text = without_own(answer.text());
    for line in shown.iter().filter(|line| **line != "…") {
        assert!(text.lines().any(|printed| printed == *line), "{line}\nis not in\n{text}");
    }
}

/// A pipe that nobody reads fills up, and the server answers all the same.
#[test]
fn a_log_that_nobody_reads_does_not_stop_the_server() {
    let mut command = Command::new(harness::cargo::program("observability"));
    let mut child = command
        .args(["127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on http://").unwrap();
    let mut connection = Connection::new(TcpStream::connect(address).unwrap());
    // Each line has more than 100 bytes, and a pipe holds 64 KiB.
    for _ in 0..2000 {
        connection.get("/");
        assert!(connection.response().unwrap().status().contains("200"));
    }
    child.kill().unwrap();
    let mut log = Vec::new();
    child.stderr.take().unwrap().read_to_end(&mut log).unwrap();
    child.wait().unwrap();
    assert!(log.len() < 2000 * 100, "the pipe held all: {} bytes", log.len());
}

/// Which crates log what, by the filter.
#[tokio::test]
async fn the_events_of_hyper_hyper_util_and_h2() {
    let logged = async |filter: &str, version: u8| {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(filter))
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .without_time()
            .finish();
        let _recording = tracing::subscriber::set_default(subscriber);
        let (stream, _serving) = connect(&Arc::new(Metrics::default()), speaks);
        ask(stream, version, &[("GET", "/")], true).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = async {
            let (stream, _) = listener.accept().await.unwrap();
            program::serve(stream, Arc::new(Metrics::default())).await;
        };
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let asking = client.get(format!("http://{address}/").parse().unwrap());
        tokio::select! {
            () = serving => {}
            response = asking => { response.unwrap(); }
        }
        let lines = lines.take();
        let of = |target: &str| lines.iter().filter(|line| line.contains(target)).count();
        (of("hyper::"), of("hyper_util::"), of("h2::"))
    };
    assert_eq!(logged("info", 2).await, (0, 0, 0));
    let (hyper, hyper_util, h2) = logged("debug", 2).await;
    assert!(hyper == 0 && hyper_util > 0 && h2 > 0, "{hyper} {hyper_util} {h2}");
    let (hyper, _, h2) = logged("trace", 1).await;
    assert_eq!((hyper, h2), (0, 0), "HTTP/1: nothing");
    observability().says("hyper itself logs nothing");
}

/// The spans of h2 are not below that of the connection.
#[tokio::test]
async fn the_spans_of_h2_have_no_parent() {
    let (lines, _recording) = Lines::record("info,h2=debug", FmtSpan::NONE);
    let (stream, _serving) = connect(&Arc::new(Metrics::default()), speaks);
    ask(stream, 2, &[("GET", "/")], true).await;
    let lines = lines.take();
    assert!(lines.iter().any(|line| line.starts_with("Connection{peer=Server}: ")), "{lines:?}");
    // Ours are where they were.
    assert!(lines.iter().any(|line| line == TREE[0].replace("/a", "/").as_str()), "{lines:?}");
}

/// The task of a pooled connection lives longer than the request that opened it.
#[tokio::test]
async fn with_current_span_executor_a_client_keeps_the_span_of_its_first_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(program::serve(stream, Arc::new(Metrics::default())));
        }
    });
    let (lines, _recording) = Lines::record("info", FmtSpan::CLOSE);
    let closed = |lines: &Lines| lines.take().iter().any(|line| line.starts_with("first: close"));
    macro_rules! first_request {
        ($executor:expr) => {{
            let client = Client::builder($executor).build_http::<Empty<Bytes>>();
            let uri = format!("http://{address}/").parse().unwrap();
            let request = async { client.get(uri).await.unwrap().collect().await.unwrap() };
            request.instrument(info_span!("first")).await;
            client
        }};
    }
    let client = first_request!(TokioExecutor::new());
    assert!(closed(&lines), "the request is over, and its span, too");
    drop(client);
    let client = first_request!(CurrentSpanExecutor::new(TokioExecutor::new()));
    assert!(!closed(&lines), "the connection is still there, and in the span");
    drop(client);
    let waiting = async {
        while !closed(&lines) {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LIMIT, waiting).await.expect("the connection ends, and the span with it");
}

/// A guard of `enter()` that lives across an `.await` is entered in whatever runs meanwhile.
#[tokio::test]
async fn a_span_that_stays_entered_across_an_await_gets_the_events_of_others() {
    let (lines, _recording) = Lines::record("info", FmtSpan::NONE);
    let local = tokio::task::LocalSet::new();
    let wrong = async {
        let span = info_span!("one");
        let _entered = span.enter();
        tokio::task::yield_now().await;
    };
    local.spawn_local(wrong);
    local.spawn_local(async { info!("of another") });
    local.await;
    assert_eq!(lines.take(), ["one: of another"]);
}
