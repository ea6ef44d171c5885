// ANCHOR: program
//! An HTTPS server for HTTP/1.1 and HTTP/2, with a certificate from PEM files.

use std::convert::Infallible;
use std::env;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    CONTENT_LENGTH, HOST, HeaderValue, LOCATION, STRICT_TRANSPORT_SECURITY,
};
use hyper::http::uri::Authority;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

type Error = Box<dyn std::error::Error + Send + Sync>;

// ANCHOR: limits
/// Connections at a time, on each port. Stay well below `ulimit -n`.
const MAX_CONNECTIONS: usize = 64;
/// For the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// HTTP/1: for each head; also how long a connection may be idle.
const HEAD: Duration = Duration::from_secs(5);
/// HTTP/2: from the handshake to the head of the first request.
const FIRST_REQUEST: Duration = Duration::from_secs(5);
/// HTTP/2: a PING after this long without a request or its body, and the time
/// for the answer.
const PING_AFTER: Duration = Duration::from_secs(20);
const PING_ANSWER: Duration = Duration::from_secs(10);
// ANCHOR_END: limits

// ANCHOR: config
pub fn tls_config(cert: &str, key: &str) -> Result<ServerConfig, Error> {
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(|certs| certs.collect::<Result<Vec<_>, _>>())
        .map_err(|error| format!("{cert}: {error}"))?;
    if chain.is_empty() {
        return Err(format!("{cert}: there is no certificate in it").into());
    }
    let key = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| format!("{key}: {error}"))?;
    let provider = Arc::new(ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| format!("{cert}: {error}"))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
// ANCHOR_END: config

// ANCHOR: handle
async fn handle(
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let text = format!("Hello over {:?}!\n", request.version());
    let mut response = Response::new(Full::default());
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, text.len().into());
    // For five minutes, until you are sure. Then choose a year: 31536000.
    let hsts = HeaderValue::from_static("max-age=300");
    headers.insert(STRICT_TRANSPORT_SECURITY, hsts);
    if request.method() != Method::HEAD {
        *response.body_mut() = Full::from(text);
    }
    Ok(response)
}
// ANCHOR_END: handle

// ANCHOR: serve
pub async fn serve<T>(stream: T, acceptor: TlsAcceptor) -> Result<(), Error>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stream = timeout(HANDSHAKE, acceptor.accept(stream))
        .await
        .map_err(|_| "no TLS handshake in time")??;
    let (_, session) = stream.get_ref();
    if session.alpn_protocol() == Some(b"h2") {
        return serve_http2(stream).await;
    }
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service_fn(handle))
        .await?;
    Ok(())
}
// ANCHOR_END: serve

// ANCHOR: http2
async fn serve_http2<T>(stream: T) -> Result<(), Error>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let begun = AtomicBool::new(false);
    let service = service_fn(|request| {
        begun.store(true, Relaxed);
        handle(request)
    });
    let conn = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(20)
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_ANSWER)
        .serve_connection(TokioIo::new(stream), service);
    let mut conn = pin!(conn);
    if let Ok(result) = timeout(FIRST_REQUEST, conn.as_mut()).await {
        return Ok(result?);
    }
    if !begun.load(Relaxed) {
        return Err("no request in time".into());
    }
    Ok(conn.await?)
}
// ANCHOR_END: http2

// ANCHOR: location
/// The names of this server: it redirects to no other.
const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// Where the same thing is on the HTTPS port.
fn location(request: &Request<Incoming>, port: u16) -> Option<HeaderValue> {
    let host = request.headers().get(HOST)?.to_str().ok()?;
    let host = host.parse::<Authority>().ok()?;
    let name = NAMES.iter().find(|name| name.eq_ignore_ascii_case(host.host()))?;
    let path = request.uri().path_and_query()?.as_str();
    if !path.starts_with('/') {
        return None;
    }
    HeaderValue::try_from(match port {
        443 => format!("https://{name}{path}"),
        port => format!("https://{name}:{port}{path}"),
    })
    .ok()
}
// ANCHOR_END: location

// ANCHOR: redirect
async fn redirect(
    request: Request<Incoming>,
    port: u16,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::default());
    match location(&request, port) {
        Some(location) => {
            *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
            response.headers_mut().insert(LOCATION, location);
        }
        None => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    Ok(response)
}

pub async fn serve_redirect<T>(stream: T, port: u16) -> hyper::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(|request| redirect(request, port));
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn accept_plain(listener: TcpListener, port: u16) -> Result<(), AcquireError> {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let (stream, place) = accept(&listener, &places).await?;
        tokio::spawn(async move {
            if let Err(error) = serve_redirect(stream, port).await {
                eprintln!("redirect failed: {}", report(&error));
            }
            drop(place);
        });
    }
}
// ANCHOR_END: redirect

/// Waits for a free place, and for a connection to put there.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Result<(TcpStream, OwnedSemaphorePermit), AcquireError> {
    let place = places.clone().acquire_owned().await?;
    loop {
        match listener.accept().await {
            Ok((stream, _peer)) => return Ok((stream, place)),
            Err(error) => {
                eprintln!("accept failed: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

pub fn report(error: &(dyn std::error::Error + 'static)) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", report(source)),
        None => error.to_string(),
    }
}

// ANCHOR: main
#[tokio::main]
async fn main() -> Result<(), Error> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let config = tls_config("cert.pem", "key.pem")?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(address).await?;
    let local = listener.local_addr()?;
    println!("listening on https://{local}");

    // The address for plain HTTP, if there is one.
    if let Some(address) = env::args().nth(2) {
        let plain = TcpListener::bind(address).await?;
        println!("redirecting from http://{}", plain.local_addr()?);
        tokio::spawn(accept_plain(plain, local.port()));
    }

    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let (stream, place) = accept(&listener, &places).await?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            if let Err(error) = serve(stream, acceptor).await {
                eprintln!("connection failed: {}", report(&*error));
            }
            drop(place);
        });
    }
}
// ANCHOR_END: main
// ANCHOR_END: program
