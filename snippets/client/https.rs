// ANCHOR: program
//! A client for HTTPS. It trusts the CAs of the system, or one of its own, and shows
//! a certificate to servers that ask for one.

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::Uri;
use hyper::body::Bytes;
use hyper_rustls::{ConfigBuilderExt, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tower::{ServiceExt, service_fn};

// ANCHOR: limits
/// For TCP alone. The addresses of a name share it.
const TCP: Duration = Duration::from_secs(4);
/// For a new connection: the lookup of the name, TCP and the TLS handshake.
const CONNECT: Duration = Duration::from_secs(5);
/// For everything: the connection, the response and its whole body.
const TOTAL: Duration = Duration::from_secs(10);
/// The size of a body in memory.
const MAX_BODY: usize = 1024 * 1024;
// ANCHOR_END: limits

const USAGE: &str = "usage: https URL [--ca FILE] [--cert FILE --key FILE]";

type BoxError = Box<dyn Error + Send + Sync>;

/// What the command line says.
#[derive(Default)]
pub struct Options {
    pub url: String,
    pub ca: Option<String>,
    pub cert: Option<String>,
    pub key: Option<String>,
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options, BoxError> {
    let url = arguments.next().ok_or(USAGE)?;
    let mut options = Options { url, ..Options::default() };
    while let Some(name) = arguments.next() {
        let option = match name.as_str() {
            "--ca" => &mut options.ca,
            "--cert" => &mut options.cert,
            "--key" => &mut options.key,
            _ => return Err(USAGE.into()),
        };
        *option = Some(arguments.next().ok_or(USAGE)?);
    }
    Ok(options)
}

// ANCHOR: config
pub fn tls_config(options: &Options) -> Result<ClientConfig, BoxError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?;
    let builder = match &options.ca {
        Some(file) => builder.with_root_certificates(own_roots(file)?),
        None => builder.with_native_roots()?,
    };
    match (&options.cert, &options.key) {
        (Some(cert), Some(key)) => {
            let (chain, key) = (certificates(cert)?, private_key(key)?);
            let config = builder.with_client_auth_cert(chain, key);
            config.map_err(|error| format!("{cert}: {error}").into())
        }
        (None, None) => Ok(builder.with_no_client_auth()),
        _ => Err(USAGE.into()),
    }
}
// ANCHOR_END: config

// ANCHOR: roots
pub fn own_roots(file: &str) -> Result<RootCertStore, BoxError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| format!("{file}: {error}"))?;
    }
    Ok(roots)
}

fn certificates(file: &str) -> Result<Vec<CertificateDer<'static>>, BoxError> {
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>())
        .map_err(|error| format!("{file}: {error}"))?;
    if certificates.is_empty() {
        return Err(format!("{file}: there is no certificate in it").into());
    }
    Ok(certificates)
}
// ANCHOR_END: roots

// ANCHOR: key
fn private_key(file: &str) -> Result<PrivateKeyDer<'static>, BoxError> {
    PrivateKeyDer::from_pem_file(file)
        .map_err(|error| format!("{file}: {error}").into())
}
// ANCHOR_END: key

// ANCHOR: client
pub fn client(
    tls: ClientConfig,
) -> Client<impl Connect + Clone + Send + Sync, Empty<Bytes>> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false); // it gets the https URLs
    tcp.set_connect_timeout(Some(TCP));
    tcp.set_nodelay(true);
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_only()
        .enable_all_versions()
        .wrap_connector(tcp);
    let connector = service_fn(move |url: Uri| {
        let connected = timeout(CONNECT, https.clone().oneshot(url));
        // `?` is for the time limit. What is left is the connection or its error.
        Box::pin(async { connected.await? })
    });
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .build(connector)
}
// ANCHOR_END: client

// ANCHOR: fetch
/// The version and the status on a line, and the body.
pub async fn fetch<C>(
    client: &Client<C, Empty<Bytes>>,
    url: Uri,
) -> Result<(String, Bytes), BoxError>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let response = client.get(url).await?;
    let head = format!("{:?} {}", response.version(), response.status());
    let body = Limited::new(response.into_body(), MAX_BODY).collect().await?;
    Ok((head, body.to_bytes()))
}

pub async fn run(options: &Options) -> Result<(String, Bytes), BoxError> {
    let url = options.url.parse().map_err(|e| format!("{}: {e}", options.url))?;
    check_port(&url)?;
    let client = client(tls_config(options)?);
    timeout(TOTAL, fetch(&client, url)).await?
}
// ANCHOR_END: fetch

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

async fn print() -> Result<(), BoxError> {
    let (head, body) = run(&options(env::args().skip(1))?).await?;
    let mut stdout = io::stdout();
    writeln!(stdout, "{head}")?;
    stdout.write_all(&body)?;
    Ok(stdout.flush()?)
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
