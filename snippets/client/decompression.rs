// ANCHOR: program
//! A client that asks for compressed responses, and bounds what they become.

use std::env;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_LENGTH;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;
use tower::{ServiceBuilder, ServiceExt};
use tower_http::decompression::DecompressionLayer;

// ANCHOR: limits
/// The connect, the request and its whole response.
const TOTAL: Duration = Duration::from_secs(30);
/// The body as it arrives.
const MAX_COMPRESSED: usize = 64 * 1024;
/// The body after decompression.
const MAX_BODY: usize = 1024 * 1024;
// ANCHOR_END: limits

type BoxError = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let Some(url) = env::args().nth(1) else {
        eprintln!("usage: decompression URL");
        return ExitCode::FAILURE;
    };
    match get_in_time(&url).await {
        Ok(body) => {
            print!("{body}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}", report(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

pub async fn get_in_time(url: &str) -> Result<String, BoxError> {
    match timeout(TOTAL, get(url)).await {
        Ok(result) => result,
        Err(_) => Err("the whole response took too long".into()),
    }
}

// ANCHOR: get
async fn get(url: &str) -> Result<String, BoxError> {
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .build_http();
    let client = ServiceBuilder::new()
        .layer(DecompressionLayer::new())
        .map_response(|response: Response<Incoming>| {
            response.map(|body| Limited::new(body, MAX_COMPRESSED))
        })
        .service(client);
    let request = Request::get(url).body(Empty::<Bytes>::new())?;
    check_port(request.uri())?;
    let response = client.oneshot(request).await?;
    let status = response.status();
    if !status.is_success() {
        return Err(status.to_string().into());
    }
    // Not from the body: the `Limited` inside may give its limit instead.
    match response.headers().get(CONTENT_LENGTH) {
        Some(length) => println!("{status}, {} bytes", length.to_str()?),
        None => println!("{status}, length unknown"),
    }
    let body = Limited::new(response.into_body(), MAX_BODY).collect().await?;
    Ok(String::from_utf8(body.to_bytes().into())?)
}
// ANCHOR_END: get

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
