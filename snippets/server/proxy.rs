// ANCHOR: program
//! A reverse proxy: it takes requests, checks them, and sends them to one of its backends.

use std::convert::Infallible;
use std::env;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout, timeout_at};

// ANCHOR: client_limits
/// Client connections at a time, WebSockets not counted.
pub const MAX_CONNECTIONS: usize = 256;
/// From the connect to the head of the first request.
pub const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// HTTP/1: for each head; also how long a connection may be idle.
pub const HEAD: Duration = Duration::from_secs(10);
/// The longest pause in an upload, and its minimum rate.
pub const UPLOAD_PAUSE: Duration = Duration::from_secs(5);
pub const UPLOAD_BYTES_PER_SECOND: u32 = 2_000;
/// How long a peer, client or backend, may take nothing of what we write.
pub const WRITE_STALL: Duration = Duration::from_secs(30);
/// The most that is buffered of a response, and again of it on an HTTP/2 stream.
pub const BUFFER: usize = 64 * 1024;
/// When a connection must end, and the time for its last responses.
pub const MAX_AGE: Duration = Duration::from_secs(10 * 60);
pub const LAST_RESPONSES: Duration = Duration::from_secs(60);
// ANCHOR_END: client_limits

// ANCHOR: backend_limits
/// Requests and WebSockets at a time, for each backend.
pub const IN_FLIGHT: usize = 128;
pub const CONNECT: Duration = Duration::from_secs(2);
/// From the last piece of the request to the head of the response.
pub const BACKEND_HEAD: Duration = Duration::from_secs(10);
/// The longest pause in a response.
pub const DOWNLOAD_PAUSE: Duration = Duration::from_secs(60);
/// How long a WebSocket may be silent in both directions.
pub const TUNNEL_IDLE: Duration = Duration::from_secs(60);
/// How long an idle connection is kept: less than the backend keeps it.
pub const POOL_IDLE: Duration = Duration::from_secs(4);
/// How long a backend that refused a connection is left alone.
pub const DOWN: Duration = Duration::from_secs(5);
// ANCHOR_END: backend_limits

/// The name of this proxy in `via`. Each proxy in a chain needs its own.
pub const NAME: &str = "guide-proxy";

type Error = Box<dyn std::error::Error + Send + Sync>;
type ResponseBody = Either<Full<Bytes>, Shared>;
/// A place at a backend: what is left of the request and of the response share it.
type Place = Arc<OwnedSemaphorePermit>;

pub struct Proxy {
    client: Client<HttpConnector, Shared>,
    backends: Vec<Backend>,
    next: AtomicUsize,
    /// The proxies in front of this one, whose `forwarded` headers are true.
    trusted: Vec<IpAddr>,
}

struct Backend {
    authority: Authority,
    places: Arc<Semaphore>,
    down_until: Mutex<Option<Instant>>,
}

impl Proxy {
    pub fn new(backends: Vec<Authority>, trusted: Vec<IpAddr>) -> Proxy {
        // ANCHOR: client
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        #[cfg(target_os = "linux")]
        connector.set_tcp_user_timeout(Some(WRITE_STALL));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .set_host(false)
            .http1_max_buf_size(BUFFER)
            .build(connector);
        // ANCHOR_END: client
        let backends = backends.into_iter().map(|authority| Backend {
            authority,
            places: Arc::new(Semaphore::new(IN_FLIGHT)),
            down_until: Mutex::new(None),
        });
        let backends = backends.collect();
        // A socket for both families has IPv4 peers such as ::ffff:10.0.0.1.
        let trusted = trusted.iter().map(IpAddr::to_canonical).collect();
        Proxy { client, backends, next: AtomicUsize::new(0), trusted }
    }

