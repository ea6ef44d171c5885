// ANCHOR: program
//! A client that reads a response whole, in pieces, or as JSON lines.

use std::env;
use std::error::Error;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Body, Bytes};
use hyper::ext::on_informational;
use hyper::header::{HeaderMap, LINK, TE};
use hyper::{Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::Value;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use tokio_util::io::StreamReader;

// ANCHOR: limits
/// The connect, the request and its whole response.
pub const TOTAL: Duration = Duration::from_secs(60);
/// Until the next piece of the body, or the next line.
pub const IDLE: Duration = Duration::from_secs(5);
/// What `collect` keeps in memory.
pub const MAX_BODY: usize = 64 * 1024;
/// One line.
pub const MAX_LINE: usize = 8 * 1024;
// ANCHOR_END: limits

type BoxError = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let Some(url) = arguments.next() else {
        eprintln!("usage: responses URL [pieces | values]");
        return ExitCode::FAILURE;
    };
    let how = arguments.next().unwrap_or_default();
    match get_in_time(&url, &how).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", report(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

// ANCHOR: total
pub async fn get_in_time(url: &str, how: &str) -> Result<(), BoxError> {
    match timeout(TOTAL, get(url, how)).await {
        Ok(result) => result,
        Err(_) => Err("the whole response took too long".into()),
    }
}
// ANCHOR_END: total

// ANCHOR: get
async fn get(url: &str, how: &str) -> Result<(), BoxError> {
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .build_http();
    let mut request =
        Request::get(url).header(TE, "trailers").body(Empty::<Bytes>::new())?;
    check_port(request.uri())?;
    // ANCHOR: hints
    on_informational(&mut request, |hint| {
        println!("{}: {:?}", hint.status(), hint.headers().get(LINK));
    });
    // ANCHOR_END: hints
    let response = client.request(request).await?;
    // ANCHOR: status
    let status = response.status();
    if !status.is_success() {
        let why = match text(response.into_body()).await {
            Ok(text) => text,
            Err(error) => report(error.as_ref()),
        };
        return Err(format!("{status}: {}", why.trim()).into());
    }
    // ANCHOR_END: status
    // ANCHOR: length
    match response.body().size_hint().exact() {
        Some(length) => println!("{status}, {length} bytes"),
        None => println!("{status}, length unknown"),
    }
    // ANCHOR_END: length
    let body = response.into_body();
    match how {
        "pieces" => {
            let trailers = pieces(body, &mut tokio::io::stdout()).await?;
            println!("trailers: {trailers:?}");
        }
        "values" => values(body, &mut tokio::io::stdout()).await?,
        _ => print!("{}", text(body).await?),
    }
    Ok(())
}
// ANCHOR_END: get

// ANCHOR: text
pub async fn text<B>(mut body: B) -> Result<String, BoxError>
where
    B: Body<Error: Into<BoxError>> + Unpin,
{
    let bytes = Limited::new(&mut body, MAX_BODY).collect().await?.to_bytes();
    whole(&body)?;
    Ok(String::from_utf8(bytes.into())?)
}
// ANCHOR_END: text

// ANCHOR: whole
/// Whether a body that has ended had as many bytes as the server had announced.
fn whole(body: &impl Body) -> Result<(), BoxError> {
    match body.size_hint().lower() {
        0 => Ok(()),
        missing => Err(format!("the body ended {missing} bytes early").into()),
    }
}
// ANCHOR_END: whole

// ANCHOR: pieces
pub async fn pieces<B>(
    mut body: B,
    to: &mut (impl AsyncWrite + Unpin),
) -> Result<Option<HeaderMap>, BoxError>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    let mut trailers = None;
    while let Some(frame) = idle(body.frame()).await? {
        match frame.map_err(Into::into)?.into_data() {
            Ok(data) => {
                to.write_all(&data).await?;
                to.flush().await?;
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    whole(&body)?;
    Ok(trailers)
}
// ANCHOR_END: pieces

// ANCHOR: values
pub async fn values<B>(
    mut body: B,
    to: &mut (impl AsyncWrite + Unpin),
) -> Result<(), BoxError>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    let stream = (&mut body).into_data_stream().map_err(io::Error::other);
    let reader = StreamReader::new(stream); // AsyncRead
    let codec = LinesCodec::new_with_max_length(MAX_LINE);
    let mut lines = FramedRead::new(reader, codec);
    while let Some(line) = idle(lines.next()).await? {
        let line = line.map_err(|error| match error {
            LinesCodecError::Io(error) => BoxError::from(error), // keeps its causes
            error => error.into(),
        })?;
        let value: Value = serde_json::from_str(&line)?;
        to.write_all(format!("value: {value}\n").as_bytes()).await?;
        to.flush().await?;
    }
    whole(&body)
}
// ANCHOR_END: values

// ANCHOR: idle
/// The result of `next`, if it comes in time.
async fn idle<F: Future>(next: F) -> Result<F::Output, BoxError> {
    timeout(IDLE, next).await.map_err(|_| "the body stalled".into())
}
// ANCHOR_END: idle

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
