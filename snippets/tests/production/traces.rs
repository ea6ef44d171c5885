//! What src/production/traces.md promises.

use std::convert::Infallible;
use std::fs;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use prost::Message;
use tokio::net::TcpListener;
use tokio::runtime;
use tracing::dispatcher::{Dispatch, with_default};
use tracing::info_span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;

use harness::{LIMIT, Program, Prose, Server, page, root};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn traces() -> Prose {
    page("production/traces")
}

/// The spans that a collector gets.
struct Collector {
    endpoint: String,
    spans: Receiver<Span>,
}

impl Collector {
    /// A collector that runs until the test ends.
    fn start() -> Collector {
        let (sender, spans) = channel();
        let (ready, address) = channel();
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                ready.send(listener.local_addr().unwrap()).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let sender = sender.clone();
                    let service = service_fn(move |request: Request<Incoming>| {
                        let sender = sender.clone();
                        async move {
                            assert_eq!(request.uri().path(), "/v1/traces");
                            let bytes = request.collect().await.unwrap().to_bytes();
                            let batch = ExportTraceServiceRequest::decode(bytes).unwrap();
                            let scopes = batch.resource_spans.into_iter().flat_map(|r| r.scope_spans);
                            for span in scopes.flat_map(|scope| scope.spans) {
                                sender.send(span).ok();
                            }
                            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
                        }
                    });
                    tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
                }
            })
        });
        let endpoint = format!("http://{}", address.recv().unwrap());
        Collector { endpoint, spans }
    }

    /// The program, with this collector.
    fn program(&self) -> Program {
        let mut command = Command::new(harness::cargo::program("traces"));
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &self.endpoint);
        Program::listen(command)
    }

    /// The spans until the program has ended, by `^C`.
    fn collect(&self, mut program: Program) -> Vec<Span> {
        program.signal("INT");
        let (status, printed) = program.wait();
        assert!(status.success(), "{printed:?}");
        self.spans.try_iter().collect()
    }
}

/// The text of the answer to a GET with this `traceparent`.
fn get(program: &Program, path: &str, traceparent: &str) -> String {
    let mut connection = program.connect();
    connection.send(format!(
        "GET {path} HTTP/1.1\r\nhost: x\r\ntraceparent: {traceparent}\r\n\r\n"
    ));
    connection.response().unwrap().text().to_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute<'s>(span: &'s Span, key: &str) -> &'s Value {
    let attribute = span.attributes.iter().find(|attribute| attribute.key == key);
    attribute.unwrap().value.as_ref().unwrap().value.as_ref().unwrap()
}

/// The client's span, then that of /front, of its call, and of / on the other server. They are in
/// the last batch, which `shutdown` sends.
#[test]
fn the_collector_gets_each_span_below_its_caller() {
    let collector = Collector::start();
    let program = collector.program();
    let answer = get(&program, "/front", &format!("00-{TRACE}-{PARENT}-01"));
    assert_eq!(answer, format!("trace {TRACE}\n"));
    let spans = collector.collect(program);
    assert_eq!(spans.len(), 3, "{spans:?}");
    let below = |parent: &str| {
        let span = spans.iter().find(|span| hex(&span.parent_span_id) == parent);
        span.unwrap_or_else(|| panic!("no span below {parent}: {spans:?}"))
    };
    let front = below(PARENT);
    let call = below(&hex(&front.span_id));
    let other = below(&hex(&call.span_id));
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE));
    assert_eq!((front.kind(), call.kind(), other.kind()), (SpanKind::Server, SpanKind::Client, SpanKind::Server));
    for (span, path) in [(front, "/front"), (other, "/")] {
        assert_eq!(*attribute(span, "url.path"), Value::StringValue(path.into()));
        assert_eq!(*attribute(span, "http.response.status_code"), Value::IntValue(200));
    }
}

#[test]
fn a_header_that_is_missing_or_wrong_begins_a_trace() {
    traces().says("Without the header, or with one that cannot be read, the server begins a trace of its own.");
    let collector = Collector::start();
    let program = collector.program();
    let wrong = [
        String::new(),
        format!("00-{TRACE}-{PARENT}"),
        format!("00-{}-{PARENT}-01", "0".repeat(32)),
        format!("00-{}-{PARENT}-01", TRACE.to_uppercase()),
        format!("ff-{TRACE}-{PARENT}-01"),
    ];
    for header in &wrong {
        let answer = get(&program, "/", header);
        assert!(answer.starts_with("trace ") && !answer.contains(TRACE), "{header}: {answer}");
    }
    let spans = collector.collect(program);
    assert_eq!(spans.len(), wrong.len());
    assert!(spans.iter().all(|span| span.parent_span_id.is_empty()));
}

