// ANCHOR: program
//! A protocol of your own after an HTTP upgrade: each line comes back in capitals.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::io;
use std::time::Duration;

use http_body_util::Empty;
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader,
};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

/// How long a client may take to send the head of a request.
const HEAD: Duration = Duration::from_secs(5);
// ANCHOR: limits
/// The longest line, its end included.
pub const MAX_LINE: u64 = 1024;
/// How long a client may take for a line, and to receive one.
pub const LINE: Duration = Duration::from_secs(30);
// ANCHOR_END: limits

// ANCHOR: handle
async fn handle(
    mut request: Request<Incoming>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let mut response = Response::new(Empty::new());
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("shout"));
    if !is_upgrade(&request) {
        *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
        return Ok(response);
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let result = match upgrade.await {
            Ok(upgraded) => shout(TokioIo::new(upgraded)).await,
            Err(error) => Err(io::Error::other(error)),
        };
        if let Err(error) = result {
            eprintln!("shout failed: {}", report(&error));
        }
    });
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    Ok(response)
}
// ANCHOR_END: handle

// ANCHOR: is_upgrade
fn is_upgrade<B: Body>(request: &Request<B>) -> bool {
    request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && request.body().is_end_stream()
        && has(request.headers(), CONNECTION, "upgrade")
        && has(request.headers(), UPGRADE, "shout")
}

/// Whether a header, which is a list, has this element.
fn has(headers: &HeaderMap, name: HeaderName, element: &str) -> bool {
    let lists = headers.get_all(name).iter().filter_map(|list| list.to_str().ok());
    lists
        .flat_map(|list| list.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case(element))
}
// ANCHOR_END: is_upgrade

// ANCHOR: shout
/// The protocol, from its first byte to its last.
async fn shout<T>(io: T) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut io = BufReader::new(io);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut io).take(MAX_LINE);
        timeout(LINE, limited.read_until(b'\n', &mut line)).await??;
        if line.is_empty() {
            return timeout(LINE, io.shutdown()).await?;
        }
        if !line.ends_with(b"\n") {
            return Err(io::Error::other("half a line, or one too long"));
        }
        line.make_ascii_uppercase();
        timeout(LINE, io.write_all(&line)).await??;
        timeout(LINE, io.flush()).await??;
    }
}
// ANCHOR_END: shout

// ANCHOR: serve
pub async fn serve<T>(stream: T) -> hyper::Result<()>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service_fn(handle))
        .with_upgrades()
        .await
}
// ANCHOR_END: serve

fn report(error: &(dyn Error + 'static)) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", report(source)),
        None => error.to_string(),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);

    loop {
        let (stream, _peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                eprintln!("accept failed: {error}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        tokio::spawn(async move {
            if let Err(error) = serve(stream).await {
                eprintln!("connection failed: {}", report(&error));
            }
        });
    }
}
// ANCHOR_END: program
