// ANCHOR: program
//! A client that asks for compressed responses, and bounds what they become.

use std::env;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;
use tower::{ServiceBuilder, ServiceExt};
use tower_http::decompression::DecompressionLayer;

// ANCHOR: limits
/// The request and its whole response.
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
    let result = match timeout(TOTAL, get(&url)).await {
        Ok(result) => result,
        Err(_) => Err("the whole response took too long".into()),
    };
    match result {
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
    let response = client.oneshot(request).await?;
    let status = response.status();
    if !status.is_success() {
        return Err(status.to_string().into());
    }
    match response.body().size_hint().exact() {
        Some(length) => println!("{status}, {length} bytes"),
        None => println!("{status}, length unknown"),
    }
    let body = Limited::new(response.into_body(), MAX_BODY).collect().await?;
    Ok(String::from_utf8(body.to_bytes().into())?)
}
// ANCHOR_END: get

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
