// ANCHOR: program
//! A client that fetches many URLs, a few at a time, over one pool of connections.

use std::collections::HashSet;
use std::env;
use std::error::Error;
use std::iter;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{StatusCode, Uri};
use hyper_util::client::legacy::connect::{HttpConnector, HttpInfo};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Requests at a time. With HTTP/1 each has a connection of its own.
pub const AT_ONCE: usize = 8;
/// For one request: the connect, the response and its whole body.
pub const LIMIT: Duration = Duration::from_secs(10);
/// The size of one body in memory.
pub const MAX_BODY: usize = 1024 * 1024;
/// How long a connection may be idle. Stay below the server's own limit.
pub const IDLE: Duration = Duration::from_secs(20);
/// Idle connections that are kept, for each scheme, host and port.
pub const MAX_IDLE: usize = AT_ONCE;

type BoxError = Box<dyn Error + Send + Sync>;
type HttpClient = Client<HttpConnector, Empty<Bytes>>;

// ANCHOR: client
pub fn builder() -> legacy::Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(MAX_IDLE);
    builder
}
// ANCHOR_END: client

// ANCHOR: fetch
/// A response, and the two ends of the connection that it came over.
pub struct Fetched {
    pub status: StatusCode,
    pub body: Bytes,
    pub connection: Option<(SocketAddr, SocketAddr)>,
}

pub async fn fetch(client: &HttpClient, url: &str) -> Result<Fetched, BoxError> {
    timeout(LIMIT, async {
        let response = client.get(url.parse::<Uri>()?).await?;
        let info = response.extensions().get::<HttpInfo>();
        let connection = info.map(|info| (info.local_addr(), info.remote_addr()));
        let status = response.status();
        // To its end: then the connection goes back into the pool.
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await?;
        Ok(Fetched { status, body: body.to_bytes(), connection })
    })
    .await?
}
// ANCHOR_END: fetch

/// The URLs, each as often as the last argument says.
fn arguments() -> impl Iterator<Item = String> {
    let mut urls: Vec<_> = env::args().skip(1).collect();
    let times = urls.last().and_then(|last| last.parse().ok());
    if times.is_some() {
        urls.pop();
    }
    iter::repeat_n(urls, times.unwrap_or(1)).flatten()
}

// ANCHOR: main
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let client: HttpClient = builder().build_http();
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for url in arguments() {
        let slot = slots.clone().acquire_owned().await.expect("never closed");
        let client = client.clone();
        tasks.spawn(async move {
            let result = fetch(&client, &url).await;
            drop(slot);
            print(&url, &result);
            result.map(|fetched| fetched.connection)
        });
    }
    let results = tasks.join_all().await;
    // ANCHOR_END: main

    let mut failed = 0;
    let mut connections = HashSet::new();
    let count = results.len();
    for result in results {
        match result {
            Ok(connection) => connections.extend(connection),
            Err(_) => failed += 1,
        }
    }
    let (fetched, connections) = (count - failed, connections.len());
    println!("{fetched} of {count} fetched; connections used: {connections}");
    ExitCode::from(u8::from(failed > 0))
}

fn print(url: &str, result: &Result<Fetched, BoxError>) {
    match result {
        Ok(fetched) => {
            println!("{url}: {}, {} bytes", fetched.status, fetched.body.len());
        }
        Err(error) => eprintln!("{url}: {}", report(&**error)),
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
