// ANCHOR: program
//! A client that follows redirects, but not everywhere, and not with everything.

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::HOST;
use hyper::http::uri::Scheme;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;
use tower::{BoxError, ServiceExt};
use tower_http::follow_redirect::policy::{
    Action, Attempt, FilterCredentials, Policy, SameOrigin,
};
use tower_http::follow_redirect::{FollowRedirect, RequestUri};

// ANCHOR: limits
/// For everything: all connects and requests, and the body of the last response.
pub const TOTAL: Duration = Duration::from_secs(20);
/// For one connect.
pub const CONNECT: Duration = Duration::from_secs(5);
/// How many redirects are followed for one request.
pub const REDIRECTS: u32 = 10;
/// The size of a body in memory.
pub const MAX_BODY: usize = 1024 * 1024;
// ANCHOR_END: limits

// ANCHOR: policy
/// Which redirects are followed, and what the next request has in it.
#[derive(Clone)]
pub struct Redirects {
    left: u32,
    /// Whether the next request goes to another origin.
    elsewhere: bool,
    credentials: FilterCredentials,
}
// ANCHOR_END: policy

// ANCHOR: redirect
impl Policy<Full<Bytes>, BoxError> for Redirects {
    fn redirect(&mut self, attempt: &Attempt<'_>) -> Result<Action, BoxError> {
        let (from, to) = (attempt.previous(), attempt.location());
        if from.scheme() == Some(&Scheme::HTTPS) && to.scheme() != from.scheme() {
            return Err(format!("no redirect from https to {to}").into());
        }
        self.left = self.left.checked_sub(1).ok_or("too many redirects")?;
        let stays: &mut dyn Policy<Full<Bytes>, BoxError> = &mut SameOrigin::new();
        self.elsewhere = !stays.redirect(attempt)?.is_follow();
        let next: &mut dyn Policy<Full<Bytes>, BoxError> = &mut self.credentials;
        next.redirect(attempt)
    }
    // ANCHOR_END: redirect

    // ANCHOR: request
    fn on_request(&mut self, request: &mut Request<Full<Bytes>>) {
        if self.elsewhere {
            // The client writes the one that fits the new URL.
            request.headers_mut().remove(HOST);
        }
        let next: &mut dyn Policy<Full<Bytes>, BoxError> = &mut self.credentials;
        next.on_request(request);
    }

    fn clone_body(&self, body: &Full<Bytes>) -> Option<Full<Bytes>> {
        Some(body.clone())
    }
    // ANCHOR_END: request
}

// ANCHOR: fetch
pub async fn fetch<C>(
    client: &Client<C, Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, BoxError>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let policy = Redirects {
        left: REDIRECTS,
        elsewhere: false,
        credentials: FilterCredentials::new(),
    };
    let is_head = request.method() == Method::HEAD;
    let client = client.clone().map_err(BoxError::from);
    let client = FollowRedirect::with_policy(client, policy);
    timeout(TOTAL, async { read(client.oneshot(request).await?, is_head).await })
        .await?
}
// ANCHOR_END: fetch

// ANCHOR: read
async fn read(
    response: Response<Incoming>,
    is_head: bool,
) -> Result<Response<Bytes>, BoxError> {
    let (head, mut body) = response.into_parts();
    let bytes = Limited::new(&mut body, MAX_BODY).collect().await?.to_bytes();
    let has_body = !is_head && head.status != StatusCode::NOT_MODIFIED;
    if has_body && body.size_hint().lower() > 0 {
        return Err("the body ended early".into());
    }
    Ok(Response::from_parts(head, bytes))
}
// ANCHOR_END: read

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
    let uri = arguments.next().ok_or("usage: redirects URL [BODY]")?;
    let request = match arguments.next() {
        Some(body) => Request::post(uri).body(Full::from(body))?,
        None => Request::get(uri).body(Full::default())?,
    };
    check_port(request.uri())?;
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT));
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .build(connector);

    // ANCHOR: run
    let response = fetch(&client, request).await?;
    if let Some(RequestUri(uri)) = response.extensions().get() {
        eprintln!("{} from {uri}", response.status());
    }
    // ANCHOR_END: run
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
