// ANCHOR: program
//! A client that bounds each wait that a server can prolong, and says which one was
//! too long.

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::Uri;
use hyper::body::{Body, Bytes, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;
use tower::timeout::Timeout;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service};

// ANCHOR: limits
/// From the name to a connection that is ready: DNS, TCP, and what is around them.
pub const CONNECT: Duration = Duration::from_secs(5);
/// From the call to the head of the response. It covers the connect, too.
pub const HEAD: Duration = Duration::from_secs(10);
/// The longest pause in a response's body.
pub const PAUSE: Duration = Duration::from_secs(5);
/// For everything together, if the caller does not say.
pub const TOTAL: Duration = Duration::from_secs(30);
/// The size of a body in memory.
pub const MAX_BODY: usize = 1024 * 1024;
// ANCHOR_END: limits

// ANCHOR: connect
type Connector<T> = BoxCloneSyncService<Uri, T, BoxError>;

/// A connector that gives up after a while.
pub fn in_time<C>(connector: C) -> Connector<C::Response>
where
    C: Service<Uri, Error: Into<BoxError>, Future: Send>,
    C: Clone + Send + Sync + 'static,
{
    BoxCloneSyncService::new(Timeout::new(connector, CONNECT))
}
// ANCHOR_END: connect

// ANCHOR: get
async fn get<C>(
    client: &Client<C, Empty<Bytes>>,
    uri: Uri,
) -> Result<Vec<u8>, BoxError>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let response = timeout(HEAD, client.get(uri))
        .await
        .map_err(|_| format!("no response within {HEAD:?}"))??;
    let mut incoming = response.into_body();
    let mut body = Limited::new(&mut incoming, MAX_BODY);
    let mut bytes = Vec::new();
    loop {
        let frame = timeout(PAUSE, body.frame())
            .await
            .map_err(|_| format!("nothing of the body for {PAUSE:?}"))?;
        let Some(frame) = frame else { break };
        bytes.extend(frame?.into_data().unwrap_or_default());
    }
    whole(&incoming)?;
    Ok(bytes)
}
// ANCHOR_END: get

// ANCHOR: whole
/// Whether a body that has ended had as many bytes as the server had announced.
fn whole(body: &Incoming) -> Result<(), BoxError> {
    match body.size_hint().lower() {
        0 => Ok(()),
        missing => Err(format!("the body ended {missing} bytes early").into()),
    }
}
// ANCHOR_END: whole

// ANCHOR: fetch
pub async fn fetch<C>(
    client: &Client<C, Empty<Bytes>>,
    uri: Uri,
    total: Duration,
) -> Result<Vec<u8>, BoxError>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    timeout(total, get(client, uri))
        .await
        .unwrap_or_else(|_| Err(format!("not finished within {total:?}").into()))
}
// ANCHOR_END: fetch

// ANCHOR: port
/// For a port such as 99999, hyper would take the default one.
pub fn check_port(url: &Uri) -> Result<(), BoxError> {
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

async fn run() -> Result<(), BoxError> {
    let mut arguments = env::args().skip(1);
    let uri = arguments.next().ok_or("usage: failures URL [SECONDS]")?.parse()?;
    check_port(&uri)?;
    let total = match arguments.next() {
        Some(seconds) => Duration::from_secs(seconds.parse()?),
        None => TOTAL,
    };

    // ANCHOR: client
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .build(in_time(HttpConnector::new()));
    let bytes = fetch(&client, uri, total).await?;
    // ANCHOR_END: client

    io::stdout().write_all(&bytes)?;
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", report(&*error));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes: hyper's errors do not print theirs.
fn report(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += ": ";
        text += &error.to_string();
        cause = error.source();
    }
    text
}
// ANCHOR_END: program
