//! What src/server/response-bodies.md promises.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::ready;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};

use futures_util::stream;
use http_body_util::channel::Channel;
use http_body_util::combinators::{BoxBody, UnsyncBoxBody};
use http_body_util::{BodyExt, Either, Empty, Full, StreamBody};
use hyper::body::{Body, Buf, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{
    CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue, TRAILER,
    TRANSFER_ENCODING,
};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::{TcpListener, TcpStream};
use tower::{Layer, ServiceExt};

use harness::{Program, page};

/// The program itself, for tests on an in-memory connection.
#[allow(dead_code)]
#[path = "../../server/response_bodies.rs"]
mod program;

type Made = Response<UnsyncBoxBody<Bytes, io::Error>>;

const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
const GET_1_0: &str = "GET / HTTP/1.0\r\n\r\n";
const HEAD: &str = "HEAD / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

// The bodies.

fn made<B>(body: B) -> Made
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + 'static,
{
    Response::new(body.map_err(io::Error::other).boxed_unsync())
}

fn streamed() -> StreamBody<
    impl stream::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + Sync,
> {
    let pieces = ["hel", "lo"].map(|piece| Ok(Frame::data(Bytes::from(piece))));
    StreamBody::new(stream::iter(pieces))
}

fn channel() -> Channel<Bytes> {
    let (mut sender, body) = Channel::new(3);
    sender.try_send(Frame::data("hel".into())).unwrap();
    sender.try_send(Frame::data("lo".into())).unwrap();
    body
}

fn with_length(mut response: Made, length: u64) -> Made {
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    response
}

fn with_status(mut response: Made, status: u16) -> Made {
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// What a client gets for this request over HTTP/1, without the date, and how the connection ends.
async fn http1(
    builder: http1::Builder,
    request: &str,
    make: fn() -> Made,
) -> (String, Result<(), String>) {
    let (mut client, server) = duplex(64 * 1024);
    let service = service_fn(move |_: Request<Incoming>| async move {
        let mut response = make();
        response.headers_mut().insert(DATE, HeaderValue::from_static("now"));
        Ok::<_, Infallible>(response)
    });
    let conn = builder.serve_connection(TokioIo::new(server), service);
    let conn =
        tokio::spawn(async { conn.await.map_err(|error| program::report(&error)) });
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    let end = conn.await.unwrap_or_else(|panic| {
        Err(panic.into_panic().downcast_ref::<String>().unwrap().clone())
    });
    let answer =
        answer.replace("date: now\r\n", "").replace("connection: close\r\n", "");
    (answer, end)
}

/// The headers but `date`, and the bytes or the error of the body.
type Answer = (Vec<(String, String)>, Result<Bytes, hyper::Error>, Option<HeaderMap>);

/// What hyper's client gets over HTTP/2.
async fn http2(method: &str, make: fn() -> Made) -> Answer {
    let (client, server) = duplex(64 * 1024);
    let service =
        service_fn(
            move |_: Request<Incoming>| async move { Ok::<_, Infallible>(make()) },
        );
    tokio::spawn(
        http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(server), service),
    );
    let (mut client, driver) = hyper::client::conn::http2::handshake(
        TokioExecutor::new(),
        TokioIo::new(client),
    )
    .await
    .unwrap();
    tokio::spawn(driver);
    let request = Request::builder().method(method).uri("http://x/");
    let response = client
        .send_request(request.body(Empty::<Bytes>::new()).unwrap())
        .await
        .unwrap();
    let headers = response.headers().iter().filter(|(name, _)| *name != DATE);
    let headers = headers
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    match response.into_body().collect().await {
        Ok(whole) => {
            let trailers = whole.trailers().cloned();
            (headers, Ok(whole.to_bytes()), trailers)
        }
        Err(error) => (headers, Err(error), None),
    }
}

fn ok(headers: &str, body: &str) -> (String, Result<(), String>) {
    (format!("HTTP/1.1 200 OK\r\n{headers}\r\n{body}"), Ok(()))
}

fn plain() -> http1::Builder {
    http1::Builder::new()
}

#[test]
fn some_bodies_know_their_length() {
    fn exact(body: impl Body) -> Option<u64> {
        body.size_hint().exact()
    }
    assert_eq!(exact(Full::<Bytes>::from("hello")), Some(5));
    assert_eq!(exact("hello".to_owned()), Some(5));
    assert_eq!(exact(Empty::<Bytes>::new()), Some(0));
    let left: Either<_, Empty<Bytes>> = Either::Left(Full::<Bytes>::from("hello"));
    assert_eq!(exact(left), Some(5));
    assert_eq!(exact(BoxBody::new(Full::<Bytes>::from("hello"))), Some(5));
    assert_eq!(exact(UnsyncBoxBody::new(Full::<Bytes>::from("hello"))), Some(5));
    assert_eq!(exact(streamed()), None);
    assert_eq!(exact(channel()), None);
    assert_eq!(exact(BodyExt::boxed(streamed())), None);

    let full = || Full::<Bytes>::from("hello");
    assert_eq!(exact(full().map_err(|never| match never {})), Some(5));
    assert_eq!(exact(full().with_trailers(ready(None))), Some(5));
    assert_eq!(exact(full().map_frame(|frame| frame)), None);
}

/// Five bytes, in a body type that says so.
struct Own(Option<Bytes>);

impl Body for Own {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, Bytes::len) as u64)
    }
}

