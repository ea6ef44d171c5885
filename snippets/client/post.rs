// ANCHOR: program
//! A client that posts an order, as JSON or as a form, or asks for a page.

use std::env;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::CONTENT_TYPE;
use hyper::{Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Serialize;
use tokio::time::timeout;

// ANCHOR: limits
/// For the connect, the request and its whole response.
pub const TOTAL: Duration = Duration::from_secs(10);
/// The largest response that it keeps in memory.
pub const MAX_BODY: usize = 64 * 1024;
// ANCHOR_END: limits

type BoxError = Box<dyn Error + Send + Sync>;

// ANCHOR: order
#[derive(Serialize)]
struct Order {
    item: String,
    count: u32,
}
// ANCHOR_END: order

// ANCHOR: json
/// A POST request with a value as JSON.
pub fn json(
    url: &str,
    value: &impl Serialize,
) -> Result<Request<Full<Bytes>>, BoxError> {
    let body = serde_json::to_vec(value)?;
    Ok(Request::post(url)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::from(body))?)
}
// ANCHOR_END: json

// ANCHOR: form
/// A POST request with a value as a form.
pub fn form(
    url: &str,
    value: &impl Serialize,
) -> Result<Request<Full<Bytes>>, BoxError> {
    let body = serde_urlencoded::to_string(value)?;
    Ok(Request::post(url)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::from(body))?)
}
// ANCHOR_END: form

// ANCHOR: client
// Its requests have a `Full<Bytes>`, which may be empty.
type HttpClient = Client<HttpConnector, Full<Bytes>>;

fn client() -> HttpClient {
    Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build_http()
}

fn get(url: &str) -> Result<Request<Full<Bytes>>, BoxError> {
    Ok(Request::get(url).body(Full::default())?)
}
// ANCHOR_END: client

// ANCHOR: send
async fn send(
    client: &HttpClient,
    request: Request<Full<Bytes>>,
) -> Result<String, BoxError> {
    let response = client.request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_BODY).collect().await?;
    let text = String::from_utf8(body.to_bytes().into())?;
    if !status.is_success() {
        return Err(format!("{status}: {}", text.trim()).into());
    }
    Ok(format!("{status}\n{}\n", text.trim_end()))
}
// ANCHOR_END: send

// ANCHOR: run
pub async fn run(arguments: &[String]) -> Result<String, BoxError> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let order = |item: &str, count: &str| -> Result<Order, BoxError> {
        Ok(Order { item: item.to_owned(), count: count.parse()? })
    };
    let request = match arguments[..] {
        [url] => get(url)?,
        [url, "json", item, count] => json(url, &order(item, count)?)?,
        [url, "form", item, count] => form(url, &order(item, count)?)?,
        _ => return Err("usage: post URL [(json | form) ITEM COUNT]".into()),
    };
    check_port(request.uri())?;
    match timeout(TOTAL, send(&client(), request)).await {
        Ok(result) => result,
        Err(_) => Err("the whole response took too long".into()),
    }
}
// ANCHOR_END: run

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

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match run(&arguments).await {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}", report(error.as_ref()));
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