    /// What the server calls: it always has an answer.
    async fn answer(
        &self,
        peer: IpAddr,
        request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, Infallible> {
        Ok(self.forward(peer, request).await.unwrap_or_else(refuse))
    }

    // ANCHOR: forward
    async fn forward(
        &self,
        peer: IpAddr,
        mut request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, StatusCode> {
        let host = check(&request)?;
        let websocket = is_websocket(&request);
        let http2 = request.version() == Version::HTTP_2;
        let client = websocket.then(|| hyper::upgrade::on(&mut request));
        let (mut head, body) = request.into_parts();
        let is_head = head.method == Method::HEAD;
        let trusted = self.trusted.contains(&peer.to_canonical());
        rewrite_request(&mut head.headers, head.version, &host, peer, trusted);
        frame_request(&mut head.headers, &body);
        if websocket {
            ask_for_websocket(&mut head.headers);
        }
        head.version = Version::HTTP_11;

        let (mut response, place) = self.send(head, Shared::upload(body)).await?;
        // ANCHOR_END: forward

        // ANCHOR: response
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let client = client.filter(|_| upgrades_to_websocket(response.headers()));
            let client = client.ok_or(StatusCode::BAD_GATEWAY)?;
            let backend = hyper::upgrade::on(&mut response);
            tokio::spawn(tunnel(client, backend, place));
            drop_hop_by_hop(response.headers_mut());
            ask_for_websocket(response.headers_mut());
            return Ok(response.map(|_| Either::Left(Full::default())));
        }
        rewrite_response(&mut response, is_head)?;
        Ok(response.map(|body| Either::Right(Shared::download(body, place, http2))))
    }
    // ANCHOR_END: response

    // ANCHOR: pick
    /// The next backend that is up and has a place.
    fn pick(&self) -> Option<(&Backend, Place)> {
        let first = self.next.fetch_add(1, Relaxed);
        let count = self.backends.len();
        // If all are down, there is nothing to lose.
        let all_down = self.backends.iter().all(Backend::is_down);
        (0..count)
            .map(|i| &self.backends[(first.wrapping_add(i)) % count])
            .filter(|backend| all_down || !backend.is_down())
            .find_map(|backend| {
                let place = backend.places.clone().try_acquire_owned().ok()?;
                Some((backend, Arc::new(place)))
            })
    }
    // ANCHOR_END: pick

    // ANCHOR: send
    /// Sends the request, and waits for the head of the response.
    async fn send(
        &self,
        head: hyper::http::request::Parts,
        upload: Shared,
    ) -> Result<(Response<Incoming>, Place), StatusCode> {
        let (mut retries, mut connects) = (1, self.backends.len() - 1);
        // Later it would be true of a body that was sent.
        let harmless = head.method.is_idempotent() && upload.is_end_stream();
        loop {
            let picked = self.pick();
            let (backend, place) = picked.ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
            upload.lock().take(&place);
            let mut request = Request::from_parts(head.clone(), upload.clone());
            *request.uri_mut() = backend.uri(&head.uri)?;
            let error = match upload.head_in_time(self.client.request(request)).await
            {
                Ok(response) => return Ok((response, place)),
                Err(error) => error,
            };
            // ANCHOR_END: send
            // ANCHOR: retry
            eprintln!("backend {}: {}", backend.authority, report(&*error));
            let left = if is_connect(&*error) {
                if !is_our_limit(&*error) {
                    backend.set_down();
                }
                &mut connects
            } else if harmless && is_unanswered(&*error) {
                &mut retries
            } else {
                return Err(status(&*error));
            };
            *left = left.checked_sub(1).ok_or_else(|| status(&*error))?;
        }
    }
    // ANCHOR_END: retry
}

impl Backend {
    fn down_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.down_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_down(&self) -> bool {
        self.down_until().is_some_and(|until| Instant::now() < until)
    }

    fn set_down(&self) {
        *self.down_until() = Some(Instant::now() + DOWN);
    }

