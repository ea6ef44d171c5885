// ANCHOR: program
//! An HTTPS server with several certificates, which it reads again when they change,
//! for clients that have certificates too.

use std::convert::Infallible;
use std::env;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_LENGTH;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{
    ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier,
};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, ServerConnection};
use x509_parser::parse_x509_certificate;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// As on the page about HTTPS.
const MAX_CONNECTIONS: usize = 64;
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEAD: Duration = Duration::from_secs(5);
const FIRST_REQUEST: Duration = Duration::from_secs(5);
const PING_AFTER: Duration = Duration::from_secs(20);
const PING_ANSWER: Duration = Duration::from_secs(10);

/// How often the files are read.
const CHECK: Duration = Duration::from_secs(60);

// ANCHOR: files
/// The CAs that may sign the certificates of clients.
const CLIENT_CA: &str = "ca.pem";
/// Certificates and their keys, first those for clients that ask for no name, or for
/// one that no certificate has.
const CERTIFICATES: [(&str, &str); 2] =
    [("cert.pem", "key.pem"), ("example-cert.pem", "example-key.pem")];

#[derive(PartialEq)]
pub struct Files {
    client_ca: Vec<u8>,
    certificates: Vec<(Vec<u8>, Vec<u8>)>,
}
// ANCHOR_END: files

pub async fn read(folder: &Path) -> Result<Files, String> {
    let client_ca = read_file(folder, CLIENT_CA).await?;
    let mut certificates = Vec::new();
    for (cert, key) in CERTIFICATES {
        let cert = read_file(folder, cert).await?;
        certificates.push((cert, read_file(folder, key).await?));
    }
    Ok(Files { client_ca, certificates })
}

async fn read_file(folder: &Path, name: &str) -> Result<Vec<u8>, String> {
    let file = tokio::fs::read(folder.join(name)).await;
    file.map_err(|error| format!("{name}: {error}"))
}

// ANCHOR: config
pub fn tls_config(files: &Files) -> Result<ServerConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let mut keys = Vec::new();
    for ((cert, key), (name, _)) in files.certificates.iter().zip(CERTIFICATES) {
        let key = certified_key(cert, key, &provider)
            .map_err(|error| format!("{name}: {error}"))?;
        keys.push(Arc::new(key));
    }
    let clients = client_verifier(&files.client_ca, &provider)
        .map_err(|error| format!("{CLIENT_CA}: {error}"))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(ByName(keys)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
// ANCHOR_END: config

fn certified_key(
    cert: &[u8],
    key: &[u8],
    provider: &CryptoProvider,
) -> Result<CertifiedKey, Error> {
    let chain =
        CertificateDer::pem_slice_iter(cert).collect::<Result<Vec<_>, _>>()?;
    if chain.is_empty() {
        return Err("there is no certificate in it".into());
    }
    let key = PrivateKeyDer::from_pem_slice(key)?;
    Ok(CertifiedKey::from_der(chain, key, provider)?)
}

// ANCHOR: verifier
fn client_verifier(
    ca: &[u8],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(ca) {
        roots.add(root?)?;
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    Ok(verifier.allow_unauthenticated().build()?)
}
// ANCHOR_END: verifier

// ANCHOR: resolver
/// Chooses the certificate by the name that the client asks for.
#[derive(Debug)]
struct ByName(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| {
            let name = ServerName::try_from(name).ok()?;
            self.0.iter().find(|key| {
                key.end_entity_cert()
                    .and_then(ParsedCertificate::try_from)
                    .and_then(|cert| verify_server_name(&cert, &name))
                    .is_ok()
            })
        });
        named.or(self.0.first()).cloned()
    }
}
// ANCHOR_END: resolver

// ANCHOR: renew
/// Reads the files. If they have changed, connections that come from now on get the
/// new certificates; or still the old ones, if the new ones are broken.
pub async fn renew(
    folder: &Path,
    known: &mut Result<Files, String>,
    configs: &watch::Sender<Arc<ServerConfig>>,
) -> Option<String> {
    let files = read(folder).await;
    if files == *known {
        return None;
    }
    let config = match &files {
        Ok(files) => tls_config(files),
        Err(error) => Err(error.clone().into()),
    };
    *known = files;
    Some(match config {
        Ok(config) => {
            configs.send_replace(Arc::new(config));
            "the new ones are in use".to_owned()
        }
        Err(error) => format!("the old ones stay: {error}"),
    })
}
// ANCHOR_END: renew

// ANCHOR: often
pub async fn renew_often(
    folder: PathBuf,
    files: Files,
    configs: watch::Sender<Arc<ServerConfig>>,
) {
    let mut known = Ok(files);
    loop {
        sleep(CHECK).await;
        if let Some(line) = renew(&folder, &mut known, &configs).await {
            eprintln!("certificates: {line}");
        }
    }
}
// ANCHOR_END: often

// ANCHOR: name
/// The common name in the certificate of the client. rustls has verified it.
fn client_name(session: &ServerConnection) -> Option<Arc<str>> {
    let cert = session.peer_certificates()?.first()?;
    let (_, cert) = parse_x509_certificate(cert).ok()?;
    let name = cert.subject().iter_common_name().next()?;
    Some(name.as_str().ok()?.into())
}
// ANCHOR_END: name

// ANCHOR: handle
async fn handle(
    request: Request<Incoming>,
    client: Option<Arc<str>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, text) = match client {
        Some(client) => (StatusCode::OK, format!("Hello, {client}!\n")),
        None => (StatusCode::FORBIDDEN, "Who are you?\n".to_owned()),
    };
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_LENGTH, text.len().into());
    if request.method() != Method::HEAD {
        *response.body_mut() = Full::from(text);
    }
    Ok(response)
}
// ANCHOR_END: handle

// ANCHOR: serve
pub async fn serve<T>(stream: T, config: Arc<ServerConfig>) -> Result<(), Error>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let handshake = TlsAcceptor::from(config).accept(stream);
    let stream = timeout(HANDSHAKE, handshake)
        .await
        .map_err(|_| "no TLS handshake in time")??;
    let (_, session) = stream.get_ref();
    let client = client_name(session);
    let service = move |request| handle(request, client.clone());
    // ANCHOR_END: serve
    if session.alpn_protocol() == Some(b"h2") {
        return serve_http2(stream, service).await;
    }
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service_fn(service))
        .await?;
    Ok(())
}

async fn serve_http2<T, F, R>(stream: T, service: F) -> Result<(), Error>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    F: Fn(Request<Incoming>) -> R,
    R: Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send + 'static,
{
    let begun = AtomicBool::new(false);
    let service = service_fn(|request| {
        begun.store(true, Relaxed);
        service(request)
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
    let folder = PathBuf::from(env::args().nth(2).unwrap_or(".".to_owned()));
    let files = read(&folder).await?;
    let configs = watch::Sender::new(Arc::new(tls_config(&files)?));
    let config = configs.subscribe();
    tokio::spawn(renew_often(folder, files, configs));

    let listener = TcpListener::bind(address).await?;
    println!("listening on https://{}", listener.local_addr()?);
    // ANCHOR_END: main
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // ANCHOR: accept
    loop {
        let place = places.clone().acquire_owned().await?;
        let stream = match listener.accept().await {
            Ok((stream, _peer)) => stream,
            Err(error) => {
                eprintln!("accept failed: {error}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let config = config.borrow().clone();
        tokio::spawn(async move {
            if let Err(error) = serve(stream, config).await {
                eprintln!("connection failed: {}", report(&*error));
            }
            drop(place);
        });
    }
    // ANCHOR_END: accept
}
// ANCHOR_END: program
