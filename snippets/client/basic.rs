// ANCHOR: program
//! Sends requests to a server, one after the other, over one HTTP/1 connection.

use std::env;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::HOST;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

type BoxError = Box<dyn Error + Send + Sync>;

// ANCHOR: limits
/// How long all of it may take, from the connect to the last body.
pub const TOTAL: Duration = Duration::from_secs(10);
/// How large a body may be, in bytes.
pub const BODY_LIMIT: usize = 1024 * 1024;
// ANCHOR_END: limits

// ANCHOR: report
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
// ANCHOR_END: report

// ANCHOR: url
/// The host and the port to connect to.
pub fn address(url: &Uri) -> Result<(&str, u16), BoxError> {
    match (url.scheme_str(), url.host()) {
        (Some("http"), Some(host)) => {
            // An IPv6 address has brackets in a URL, but not in a socket address.
            let host = host.trim_start_matches('[').trim_end_matches(']');
            Ok((host, url.port_u16().unwrap_or(80)))
        }
        _ => Err(format!("{url}: the URL must begin with http://").into()),
    }
}

/// The value of the `host` header: the port only if it is not 80, and no password.
pub fn host(url: &Uri) -> String {
    let host = url.host().unwrap_or_default();
    match url.port_u16() {
        None | Some(80) => host.to_owned(),
        Some(port) => format!("{host}:{port}"),
    }
}

/// The target of the request: the path and the query of the URL.
pub fn target(url: &Uri) -> Uri {
    url.path_and_query().cloned().map_or(Uri::from_static("/"), Uri::from)
}
// ANCHOR_END: url

// ANCHOR: get
async fn get(
    sender: &mut SendRequest<Empty<Bytes>>,
    host: &str,
    target: Uri,
) -> Result<(StatusCode, Bytes), BoxError> {
    sender.ready().await?;
    let request = Request::get(target).header(HOST, host).body(Empty::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), BODY_LIMIT).collect().await?;
    Ok((status, body.to_bytes()))
}
// ANCHOR_END: get

// ANCHOR: run
async fn run(url: &Uri, more: &[Uri]) -> Result<(), BoxError> {
    let stream = TcpStream::connect(address(url)?).await?;
    let (mut sender, conn) = http1::handshake(TokioIo::new(stream)).await?;
    let conn = tokio::spawn(async move {
        if let Err(error) = conn.await {
            eprintln!("connection: {}", report(&error));
        }
    });
    for target in [&target(url)].into_iter().chain(more) {
        let (status, body) = get(&mut sender, &host(url), target.clone()).await?;
        println!("{status}\n{}", String::from_utf8_lossy(&body).trim_end());
    }
    // Without a sender, the connection closes and its task ends.
    drop(sender);
    conn.await?;
    Ok(())
}
// ANCHOR_END: run

// ANCHOR: main
pub async fn limited(url: &str, more: &[String]) -> Result<(), BoxError> {
    let url = url.parse()?;
    let more: Result<Vec<Uri>, _> = more.iter().map(|path| path.parse()).collect();
    timeout(TOTAL, run(&url, &more?)).await?
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let Some((url, more)) = arguments.split_first() else {
        eprintln!("usage: basic URL [PATH]...");
        return ExitCode::FAILURE;
    };
    match limited(url, more).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", report(&*error));
            ExitCode::FAILURE
        }
    }
}
// ANCHOR_END: main
// ANCHOR_END: program