/// A body that is neither `Send` nor `Sync` is served, on one thread.
#[tokio::test]
async fn hyper_itself_needs_no_send() {
    struct Local(Option<std::rc::Rc<str>>);
    impl Body for Local {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let text = self.0.take();
            std::task::Poll::Ready(
                text.map(|text| Ok(Frame::data(Bytes::from(text.to_string())))),
            )
        }
    }
    let (mut client, server) = duplex(1024);
    let service = service_fn(async |_: Request<Incoming>| {
        Ok::<_, Infallible>(Response::new(Local(Some("hello".into()))))
    });
    client.write_all(GET.as_bytes()).await.unwrap();
    plain().serve_connection(TokioIo::new(server), service).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("5\r\nhello\r\n0\r\n\r\n"), "{answer}");
}

/// A header and a body as they are on the wire.
type Wire = (&'static str, &'static str);

/// A body, what it is over HTTP/1.1 and over HTTP/1.0, and its `content-length` over HTTP/2.
type Case = (&'static str, fn() -> Made, Wire, Wire, Option<&'static str>);

/// Each kind of body over HTTP/1.1, HTTP/1.0 and HTTP/2.
#[tokio::test]
async fn the_framing_of_each_body() {
    let chunks =
        ("transfer-encoding: chunked\r\n", "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n");
    let length = ("content-length: 5\r\n", "hello");
    let cases: [Case; 9] = [
        ("Full", || made(Full::<Bytes>::from("hello")), length, length, Some("5")),
        ("String", || made("hello".to_owned()), length, length, Some("5")),
        (
            "Empty",
            || made(Empty::new()),
            ("content-length: 0\r\n", ""),
            ("content-length: 0\r\n", ""),
            None,
        ),
        (
            "Either",
            || made(Either::<Full<Bytes>, Empty<Bytes>>::Left("hello".into())),
            length,
            length,
            Some("5"),
        ),
        (
            "BoxBody",
            || made(Full::<Bytes>::from("hello").boxed()),
            length,
            length,
            Some("5"),
        ),
        (
            "an empty Full",
            || made(Full::<Bytes>::from("")),
            ("content-length: 0\r\n", ""),
            ("content-length: 0\r\n", ""),
            None,
        ),
        (
            "a type of one's own",
            || made(Own(Some("hello".into()))),
            length,
            length,
            Some("5"),
        ),
        ("StreamBody", || made(streamed()), chunks, ("", "hello"), None),
        ("Channel", || made(channel()), chunks, ("", "hello"), None),
    ];
    for (name, make, expected, old, header) in cases {
        assert_eq!(
            http1(plain(), GET, make).await,
            ok(expected.0, expected.1),
            "{name}"
        );
        let (answer, end) = http1(plain(), GET_1_0, make).await;
        let old = ok(old.0, old.1).0.replace("HTTP/1.1", "HTTP/1.0");
        assert_eq!((answer, end), (old, Ok(())), "{name}");
        let (headers, body, _) = http2("GET", make).await;
        let header: Vec<_> = header
            .iter()
            .map(|value| ("content-length".to_owned(), value.to_string()))
            .collect();
        assert_eq!(headers, header, "{name}");
        assert_eq!(
            body.unwrap(),
            expected.1.replace("3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", "hello"),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_content_length_that_is_set_replaces_the_chunks() {
    let right = http1(plain(), GET, || with_length(made(streamed()), 5)).await;
    assert_eq!(right, ok("content-length: 5\r\n", "hello"));
    let less = http1(plain(), GET, || with_length(made(streamed()), 3)).await;
    assert_eq!(less, ok("content-length: 3\r\n", "hel"));
    let more = http1(plain(), GET, || with_length(made(streamed()), 7)).await;
    let error = "user body write aborted: early end, expected 2 more bytes";
    assert_eq!(more, (String::new(), Err(error.to_owned())));
    page("server/response-bodies").says(
        "user body write aborted, with the source early end, expected 2 more bytes",
    );
    let full =
        http1(plain(), GET, || with_length(made(Full::from("hello")), 7)).await;
    let panic =
        "payload claims content-length of 5, custom content-length header claims 7";
    assert_eq!(full, (String::new(), Err(panic.to_owned())));
    page("server/response-bodies").says(panic);
    let empty = http1(plain(), GET, || with_length(made(Empty::new()), 5)).await;
    assert_eq!(empty, ok("content-length: 0\r\n", ""));

    for make in [
        (|| with_length(made(streamed()), 3)) as fn() -> Made,
        || with_length(made(streamed()), 7),
        || with_length(made(Full::from("hello")), 7),
    ] {
        let error = http2("GET", make).await.1.unwrap_err();
        assert!(
            program::report(&error).contains("unspecific protocol error"),
            "{error:?}"
        );
    }
}

/// A connection that is not told to close ends all the same, and the client has too little.
#[tokio::test]
async fn a_body_that_announces_its_end_may_be_short_without_an_error() {
    let get = GET.replace("connection: close\r\n", "");
    let short = http1(plain(), &get, || {
        with_length(made(Full::from("hello").map_frame(|frame| frame)), 7)
    });
    assert_eq!(short.await, ok("content-length: 7\r\n", "hello"));
}

/// The answer says `keep-alive`, and ends with the connection.
#[tokio::test]
async fn over_http1_0_a_body_without_a_length_closes_the_connection() {
    let get = "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n";
    let answer = "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n\r\nhello".to_owned();
    assert_eq!(http1(plain(), get, || made(streamed())).await, (answer, Ok(())));
}

#[tokio::test]
async fn over_http1_some_responses_have_no_body() {
    let full: fn() -> Made = || made(Full::from("hello"));
    assert_eq!(http1(plain(), HEAD, full).await, ok("content-length: 5\r\n", ""));
    assert_eq!(http1(plain(), HEAD, || made(streamed())).await, ok("", ""));
    let empty = http1(plain(), HEAD, || with_length(made(Empty::new()), 5)).await;
    assert_eq!(empty, ok("content-length: 5\r\n", ""));
    let no_content =
        |headers| (format!("HTTP/1.1 204 No Content\r\n{headers}\r\n"), Ok(()));
    let bodies: [fn() -> Made; 3] = [
        || with_status(made(Full::from("hello")), 204),
        || with_status(made(streamed()), 204),
        || with_status(made(Empty::new()), 204),
    ];
    for make in bodies {
        assert_eq!(http1(plain(), GET, make).await, no_content(""));
    }
    let set = http1(plain(), GET, || {
        with_status(with_length(made(Full::from("hello")), 5), 204)
    });
    assert_eq!(set.await, no_content("content-length: 5\r\n"));
    let not_modified =
        http1(plain(), GET, || with_status(made(Full::from("hello")), 304)).await;
    assert_eq!(
        not_modified,
        ("HTTP/1.1 304 Not Modified\r\n\r\n".to_owned(), Ok(()))
    );
}

#[tokio::test]
async fn over_http2_hyper_sends_the_body_that_you_return() {
    for status in [204, 304] {
        let make: fn() -> Made = match status {
            204 => || with_status(made(Full::from("hello")), 204),
            _ => || with_status(made(Full::from("hello")), 304),
        };
        let (headers, body, _) = http2("GET", make).await;
        assert_eq!(headers, [("content-length".to_owned(), "5".to_owned())]);
        assert_eq!(body.unwrap(), "hello", "{status}");
    }
    let error = http2("HEAD", || made(Full::from("hello"))).await.1.unwrap_err();
    assert!(
        program::report(&error).contains("unspecific protocol error"),
        "{error:?}"
    );
    let empty = http2("HEAD", || with_length(made(Empty::new()), 5)).await;
    assert_eq!(empty.0, [("content-length".to_owned(), "5".to_owned())]);
    assert_eq!(empty.1.unwrap(), "");
}

#[tokio::test]
async fn trailers_need_three_conditions_over_http1() {
    fn with_trailers() -> Made {
        let mut trailers = HeaderMap::new();
        trailers.insert("lines", HeaderValue::from(3));
        trailers.insert("set-cookie", HeaderValue::from_static("a=b"));
        let frames = [
            Ok::<_, Infallible>(Frame::data(Bytes::from("hello"))),
            Ok(Frame::trailers(trailers)),
        ];
        let mut response = made(StreamBody::new(stream::iter(frames)));
        response
            .headers_mut()
            .insert(TRAILER, HeaderValue::from_static("lines, set-cookie"));
        response
    }
    fn unnamed() -> Made {
        let mut response = with_trailers();
        response.headers_mut().remove(TRAILER);
        response
    }
    let asked = GET.replace("host", "te: trailers\r\nhost");
    let sent = |answer: &str| answer.ends_with("5\r\nhello\r\n0\r\nlines: 3\r\n\r\n");
    let dropped = |answer: &str| answer.ends_with("5\r\nhello\r\n0\r\n\r\n");
    let (answer, end) = http1(plain(), &asked, with_trailers).await;
    assert!(sent(&answer), "{answer}");
    end.unwrap();
    let (answer, end) = http1(plain(), GET, with_trailers).await;
    assert!(dropped(&answer), "not asked for: {answer}");
    end.unwrap();
    let (answer, end) = http1(plain(), &asked, unnamed).await;
    assert!(dropped(&answer), "not named: {answer}");
    end.unwrap();
    let (answer, end) =
        http1(plain(), &asked, || with_length(with_trailers(), 5)).await;
    assert!(answer.ends_with("\r\n\r\nhello"), "not chunked: {answer}");
    end.unwrap();
    let trailers = http2("GET", unnamed).await.2.unwrap();
    assert_eq!(trailers["lines"], "3");
}

#[tokio::test]
async fn the_trailers_of_a_full_need_chunks() {
    fn counted() -> Made {
        let trailers = HeaderMap::from_iter([(LINES, HeaderValue::from(3))]);
        let body = Full::from("hello").with_trailers(ready(Some(Ok(trailers))));
        let mut response = made(body);
        response.headers_mut().insert(TRAILER, LINES.into());
        response
    }
    fn chunked() -> Made {
        let mut response = counted();
        let chunked = HeaderValue::from_static("chunked");
        response.headers_mut().insert(TRANSFER_ENCODING, chunked);
        response
    }
    let asked = GET.replace("host", "te: trailers\r\nhost");
    let (answer, _) = http1(plain(), &asked, counted).await;
    assert!(answer.ends_with("content-length: 5\r\n\r\nhello"), "{answer}");
    let (answer, _) = http1(plain(), &asked, chunked).await;
    assert!(!answer.contains("content-length"), "{answer}");
    assert!(answer.contains("\r\ntransfer-encoding: chunked\r\n"), "{answer}");
    assert!(answer.ends_with("5\r\nhello\r\n0\r\nlines: 3\r\n\r\n"), "{answer}");

    let old = "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello".to_owned();
    assert_eq!(http1(plain(), GET_1_0, chunked).await, (old, Ok(())));
    let (headers, _, trailers) = http2("GET", chunked).await;
    assert!(
        headers.iter().all(|(name, _)| name != "transfer-encoding"),
        "{headers:?}"
    );
    assert_eq!(trailers.unwrap()[LINES], "3");
}

const LINES: HeaderName = HeaderName::from_static("lines");

/// A proxy with hyper's client and server; the other two ends are bytes.
#[tokio::test]
async fn a_proxy_preserves_the_case_of_names_with_the_extensions() {
    for (preserve, extensions) in [(true, true), (true, false), (false, true)] {
        let (mut client, proxy_server) = duplex(1024);
        let (proxy_client, mut server) = duplex(1024);
        let mut builder = hyper::client::conn::http1::Builder::new();
        builder.preserve_header_case(preserve);
        let handshake = builder.handshake(TokioIo::new(proxy_client));
        let (sender, conn) = handshake.await.unwrap();
        tokio::spawn(conn);

        let sender = Mutex::new(sender);
        let service = service_fn(move |mut request: Request<Incoming>| {
            if !extensions {
                request.extensions_mut().clear();
            }
            let response = sender.lock().unwrap().send_request(request);
            async move {
                let mut response = response.await?;
                if !extensions {
                    response.extensions_mut().clear();
                }
                Ok::<_, hyper::Error>(response)
            }
        });
        let mut builder = plain();
        builder.preserve_header_case(preserve);
        tokio::spawn(builder.serve_connection(TokioIo::new(proxy_server), service));

        let odd = "X-ODD-Name: 1\r\n";
        let get = GET.replace("host", &format!("{odd}host"));
        client.write_all(get.as_bytes()).await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            asked.push(server.read_u8().await.unwrap());
        }
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{odd}\r\n");
        server.write_all(answer.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();

        let odd = if preserve && extensions { odd } else { "x-odd-name: 1\r\n" };
        let asked = String::from_utf8(asked).unwrap();
        assert!(asked.contains(odd), "the request: {asked}");
        assert!(answer.contains(odd), "the response: {answer}");
    }
}

#[tokio::test]
async fn compression_removes_the_length_and_keeps_the_etag() {
    let service = tower::service_fn(async |_: Request<Empty<Bytes>>| {
        let response = Response::builder()
            .header("content-length", 1000)
            .header("accept-ranges", "bytes")
            .header("etag", "\"1\"");
        Ok::<_, Infallible>(
            response.body(Full::<Bytes>::from(vec![b'a'; 1000])).unwrap(),
        )
    });
    let request = Request::builder().header("accept-encoding", "gzip");
    let service = tower_http::compression::CompressionLayer::new().layer(service);
    let request = request.body(Empty::new()).unwrap();
    let response = service.oneshot(request).await.unwrap();
    let headers = response.headers();
    assert_eq!(headers["content-encoding"], "gzip");
    assert_eq!(headers["etag"], "\"1\"");
    assert_eq!(
        (headers.get("content-length"), headers.get("accept-ranges")),
        (None, None)
    );
    assert_eq!(response.body().size_hint().exact(), None);
}

/// Bytes in two places, of which `chunks_vectored` gives the first alone, as by default, or all.
struct Two<const VECTORED: bool>(VecDeque<Bytes>);

impl<const VECTORED: bool> Buf for Two<VECTORED> {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.0.front().map_or(&[], |first| first)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let places = if VECTORED { usize::MAX } else { 1 };
        let all = slices.iter_mut().zip(self.0.iter().take(places));
        all.map(|(slice, place)| *slice = IoSlice::new(place)).count()
    }

    fn advance(&mut self, mut count: usize) {
        while count > 0 {
            let first = self.0.front_mut().unwrap();
            let part = count.min(first.len());
            first.advance(part);
            count -= part;
            if first.is_empty() {
                self.0.pop_front();
            }
        }
    }
}

/// Over TCP, because a `DuplexStream` takes one piece at a time.
#[tokio::test]
async fn a_buf_of_several_places_loses_its_order_in_chunks() {
    page("server/response-bodies").says("the default of chunks_vectored knows only the first place");
    async fn sent<const VECTORED: bool>(builder: http1::Builder) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, server) = tokio::join!(client, listener.accept());
        let service = service_fn(async |_: Request<Incoming>| {
            let two = Two::<VECTORED>(["hello, ", "world"].map(Bytes::from).into());
            let body = stream::iter([Ok::<_, Infallible>(Frame::data(two))]);
            Ok::<_, Infallible>(Response::new(StreamBody::new(body)))
        });
        let conn = builder.serve_connection(TokioIo::new(server.unwrap().0), service);
        let mut client = client.unwrap();
        client.write_all(GET.as_bytes()).await.unwrap();
        conn.await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }
    let whole = "C\r\nhello, world\r\n0\r\n\r\n";
    let mut one_at_a_time = plain();
    one_at_a_time.writev(false);
    assert_eq!(sent::<false>(one_at_a_time).await, whole);
    assert_eq!(sent::<true>(plain()).await, whole);
    let mixed = sent::<false>(plain()).await;
    assert_ne!(mixed, whole, "hyper or bytes has changed: correct the page");
    assert!(mixed.starts_with("C\r\nhello, "), "{mixed}");
}