    // ANCHOR: uri
    /// The pool finds a connection by scheme and authority.
    fn uri(&self, target: &Uri) -> Result<Uri, StatusCode> {
        let root = PathAndQuery::from_static("/");
        Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(self.authority.clone())
            .path_and_query(target.path_and_query().cloned().unwrap_or(root))
            .build()
            .map_err(|_| StatusCode::BAD_REQUEST)
    }
    // ANCHOR_END: uri
}

// ANCHOR: check
/// Refuses what must not be forwarded; the host that the client asks for.
fn check(request: &Request<Incoming>) -> Result<HeaderValue, StatusCode> {
    if [Method::CONNECT, Method::TRACE].contains(request.method()) {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    let uri = request.uri();
    // `GET admin` would be a request for / on the host `admin`.
    let only_host = uri.authority().is_some() && uri.scheme().is_none();
    if only_host || uri.path() == "*" && request.method() != Method::OPTIONS {
        return Err(StatusCode::BAD_REQUEST);
    }
    let headers = request.headers();
    if !is_chunked_or_none(headers) {
        return Err(StatusCode::NOT_IMPLEMENTED);
    }
    if headers.get_all(header::VIA).iter().any(names_this_proxy) {
        return Err(StatusCode::LOOP_DETECTED);
    }
    // ANCHOR_END: check
    // ANCHOR: host
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (request.uri().authority(), hosts.next(), hosts.next()) {
        (_, _, Some(_)) => None,
        // Absolute form, or HTTP/2: this is the host, whatever the header says.
        (Some(authority), _, None) => HeaderValue::from_str(authority.as_str()).ok(),
        (None, host, None) => host.cloned(),
    };
    host.filter(is_host).ok_or(StatusCode::BAD_REQUEST)
}
// ANCHOR_END: host

/// A name or an address, perhaps with a port.
fn is_host(host: &HeaderValue) -> bool {
    Authority::try_from(host.as_bytes()).is_ok_and(|authority| {
        let name = authority.host();
        authority.as_str() == name || {
            let port = authority.port_u16().map(|port| format!("{name}:{port}"));
            port.is_some_and(|whole| whole == authority.as_str())
        }
    })
}

/// `gzip, chunked` would lose its meaning with the header.
fn is_chunked_or_none(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::TRANSFER_ENCODING).iter();
    let first = values.next();
    let chunked = |v: &HeaderValue| v.as_bytes().eq_ignore_ascii_case(b"chunked");
    first.is_none_or(chunked) && values.next().is_none()
}

fn names_this_proxy(via: &HeaderValue) -> bool {
    list(via).any(|hop| {
        let mut words = hop.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty());
        words.nth(1) == Some(NAME.as_bytes())
    })
}

/// The members of a list that is separated by commas.
fn list(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

// ANCHOR: hop_by_hop
/// Headers for the next hop only, whether `connection` names them or not.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::TE,
    header::UPGRADE,
    header::PROXY_AUTHORIZATION,
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("http2-settings"),
];

fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(list)
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}
// ANCHOR_END: hop_by_hop

/// A backend may take the trailers of a request for headers.
fn drop_forged(trailers: &mut HeaderMap) {
    drop_hop_by_hop(trailers);
    drop_reserved(trailers, false);
}

// ANCHOR: rewrite_request
fn rewrite_request(
    headers: &mut HeaderMap,
    version: Version,
    host: &HeaderValue,
    peer: IpAddr,
    trusted: bool,
) {
    let trailers = headers.get(header::TE).is_some_and(|te| {
        list(te).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
    });
    drop_hop_by_hop(headers);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    // hyper's client sends the body at once, so the backend has nothing to permit.
    headers.remove(header::EXPECT);
    headers.insert(header::HOST, host.clone());
    join(headers, header::COOKIE, "; ");
    forwarded(headers, host, peer, trusted);
    let version = match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2.0",
        _ => "1.1",
    };
    add(headers, header::VIA, &format!("{version} {NAME}"));
}
// ANCHOR_END: rewrite_request

// ANCHOR: forwarded
/// Says who asked for what. Only a trusted proxy may have said something before.
fn forwarded(
    headers: &mut HeaderMap,
    host: &HeaderValue,
    peer: IpAddr,
    trusted: bool,
) {
    drop_reserved(headers, trusted);
    let peer = peer.to_canonical();
    let node = match peer {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("\"[{ip}]\""),
    };
    let asked = host.to_str().unwrap_or_default();
    let hop = format!("for={node};host=\"{asked}\";proto=http");
    add(headers, header::FORWARDED, &hop);
    add(headers, X_FORWARDED_FOR, &peer.to_string());
    headers.entry(X_FORWARDED_HOST).or_insert_with(|| host.clone());
    let http = HeaderValue::from_static("http");
    headers.entry(X_FORWARDED_PROTO).or_insert(http);
}
// ANCHOR_END: forwarded

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

