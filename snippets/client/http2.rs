// ANCHOR: program
//! Sends many requests at once to a server that is known to speak HTTP/2.

use std::collections::HashSet;
use std::env;
use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector, HttpInfo};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::task::JoinSet;
use tokio::time::timeout;

type BoxError = Box<dyn Error + Send + Sync>;

// ANCHOR: limits
/// How long the connect to one address may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a request may take, with its body.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// When a silent server is asked whether it is alive, and how long it may take to answer.
pub const PING_AFTER: Duration = Duration::from_secs(20);
pub const PING_ANSWER: Duration = Duration::from_secs(5);
/// How many bytes of bodies may be under way to us: of one response, and of all.
pub const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
pub const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// How large a body may be, in bytes.
const BODY_LIMIT: usize = 16 * 1024 * 1024;
// ANCHOR_END: limits

// ANCHOR: client
pub fn client<C>(connector: C) -> Client<C, Empty<Bytes>>
where
    C: Connect + Clone,
{
    Client::builder(TokioExecutor::new())
        .http2_only(true)
        .http2_initial_max_send_streams(0)
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .timer(TokioTimer::new())
        .http2_keep_alive_interval(PING_AFTER)
        .http2_keep_alive_timeout(PING_ANSWER)
        .http2_keep_alive_while_idle(true)
        .pool_timer(TokioTimer::new())
        .build(connector)
}
// ANCHOR_END: client

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

// ANCHOR: get
/// The status, the size of the body, and our address on the connection.
pub async fn get<C>(
    client: Client<C, Empty<Bytes>>,
    url: Uri,
) -> Result<(StatusCode, usize, Option<SocketAddr>), BoxError>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let exchange = async {
        let response = client.get(url).await?;
        let status = response.status();
        let info = response.extensions().get::<HttpInfo>();
        let address = info.map(HttpInfo::local_addr);
        let body = Limited::new(response.into_body(), BODY_LIMIT);
        Ok((status, body.collect().await?.to_bytes().len(), address))
    };
    timeout(REQUEST_TIMEOUT, exchange).await?
}
// ANCHOR_END: get

// ANCHOR: run
/// Sends all requests at once. Whether all were answered.
async fn run(url: Uri, count: usize) -> bool {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let client = client(connector);
    let mut requests = JoinSet::new();
    for _ in 0..count {
        requests.spawn(get(client.clone(), url.clone()));
    }
    let (mut answered, mut bytes) = (0, 0);
    let mut connections = HashSet::new();
    while let Some(outcome) = requests.join_next().await {
        match outcome.map_err(BoxError::from).and_then(|answer| answer) {
            Ok((status, size, address)) => {
                answered += usize::from(status.is_success());
                bytes += size;
                connections.extend(address);
            }
            Err(error) => eprintln!("{}", report(&*error)),
        }
    }
    let connections = connections.len();
    println!(
        "successful: {answered} of {count}, \
         {bytes} bytes, connections: {connections}"
    );
    answered == count
}
// ANCHOR_END: run

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let url = arguments.next().and_then(|url| url.parse().ok());
    let count = arguments.next().unwrap_or("20".to_owned()).parse();
    let (Some(url), Ok(count)) = (url, count) else {
        eprintln!("usage: client-http2 URL [REQUESTS]");
        return ExitCode::FAILURE;
    };
    if run(url, count).await { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
// ANCHOR_END: program
