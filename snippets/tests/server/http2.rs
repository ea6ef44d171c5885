//! What src/server/http2.md promises.

use std::convert::Infallible;
use std::future::{Ready, pending};
use std::io;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::ext::ReasonPhrase;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{self, sleep, timeout};

use harness::{LIMIT, Program, Prose, page};

use super::limits::{
    END_HEADERS_AND_STREAM, GOAWAY, HEADERS, PREFACE, REFUSED_STREAM, RST_STREAM,
    SETTINGS, code, end, frame, get, goaway, malformed, read_frame, requests, slow,
};

/// The program itself, for tests on an in-memory connection with a clock that they move.
#[allow(dead_code)]
#[path = "../../server/http2.rs"]
pub mod program;

pub const PING: u8 = 6;
const ACK: u8 = 1;
const PROTOCOL_ERROR: u32 = 1;
const INTERNAL_ERROR: u32 = 2;

fn http2() -> Prose {
    page("server/http2")
}

/// A body for each test.
pub type Body = BoxBody<Bytes, Infallible>;
pub type Client = SendRequest<Body>;
type Ends = JoinHandle<Result<(), String>>;

/// A connection to the program, its end, and what tells it to leave.
fn connect() -> (DuplexStream, Ends, Arc<Notify>) {
    let leave = Arc::new(Notify::new());
    let (client, server) = duplex(1024 * 1024);
    let serve = program::serve(server, leave.clone());
    let conn = async { serve.await.map_err(|error| program::report(&*error)) };
    (client, tokio::spawn(conn), leave)
}

/// hyper's client on such a connection. It has read the settings of the server.
pub async fn client(stream: DuplexStream) -> Client {
    let (client, driver) =
        handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(driver);
    sleep(Duration::from_millis(1)).await;
    client
}

/// A GET request.
pub fn ask(path: &str) -> Request<Body> {
    get(path).map(BodyExt::boxed)
}

/// Sends it in a task of its own: after how many seconds the response is whole, its status, its body.
fn send(
    client: &Client,
    request: Request<Body>,
) -> JoinHandle<(u64, hyper::Result<(StatusCode, Bytes)>)> {
    let mut client = client.clone();
    tokio::spawn(async move {
        let start = time::Instant::now();
        let response = async {
            let response = client.send_request(request).await?;
            let status = response.status();
            Ok((status, response.into_body().collect().await?.to_bytes()))
        };
        let response = response.await;
        (start.elapsed().as_secs(), response)
    })
}