fn drop_reserved(headers: &mut HeaderMap, trusted: bool) {
    let forged: Vec<HeaderName> =
        headers.keys().filter(|name| is_reserved(name, trusted)).cloned().collect();
    for name in &forged {
        headers.remove(name);
    }
}

/// Names that only a proxy may send. `_` is `-` to many backends, and `proxy` sets
/// `HTTP_PROXY` in a CGI program.
fn is_reserved(name: &HeaderName, trusted: bool) -> bool {
    let name = name.as_str();
    let forwarding = name == "forwarded" || name.starts_with("x-forwarded-");
    let other = name == "x-real-ip" || name == "proxy" || name.contains('_');
    other || forwarding && !trusted
}

/// Adds to the list that a header has.
fn add(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.append(&name, value);
        join(headers, name, ", ");
    }
}

/// Puts the values of a header into one: HTTP/2 splits cookies, for example.
fn join(headers: &mut HeaderMap, name: HeaderName, separator: &str) {
    let values = headers.get_all(&name);
    if values.iter().nth(1).is_none() {
        return;
    }
    let values: Vec<&[u8]> = values.iter().map(HeaderValue::as_bytes).collect();
    if let Ok(value) = HeaderValue::from_bytes(&values.join(separator.as_bytes())) {
        headers.insert(name, value);
    }
}

// ANCHOR: frame_request
/// How the backend finds the end of the body.
fn frame_request(headers: &mut HeaderMap, body: &Incoming) {
    match body.size_hint().exact() {
        Some(0) if !headers.contains_key(header::CONTENT_LENGTH) => {}
        Some(length) => {
            headers.insert(header::CONTENT_LENGTH, length.into());
        }
        None => {
            headers.remove(header::CONTENT_LENGTH);
            let chunked = HeaderValue::from_static("chunked");
            headers.insert(header::TRANSFER_ENCODING, chunked);
        }
    }
}
// ANCHOR_END: frame_request

// ANCHOR: rewrite_response
fn rewrite_response(
    response: &mut Response<Incoming>,
    is_head: bool,
) -> Result<(), StatusCode> {
    *response.version_mut() = Version::HTTP_11;
    let no_body = is_head || response.status() == StatusCode::NOT_MODIFIED;
    let length = response.body().size_hint().exact();
    let is_426 = response.status() == StatusCode::UPGRADE_REQUIRED;
    let headers = response.headers_mut();
    let chunked = headers.contains_key(header::TRANSFER_ENCODING);
    if !is_chunked_or_none(headers) {
        return Err(StatusCode::BAD_GATEWAY);
    }
    // A 426 has to name the protocol, and this one passes.
    let websocket_required = is_426 && upgrades_to_websocket(headers);
    drop_hop_by_hop(headers);
    if websocket_required {
        ask_for_websocket(headers);
    }
    match (no_body, length) {
        // The length of what a GET would get: hyper has not looked at it.
        (true, _) => {
            let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
            let first = lengths.next();
            if lengths.any(|length| Some(length) != first) {
                return Err(StatusCode::BAD_GATEWAY);
            }
            if chunked {
                headers.remove(header::CONTENT_LENGTH);
            } else if let Some(first) = first.cloned() {
                headers.insert(header::CONTENT_LENGTH, first);
            }
        }
        (false, Some(length)) if headers.contains_key(header::CONTENT_LENGTH) => {
            headers.insert(header::CONTENT_LENGTH, length.into());
        }
        (false, _) => {
            headers.remove(header::CONTENT_LENGTH);
        }
    }
    Ok(())
}
// ANCHOR_END: rewrite_response

// ANCHOR: websocket
/// No other protocol passes: with `h2c`, requests would pass unchecked.
fn is_websocket(request: &Request<Incoming>) -> bool {
    request.version() == Version::HTTP_11
        && request.method() == Method::GET
        && request.body().is_end_stream()
        && upgrades_to_websocket(request.headers())
}

