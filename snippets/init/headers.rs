// ANCHOR: program
//! A server that reads headers, sets them, adds to them and removes them.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::fmt::Display;
use std::io::{self, Write};
use std::str;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use cookie::{Cookie, SameSite};
use headers::authorization::{Authorization, Basic, Bearer};
use headers::{CacheControl, HeaderMapExt};
use http_body_util::Full;
use hyper::body::{Body, Bytes};
use hyper::header::{
    AUTHORIZATION, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue,
    InvalidHeaderValue, SET_COOKIE, WWW_AUTHENTICATE,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio::time::sleep;

type Answer = Response<Full<Bytes>>;

// ANCHOR: id
/// A name of your own, in lower case.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id that the client sent, if it is one, or else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    match headers.get(REQUEST_ID) {
        Some(id) if is_id(id.as_bytes()) => id.clone(),
        _ => HeaderValue::from(NEXT.fetch_add(1, Relaxed)),
    }
}

fn is_id(id: &[u8]) -> bool {
    let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    (1..=64).contains(&id.len()) && id.iter().all(harmless)
}
// ANCHOR_END: id

// ANCHOR: list
/// What the client sent, without its secrets.
fn list(mut headers: HeaderMap) -> Answer {
    headers.remove(AUTHORIZATION);
    headers.remove(COOKIE);
    let mut lines = String::new();
    for (name, value) in &headers {
        // `to_str` would refuse what is not ASCII.
        let value = String::from_utf8_lossy(value.as_bytes());
        lines += &format!("{name}: {value}\n");
    }
    text(StatusCode::OK, lines)
}
// ANCHOR_END: list

// ANCHOR: cookie
/// The value of a cookie. Over HTTP/2, `cookie` may come several times.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<Cookie<'a>> {
    let values = headers.get_all(COOKIE).iter();
    let lines = values.filter_map(|value| str::from_utf8(value.as_bytes()).ok());
    let cookies = lines.flat_map(Cookie::split_parse).flatten();
    cookies.into_iter().find(|cookie| cookie.name() == name)
}
// ANCHOR_END: cookie

// ANCHOR: visits
fn visits(headers: &HeaderMap) -> Result<Answer, InvalidHeaderValue> {
    let visits = cookie(headers, "visits");
    let visits = visits.and_then(|cookie| cookie.value().parse::<u32>().ok());
    let visits = visits.unwrap_or(0).saturating_add(1);

    let mut response = text(StatusCode::OK, format!("visits: {visits}\n"));
    let headers = response.headers_mut();
    for (name, value) in [("visits", visits.to_string()), ("theme", "dark".into())] {
        let cookie = Cookie::build((name, value)).path("/").http_only(true);
        let cookie = cookie.same_site(SameSite::Lax).build();
        headers.append(SET_COOKIE, cookie.to_string().parse()?);
    }
    Ok(response)
}
// ANCHOR_END: visits

// ANCHOR: authorize
// Examples: read yours from a file or from the environment.
const PASSWORD: &str = "open sesame";
const TOKEN: &str = "fpKL54jvWmEGVoRdCNjG";

fn admin(headers: &HeaderMap) -> Answer {
    match headers.typed_get::<Authorization<Basic>>() {
        Some(who) if who.username() == "admin" && same(who.password(), PASSWORD) => {
            text(StatusCode::OK, "welcome\n")
        }
        _ => unauthorized(r#"Basic realm="admin", charset="UTF-8""#),
    }
}

fn metrics(headers: &HeaderMap) -> Answer {
    match headers.typed_get::<Authorization<Bearer>>() {
        Some(who) if same(who.token(), TOKEN) => text(StatusCode::OK, "up 1\n"),
        _ => unauthorized("Bearer"),
    }
}
// ANCHOR_END: authorize

// ANCHOR: same
/// Takes as long for a wrong secret of the same length as for the right one.
fn same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

fn unauthorized(challenge: &'static str) -> Answer {
    let mut response = text(StatusCode::UNAUTHORIZED, "who are you?\n");
    let challenge = HeaderValue::from_static(challenge);
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    response
}
// ANCHOR_END: same

fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

// ANCHOR: handle
pub async fn handle<B: Body>(request: Request<B>) -> Result<Answer, Infallible> {
    let (head, _) = request.into_parts();
    let id = request_id(&head.headers);
    let answer = match head.uri.path() {
        "/" => Ok(list(head.headers)),
        "/visits" => visits(&head.headers),
        "/admin" => Ok(admin(&head.headers)),
        "/metrics" => Ok(metrics(&head.headers)),
        _ => Ok(text(StatusCode::NOT_FOUND, "no such page\n")),
    };
    let mut response = answer.unwrap_or_else(|error| {
        log(format_args!("{error}"));
        text(StatusCode::INTERNAL_SERVER_ERROR, "our fault\n")
    });
    response.headers_mut().insert(REQUEST_ID, id);
    response.headers_mut().typed_insert(CacheControl::new().with_no_store());
    Ok(response)
}
// ANCHOR_END: handle

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
            let io = TokioIo::new(stream);
            let conn = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(io, service_fn(handle));
            if let Err(error) = conn.await {
                log(format_args!("{peer}: {error}"));
            }
        });
    }
}
// ANCHOR_END: program