#[tokio::test]
async fn names_are_in_lower_case_unless_set() {
    let mut builder = plain();
    builder.title_case_headers(true);
    let (answer, _) = http1(builder, GET, || made(Full::from("hello"))).await;
    assert!(answer.contains("\r\nContent-Length: 5\r\n"), "{answer}");
}

#[tokio::test]
async fn the_date_can_be_left_out() {
    for (enabled, expected) in [(true, true), (false, false)] {
        let (mut client, server) = duplex(1024);
        client.write_all(GET.as_bytes()).await.unwrap();
        let service = service_fn(program::handle::<Incoming>);
        let mut builder = plain();
        builder.auto_date_header(enabled);
        builder.serve_connection(TokioIo::new(server), service).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.contains("\r\ndate: "), expected, "{answer}");
    }
}

// On the running program.

#[test]
fn a_body_that_fails_at_once_leaves_nothing_of_the_response() {
    let program = Program::start("response-bodies");
    let mut connection = program.connect();
    connection.get("/broken");
    assert_eq!(connection.rest().unwrap(), "");
    let line = program.line();
    assert_eq!(
        line,
        "connection failed: error from user's Body stream: the disk is gone"
    );
}

#[test]
fn head_is_get_without_the_body() {
    let program = Program::start("response-bodies");
    for (path, length) in [
        ("/full", Some("14")),
        ("/stream", None),
        ("/sized", Some("14")),
        ("/nothing", None),
        ("/other", Some("13")),
    ] {
        let mut connection = program.connect();
        connection.send(format!(
            "HEAD {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        ));
        let answer = connection.rest().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let found =
            head.lines().find_map(|line| line.strip_prefix("content-length: "));
        assert_eq!((found, body), (length, ""), "{path}");
    }
}

/// hyper's client fails if the answer to a HEAD has a body.
#[tokio::test]
async fn head_has_no_body_over_http2_either() {
    let (client, server) = duplex(64 * 1024);
    let service = service_fn(program::handle::<Incoming>);
    tokio::spawn(
        http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(server), service),
    );
    let (mut client, driver) = hyper::client::conn::http2::handshake(
        TokioExecutor::new(),
        TokioIo::new(client),
    )
    .await
    .unwrap();
    tokio::spawn(driver);
    for path in ["full", "stream", "sized", "nothing", "other"] {
        let request = Request::head(format!("http://x/{path}"));
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let response = client.send_request(request).await.unwrap();
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), "", "{path}");
    }
}

#[test]
fn the_length_of_the_stream_is_right() {
    let program = Program::start("response-bodies");
    let mut connection = program.connect();
    connection.get("/sized");
    assert_eq!(connection.response().unwrap().text(), "one\ntwo\nthree\n");
}
