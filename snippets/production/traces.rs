// ANCHOR: program
//! A server that takes part in a trace, and passes it on to the server that it asks.

use std::env;
use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use opentelemetry::global;
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::ctrl_c;
use tokio::time::{sleep, timeout};
use tracing::{Instrument, Span, error, field, info_span, warn};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// HTTP/1: for each head; also how long a connection may be idle.
const HEAD: Duration = Duration::from_secs(5);
/// HTTP/2: a PING after this long without a request, and the time for the answer.
const PING_AFTER: Duration = Duration::from_secs(20);
const PING_ANSWER: Duration = Duration::from_secs(10);
/// The time for an answer of the other server, and its size.
const CALL: Duration = Duration::from_secs(5);
const MAX_ANSWER: usize = 64 * 1024;

type BoxError = Box<dyn Error + Send + Sync>;

// ANCHOR: provider
fn provider() -> Result<SdkTracerProvider, BoxError> {
    let service = Resource::builder().with_service_name("traces").build();
    let mut provider = SdkTracerProvider::builder().with_resource(service);
    // The collector, for example http://127.0.0.1:4318.
    if env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").is_some() {
        let exporter = SpanExporter::builder().with_http().build()?;
        provider = provider.with_batch_exporter(exporter);
    }
    Ok(provider.build())
}
// ANCHOR_END: provider

// ANCHOR: server
/// The span of a request: a part of the client's trace, if it says that there is one.
fn server_span(request: &Request<Incoming>) -> Span {
    let headers = HeaderExtractor(request.headers());
    let parent = global::get_text_map_propagator(|names| names.extract(&headers));
    let span = info_span!(
        "request",
        otel.kind = "server",
        http.request.method = %request.method(),
        url.path = request.uri().path(),
        http.response.status_code = field::Empty,
    );
    // An error says that the filter has turned this span off.
    span.set_parent(parent).ok();
    span
}
// ANCHOR_END: server

// ANCHOR: client
/// Asks another server, which becomes a part of this trace.
async fn ask(
    client: &Client<HttpConnector, Empty<Bytes>>,
    uri: &str,
) -> Result<Bytes, BoxError> {
    let mut request = Request::get(uri).body(Empty::new())?;
    let span = info_span!("ask", otel.kind = "client", url.full = uri);
    let mut headers = HeaderInjector(request.headers_mut());
    let context = span.context();
    global::get_text_map_propagator(|names| {
        names.inject_context(&context, &mut headers)
    });
    let answer = async {
        let response = client.request(request).await?;
        Ok(Limited::new(response.into_body(), MAX_ANSWER).collect().await?.to_bytes())
    };
    timeout(CALL, answer.instrument(span)).await?
}
// ANCHOR_END: client

/// What the requests share.
struct App {
    client: Client<HttpConnector, Empty<Bytes>>,
    other: String,
}

// ANCHOR: respond
async fn respond(
    request: Request<Incoming>,
    app: Arc<App>,
) -> Result<Response<Full<Bytes>>, BoxError> {
    let span = server_span(&request);
    async {
        let response = handle(request, &app).await;
        let status = i64::from(response.status().as_u16());
        Span::current().record("http.response.status_code", status);
        Ok(response)
    }
    .instrument(span)
    .await
}
// ANCHOR_END: respond

async fn handle(request: Request<Incoming>, app: &App) -> Response<Full<Bytes>> {
    let (status, text) = match request.uri().path() {
        "/" => {
            let context = Span::current().context();
            let trace = context.span().span_context().trace_id();
            (StatusCode::OK, Bytes::from(format!("trace {trace}\n")))
        }
        "/front" => match ask(&app.client, &app.other).await {
            Ok(text) => (StatusCode::OK, text),
            Err(error) => {
                let error: &(dyn Error + 'static) = &*error;
                error!(error, "the other server did not answer");
                (StatusCode::BAD_GATEWAY, Bytes::from("no answer\n"))
            }
        },
        _ => (StatusCode::NOT_FOUND, Bytes::from("no such page\n")),
    };
    let mut response = Response::new(Full::new(text));
    *response.status_mut() = status;
    response
}

async fn serve(stream: TcpStream, app: Arc<App>) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_ANSWER);
    let service = service_fn(|request| respond(request, app.clone()));
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await
    {
        let error: &(dyn Error + 'static) = &*error;
        warn!(error, "the connection failed");
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // ANCHOR: main
    global::set_text_map_propagator(TraceContextPropagator::new());
    let provider = provider()?;
    let tracer = provider.tracer("traces");
    let spans =
        tracing_opentelemetry::layer().with_tracer(tracer).with_threads(false);
    let (stderr, _writes) = tracing_appender::non_blocking(io::stderr());
    let lines =
        fmt::layer().with_writer(stderr).with_ansi(io::stderr().is_terminal());
    tracing_subscriber::registry()
        .with(LevelFilter::INFO)
        .with(spans)
        .with(lines)
        .init();
    // ANCHOR_END: main

    let address = env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    writeln!(io::stdout(), "listening on http://{address}")?;
    let other = env::args().nth(2).unwrap_or(format!("http://{address}/"));
    let client = Client::builder(TokioExecutor::new()).build_http();
    let app = Arc::new(App { client, other });

    tokio::select! {
        () = accept(listener, app) => {}
        signal = ctrl_c() => signal?,
    }
    // ANCHOR: shutdown
    provider.shutdown()?;
    // ANCHOR_END: shutdown
    Ok(())
}

async fn accept(listener: TcpListener, app: Arc<App>) {
    loop {
        match listener.accept().await {
            Ok((stream, _peer)) => {
                tokio::spawn(serve(stream, app.clone()));
            }
            Err(error) => {
                error!(%error, "accept failed");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
// ANCHOR_END: program
