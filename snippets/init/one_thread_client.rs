// ANCHOR: program
//! A client on one thread: what it sends holds an `Rc`, over HTTP/1 and HTTP/2.

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::pin::Pin;
use std::process::ExitCode;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::header::HOST;
use hyper::rt::Executor;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;

type BoxError = Box<dyn Error + Send + Sync>;

/// The time for an answer, and its size.
const TIME: Duration = Duration::from_secs(10);
const MAX: usize = 64 * 1024;

#[derive(Clone)]
struct LocalExecutor;

impl<F: Future + 'static> Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}

// ANCHOR: body
/// A body of one text, which it shares.
struct Shared(Option<Rc<str>>);

impl Body for Shared {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let text = self.0.take();
        let frame =
            text.map(|text| Frame::data(Bytes::copy_from_slice(text.as_bytes())));
        Poll::Ready(frame.map(Ok))
    }
}
// ANCHOR_END: body

async fn connect(uri: &Uri) -> Result<TokioIo<TcpStream>, BoxError> {
    if uri.scheme_str() != Some("http") {
        return Err("the URL does not begin with http://".into());
    }
    let authority = uri.authority().ok_or("the URL has no host")?;
    // An IPv6 address has brackets in a URL.
    let host = authority.host().trim_matches(['[', ']']);
    let address = (host, authority.port_u16().unwrap_or(80));
    Ok(TokioIo::new(TcpStream::connect(address).await?))
}

// ANCHOR: ask
async fn ask(uri: &Uri, text: Rc<str>, second: bool) -> Result<Bytes, BoxError> {
    let stream = connect(uri).await?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::post(path).body(Shared(Some(text)))?;
    let response: Response<Incoming> = if second {
        let (mut sender, conn) = http2::handshake(LocalExecutor, stream).await?;
        spawn_local(conn);
        *request.uri_mut() = uri.clone();
        sender.send_request(request).await?
    } else {
        let (mut sender, conn) = http1::handshake(stream).await?;
        spawn_local(conn);
        let host = uri.authority().map_or("", |host| host.as_str());
        request.headers_mut().insert(HOST, host.parse()?);
        sender.send_request(request).await?
    };
    Ok(Limited::new(response.into_body(), MAX).collect().await?.to_bytes())
}
// ANCHOR_END: ask

async fn run() -> Result<(), BoxError> {
    let uri = env::args().nth(1).ok_or("usage: one-thread-client URL")?;
    let uri: Uri = uri.parse()?;
    let text: Rc<str> = "Hello".into();
    for second in [false, true] {
        let answer = timeout(TIME, ask(&uri, text.clone(), second)).await??;
        io::stdout().write_all(&answer)?;
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match LocalSet::new().run_until(run()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", report(&*error));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes.
fn report(error: &(dyn Error + 'static)) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", report(source)),
        None => error.to_string(),
    }
}
// ANCHOR_END: program
