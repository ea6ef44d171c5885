// ANCHOR: program
//! A client that goes through the proxy that the environment names, or `--proxy`.

use std::env::{self, VarError};
use std::error::Error;
use std::future::ready;
use std::io::{self, Write};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::PROXY_AUTHORIZATION;
use hyper::http::uri::Scheme;
use hyper::rt::{Read, ReadBufCursor, Write as HyperWrite};
use hyper::{Request, Uri};
use hyper_rustls::{ConfigBuilderExt, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::proxy::{SocksV4, SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{
    Connect, Connected, Connection, HttpConnector,
};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpStream, lookup_host};
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tower::{ServiceExt, service_fn};

// ANCHOR: limits
/// For TCP alone. The addresses of a name share it.
pub const TCP: Duration = Duration::from_secs(5);
/// For a new connection: names, TCP, the answer of the proxy and the TLS handshake.
pub const CONNECT: Duration = Duration::from_secs(10);
/// For everything: the connection, the response and its whole body.
pub const TOTAL: Duration = Duration::from_secs(30);
/// The size of a body in memory.
const MAX_BODY: usize = 1024 * 1024;
// ANCHOR_END: limits

const USAGE: &str = "usage: proxies URL [--proxy URL] [--ca FILE]";

type BoxError = Box<dyn Error + Send + Sync>;

pub const VARIABLES: [&str; 8] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
];

// ANCHOR: matcher
/// The proxies of the environment, or this one for all requests.
pub fn matcher(proxy: Option<&str>) -> Result<Matcher, BoxError> {
    if let Some(url) = proxy {
        check("--proxy", url)?;
        return Ok(Matcher::builder().all(url).build());
    }
    // In a CGI program the matcher ignores them all, and so must the checks.
    if env::var_os("REQUEST_METHOD").is_none() {
        for name in VARIABLES {
            match env::var(name) {
                Err(VarError::NotPresent) => {}
                Err(_) => return Err(format!("{name} is not UTF-8").into()),
                Ok(value) if value.is_empty() => {}
                // A list, where anything goes.
                Ok(_) if name.eq_ignore_ascii_case("NO_PROXY") => {}
                Ok(url) => check(name, &url)?,
            }
        }
    }
    Ok(Matcher::from_env())
}

/// The matcher would ignore such a value, and the client connect directly.
fn check(name: &str, url: &str) -> Result<(), BoxError> {
    let matcher = Matcher::builder().all(url).build();
    let proxy = matcher.intercept(&Uri::from_static("http://a.test/"));
    // The value may have a password in it, so the error does not show it.
    let proxy = proxy.ok_or_else(|| format!("{name} is not the URL of a proxy"))?;
    check_port(proxy.uri()).map_err(|error| format!("{name}: {error}").into())
}
// ANCHOR_END: matcher

// ANCHOR: forwarder
/// The proxy that is sent the request itself, and not asked for a tunnel.
fn forwarder(matcher: &Matcher, url: &Uri) -> Option<Intercept> {
    let proxy = matcher.intercept(url)?;
    let both = [url.scheme(), proxy.uri().scheme()];
    (both == [Some(&Scheme::HTTP); 2]).then_some(proxy)
}

pub fn request(
    matcher: &Matcher,
    url: Uri,
) -> Result<Request<Empty<Bytes>>, BoxError> {
    let proxy = forwarder(matcher, &url);
    let mut request = Request::get(url).body(Empty::new())?;
    if let Some(auth) = proxy.as_ref().and_then(Intercept::basic_auth) {
        request.headers_mut().insert(PROXY_AUTHORIZATION, auth.clone());
    }
    Ok(request)
}
// ANCHOR_END: forwarder

// ANCHOR: address
/// `http://host:port/`, always with a port.
pub fn address(url: &Uri) -> Result<Uri, BoxError> {
    let host = url.host().ok_or("a URL without a host")?;
    let port = url.port_u16().unwrap_or(match url.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        _ => 1080,
    });
    Ok(format!("http://{host}:{port}/").parse()?)
}
// ANCHOR_END: address

// ANCHOR: port
/// For a port such as 99999, hyper would take the default one.
fn check_port(url: &Uri) -> Result<(), BoxError> {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    // Behind a user, and behind the brackets of an IPv6 address.
    let rest = authority.rsplit(['@', ']']).next().unwrap_or_default();
    match rest.split_once(':') {
        Some((_, port)) if !port.is_empty() && port.parse::<u16>().is_err() => {
            Err("the port is not a number up to 65535".into())
        }
        _ => Ok(()),
    }
}
// ANCHOR_END: port

// ANCHOR: connect
async fn connect(matcher: Arc<Matcher>, url: Uri) -> Result<Stream, BoxError> {
    let target = address(&url)?;
    let mut tcp = HttpConnector::new();
    tcp.set_connect_timeout(Some(TCP));
    tcp.set_nodelay(true);
    let Some(proxy) = matcher.intercept(&url) else {
        return Ok(Stream { io: tcp.oneshot(target).await?, forwards: false });
    };
    let io = tcp.oneshot(address(proxy.uri())?).await;
    let io = io.map_err(|e| format!("no connection to the proxy: {}", report(&e)))?;
    if forwarder(&matcher, &url).is_some() {
        return Ok(Stream { io, forwards: true });
    }
    Ok(Stream { io: tunnel(&proxy, io, target).await?, forwards: false })
}
// ANCHOR_END: connect