#[tokio::test(start_paused = true)]
async fn two_slow_requests_overlap_on_one_connection() {
    let (stream, ..) = connect();
    let client = client(stream).await;
    let both = [send(&client, ask("/slow")), send(&client, ask("/slow"))];
    for one in both {
        let (seconds, response) = one.await.unwrap();
        assert_eq!(response.unwrap().0, 200);
        assert_eq!(seconds, 1, "two seconds means that one waited for the other");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_beyond_the_limit_are_refused_or_wait() {
    let max = http2().number("has at most {} requests at a time") as u32;
    for (count, refused) in [(max, vec![]), (max + 1, vec![REFUSED_STREAM])] {
        let (stream, ..) = connect();
        let (end, resets) = goaway(stream, vec![requests(0, count, slow)]).await;
        assert_eq!(
            resets, refused,
            "{count} requests of a client that does not wait"
        );
        assert_eq!(end, Some(0), "keep-alive ends it: nobody answers the PING");
    }
    // hyper's client has read the limit, and keeps to it.
    let (stream, ..) = connect();
    let client = client(stream).await;
    let all: Vec<_> = (0..=max).map(|_| send(&client, ask("/slow"))).collect();
    let mut seconds = Vec::new();
    for one in all {
        let (after, response) = one.await.unwrap();
        assert_eq!(response.unwrap().0, 200);
        seconds.push(after);
    }
    seconds.sort();
    assert_eq!(seconds.split_last(), Some((&2, &*vec![1; max as usize])));
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_service_resets_one_stream_and_no_more() {
    let (stream, conn, _) = connect();
    let client = client(stream).await;
    let other = send(&client, ask("/slow"));
    let error = send(&client, ask("/fail")).await.unwrap().1.unwrap_err();
    let error = program::report(&error);
    assert!(error.contains("unexpected internal error"), "{error}");
    assert_eq!(other.await.unwrap().1.unwrap().0, 200, "a request that was open");
    assert_eq!(send(&client, ask("/")).await.unwrap().1.unwrap().0, 200, "a new one");
    assert!(!conn.is_finished());

    let (stream, ..) = connect();
    let block = [b"\x82\x86\x04\x05/fail".as_slice(), b"\x41\x01x"].concat();
    let fail = vec![frame(HEADERS, END_HEADERS_AND_STREAM, 1, &block)];
    assert_eq!(goaway(stream, fail).await.1, [INTERNAL_ERROR]);
}

/// What a client sees of a request to this service: the code of its reset, if hyper resets it.
async fn reset_by<F, R, B>(handle: F) -> Option<u32>
where
    F: Fn(Request<Incoming>) -> R + Send + 'static,
    R: Future<Output = Result<Response<B>, hyper::Error>> + Send + 'static,
    B: hyper::body::Body<Data = Bytes, Error = io::Error> + Send + 'static,
{
    let (mut stream, server) = duplex(1024 * 1024);
    tokio::spawn(async move {
        let builder = program::builder();
        builder.serve_connection(TokioIo::new(server), service_fn(handle)).await
    });
    stream.write_all(&begin(&hello(1))).await.unwrap();
    loop {
        let frame = timeout(LIMIT, read_frame(&mut stream)).await.expect("a frame");
        match frame {
            Ok((RST_STREAM, 1, reason)) => return Some(code(&reason)),
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_reset_with_the_code_of_the_cause() {
    const HTTP_1_1_REQUIRED: u32 = 13;
    let code = reset_by(async |_| {
        // An upstream server that resets the request.
        let (stream, mut upstream) = duplex(1024);
        tokio::spawn(async move {
            upstream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
            upstream.read_exact(&mut [0; PREFACE.len()]).await.unwrap();
            while read_frame(&mut upstream).await.unwrap().0 != HEADERS {}
            let reset = frame(RST_STREAM, 0, 1, &HTTP_1_1_REQUIRED.to_be_bytes());
            upstream.write_all(&reset).await.unwrap();
            sleep(LIMIT).await;
        });
        let mut client = client(stream).await;
        let error = client.send_request(ask("/")).await.unwrap_err();
        Err::<Response<BoxBody<Bytes, io::Error>>, _>(error)
    });
    assert_eq!(code.await, Some(HTTP_1_1_REQUIRED));

    let code = reset_by(async |_| {
        let body = [Ok(Frame::data(Bytes::new())), Err(io::Error::other("no disk"))];
        Ok(Response::new(StreamBody::new(stream::iter(body))))
    });
    assert_eq!(code.await, Some(INTERNAL_ERROR), "an error of the body");

    let panics =
        |_| -> Ready<Result<Response<BoxBody<_, _>>, _>> { panic!("too early") };
    assert_eq!(reset_by(panics).await, None, "the connection ends");
}

/// hyper neither answers nor resets it, and the connection ends with its other requests.
#[tokio::test(start_paused = true)]
async fn a_connect_with_a_length_ends_the_connection() {
    for (length, ends) in [(b'0', false), (b'5', true)] {
        let (mut stream, conn, _) = connect();
        let block =
            [b"\x02\x07CONNECT\x41\x01x\x0f\x0d\x01".as_slice(), &[length]].concat();
        let connect = frame(HEADERS, 4, 3, &block);
        let frames = begin(&[slow(1), connect].concat());
        stream.write_all(&frames).await.unwrap();
        let mut kinds = Vec::new();
        let read = async {
            while let Ok((kind, ..)) = read_frame(&mut stream).await {
                kinds.push(kind);
            }
        };
        let ended = timeout(Duration::from_millis(500), read).await.is_ok();
        assert_eq!(ended, ends, "{kinds:?}");
        assert!(!ends || !kinds.contains(&GOAWAY), "{kinds:?}");
        assert!(!ends || conn.await.unwrap().is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn keep_alive_ends_a_connection_whose_client_is_gone() {
    let [silent, answer] = http2()
        .numbers("has come for {} seconds gets a PING, and has {} seconds to answer");
    let (mut stream, conn, _) = connect();
    stream.write_all(&begin(&hello(1))).await.unwrap();
    let text = "http2 error: keep-alive timed out: operation timed out";
    assert_eq!(end(conn).await, (silent + answer, Err(text.to_owned())));

    // One that answers may stay.
    let (stream, conn, _) = connect();
    let client = client(stream).await;
    send(&client, ask("/")).await.unwrap().1.unwrap();
    sleep(Duration::from_secs(5 * (silent + answer))).await;
    assert!(!conn.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_request_is_dropped() {
    let seconds = http2().number("no request within {} seconds");
    for bytes in [&[], &PREFACE.as_bytes()[..9], PREFACE.as_bytes(), &begin(&[])] {
        let (mut stream, conn, _) = connect();
        stream.write_all(bytes).await.unwrap();
        let expected = (seconds, Err("no request in time".to_owned()));
        assert_eq!(end(conn).await, expected, "{} bytes", bytes.len());
    }
}

#[tokio::test(start_paused = true)]
async fn one_connection_is_told_to_leave_from_outside_and_its_requests_finish() {
    let (mut stream, conn, leave) = connect();
    let (other, other_conn, _) = connect();
    let other = client(other).await;
    stream.write_all(&begin(&slow(1))).await.unwrap();
    sleep(Duration::from_millis(500)).await;

    leave.notify_one();
    let (_, last) = until(&mut stream, GOAWAY).await;
    assert_eq!(code(&last), i32::MAX as u32, "the first GOAWAY refuses nothing");
    // This one crosses the GOAWAY.
    stream.write_all(&slow(3)).await.unwrap();
    let (_, ping) = until(&mut stream, PING).await;
    stream.write_all(&frame(PING, ACK, 0, &ping)).await.unwrap();
    let (_, last) = until(&mut stream, GOAWAY).await;
    assert_eq!((code(&last), code(&last[4..])), (3, 0), "the last stream; no error");
    for id in [1, 3] {
        let (stream_id, block) = until(&mut stream, HEADERS).await;
        assert_eq!((stream_id, block[0]), (id, 0x88), "a response with 200");
    }
    stream.read_to_end(&mut Vec::new()).await.unwrap();
    assert_eq!(end(conn).await.1, Ok(()));

    assert!(!other_conn.is_finished(), "no other connection is told");
    assert_eq!(send(&other, ask("/")).await.unwrap().1.unwrap().0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_handler_tells_its_own_connection_to_leave() {
    let (stream, conn, _) = connect();
    let client = client(stream).await;
    let open = send(&client, ask("/slow"));
    sleep(Duration::from_millis(1)).await;
    assert_eq!(send(&client, ask("/leave")).await.unwrap().1.unwrap().0, 200);
    sleep(Duration::from_millis(1)).await;
    assert!(send(&client, ask("/")).await.unwrap().1.is_err(), "no new request");
    assert_eq!(open.await.unwrap().1.unwrap().0, 200);
    // The client closes too, so the connection may end with an error.
    timeout(Duration::from_secs(1), conn).await.expect("the connection ends").ok();
}

#[tokio::test(start_paused = true)]
async fn the_age_of_a_connection_and_the_time_for_its_end_are_limited() {
    let age = 60 * http2().number("or after {} minutes");
    let (stream, conn, _) = connect();
    let mut client = client(stream).await;
    client.send_request(ask("/")).await.unwrap();
    // The client closes too when it is told to leave, so the connection may end with an error.
    let (seconds, _) = end(conn).await;
    assert!((age - 1..=age).contains(&seconds), "{seconds} s");

    // Nobody reads this body, so its producer waits for the window.
    let seconds = http2().number("Requests in progress have {} seconds");
    let (stream, conn, leave) = connect();
    let mut client = self::client(stream).await;
    let unread = client.send_request(ask("/download")).await.unwrap();
    leave.notify_one();
    let text = "closed before the last response".to_owned();
    assert_eq!(end(conn).await, (seconds, Err(text)));
    drop(unread);
}

/// Serves a service of the test with the settings of the program.
pub fn serve<F, R, B>(stream: DuplexStream, handle: F) -> JoinHandle<()>
where
    F: Fn(Request<Incoming>) -> R + Send + 'static,
    R: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
    B: hyper::body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    tokio::spawn(async move {
        let builder = program::builder();
        let conn = builder.serve_connection(TokioIo::new(stream), service_fn(handle));
        conn.await.ok();
    })
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_takes_its_handlers_along() {
    struct Dropped(Arc<AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }
    for by_client in [true, false] {
        let dropped = Arc::new(AtomicBool::new(false));
        let (stream, server) = duplex(1024);
        let conn = serve(server, {
            let dropped = dropped.clone();
            move |_| {
                let dropped = Dropped(dropped.clone());
                async {
                    pending::<()>().await;
                    drop(dropped);
                    Ok(Response::new(Empty::<Bytes>::new()))
                }
            }
        });
        let client = client(stream).await;
        let request = send(&client, ask("/"));
        sleep(Duration::from_millis(1)).await;
        assert!(!dropped.load(Relaxed));
        if by_client {
            request.abort();
        } else {
            conn.abort();
        }
        sleep(Duration::from_millis(1)).await;
        assert!(dropped.load(Relaxed), "by the client: {by_client}");
    }
}

#[tokio::test(start_paused = true)]
async fn headers_of_a_connection_and_the_reason_are_left_out() {
    let (stream, server) = duplex(64 * 1024);
    serve(server, async |_| {
        let response = Response::builder()
            .header("connection", "close, x-hop")
            .header("x-hop", "1")
            .header("keep-alive", "timeout=5")
            .header("transfer-encoding", "chunked")
            .header("upgrade", "websocket")
            .header("X-Stays", "1")
            .extension(ReasonPhrase::from_static(b"Fine"))
            .body(Full::<Bytes>::from("x"));
        Ok(response.unwrap())
    });
    let mut client = client(stream).await;
    for _ in 0..2 {
        let response = client.send_request(ask("/")).await.unwrap();
        assert!(response.extensions().get::<ReasonPhrase>().is_none());
        let mut names: Vec<_> =
            response.headers().keys().map(|k| k.as_str()).collect();
        names.sort();
        assert_eq!(names, ["content-length", "date", "x-stays"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_header_ends_a_request_and_an_upper_case_name_the_connection() {
    let (mut stream, ..) = connect();
    stream.write_all(&begin(&malformed(1))).await.unwrap();
    let (id, reason) = until(&mut stream, RST_STREAM).await;
    assert_eq!((id, code(&reason)), (1, PROTOCOL_ERROR));
    stream.write_all(&hello(3)).await.unwrap();
    assert_eq!(until(&mut stream, HEADERS).await.0, 3, "the connection goes on");

    let (mut stream, conn, _) = connect();
    let upper = b"\x82\x86\x84\x41\x01x\x00\x03X-A\x011";
    let upper = frame(HEADERS, END_HEADERS_AND_STREAM, 1, upper);
    stream.write_all(&begin(&upper)).await.unwrap();
    let (_, reason) = until(&mut stream, GOAWAY).await;
    assert_eq!(code(&reason[4..]), PROTOCOL_ERROR);
    end(conn).await.1.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn the_host_is_in_the_uri_and_not_in_the_headers() {
    let (stream, server) = duplex(64 * 1024);
    serve(server, async |request: Request<Incoming>| {
        let host = request.headers().get("host");
        let text = format!("{} {host:?} {:?}", request.uri(), request.version());
        Ok(Response::new(Full::<Bytes>::from(text)))
    });
    let client = client(stream).await;
    let (_, response) = send(&client, ask("/a?b")).await.unwrap();
    assert_eq!(response.unwrap().1, "http://x/a?b None HTTP/2.0");
}

fn upload(body: &'static str, sum: Option<&str>) -> Request<Body> {
    let mut trailers = HeaderMap::new();
    if let Some(sum) = sum {
        trailers.insert("sum", sum.parse().unwrap());
    }
    let frames = [Frame::data(Bytes::from(body)), Frame::trailers(trailers)]
        .map(Ok::<_, Infallible>);
    let body = StreamBody::new(stream::iter(frames));
    Request::post("http://x/upload").body(BodyExt::boxed(body)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn trailers_travel_in_both_directions() {
    let (stream, ..) = connect();
    let mut client = client(stream).await;
    for (sum, status) in [(Some("195"), 200), (None, 200), (Some("196"), 400)] {
        let response = client.send_request(upload("ab", sum)).await.unwrap();
        assert_eq!(response.status(), status, "{sum:?}");
        assert!(!response.headers().contains_key("trailer"));
        let body = response.into_body().collect().await.unwrap();
        let sum = body.trailers().and_then(|trailers| trailers.get("sum"));
        assert_eq!(sum.is_some_and(|sum| sum == "195"), status == 200);
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_and_headers_are_limited() {
    let (stream, ..) = connect();
    let mut client = client(stream).await;
    let large = Full::<Bytes>::from(vec![b'.'; 1024 * 1024 + 1]).boxed();
    let large = Request::post("http://x/upload").body(large).unwrap();
    assert_eq!(client.send_request(large).await.unwrap().status(), 413);

    let endless =
        StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
    let endless =
        Request::post("http://x/upload").body(BodyExt::boxed(endless)).unwrap();
    assert_eq!(client.send_request(endless).await.unwrap().status(), 408);

    let size =
        1024 * http2().number("A little over {} KiB, the answer is 431") as usize;
    for (size, status) in [(size - 1024, 200), (size, 431)] {
        let mut cookies = ask("/");
        cookies.headers_mut().insert("cookie", ".".repeat(size).parse().unwrap());
        let response = client.send_request(cookies).await.unwrap();
        assert_eq!(response.status(), status);
    }
    assert_eq!(client.send_request(ask("/")).await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn extended_connect_is_off_until_it_is_enabled() {
    const ENABLE_CONNECT_PROTOCOL: u8 = 8;
    for enabled in [false, true] {
        let (mut stream, server) = duplex(1024);
        let mut builder = program::builder();
        if enabled {
            builder.enable_connect_protocol();
        }
        let service = service_fn(async |_: Request<Incoming>| {
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        });
        tokio::spawn(builder.serve_connection(TokioIo::new(server), service));
        stream.write_all(&begin(&[])).await.unwrap();
        let (_, settings) = until(&mut stream, SETTINGS).await;
        let mut ids = settings.chunks(6).map(|setting| setting[1]);
        assert_eq!(ids.any(|id| id == ENABLE_CONNECT_PROTOCOL), enabled);
    }
}

/// What a client sends first, and then these frames.
pub fn begin(frames: &[u8]) -> Vec<u8> {
    [PREFACE.as_bytes(), &frame(SETTINGS, 0, 0, &[]), frames].concat()
}

/// GET / over http, authority x.
pub fn hello(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS_AND_STREAM, stream, b"\x82\x86\x84\x41\x01x")
}

/// Reads up to a frame of this type: its stream and its payload.
pub async fn until(stream: &mut DuplexStream, kind: u8) -> (u32, Vec<u8>) {
    let read = async {
        loop {
            let (next, id, payload) = read_frame(stream).await.unwrap();
            if next == kind {
                return (id, payload);
            }
        }
    };
    let read = timeout(Duration::from_secs(3600), read).await;
    read.unwrap_or_else(|_| panic!("no frame of type {kind} comes"))
}

// On the running program.

/// What curl says of a request that fails.
fn curl(arguments: &[&str]) -> String {
    let mut curl = Command::new("curl");
    curl.args(["-q", "-sS", "--noproxy", "*", "--max-time", "20"]).args(arguments);
    String::from_utf8(curl.output().unwrap().stderr).unwrap()
}

#[test]
fn curl_names_the_reset_of_a_failed_service_and_http1_is_not_understood() {
    let program = Program::start("http2");
    let url = format!("http://{}", program.address);
    let error = curl(&["--http2-prior-knowledge", &format!("{url}/fail")]);
    http2().says("was not closed cleanly: INTERNAL_ERROR");
    assert!(error.contains("was not closed cleanly: INTERNAL_ERROR"), "{error}");

    // These are the first lines in the log: the error of the service is not there.
    for version in ["--http1.1", "--http2"] {
        let error = curl(&[version, &url]);
        http2().says("Received HTTP/0.9 when not allowed");
        assert!(error.contains("Received HTTP/0.9 when not allowed"), "{error}");
        let reason = "unspecific protocol error detected";
        http2().says(reason);
        let line = program.line();
        assert!(line.starts_with("connection failed: http2 error: "), "{line}");
        assert!(line.ends_with(reason), "{line}");
    }
}

#[tokio::test]
async fn a_response_does_not_wait_for_an_ack() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let accepted = timeout(LIMIT, program::accept(&listener)).await.unwrap();
    assert!(accepted.nodelay().unwrap(), "accept() has to call set_nodelay(true)");
    drop(client);
}
