// ANCHOR: program
//! A handler in layers: request id, log, errors, time limit, concurrency, panics.

use std::any::Any;
use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::fmt::Display;
use std::future::{Future, poll_fn};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{HeaderName, HeaderValue};
use hyper::service::{Service, service_fn};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, error::Elapsed, sleep, timeout};

const REQUEST_TIME: Duration = Duration::from_secs(2);
const REQUESTS_AT_A_TIME: usize = 100;

// ANCHOR: types
pub type BoxError = Box<dyn Error + Send + Sync>;
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
// ANCHOR_END: types

// ANCHOR: time_limit
/// Fails when the inner service takes too long.
pub struct TimeLimit<S> {
    pub inner: S,
    pub limit: Duration,
}

impl<S, B> Service<Request<B>> for TimeLimit<S>
where
    S: Service<Request<B>, Error: Into<BoxError>, Future: Send + 'static>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<Result<S::Response, BoxError>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let response = timeout(self.limit, self.inner.call(request));
        Box::pin(async move { response.await?.map_err(Into::into) })
    }
}
// ANCHOR_END: time_limit

/// Lets at most `count` requests in at a time; the others wait.
pub struct AtMost<S> {
    inner: Arc<S>,
    permits: Arc<Semaphore>,
}

impl<S> AtMost<S> {
    pub fn new(count: usize, inner: S) -> Self {
        AtMost { inner: Arc::new(inner), permits: Arc::new(Semaphore::new(count)) }
    }
}

// ANCHOR: at_most
impl<S, B> Service<Request<B>> for AtMost<S>
where
    S: Service<Request<B>, Error: Into<BoxError>, Future: Send>,
    S: Send + Sync + 'static,
    B: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<Result<S::Response, BoxError>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let (inner, permits) = (self.inner.clone(), self.permits.clone());
        Box::pin(async move {
            let _permit = permits.acquire().await?;
            inner.call(request).await.map_err(Into::into)
        })
    }
}
// ANCHOR_END: at_most

/// Turns a panic of the inner service into an error.
pub struct CatchPanic<S> {
    pub inner: S,
}

impl<S, B> Service<Request<B>> for CatchPanic<S>
where
    S: Service<Request<B>, Error: Into<BoxError>, Future: Send + 'static>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<Result<S::Response, BoxError>>;

    // ANCHOR: catch_panic
    fn call(&self, request: Request<B>) -> Self::Future {
        let called = catch_unwind(AssertUnwindSafe(|| self.inner.call(request)));
        Box::pin(async move {
            let mut response = pin!(called.map_err(panicked)?);
            poll_fn(|cx| {
                let poll = AssertUnwindSafe(|| response.as_mut().poll(cx));
                match catch_unwind(poll) {
                    Ok(poll) => poll.map_err(Into::into),
                    Err(panic) => Poll::Ready(Err(panicked(panic))),
                }
            })
            .await
        })
    }
    // ANCHOR_END: catch_panic
}

fn panicked(panic: Box<dyn Any + Send>) -> BoxError {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or(panic.downcast_ref::<String>().map(String::as_str));
    format!("the handler panicked: {}", text.unwrap_or("?")).into()
}

/// Turns an error of the inner service into a response.
pub struct Respond<S> {
    pub inner: S,
}

// ANCHOR: respond
impl<S, B, Out> Service<Request<B>> for Respond<S>
where
    S: Service<Request<B>, Response = Response<Out>>,
    S: Service<Request<B>, Error: Into<BoxError>, Future: Send + 'static>,
{
    type Response = Response<Either<Out, Full<Bytes>>>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let response = self.inner.call(request);
        Box::pin(async move {
            Ok(match response.await {
                Ok(response) => response.map(Either::Left),
                Err(error) => failed(error.into()).map(Either::Right),
            })
        })
    }
}
// ANCHOR_END: respond

// ANCHOR: failed
/// Why a request failed, for the log.
#[derive(Clone)]
struct Cause(String);

fn failed(error: BoxError) -> Response<Full<Bytes>> {
    let status = if error.is::<Elapsed>() {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::INTERNAL_SERVER_ERROR
    };
    // The client learns the status, and the log learns the cause.
    let mut response = Response::new(Full::from(format!("{status}\n")));
    *response.status_mut() = status;
    response.extensions_mut().insert(Cause(report(&*error)));
    response
}
// ANCHOR_END: failed

fn report(error: &(dyn Error + 'static)) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", report(source)),
        None => error.to_string(),
    }
}

/// Prints a line for each request, when its response is over.
pub struct Log<S> {
    pub inner: S,
}

// ANCHOR: entry
/// The line of one request. It is printed when the entry is dropped.
struct Entry {
    request: String,
    start: Instant,
    response: String,
    bytes: usize,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let Entry { request, start, response, bytes } = self;
        let time = start.elapsed().as_millis();
        log(format_args!("{request}: {response}, {bytes} bytes in {time} ms"));
    }
}
// ANCHOR_END: entry