fn upgrades_to_websocket(headers: &HeaderMap) -> bool {
    let mut connection = headers.get_all(header::CONNECTION).iter().flat_map(list);
    let upgrade = headers.get(header::UPGRADE);
    connection.any(|option| option.eq_ignore_ascii_case(b"upgrade"))
        && upgrade.is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

fn ask_for_websocket(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}
// ANCHOR_END: websocket

async fn tunnel(client: OnUpgrade, backend: OnUpgrade, place: Place) {
    let both = async { tokio::try_join!(client, backend) };
    let result: Result<(), Error> = match timeout(HEAD, both).await {
        Ok(Ok((client, backend))) => copy(client, backend).await.map_err(Into::into),
        Ok(Err(error)) => Err(error.into()),
        Err(error) => Err(error.into()),
    };
    if let Err(error) = result {
        eprintln!("WebSocket: {}", report(&*error));
    }
    drop(place);
}

// ANCHOR: copy
/// Copies in both directions, until both have ended or nothing moves.
async fn copy(client: Upgraded, backend: Upgraded) -> io::Result<()> {
    let moved = AtomicBool::new(false);
    let (client_read, client_write) = tokio::io::split(TokioIo::new(client));
    let (backend_read, backend_write) = tokio::io::split(TokioIo::new(backend));
    let up = pump(client_read, backend_write, &moved);
    let down = pump(backend_read, client_write, &moved);
    let mut both = pin!(async { tokio::try_join!(up, down) });
    loop {
        match timeout(TUNNEL_IDLE, both.as_mut()).await {
            Ok(result) => return result.map(|_| ()),
            Err(_) if moved.swap(false, Relaxed) => {}
            Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "idle")),
        }
    }
}

// ANCHOR_END: copy

// ANCHOR: pump
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    moved: &AtomicBool,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            let written = to.write(rest).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            moved.store(true, Relaxed);
            rest = &rest[written..];
        }
    }
}
// ANCHOR_END: pump

/// A body that fails if its sender pauses for too long, or is too slow.
pub struct Paced {
    /// None if its reader does not read.
    body: Option<Incoming>,
    pause: Duration,
    rate: Option<u32>,
    /// How long the sender may still make us wait: each byte adds to it.
    credit: Duration,
    waiting_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    moved: Instant,
    /// Taken until the body has ended.
    place: Option<Place>,
    watch: JoinSet<()>,
}

impl Paced {
    fn new(body: Incoming, pause: Duration, rate: Option<u32>) -> Paced {
        Paced {
            body: Some(body),
            pause,
            rate,
            credit: pause,
            waiting_since: None,
            timer: None,
            moved: Instant::now(),
            place: None,
            watch: JoinSet::new(),
        }
    }

    fn take(&mut self, place: &Place) {
        self.place = (!self.is_end_stream()).then(|| place.clone());
    }

    // ANCHOR: check_reader
    /// The time until which the reader may ask for more, if it is not too late.
    fn check_reader(&mut self) -> Option<Instant> {
        let now = Instant::now();
        // While the backend is the slow one, the reader has asked.
        let asked = if self.waiting_since.is_some() { now } else { self.moved };
        if asked + WRITE_STALL <= now {
            (self.body, self.place) = (None, None);
            return None;
        }
        Some(asked + WRITE_STALL)
    }
    // ANCHOR_END: check_reader
}

