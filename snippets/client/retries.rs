// ANCHOR: program
//! A client that sends a request again if that is safe: a few times, after pauses.

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes};
use hyper::header::RETRY_AFTER;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::connect::{
    Connect, HttpConnector, capture_connection,
};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, sleep, timeout};
use tower::retry::budget::{Budget, TpsBudget};

// ANCHOR: limits
/// For everything: all attempts, and the pauses between them.
pub const TOTAL: Duration = Duration::from_secs(20);
/// For one attempt, with the body of its response.
pub const ATTEMPT: Duration = Duration::from_secs(5);
/// How often a request is sent, at most.
pub const ATTEMPTS: u32 = 4;
/// The first pause is at most this long, and each further one twice as long.
pub const PAUSE: Duration = Duration::from_millis(100);
/// The size of a body in memory.
pub const MAX_BODY: usize = 1024 * 1024;
// ANCHOR_END: limits

type BoxError = Box<dyn Error + Send + Sync>;

// ANCHOR: fate
/// What a failed attempt leaves behind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fate {
    /// The server did not process the request.
    NotProcessed,
    /// It may have processed the request.
    Unknown,
    /// Another attempt would fail as well.
    Final,
}
// ANCHOR_END: fate

// ANCHOR: classify
pub fn fate(error: &(dyn Error + 'static)) -> Fate {
    if error.is::<LengthLimitError>() {
        return Fate::Final;
    }
    // The request had no connection. Without a source the request is at fault.
    if let Some(error) = error.downcast_ref::<legacy::Error>()
        && error.connect_info().is_none()
    {
        return error.source().map_or(Fate::Final, |_| Fate::NotProcessed);
    }
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            if error.is_canceled() {
                return Fate::NotProcessed;
            }
            if error.is_parse() {
                return Fate::Final;
            }
        }
        // ANCHOR_END: classify
        // ANCHOR: http2
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
            return match error.is_remote() && (error.is_go_away() || refused) {
                true => Fate::NotProcessed,
                false => Fate::Unknown,
            };
        }
        // ANCHOR_END: http2
        next = error.source();
    }
    Fate::Unknown
}

// ANCHOR: attempt
pub async fn attempt<C>(
    client: &Client<C, Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, BoxError>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let is_head = request.method() == Method::HEAD;
    let (head, mut body) = client.request(request).await?.into_parts();
    let bytes = Limited::new(&mut body, MAX_BODY).collect().await?.to_bytes();
    let has_body = !is_head && head.status != StatusCode::NOT_MODIFIED;
    if has_body && body.size_hint().lower() > 0 {
        return Err("the body ended early".into());
    }
    Ok(Response::from_parts(head, bytes))
}
// ANCHOR_END: attempt

// ANCHOR: repeatable
/// Whether the request may reach the server twice. The key helps only with a server
/// that knows this header.
pub fn repeatable(request: &Request<Full<Bytes>>) -> bool {
    request.method().is_idempotent()
        || request.headers().contains_key("idempotency-key")
}
// ANCHOR_END: repeatable

// ANCHOR: retry_after
fn retry_after(response: &Response<Bytes>) -> Option<Duration> {
    let busy = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
    if !busy.contains(&response.status()) {
        return None;
    }
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}
// ANCHOR_END: retry_after

// ANCHOR: pause
/// At random, so that clients which fail together do not come back together.
pub fn pause(attempt: u32) -> Duration {
    PAUSE.mul_f64(f64::from(1 << (attempt - 1)) * fastrand::f64())
}
// ANCHOR_END: pause

// ANCHOR: send
pub async fn send<C>(
    client: &Client<C, Full<Bytes>>,
    budget: &TpsBudget,
    request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, BoxError>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    timeout(TOTAL, repeat(client, budget, request)).await?
}
// ANCHOR_END: send

async fn repeat<C>(
    client: &Client<C, Full<Bytes>>,
    budget: &TpsBudget,
    request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, BoxError>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    // ANCHOR: repeat
    let start = Instant::now();
    budget.deposit();
    let mut number = 1;
    loop {
        let mut sent = request.clone();
        let connection = capture_connection(&mut sent);
        let result = timeout(ATTEMPT, attempt(client, sent)).await;
        let result = result.unwrap_or_else(|elapsed| {
            // Over HTTP/2 it may be dead, and the next attempt would use it again.
            if let Some(connection) = connection.connection_metadata().as_ref() {
                connection.poison();
            }
            Err(elapsed.into())
        });
        let Some(wait) = again(&request, &result) else { return result };
        let wait = wait.saturating_add(pause(number));
        let late = wait >= TOTAL.saturating_sub(start.elapsed());
        if number == ATTEMPTS || late || !budget.withdraw() {
            return result;
        }
        eprintln!("attempt {number}: {}", summary(&result));
        sleep(wait).await;
        number += 1;
    }
    // ANCHOR_END: repeat
}

// ANCHOR: again
/// Whether to send it again; and how long the server wants to be left alone.
fn again(
    request: &Request<Full<Bytes>>,
    result: &Result<Response<Bytes>, BoxError>,
) -> Option<Duration> {
    let repeatable = repeatable(request);
    match result {
        Ok(response) if repeatable => retry_after(response),
        Ok(_) => None,
        Err(error) => match fate(&**error) {
            Fate::NotProcessed => Some(Duration::ZERO),
            Fate::Unknown => repeatable.then_some(Duration::ZERO),
            Fate::Final => None,
        },
    }
}
// ANCHOR_END: again

fn summary(result: &Result<Response<Bytes>, BoxError>) -> String {
    match result {
        Ok(response) => response.status().to_string(),
        Err(error) => report(&**error),
    }
}

// ANCHOR: budget
/// For all requests of a client together: one retry for every five requests, and one
/// more each second for a client that sends few.
pub fn budget() -> TpsBudget {
    TpsBudget::new(Duration::from_secs(10), 1, 0.2)
}
// ANCHOR_END: budget

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

async fn run() -> Result<(), BoxError> {
    let mut arguments = env::args().skip(1);
    let uri = arguments.next().ok_or("usage: retries URL [BODY]")?;
    let request = match arguments.next() {
        Some(body) => Request::post(uri).body(Full::from(body))?,
        None => Request::get(uri).body(Full::default())?,
    };
    check_port(request.uri())?;

    let mut connector = HttpConnector::new();
    // Also for a connect that goes on when its request has another connection.
    connector.set_connect_timeout(Some(ATTEMPT));
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .build(connector);
    let budget = budget();
    let response = send(&client, &budget, request).await?;
    eprintln!("{}", response.status());
    io::stdout().write_all(response.body())?;
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
