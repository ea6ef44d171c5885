// ANCHOR: program
//! The server of *Routing and State*, on axum.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Display;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tokio::net::TcpListener;
use tower_http::timeout::TimeoutLayer;

const MAX_NOTES: usize = 100;
pub const MAX_NAME: usize = 100;
pub const MAX_NOTE: usize = 64 * 1024;
const REQUEST_TIME: Duration = Duration::from_secs(10);

type Answer = (StatusCode, &'static str);

/// What all requests share.
#[derive(Default)]
pub struct Shared {
    requests: AtomicU64,
    notes: Mutex<BTreeMap<String, Bytes>>,
}

impl Shared {
    fn notes(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        // After a panic in another thread that held the lock, use the map as it is.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// ANCHOR: router
pub fn router() -> Router {
    let shared = Arc::new(Shared::default());
    Router::new()
        .route("/", get(index))
        .route("/whoami", get(whoami))
        .route("/notes", get(list))
        .route("/notes/{name}", get(note).put(put).delete(delete))
        .fallback((StatusCode::NOT_FOUND, "no such page\n"))
        .method_not_allowed_fallback(not_allowed)
        .layer(DefaultBodyLimit::max(MAX_NOTE))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            REQUEST_TIME,
        ))
        .layer(middleware::from_fn_with_state(shared.clone(), log))
        .with_state(shared)
}
// ANCHOR_END: router

async fn not_allowed() -> Answer {
    (StatusCode::METHOD_NOT_ALLOWED, "not that method\n")
}

async fn index(State(shared): State<Arc<Shared>>) -> String {
    format!("requests: {}\n", shared.requests.load(Relaxed))
}

async fn whoami(ConnectInfo(peer): ConnectInfo<SocketAddr>) -> String {
    format!("{peer}\n")
}

// ANCHOR: list
#[derive(Deserialize)]
struct Filter {
    #[serde(default)]
    prefix: String,
    limit: Option<usize>,
}

/// The names of the notes: `?prefix=to-do&limit=5`.
async fn list(
    State(shared): State<Arc<Shared>>,
    Query(filter): Query<Filter>,
) -> String {
    let notes = shared.notes();
    let names = notes.keys().filter(|name| name.starts_with(&filter.prefix));
    let names = names.take(filter.limit.unwrap_or(MAX_NOTES));
    names.map(|name| encode(name) + "\n").collect()
}
// ANCHOR_END: list

fn encode(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

async fn note(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
) -> Response {
    let found = shared.notes().get(&name).cloned();
    let plain = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
    found.map_or(NO_SUCH_NOTE.into_response(), |note| (plain, note).into_response())
}

const NO_SUCH_NOTE: Answer = (StatusCode::NOT_FOUND, "no such note\n");

// ANCHOR: put
async fn put(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    bytes: Bytes,
) -> Answer {
    if name.len() > MAX_NAME {
        return (StatusCode::URI_TOO_LONG, "that name is too long\n");
    }
    let mut notes = shared.notes();
    if notes.len() >= MAX_NOTES && !notes.contains_key(&name) {
        return (StatusCode::INSUFFICIENT_STORAGE, "delete a note first\n");
    }
    // A copy: what hyper has read may be a small part of a large buffer.
    match notes.insert(name, Bytes::copy_from_slice(&bytes)) {
        None => (StatusCode::CREATED, "created\n"),
        Some(_) => (StatusCode::OK, "replaced\n"),
    }
}
// ANCHOR_END: put

async fn delete(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
) -> Answer {
    let removed = shared.notes().remove(&name);
    removed.map_or(NO_SUCH_NOTE, |_| (StatusCode::OK, "deleted\n"))
}

/// Counts each request, and prints a line for its response.
async fn log(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    shared.requests.fetch_add(1, Relaxed);
    let path = request.uri().path().escape_debug();
    let line = format!("{peer} {} {path}", request.method());
    let response = next.run(request).await;
    print(format_args!("{line} {}", response.status().as_u16()));
    response
}

/// Prints a line. `println!` panics once the standard output is closed.
fn print(line: impl Display) {
    writeln!(io::stdout(), "{line}").ok();
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    print(format_args!("listening on http://{}", listener.local_addr()?));
    let service = router().into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).await
}
// ANCHOR_END: program