// ANCHOR: poll_frame
impl Body for Paced {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(Some(Err(Stalled.into())));
        };
        let Poll::Ready(mut frame) = Pin::new(body).poll_frame(cx) else {
            let since = *self.waiting_since.get_or_insert_with(Instant::now);
            let until = since + self.pause.min(self.credit);
            let timer =
                self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
            if timer.deadline() != until {
                timer.as_mut().reset(until);
            }
            ready!(timer.as_mut().poll(cx));
            return Poll::Ready(Some(Err(Stalled.into())));
        };
        // ANCHOR_END: poll_frame
        // ANCHOR: rate
        self.moved = Instant::now();
        let waited = self.waiting_since.take().map(|since| self.moved - since);
        if let (Some(rate), Some(Ok(frame))) = (self.rate, &mut frame) {
            frame.trailers_mut().map(drop_forged);
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            let earned = Duration::from_secs(bytes as u64) / rate;
            let credit = self.credit.saturating_sub(waited.unwrap_or_default());
            self.credit = credit + earned;
        }
        if frame.is_none() || self.is_end_stream() {
            self.place = None;
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }
    // ANCHOR_END: rate

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

/// A body that others hold too. The one of a request can be sent to another backend
/// if it was not begun.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Paced>>);

impl Shared {
    fn upload(body: Incoming) -> Shared {
        let rate = Some(UPLOAD_BYTES_PER_SECOND);
        Shared(Arc::new(Mutex::new(Paced::new(body, UPLOAD_PAUSE, rate))))
    }

    fn download(body: Incoming, place: Place, http2: bool) -> Shared {
        let mut paced = Paced::new(body, DOWNLOAD_PAUSE, None);
        paced.take(&place);
        let body = Shared(Arc::new(Mutex::new(paced)));
        if http2 {
            body.lock().watch.spawn(watch(Arc::downgrade(&body.0)));
        }
        body
    }

    fn lock(&self) -> MutexGuard<'_, Paced> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ANCHOR: head_in_time
    /// Waits for the response. Each piece of the upload gives it more time.
    async fn head_in_time(
        &self,
        response: legacy::ResponseFuture,
    ) -> Result<Response<Incoming>, Error> {
        let mut response = pin!(response);
        loop {
            let until = self.lock().moved + BACKEND_HEAD;
            match timeout_at(until, response.as_mut()).await {
                Ok(result) => return Ok(result?),
                Err(_) if self.lock().moved + BACKEND_HEAD > Instant::now() => {}
                Err(elapsed) => return Err(elapsed.into()),
            }
        }
    }
    // ANCHOR_END: head_in_time
}

impl Body for Shared {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Pin::new(&mut *self.lock()).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.lock().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().size_hint()
    }
}

// ANCHOR: watch
/// Leaves the backend if the client does not read this stream.
async fn watch(body: Weak<Mutex<Paced>>) {
    while let Some(body) = body.upgrade().map(Shared) {
        let Some(until) = body.lock().check_reader() else { return };
        drop(body);
        sleep_until(until).await;
    }
}
// ANCHOR_END: watch

/// The other side was too slow.
#[derive(Debug)]
struct Stalled;

impl std::fmt::Display for Stalled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the body has stalled")
    }
}

impl std::error::Error for Stalled {}

type AnyError = dyn std::error::Error + 'static;

/// The error and its causes.
fn chain(error: &AnyError) -> impl Iterator<Item = &AnyError> {
    std::iter::successors(Some(error), |error| error.source())
}

// ANCHOR: errors
/// Whether there was no connection: the backend knows nothing of the request.
fn is_connect(error: &AnyError) -> bool {
    error.downcast_ref().is_some_and(legacy::Error::is_connect)
}

/// Whether this process or host has no more descriptors (`EMFILE`, `ENFILE`).
pub fn is_our_limit(error: &AnyError) -> bool {
    chain(error)
        .filter_map(|error| error.downcast_ref::<io::Error>()?.raw_os_error())
        .any(|code| code == 24 || code == 23)
}

/// Whether the connection ended before the response: it may have been a stale one.
fn is_unanswered(error: &AnyError) -> bool {
    chain(error).any(|error| {
        let http = error.downcast_ref::<hyper::Error>();
        let io = error.downcast_ref::<io::Error>();
        http.is_some_and(hyper::Error::is_incomplete_message)
            || io.is_some_and(|io| io.kind() == io::ErrorKind::ConnectionReset)
    })
}