#[test]
fn a_trace_that_the_client_does_not_record_is_not_sent() {
    let collector = Collector::start();
    let program = collector.program();
    let answer = get(&program, "/front", &format!("00-{TRACE}-{PARENT}-00"));
    assert_eq!(answer, format!("trace {TRACE}\n"), "it is passed on");
    assert_eq!(collector.collect(program), []);
}

/// What the other server gets.
#[test]
fn the_call_has_the_trace_and_a_span_of_its_own() {
    let other = Server::start();
    let mut command = Command::new(harness::cargo::program("traces"));
    // Its address, and the other server; what `listen` adds is too much.
    command.args(["127.0.0.1:0", &other.url("/")]);
    let program = Program::listen(command);
    let mut connection = program.connect();
    let header = format!("00-{TRACE}-{PARENT}-01");
    connection.send(format!("GET /front HTTP/1.1\r\nhost: x\r\ntraceparent: {header}\r\n\r\n"));
    let mut called = other.accept();
    let head = called.head().unwrap();
    let passed_on = head.lines().find_map(|line| line.strip_prefix("traceparent: ")).unwrap();
    let parts: Vec<_> = passed_on.split('-').collect();
    assert_eq!((parts[0], parts[1], parts[3]), ("00", TRACE, "01"), "{head}");
    assert!(parts[2].len() == 16 && parts[2] != PARENT, "{head}");

    let start = Instant::now();
    let limit = Duration::from_secs(traces().number("The other server has {} seconds to answer"));
    let answer = connection.response().unwrap();
    assert_eq!(answer.status(), "HTTP/1.1 502 Bad Gateway");
    assert!(start.elapsed() > limit - Duration::from_secs(1) && start.elapsed() < LIMIT);

    // An answer that is too long.
    connection.get("/front");
    let mut called = other.accept();
    called.head().unwrap();
    let limit = traces().number("its answer is at most {} KiB") as usize;
    let body = "x".repeat(limit * 1024 + 1);
    called.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
    let answer = connection.response().unwrap();
    assert_eq!((answer.status(), answer.text()), ("HTTP/1.1 502 Bad Gateway", "no answer\n"));
}

#[test]
fn without_a_collector_the_server_goes_on() {
    // Bound, and never accepted from; then closed.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let (_sender, spans) = channel();
    let collector = Collector { endpoint, spans };
    let mut program = collector.program();
    assert!(get(&program, "/", "").starts_with("trace "));
    program.signal("INT");
    let (_, printed) = program.wait();
    harness::assert_prints(&printed, &["ERROR", "xport"]);
}

#[test]
fn it_is_too_late_to_set_the_parent_of_a_span_that_was_entered() {
    let tracer = SdkTracerProvider::builder().build().tracer("test");
    let subscriber = tracing_subscriber::registry().with(tracing_opentelemetry::layer().with_tracer(tracer));
    with_default(&subscriber.into(), || {
        let parent = info_span!("parent").context();
        let span = info_span!("early");
        assert!(span.set_parent(parent.clone()).is_ok());
        let span = info_span!("late");
        drop(span.enter());
        assert!(span.set_parent(parent).is_err());
    });
}

/// Whether two requests without a `traceparent` are in one trace, below the span of a connection.
#[test]
fn a_span_of_the_connection_makes_its_requests_one_trace_unless_it_is_filtered() {
    let provider = SdkTracerProvider::builder().build();
    let layer = || tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let one = |subscriber: Dispatch| {
        with_default(&subscriber, || {
            let connection = info_span!("connection");
            let trace = || {
                let request = info_span!("request");
                let headers = HeaderMap::new();
                let parent = TraceContextPropagator::new().extract(&HeaderExtractor(&headers));
                assert!(request.set_parent(parent).is_ok());
                let context = request.context();
                context.span().span_context().trace_id()
            };
            let trace = || connection.in_scope(trace);
            trace() == trace()
        })
    };
    assert!(one(tracing_subscriber::registry().with(layer()).into()));
    let own = filter_fn(|span| span.name() != "connection");
    assert!(!one(tracing_subscriber::registry().with(layer().with_filter(own)).into()));
    let page = fs::read_to_string(root().join("src/production/traces.md")).unwrap();
    assert!(page.contains("`spans.with_filter(filter_fn(|span| span.name() != \"connection\"))`"));
}
