// ANCHOR: program
//! A client over pools that are composed of pieces: for each server one HTTP/2 connection,
//! or the HTTP/1 connections that it needs.

use std::env;
use std::error::Error;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::header::{HOST, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::rt::{Read, Write};
use hyper::{Request, Response, Uri, Version};
use hyper_rustls::{ConfigBuilderExt, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::Connection;
use hyper_util::client::pool::{cache, map::Map, negotiate, singleton::Singleton};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tower::layer::layer_fn;
use tower::util::{AndThen, BoxService};
use tower::{Service, ServiceExt, service_fn};

// ANCHOR: limits
/// Requests at a time.
pub const AT_ONCE: usize = 8;
/// For a new connection: the address, TCP and the TLS handshake.
pub const CONNECT: Duration = Duration::from_secs(5);
/// For everything: the connection, the response and its whole body.
pub const TOTAL: Duration = Duration::from_secs(10);
/// The size of one body in memory.
pub const MAX_BODY: usize = 1024 * 1024;
/// How long a connection may be unused, and how often the pools look for such.
pub const IDLE: Duration = Duration::from_secs(20);
pub const TIDY: Duration = Duration::from_secs(5);
/// A request takes so many connections that turn out to be closed, then it fails.
pub const TRIES: usize = 3;
// ANCHOR_END: limits

const USAGE: &str = "usage: pools URL COUNT [--ca FILE]";

type BoxError = Box<dyn Error + Send + Sync>;
type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type NoBody = Empty<Bytes>;

// ANCHOR: http1
/// An HTTP/1 connection, and when it got its last request.
pub struct Http1 {
    sender: http1::SendRequest<NoBody>,
    used: Instant,
}

async fn http1<IO>(io: IO) -> Result<Http1, BoxError>
where
    IO: Read + Write + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(io).await?;
    // Its error reaches the request that it carries, as well.
    tokio::spawn(connection);
    Ok(Http1 { sender, used: Instant::now() })
}

impl Service<Request<NoBody>> for Http1 {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<hyper::Result<Response<Incoming>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.sender.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<NoBody>) -> Self::Future {
        self.used = Instant::now();
        origin_form(&mut request);
        Box::pin(self.sender.send_request(request))
    }
}
// ANCHOR_END: http1

/// What HTTP/1 puts on the wire: `GET /path`, and the server's name in `host`.
fn origin_form(request: &mut Request<NoBody>) {
    let url = request.uri();
    let host = url.authority().map(|authority| {
        let text = authority.as_str();
        // Credentials are not for `host`.
        let host = text.rsplit_once('@').map_or(text, |(_, host)| host);
        HeaderValue::from_str(host).expect("an authority is visible ASCII")
    });
    let root = PathAndQuery::from_static("/");
    let path = url.path_and_query().cloned().unwrap_or(root);
    *request.uri_mut() = path.into();
    if let Some(host) = host {
        request.headers_mut().entry(HOST).or_insert(host);
    }
}

// ANCHOR: http2
/// An HTTP/2 connection: its clones send over the same one.
#[derive(Clone)]
pub struct Http2(http2::SendRequest<NoBody>);

async fn http2<IO>(io: IO) -> Result<Http2, BoxError>
where
    IO: Read + Write + Unpin + Send + 'static,
{
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        // Finds a server that is gone without a word.
        .keep_alive_interval(IDLE)
        .keep_alive_timeout(CONNECT)
        // Requests wait for the settings of the server.
        .initial_max_send_streams(0)
        .handshake(io)
        .await?;
    tokio::spawn(connection);
    Ok(Http2(sender))
}

impl Service<Request<NoBody>> for Http2 {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<hyper::Result<Response<Incoming>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<NoBody>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
// ANCHOR_END: http2

// ANCHOR: names
/// A connection of either kind, taken from a pool. Hold it until the body has been read.
pub type Taken = BoxService<Request<NoBody>, Response<Incoming>, hyper::Error>;
/// The pool of one server. The types of hyper-util's have no names.
type Pool = BoxService<Uri, Taken, BoxError>;

/// The pools of all servers.
#[derive(Clone)]
pub struct Pools(mpsc::Sender<(Uri, oneshot::Sender<Pool>)>);

impl Pools {
    /// Starts a task that owns the pools. They end with the last clone of this value.
    pub fn new<C, IO>(connector: C) -> Pools
    where
        C: Service<Uri, Response = IO> + Clone + Send + 'static,
        C::Future: Unpin + Send,
        C::Error: Into<BoxError>,
        IO: Connection + Read + Write + Unpin + Send + 'static,
    {
        let (sender, asks) = mpsc::channel(AT_ONCE);
        tokio::spawn(keep(connector, asks));
        Pools(sender)
    }