// ANCHOR: tunnel
async fn tunnel(
    proxy: &Intercept,
    io: TokioIo<TcpStream>,
    target: Uri,
) -> Result<TokioIo<TcpStream>, BoxError> {
    let address = address(proxy.uri())?;
    // Each of these takes a connector. Ours has connected already.
    let mut io = Some(io);
    let connector = service_fn(move |_: Uri| {
        let io: io::Result<_> = io.take().ok_or(io::ErrorKind::NotConnected.into());
        ready(io)
    });
    // ANCHOR_END: tunnel
    // ANCHOR: kinds
    let scheme = proxy.uri().scheme_str().unwrap_or_default();
    let target = match scheme {
        "socks4" | "socks5" => resolve(&target, scheme == "socks4").await?,
        _ => target,
    };
    match (scheme, proxy.raw_auth()) {
        ("http", _) => {
            let mut tunnel = Tunnel::new(address, connector);
            if let Some(auth) = proxy.basic_auth() {
                tunnel = tunnel.with_auth(auth.clone());
            }
            Ok(tunnel.oneshot(target).await?)
        }
        // ANCHOR_END: kinds
        // ANCHOR: socks
        ("socks5" | "socks5h", auth) => {
            let mut socks = SocksV5::new(address, connector);
            if let Some((user, password)) = auth {
                socks = socks.with_auth(user.to_owned(), password.to_owned());
            }
            Ok(socks.oneshot(target).await?)
        }
        ("socks4" | "socks4a", None) => {
            Ok(SocksV4::new(address, connector).oneshot(target).await?)
        }
        _ => Err(format!("no support for this {scheme} proxy").into()),
    }
    // ANCHOR_END: socks
}

// ANCHOR: resolve
/// The same with an address in the place of the name.
async fn resolve(target: &Uri, only_v4: bool) -> Result<Uri, BoxError> {
    let authority = target.authority().ok_or("a URL without a host")?;
    let mut addresses = lookup_host(authority.as_str()).await?;
    let address = addresses.find(|address| address.is_ipv4() || !only_v4);
    let address = address.ok_or("the name has no address for this proxy")?;
    Ok(format!("http://{address}/").parse()?)
}
// ANCHOR_END: resolve

// ANCHOR: stream
/// A connection, and whether it leads to a proxy that forwards requests.
pub struct Stream {
    io: TokioIo<TcpStream>,
    forwards: bool,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        self.io.connected().proxy(self.forwards)
    }
}
// ANCHOR_END: stream

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl HyperWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, pieces)
    }
}

// ANCHOR: client
pub fn client(
    matcher: Arc<Matcher>,
    tls: ClientConfig,
) -> Client<impl Connect + Clone + Send + Sync, Empty<Bytes>> {
    let proxies = service_fn(move |url: Uri| Box::pin(connect(matcher.clone(), url)));
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(proxies);
    let limited = service_fn(move |url: Uri| {
        let connected = timeout(CONNECT, https.clone().oneshot(url));
        // `?` is for the time limit. What is left is the connection or its error.
        Box::pin(async { connected.await? })
    });
    Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(limited)
}
// ANCHOR_END: client

/// Trusts the CAs of the system, or those of a file.
pub fn tls_config(ca: Option<&str>) -> Result<ClientConfig, BoxError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?;
    let Some(file) = ca else {
        return Ok(builder.with_native_roots()?.with_no_client_auth());
    };
    let mut roots = RootCertStore::empty();
    let context = |error: &dyn Error| format!("{file}: {error}");
    for certificate in CertificateDer::pem_file_iter(file).map_err(|e| context(&e))? {
        let certificate = certificate.map_err(|e| context(&e))?;
        roots.add(certificate).map_err(|e| context(&e))?;
    }
    if roots.is_empty() {
        return Err(format!("{file}: there is no certificate in it").into());
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

// ANCHOR: run
pub async fn fetch<C>(
    client: &Client<C, Empty<Bytes>>,
    request: Request<Empty<Bytes>>,
) -> Result<(String, Bytes), BoxError>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let response = client.request(request).await?;
    let head = format!("{:?} {}", response.version(), response.status());
    let body = Limited::new(response.into_body(), MAX_BODY).collect().await?;
    Ok((head, body.to_bytes()))
}

pub async fn run(
    url: &str,
    proxy: Option<&str>,
    ca: Option<&str>,
) -> Result<(String, Bytes), BoxError> {
    let url: Uri = url.parse()?;
    check_port(&url)?;
    // A proxy would see them: it is sent the whole URL.
    if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("a user belongs in the header authorization, not in a URL".into());
    }
    let matcher = Arc::new(matcher(proxy)?);
    let request = request(&matcher, url)?;
    let client = client(matcher, tls_config(ca)?);
    timeout(TOTAL, fetch(&client, request)).await?
}
// ANCHOR_END: run

async fn print() -> Result<(), BoxError> {
    let (mut url, mut proxy, mut ca) = (None, None, None);
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--proxy" => proxy = Some(arguments.next().ok_or(USAGE)?),
            "--ca" => ca = Some(arguments.next().ok_or(USAGE)?),
            _ if url.is_none() => url = Some(argument),
            _ => return Err(USAGE.into()),
        }
    }
    let url = url.ok_or(USAGE)?;
    let (head, body) = run(&url, proxy.as_deref(), ca.as_deref()).await?;
    let mut stdout = io::stdout();
    writeln!(stdout, "{head}")?;
    stdout.write_all(&body)?;
    Ok(stdout.flush()?)
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

// ANCHOR: main
fn in_runtime() -> Result<(), BoxError> {
    let runtime = Runtime::new()?;
    let result = runtime.block_on(print());
    // The lookup of a name may go on in its thread. Do not wait for it.
    runtime.shutdown_background();
    result
}
// ANCHOR_END: main

fn main() -> ExitCode {
    match in_runtime() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", report(&*error));
            ExitCode::FAILURE
        }
    }
}
// ANCHOR_END: program