fn status(error: &AnyError) -> StatusCode {
    let is_user = |error: &hyper::Error| error.is_user();
    if error.is::<tokio::time::error::Elapsed>() {
        StatusCode::GATEWAY_TIMEOUT
    } else if chain(error).any(|error| error.is::<Stalled>()) {
        StatusCode::REQUEST_TIMEOUT
    } else if chain(error).filter_map(|e| e.downcast_ref()).any(is_user) {
        // The client's body broke off, or was malformed.
        StatusCode::BAD_REQUEST
    } else {
        StatusCode::BAD_GATEWAY
    }
}
// ANCHOR_END: errors

fn refuse(status: StatusCode) -> Response<ResponseBody> {
    let text = format!("{status}\n");
    let mut response = Response::new(Either::Left(Full::from(text)));
    *response.status_mut() = status;
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}

fn report(error: &AnyError) -> String {
    chain(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
    builder
        .http2()
        .max_send_buf_size(BUFFER)
        .timer(TokioTimer::new())
        .max_concurrent_streams(20)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

/// Serves one client.
pub async fn serve<T>(proxy: Arc<Proxy>, stream: T, peer: IpAddr) -> Result<(), Error>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let begun = AtomicBool::new(false);
    let service = service_fn(|request| {
        begun.store(true, Relaxed);
        let proxy = proxy.clone();
        async move { proxy.answer(peer, request).await }
    });
    let builder = builder();
    let io = TokioIo::new(stream);
    let mut conn = pin!(builder.serve_connection_with_upgrades(io, service));
    if let Ok(result) = timeout(FIRST_REQUEST, conn.as_mut()).await {
        return result;
    }
    if !begun.load(Relaxed) {
        return Err("no request in time".into());
    }
    if let Ok(result) = timeout(MAX_AGE - FIRST_REQUEST, conn.as_mut()).await {
        return result;
    }
    conn.as_mut().graceful_shutdown();
    timeout(LAST_RESPONSES, conn)
        .await
        .unwrap_or_else(|_| Err("closed at its maximum age".into()))
}

// ANCHOR: limit_writes
/// The kernel ends a connection whose peer takes nothing for so long.
pub fn limit_writes(stream: &TcpStream, limit: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    SockRef::from(stream).set_tcp_user_timeout(Some(limit))?;
    Ok(())
}
// ANCHOR_END: limit_writes

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut arguments = env::args().skip(1);
    let address = arguments.next().unwrap_or("127.0.0.1:3000".to_owned());
    let mut backends: Vec<Authority> =
        arguments.map(|backend| backend.parse()).collect::<Result<_, _>>()?;
    if backends.is_empty() {
        backends.push(demo().await?.to_string().parse()?);
    }
    let trusted = env::var("TRUSTED_PROXIES").unwrap_or_default();
    let trusted = trusted.split_whitespace().map(str::parse);
    let proxy = Arc::new(Proxy::new(backends, trusted.collect::<Result<_, _>>()?));

    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let slot = slots.clone().acquire_owned().await?;
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                eprintln!("accept failed: {error}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let proxy = proxy.clone();
        tokio::spawn(async move {
            let result = match limit_writes(&stream, WRITE_STALL) {
                Ok(()) => serve(proxy, stream, peer.ip()).await,
                Err(error) => Err(error.into()),
            };
            if let Err(error) = result {
                eprintln!("connection failed: {}", report(&*error));
            }
            drop(slot);
        });
    }
}

/// A backend to try the proxy with: it answers with what it was told.
async fn demo() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let service = service_fn(|request: Request<Incoming>| async move {
        let (head, body) = request.into_parts();
        let mut text = format!("{} {}\n", head.method, head.uri);
        for name in ["host", "via", "forwarded", "x-forwarded-for"] {
            let value = head.headers.get(name).map(HeaderValue::to_str);
            text += &format!("{name}: {}\n", value.unwrap_or(Ok("")).unwrap_or(""));
        }
        let length = body.collect().await.map_or(0, |body| body.to_bytes().len());
        text += &format!("{length} bytes\n");
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(text)))
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let builder = builder();
            let conn = builder.serve_connection(TokioIo::new(stream), service);
            tokio::spawn(conn.into_owned());
        }
    });
    Ok(address)
}
// ANCHOR_END: program