    /// Takes a connection to the server of this URL, or opens one.
    pub async fn take(&self, url: &Uri) -> Result<Taken, BoxError> {
        let (answer, pool) = oneshot::channel();
        self.0.send((url.clone(), answer)).await?;
        pool.await?.oneshot(url.clone()).await
    }
}
// ANCHOR_END: names

// ANCHOR: pools
async fn keep<C, IO>(
    connector: C,
    mut asks: mpsc::Receiver<(Uri, oneshot::Sender<Pool>)>,
) where
    C: Service<Uri, Response = IO> + Clone + Send + 'static,
    C::Future: Unpin + Send,
    C::Error: Into<BoxError>,
    IO: Connection + Read + Write + Unpin + Send + 'static,
{
    let mut pools = Map::builder::<Uri>()
        .keys(|url| (url.scheme().cloned(), url.authority().cloned()))
        .values(move |_| {
            let pool = negotiate::builder()
                .connect(connector.clone())
                .inspect(|io: &IO| io.connected().is_negotiated_h2())
                .fallback(layer_fn(|connect| {
                    cache::builder()
                        .executor(TokioExecutor::new())
                        .build(AndThen::new(connect, |io| Box::pin(http1(io))))
                }))
                .upgrade(layer_fn(|connect| {
                    Singleton::new(AndThen::new(connect, http2))
                }))
                .build::<Uri>();
            (pool, Instant::now())
        })
        .build();
    // ANCHOR_END: pools

    // ANCHOR: tidy
    let mut tidy = interval(TIDY);
    tidy.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            ask = asks.recv() => {
                let Some((url, answer)) = ask else { break };
                let (pool, asked) = pools.service(&url);
                *asked = Instant::now();
                pool.fallback_mut().retain(|kept| !kept.sender.is_closed());
                let pool = pool.clone().map_response(BoxService::new);
                // An error: nobody waits any more.
                answer.send(BoxService::new(pool)).ok();
            }
            _ = tidy.tick() => pools.retain(|_, (pool, asked)| {
                pool.fallback_mut().retain(|kept| {
                    !kept.sender.is_closed() && kept.used.elapsed() < IDLE
                });
                // Requests end before their pool goes: TOTAL is less than IDLE.
                asked.elapsed() < IDLE
            }),
        }
    }
}
// ANCHOR_END: tidy

// ANCHOR: fetch
/// The version, and the body of a response.
pub async fn fetch(pools: &Pools, url: &Uri) -> Result<(Version, Bytes), BoxError> {
    timeout(TOTAL, async {
        let mut tries = 1;
        let mut connection = loop {
            let mut connection = pools.take(url).await?;
            match connection.ready().await {
                Ok(_) => break connection,
                // The server has closed it: take another.
                Err(_) if tries < TRIES => tries += 1,
                Err(error) => return Err(error.into()),
            }
        };
        let request = Request::get(url).body(NoBody::new())?;
        let response = connection.call(request).await?;
        if !response.status().is_success() {
            return Err(response.status().to_string().into());
        }
        let version = response.version();
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await?;
        // Only now may the pool have it back.
        drop(connection);
        Ok((version, body.to_bytes()))
    })
    .await?
}
// ANCHOR_END: fetch

/// Trusts the CAs of the system, or those in a file.
fn tls_config(ca: Option<String>) -> Result<ClientConfig, BoxError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?;
    let Some(file) = ca else {
        return Ok(builder.with_native_roots()?.with_no_client_auth());
    };
    let mut roots = RootCertStore::empty();
    for certificate in
        CertificateDer::pem_file_iter(&file).map_err(|e| format!("{file}: {e}"))?
    {
        roots.add(certificate.map_err(|e| format!("{file}: {e}"))?)?;
    }
    if roots.is_empty() {
        return Err(format!("{file}: there is no certificate in it").into());
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

// ANCHOR: run
async fn run(url: Uri, count: usize, tls: ClientConfig) -> Result<(), BoxError> {
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_all_versions()
        .build();
    let opened = Arc::new(AtomicUsize::new(0));
    let connector = {
        let opened = opened.clone();
        service_fn(move |url: Uri| {
            opened.fetch_add(1, Ordering::Relaxed);
            let connected = timeout(CONNECT, https.clone().oneshot(url));
            Box::pin(async { connected.await? })
        })
    };
    let pools = Pools::new(connector);

    // The first one alone: then the pool knows the version.
    let (version, _) = fetch(&pools, &url).await?;
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for _ in 1..count {
        let slot = slots.clone().acquire_owned().await?;
        let (pools, url) = (pools.clone(), url.clone());
        tasks.spawn(async move {
            let result = fetch(&pools, &url).await;
            drop(slot);
            result
        });
    }
    while let Some(result) = tasks.join_next().await {
        result??;
    }
    let opened = opened.load(Ordering::Relaxed);
    println!("{count} responses over {version:?}, connections opened: {opened}");
    Ok(())
}
// ANCHOR_END: run

async fn arguments() -> Result<(), BoxError> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let (url, count, ca) = match &arguments[..] {
        [url, count] => (url, count, None),
        [url, count, option, file] if option == "--ca" => (url, count, Some(file)),
        _ => return Err(USAGE.into()),
    };
    let url = url.parse().map_err(|error| format!("{url}: {error}"))?;
    let count = count.parse().map_err(|error| format!("{count}: {error}"))?;
    run(url, count, tls_config(ca.cloned())?).await
}

/// An error with its causes: hyper's errors do not print theirs.
pub fn report(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += ": ";
        text += &error.to_string();
        cause = error.source();
    }
    text
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match arguments().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", report(&*error));
            ExitCode::FAILURE
        }
    }
}
// ANCHOR_END: program
