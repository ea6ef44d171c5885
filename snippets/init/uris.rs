// ANCHOR: program
//! A server that takes URIs apart and puts them together, and knows a method of its own.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::fmt::Display;
use std::io::{self, Write};
use std::time::Duration;

use form_urlencoded::Serializer;
use http_body_util::Full;
use hyper::body::{Body, Bytes};
use hyper::header::{ALLOW, HOST, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use percent_encoding::percent_decode_str;
use tokio::net::TcpListener;
use tokio::time::sleep;
use url::Url;

type Answer = Response<Full<Bytes>>;

// ANCHOR: whole
/// The whole URL of a request. The scheme is what you serve.
pub fn whole<B>(request: &Request<B>) -> Result<Uri, Box<dyn Error>> {
    let mut parts = request.uri().clone().into_parts();
    if parts.authority.is_none() {
        let host = request.headers().get(HOST).ok_or("no host")?;
        parts.authority = Some(host.as_bytes().try_into()?);
    }
    parts.scheme = Some("http".parse()?);
    Ok(Uri::from_parts(parts)?)
}
// ANCHOR_END: whole

// ANCHOR: show
fn show<B>(request: &Request<B>) -> Answer {
    let Ok(url) = whole(request) else {
        return text(StatusCode::BAD_REQUEST, "which host?\n");
    };
    let path = percent_decode_str(url.path()).decode_utf8_lossy();
    let mut lines = format!("url: {url}\npath: {path}\n");
    let query = url.query().unwrap_or("");
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        lines += &format!("{key} = {value}\n");
    }
    text(StatusCode::OK, lines)
}
// ANCHOR_END: show

// ANCHOR: typed
/// What people type or paste, as a client can send it.
pub fn typed(text: &str) -> Result<Uri, Box<dyn Error>> {
    let url = Url::parse(text)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("neither http nor https".into());
    }
    Ok(url.as_str().parse()?)
}
// ANCHOR_END: typed

// ANCHOR: search
/// `http://127.0.0.1:8080` and `a&b` make `http://127.0.0.1:8080/search?q=a%26b`.
pub fn search(base: &Uri, words: &str) -> Result<Uri, Box<dyn Error>> {
    let query = Serializer::new(String::new()).append_pair("q", words).finish();
    let mut parts = base.clone().into_parts();
    parts.path_and_query = Some(format!("/search?{query}").try_into()?);
    Ok(Uri::from_parts(parts)?)
}
// ANCHOR_END: search

// ANCHOR: methods
pub async fn handle<B: Body>(request: Request<B>) -> Result<Answer, Infallible> {
    Ok(match *request.method() {
        Method::GET => show(&request),
        // A method without a constant is compared as text.
        ref other if other.as_str() == "SOURCE" => {
            text(StatusCode::OK, "the source of this page\n")
        }
        _ => {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "not that\n");
            let allow = HeaderValue::from_static("GET, SOURCE");
            response.headers_mut().insert(ALLOW, allow);
            response
        }
    })
}
// ANCHOR_END: methods

fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response
}

/// Prints a line. `println!` panics once the standard output is closed.
fn log(line: impl Display) {
    writeln!(io::stdout(), "{line}").ok();
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    log(format_args!("listening on http://{}", listener.local_addr()?));
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                log(format_args!("accept failed: {error}"));
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        tokio::spawn(async move {
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder.http1().timer(TokioTimer::new());
            let io = TokioIo::new(stream);
            let conn = builder.serve_connection(io, service_fn(handle));
            if let Err(error) = conn.await {
                log(format_args!("{peer}: {error}"));
            }
        });
    }
}
// ANCHOR_END: program