// ANCHOR: log
impl<S, B, Out> Service<Request<B>> for Log<S>
where
    S: Service<Request<B>, Response = Response<Out>>,
    S: Service<Request<B>, Future: Send + 'static>,
{
    type Response = Response<Logged<Out>>;
    type Error = S::Error;
    type Future = BoxFuture<Result<Self::Response, S::Error>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let mut entry = Entry::new(&request);
        let response = self.inner.call(request);
        Box::pin(async move {
            let response = response.await?;
            entry.head(&response);
            Ok(response.map(|body| Logged { body, entry }))
        })
    }
}
// ANCHOR_END: log

impl Entry {
    fn new<B>(request: &Request<B>) -> Entry {
        let id = request.extensions().get().map_or(0, |Id(id)| *id);
        // Escaped, so that a client cannot write control characters into the log.
        let path = request.uri().path().escape_debug();
        let request = format!("{id} {} {path}", request.method());
        let (start, response) = (Instant::now(), "no response".to_owned());
        Entry { request, start, response, bytes: 0 }
    }

    fn head<B>(&mut self, response: &Response<B>) {
        let (status, time) = (response.status(), self.start.elapsed().as_millis());
        self.response = format!("{} after {time} ms", status.as_u16());
        if let Some(Cause(cause)) = response.extensions().get() {
            self.response += &format!(" ({})", cause.escape_debug());
        }
    }
}

/// A body that counts its bytes.
pub struct Logged<B> {
    body: B,
    entry: Entry,
}

// ANCHOR: logged
impl<B: Body<Data = Bytes> + Unpin> Body for Logged<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            self.entry.bytes += frame.data_ref().map_or(0, Bytes::len);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
// ANCHOR_END: logged

/// Gives each request a number, and tells it to the client.
pub struct RequestId<S> {
    pub inner: S,
    pub last: AtomicU64,
}

#[derive(Clone, Copy)]
struct Id(u64);

impl<S, B, Out> Service<Request<B>> for RequestId<S>
where
    S: Service<Request<B>, Response = Response<Out>>,
    S: Service<Request<B>, Future: Send + 'static>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<Result<Self::Response, S::Error>>;

    // ANCHOR: request_id
    fn call(&self, mut request: Request<B>) -> Self::Future {
        let id = self.last.fetch_add(1, Relaxed) + 1;
        request.extensions_mut().insert(Id(id));
        let response = self.inner.call(request);
        Box::pin(async move {
            let mut response = response.await?;
            let name = HeaderName::from_static("x-request-id");
            response.headers_mut().insert(name, HeaderValue::from(id));
            Ok(response)
        })
    }
    // ANCHOR_END: request_id
}

// ANCHOR: handle
async fn handle(
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, io::Error> {
    let body = match request.uri().path() {
        "/download" => Download(512).boxed(),
        "/fail" => return Err(io::Error::other("the database does not answer")),
        "/panic" => panic!("index out of range"),
        "/slow" => {
            sleep(Duration::from_secs(3600)).await;
            Full::from("that took an hour\n").boxed()
        }
        _ => Full::from("Hello, World!\n").boxed(),
    };
    Ok(Response::new(body))
}
// ANCHOR_END: handle

/// A body of `n` pieces of 64 KiB, made as fast as the client reads.
struct Download(usize);

impl Body for Download {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(left) = self.0.checked_sub(1) else { return Poll::Ready(None) };
        self.0 = left;
        let piece = Bytes::from_static(&[b'.'; 64 * 1024]);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

// ANCHOR: stack
pub fn service() -> impl Service<
    Request<Incoming>,
    Response = Response<impl Body<Data = Bytes, Error: Into<BoxError>> + Send>,
    Error = Infallible,
    Future: Send,
> + Send
+ Sync {
    let service = CatchPanic { inner: service_fn(handle) };
    let service = AtMost::new(REQUESTS_AT_A_TIME, service);
    let service = TimeLimit { inner: service, limit: REQUEST_TIME };
    let service = Respond { inner: service };
    let service = Log { inner: service };
    RequestId { inner: service, last: AtomicU64::new(0) }
}
// ANCHOR_END: stack

/// Prints a line. `println!` panics once the standard output is closed.
fn log(line: impl Display) {
    writeln!(io::stdout(), "{line}").ok();
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    log(format_args!("listening on http://{}", listener.local_addr()?));

    // ANCHOR: serve
    let service = Arc::new(service());
    loop {
        let (stream, _peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                log(format_args!("accept failed: {error}"));
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let service = service.clone();
        tokio::spawn(async move {
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder
                .http1()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(5));
            let conn = builder.serve_connection(TokioIo::new(stream), service);
            if let Err(error) = conn.await {
                log(format_args!("connection failed: {error}"));
            }
        });
    }
    // ANCHOR_END: serve
}
// ANCHOR_END: program
