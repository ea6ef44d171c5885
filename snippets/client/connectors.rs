// ANCHOR: program
//! A client that connects where you say: to another address, or to a Unix socket.

use std::env;
use std::error::Error;
use std::future::ready;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::http::uri::Scheme;
use hyper::rt::{Read, Write};
use hyper::{Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{
    Connect, Connected, Connection, HttpConnector, HttpInfo,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tower_service::Service;

// ANCHOR: limits
/// For TCP alone. The addresses of a family share it.
pub const TCP: Duration = Duration::from_secs(4);
/// For the whole connect, the lookup of the name included.
pub const CONNECT: Duration = Duration::from_secs(5);
/// For the connect, the response and its whole body.
pub const TOTAL: Duration = Duration::from_secs(20);
// ANCHOR_END: limits
/// The size of a body in memory.
pub const MAX_BODY: usize = 1024 * 1024;

const USAGE: &str =
    "usage: connectors URL [--connect-to HOST:PORT | --unix-socket PATH]";

pub type BoxError = Box<dyn Error + Send + Sync>;

// ANCHOR: connecting
/// The future of a connector. It must be `Unpin`, and a box is.
type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;
// ANCHOR_END: connecting

// ANCHOR: io
/// A stream of any kind.
pub trait Io: Read + Write + Send + Unpin {
    /// What the client and each response are told about it.
    fn about(&self) -> Connected {
        Connected::new()
    }
}

impl Connection for Box<dyn Io> {
    fn connected(&self) -> Connected {
        (**self).about()
    }
}
// ANCHOR_END: io

// ANCHOR: about
impl Io for TokioIo<TcpStream> {
    fn about(&self) -> Connected {
        self.connected() // with an HttpInfo
    }
}

/// The path of the Unix socket that a response came from.
#[derive(Clone)]
pub struct SocketPath(pub PathBuf);

impl Io for TokioIo<UnixStream> {
    fn about(&self) -> Connected {
        let peer = self.inner().peer_addr();
        match peer.as_ref().ok().and_then(|address| address.as_pathname()) {
            Some(path) => Connected::new().extra(SocketPath(path.to_owned())),
            None => Connected::new(),
        }
    }
}
// ANCHOR_END: about

// ANCHOR: connector
#[derive(Clone)]
pub enum Connector {
    /// To this host and port, or else to those of the URL.
    Tcp { http: HttpConnector, to: Option<Uri> },
    /// To this Unix socket, whatever the URL says.
    Unix(PathBuf),
}

impl Service<Uri> for Connector {
    type Response = Box<dyn Io>;
    type Error = BoxError;
    type Future = Connecting<Box<dyn Io>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self {
            Connector::Tcp { http, .. } => http.poll_ready(cx).map_err(Into::into),
            Connector::Unix(_) => Poll::Ready(Ok(())),
        }
    }
    // ANCHOR_END: connector

    // ANCHOR: call
    fn call(&mut self, uri: Uri) -> Self::Future {
        if uri.scheme() != Some(&Scheme::HTTP) {
            let error = format!("this connector has no TLS for {uri}");
            return Box::pin(ready(Err(error.into())));
        }
        if let Err(error) = check_port(&uri) {
            return Box::pin(ready(Err(error)));
        }
        match self {
            Connector::Tcp { http, to } => {
                let connecting = http.call(to.clone().unwrap_or(uri));
                Box::pin(async { Ok(Box::new(connecting.await?) as _) })
            }
            Connector::Unix(path) => {
                let path = path.clone();
                Box::pin(async move { Ok(Box::new(unix(&path).await?) as _) })
            }
        }
    }
    // ANCHOR_END: call
}

// ANCHOR: port
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
// ANCHOR_END: port

// ANCHOR: unix
async fn unix(path: &Path) -> io::Result<TokioIo<UnixStream>> {
    let stream = UnixStream::connect(path).await.map_err(|error| {
        io::Error::new(error.kind(), format!("{}: {error}", path.display()))
    })?;
    Ok(TokioIo::new(stream))
}
// ANCHOR_END: unix

// ANCHOR: tcp
/// To the host of the URL, or to this host and port instead.
pub fn tcp(to: Option<&str>) -> Result<Connector, BoxError> {
    let mut http = HttpConnector::new();
    http.set_connect_timeout(Some(TCP));
    http.set_nodelay(true);
    let to = to.map(|to| {
        let uri = Uri::builder().scheme(Scheme::HTTP).authority(to);
        let uri = uri.path_and_query("/").build()?;
        check_port(&uri)?;
        Ok::<_, BoxError>(uri)
    });
    Ok(Connector::Tcp { http, to: to.transpose()? })
}
// ANCHOR_END: tcp

// ANCHOR: in_time
/// A connector with a limit on the time that it takes.
#[derive(Clone)]
pub struct InTime<C>(pub C);

impl<C> Service<Uri> for InTime<C>
where
    C: Service<Uri, Error: Into<BoxError>, Future: Send + 'static>,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Connecting<C::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async { timeout(CONNECT, connecting).await?.map_err(Into::into) })
    }
}
// ANCHOR_END: in_time

// ANCHOR: fetch
pub async fn fetch<C>(connector: C, uri: Uri) -> Result<(String, Bytes), BoxError>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let client: Client<C, Empty<Bytes>> = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .build(connector);
    let exchange = async {
        let response = client.get(uri).await?;
        let peer = peer(&response);
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await?;
        Ok((peer, body.to_bytes()))
    };
    timeout(TOTAL, exchange).await?
}
// ANCHOR_END: fetch

// ANCHOR: peer
/// Where the response came from.
fn peer(response: &Response<Incoming>) -> String {
    if let Some(info) = response.extensions().get::<HttpInfo>() {
        info.remote_addr().to_string()
    } else if let Some(SocketPath(path)) = response.extensions().get() {
        path.display().to_string()
    } else {
        "a stream without a name".to_owned()
    }
}
// ANCHOR_END: peer

// ANCHOR: run
async fn run() -> Result<(), BoxError> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (url, connector) = match arguments[..] {
        [url] => (url, tcp(None)?),
        [url, "--connect-to", to] => (url, tcp(Some(to))?),
        [url, "--unix-socket", path] => (url, Connector::Unix(path.into())),
        _ => return Err(USAGE.into()),
    };
    let (peer, body) = fetch(InTime(connector), url.parse()?).await?;
    eprintln!("connected to {peer}");
    io::stdout().write_all(&body)?;
    Ok(())
}
// ANCHOR_END: run

// ANCHOR: main
fn in_runtime() -> Result<(), BoxError> {
    let runtime = Runtime::new()?;
    let result = runtime.block_on(run());
    // The lookup of a name may go on in its thread. Do not wait for it.
    runtime.shutdown_background();
    result
}
// ANCHOR_END: main

fn main() -> ExitCode {
    match in_runtime() {
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
