// ANCHOR: program
//! A span and numbers for each connection and each request.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{Either, Full};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{CurrentSpanExecutor, TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};
use tracing::level_filters::LevelFilter;
use tracing::{Instrument, Span, debug, error, info, info_span};
use tracing_subscriber::EnvFilter;

/// HTTP/1: for each head; also how long a connection may be idle.
const HEAD: Duration = Duration::from_secs(5);
/// HTTP/2: a PING after this long without a request, and the time for the answer.
const PING_AFTER: Duration = Duration::from_secs(20);
const PING_ANSWER: Duration = Duration::from_secs(10);

type BoxError = Box<dyn Error + Send + Sync>;

// ANCHOR: metrics
pub struct Metrics {
    pub connections: Gauge,
    pub active: Gauge,
    pub duration: Family<Labels, Histogram, fn() -> Histogram>,
    pub registry: Registry,
    requests: AtomicU64,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct Labels {
    pub method: &'static str,
    pub route: &'static str,
    /// None: the request ended without a response.
    pub status: Option<u16>,
}

// ANCHOR_END: metrics

fn seconds() -> Histogram {
    Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
}

impl Default for Metrics {
    fn default() -> Self {
        let (connections, active) = (Gauge::default(), Gauge::default());
        let duration = Family::new_with_constructor(seconds as fn() -> Histogram);
        let mut registry = Registry::default();
        registry.register(
            "http_server_open_connections",
            "Connections that are open",
            connections.clone(),
        );
        registry.register(
            "http_server_active_requests",
            "Requests whose response has not ended",
            active.clone(),
        );
        registry.register(
            "http_server_request_duration_seconds",
            "From the head of a request to the end of its response",
            duration.clone(),
        );
        let requests = AtomicU64::new(0);
        Metrics { connections, active, duration, registry, requests }
    }
}

// ANCHOR: counted
/// Adds one to a gauge while it lives.
struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Counted(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
// ANCHOR_END: counted

// ANCHOR: observation
/// A request, until its response has ended or nobody wants it any more.
struct Observation {
    span: Span,
    start: Instant,
    labels: Labels,
    bytes: u64,
    length: Option<u64>,
    complete: bool,
    metrics: Arc<Metrics>,
    _active: Counted,
}

impl Drop for Observation {
    fn drop(&mut self) {
        let time = self.start.elapsed();
        let duration = self.metrics.duration.get_or_create(&self.labels);
        duration.observe(time.as_secs_f64());
        let (status, ms) = (self.labels.status, time.as_millis() as u64);
        let (bytes, complete) = (self.bytes, self.complete);
        info!(parent: &self.span, status, bytes, ms, complete, "response");
    }
}
// ANCHOR_END: observation

/// What the log calls a request, and what the numbers count it under.
#[derive(Clone, Copy)]
pub struct Route(pub &'static str);

pub async fn observe<F, B, E>(
    request: Request<Incoming>,
    metrics: Arc<Metrics>,
    handle: impl FnOnce(Request<Incoming>) -> F,
) -> Result<Response<Observed<B>>, E>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    // ANCHOR: observe
    let mut observation = Observation::new(&request, &metrics);
    let response = handle(request).instrument(observation.span.clone()).await?;
    observation.labels.status = Some(response.status().as_u16());
    if let Some(Route(route)) = response.extensions().get() {
        observation.labels.route = route;
    }
    // hyper drops a body that has all of its bytes, without asking for its end.
    let announced = response.headers().get(CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
    observation.length = announced.or(response.body().size_hint().exact());
    observation.complete = response.body().is_end_stream();
    Ok(response.map(|body| Observed { body, observation }))
    // ANCHOR_END: observe
}

impl Observation {
    // ANCHOR: new
    fn new(request: &Request<Incoming>, metrics: &Arc<Metrics>) -> Self {
        let id = metrics.requests.fetch_add(1, Relaxed) + 1;
        let method = request.method();
        // A path can have 64 KiB.
        let path: String = request.uri().path().chars().take(200).collect();
        Observation {
            span: info_span!("request", id, %method, path),
            start: Instant::now(),
            labels: Labels { method: known(method), route: "", status: None },
            bytes: 0,
            length: None,
            complete: false,
            metrics: metrics.clone(),
            _active: Counted::new(&metrics.active),
        }
    }
    // ANCHOR_END: new
}

// ANCHOR: known
/// Clients make up methods: each would be a time series for ever.
fn known(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        _ => "_OTHER",
    }
}
// ANCHOR_END: known

/// A body that is part of its request's observation.
pub struct Observed<B> {
    body: B,
    observation: Observation,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Observed<B> {
    type Data = Bytes;
    type Error = B::Error;

    // ANCHOR: observed
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Observed { body, observation } = &mut *self;
        let _entered = observation.span.enter();
        let frame = Pin::new(&mut *body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            observation.bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
        }
        observation.complete |= matches!(frame, Poll::Ready(None))
            || body.is_end_stream()
            || observation.length == Some(observation.bytes);
        frame
    }
    // ANCHOR_END: observed

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

async fn handle(
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path();
    let (route, status, text) = match path.strip_prefix("/hello/") {
        Some(name) => ("/hello/{name}", StatusCode::OK, format!("Hello, {name}!\n")),
        None if path == "/" => ("/", StatusCode::OK, "Hello, World!\n".to_owned()),
        None => ("", StatusCode::NOT_FOUND, "no such page\n".to_owned()),
    };
    debug!(route, "found");
    let mut response = text_for(request.method(), text);
    *response.status_mut() = status;
    response.extensions_mut().insert(Route(route));
    Ok(response)
}

/// The answer to a HEAD has no body. Over HTTP/2 hyper would send it.
fn text_for(method: &Method, text: String) -> Response<Full<Bytes>> {
    if method != Method::HEAD {
        return Response::new(Full::from(text));
    }
    let mut response = Response::new(Full::default());
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
    response
}

// ANCHOR: respond
pub async fn respond(
    request: Request<Incoming>,
    metrics: Arc<Metrics>,
) -> Result<Response<Either<Observed<Full<Bytes>>, Full<Bytes>>>, BoxError> {
    if request.uri().path() != "/metrics" {
        let response = observe(request, metrics, handle).await?;
        return Ok(response.map(Either::Left));
    }
    let mut text = String::new();
    prometheus_text::encode(&mut text, &metrics.registry)?;
    let mut response = text_for(request.method(), text).map(Either::Right);
    let content_type = HeaderValue::from_static(prometheus_text::CONTENT_TYPE);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    Ok(response)
}
// ANCHOR_END: respond

pub async fn serve<T>(stream: T, metrics: Arc<Metrics>)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let _open = Counted::new(&metrics.connections);
    let service = service_fn(|request| respond(request, metrics.clone()));
    let builder = builder();
    let conn = builder.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = conn.await {
        let error: &(dyn Error + 'static) = &*error;
        debug!(error, "the connection failed");
    }
}

// ANCHOR: builder
pub fn builder() -> auto::Builder<CurrentSpanExecutor<TokioExecutor>> {
    let executor = CurrentSpanExecutor::new(TokioExecutor::new());
    let mut builder = auto::Builder::new(executor);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_ANSWER);
    builder
}
// ANCHOR_END: builder

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // ANCHOR: subscriber
    let (stderr, _writes) = tracing_appender::non_blocking(io::stderr());
    let info = LevelFilter::INFO.into();
    let filter = EnvFilter::builder().with_default_directive(info).from_env()?;
    let colors = io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(colors)
        .init();
    // ANCHOR_END: subscriber

    let address = env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    writeln!(io::stdout(), "listening on http://{}", listener.local_addr()?)?;

    // ANCHOR: accept
    let metrics = Arc::new(Metrics::default());
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                error!(%error, "accept failed");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let span = info_span!("connection", %peer);
        tokio::spawn(serve(stream, metrics.clone()).instrument(span));
    }
    // ANCHOR_END: accept
}
// ANCHOR_END: program
