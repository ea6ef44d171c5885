//! What src/server/http2-flow-control.md promises.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures_util::stream;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use harness::{Prose, page};

use super::http2::program::{self, MAX_CONNECTIONS, MAX_STREAMS, STREAM_WINDOW};
use super::http2::{Body, Client, PING, ask, begin, client};
use super::limits::{
    END_HEADERS_AND_STREAM, HEADERS, SETTINGS, frame, goaway, read_frame,
};

const DATA: u8 = 0;
const WINDOW_UPDATE: u8 = 8;
const INITIAL_WINDOW_SIZE: u16 = 4;
const KIB: usize = 1024;
const SECOND: Duration = Duration::from_secs(1);

fn flow() -> Prose {
    page("server/http2-flow-control")
}

type Count = Arc<AtomicUsize>;

/// The program's own handlers with the program's settings; how many bytes hyper has taken from the bodies.
fn counted() -> (DuplexStream, Count) {
    let taken = Count::default();
    let count = taken.clone();
    let service = service_fn(move |request| {
        let count = count.clone();
        async move {
            let response = program::handle(request, Arc::default()).await;
            let response = response.map_err(|error| error.to_string())?;
            let response = response.map(|body| {
                body.map_frame(move |frame| {
                    count.fetch_add(frame.data_ref().map_or(0, Bytes::len), Relaxed);
                    frame
                })
            });
            Ok::<_, String>(response)
        }
    });
    let (client, server) = duplex(64 * KIB);
    tokio::spawn(async move {
        program::builder().serve_connection(TokioIo::new(server), service).await.ok();
    });
    (client, taken)
}

/// GET /download over http, authority x.
fn download(stream: u32) -> Vec<u8> {
    let block = b"\x82\x86\x04\x09/download\x41\x01x";
    frame(HEADERS, END_HEADERS_AND_STREAM, stream, block)
}

fn window_update(stream: u32, size: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &size.to_be_bytes())
}

/// How many bytes of DATA come until nothing has come for a while.
async fn received(client: &mut (impl AsyncRead + Unpin)) -> usize {
    let mut size = 0;
    while let Ok(frame) = timeout(SECOND, read_frame(client)).await {
        let (kind, _, payload) = frame.unwrap();
        if kind == DATA {
            size += payload.len();
        }
    }
    size
}

#[tokio::test(start_paused = true)]
async fn a_producer_stops_when_the_window_of_the_client_is_used_up() {
    let first = flow().number("begins with {} bytes") as usize;
    let (mut client, taken) = counted();
    client.write_all(&begin(&download(1))).await.unwrap();
    assert_eq!(received(&mut client).await, first);
    let stopped = taken.load(Relaxed);
    assert!(
        stopped <= first + 2 * 64 * KIB,
        "{stopped} bytes for a window of {first}"
    );
    sleep(Duration::from_secs(10)).await;
    assert_eq!(taken.load(Relaxed), stopped, "it waits");

    for stream in [0, 1] {
        client.write_all(&window_update(stream, 1_000_000)).await.unwrap();
    }
    assert_eq!(received(&mut client).await, 1_000_000, "as much as the client opens");
}

#[tokio::test(start_paused = true)]
async fn what_a_client_does_not_take_is_limited_for_each_request() {
    let kib = flow().number("hyper holds at most {} KiB of a response");
    let kib = kib as usize * KIB;
    let (mut client, taken) = counted();
    let mut frames = begin(&frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]));
    frames.extend(window_update(0, i32::MAX as u32 - 65_535));
    for stream in [1, 3, 5] {
        frames.extend(download(stream));
    }
    client.write_all(&frames).await.unwrap();
    // The client opens all windows, and reads nothing.
    sleep(Duration::from_secs(10)).await;
    let taken = taken.load(Relaxed);
    // Beside that there are the pieces on their way: one of each request, and the socket.
    let most = 3 * (kib + 2 * 64 * KIB);
    assert!((3 * kib..=most).contains(&taken), "{taken} bytes");
}

/// A service that takes the bodies of /read, and keeps those of others unread until it is told to drop them.
fn holding(builder: http2::Builder<TokioExecutor>) -> (DuplexStream, Arc<Notify>) {
    let (client, server) = duplex(64 * KIB);
    let drop_it = Arc::new(Notify::new());
    let told = drop_it.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let told = told.clone();
        async move {
            let read = request.uri().path() == "/read";
            let body = request.into_body();
            if read {
                body.collect().await?;
            } else {
                told.notified().await;
                drop(body);
                pending::<()>().await;
            }
            Ok::<_, hyper::Error>(Response::new(Empty::<Bytes>::new()))
        }
    });
    tokio::spawn(async move {
        builder.serve_connection(TokioIo::new(server), service).await.ok();
    });
    (client, drop_it)
}

/// An upload without an end; how many bytes of it were taken.
fn endless(client: &Client, path: &str) -> Count {
    let taken = Count::default();
    let count = taken.clone();
    let body = StreamBody::new(stream::repeat_with(move || {
        count.fetch_add(KIB, Relaxed);
        Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[b'.'; KIB])))
    }));
    let mut client = client.clone();
    let request = Request::post(format!("http://x{path}")).body(BodyExt::boxed(body));
    tokio::spawn(async move {
        let response = client.send_request(request.unwrap()).await;
        pending::<()>().await;
        drop(response);
    });
    taken
}

fn short() -> Request<Body> {
    Request::post("http://x/read").body(Full::from("short").boxed()).unwrap()
}

async fn answered(client: &mut Client, request: Request<Body>) -> bool {
    timeout(10 * SECOND, client.send_request(request)).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_nobody_reads_stops_at_the_window_of_the_server() {
    let window = KIB * flow().number("stops its client after {} KiB") as usize;
    assert_eq!(window, STREAM_WINDOW as usize);
    let (stream, _) = holding(program::builder());
    let client = client(stream).await;
    let taken = endless(&client, "/");
    sleep(10 * SECOND).await;
    let one = taken.load(Relaxed);
    // The client has a piece in its hand.
    assert!((window..=window + 2 * KIB).contains(&one), "{one} bytes");
    let more: Vec<_> = (1..MAX_STREAMS).map(|_| endless(&client, "/")).collect();
    sleep(10 * SECOND).await;
    for taken in more {
        assert_eq!(taken.load(Relaxed), one, "each request has a window of its own");
    }

    // One that is read goes on.
    let (stream, _) = holding(program::builder());
    let mut client = self::client(stream).await;
    let long = Full::from(vec![b'.'; 10 * window]).boxed();
    let long = Request::post("http://x/read").body(long).unwrap();
    assert!(answered(&mut client, long).await);
}

#[tokio::test(start_paused = true)]
async fn with_the_defaults_an_unread_upload_stops_the_other_uploads() {
    let mib = flow().number("Both are {} MiB by default") as usize;
    let mut default = http2::Builder::new(TokioExecutor::new());
    default.timer(TokioTimer::new());
    let (stream, drop_it) = holding(default);
    let mut client = client(stream).await;
    let taken = endless(&client, "/");
    sleep(SECOND).await;
    let size = taken.load(Relaxed);
    assert!((mib * KIB * KIB..=mib * KIB * KIB + 2 * KIB).contains(&size), "{size}");
    assert!(!answered(&mut client, short()).await, "there is no window left for it");
    assert!(answered(&mut client, ask("/read")).await, "it has no body");
    drop_it.notify_one();
    assert!(answered(&mut client, short()).await, "the unread body was dropped");

    // With the windows of the program.
    let (stream, _) = holding(program::builder());
    let mut client = self::client(stream).await;
    let unread: Vec<_> = (1..MAX_STREAMS).map(|_| endless(&client, "/")).collect();
    sleep(SECOND).await;
    assert!(answered(&mut client, short()).await);
    assert!(unread.iter().all(|taken| taken.load(Relaxed) > 0));
}

#[test]
fn the_memory_of_all_windows_is_what_the_page_says() {
    let [connections, streams, mib] =
        flow().numbers("{} connections with {} requests each hold at most {} MiB");
    assert_eq!(connections, MAX_CONNECTIONS as u64);
    assert_eq!(streams, u64::from(MAX_STREAMS));
    let window = u64::from(STREAM_WINDOW);
    assert_eq!(connections * streams * window, mib * 1024 * 1024);
}

/// A client that uploads as fast as the windows let it, and answers PINGs only after that, so that
/// each sample is a whole window. The largest window of a stream that it saw.
async fn largest_window(
    builder: http2::Builder<TokioExecutor>,
    rounds: u32,
) -> usize {
    let (mut client, server) = duplex(64 * KIB * KIB);
    let service = service_fn(async |request: Request<Incoming>| {
        let mut body = request.into_body();
        while let Some(frame) = body.frame().await {
            frame?;
        }
        Ok::<_, hyper::Error>(Response::new(Empty::<Bytes>::new()))
    });
    let conn = builder.serve_connection(TokioIo::new(server), service);
    tokio::spawn(async move { conn.await.ok() });
    let post = frame(HEADERS, 4, 1, b"\x83\x86\x84\x41\x01x");
    client.write_all(&begin(&post)).await.unwrap();
    // What may be sent on the stream and on the connection, and the size of new windows.
    let (mut open, mut initial) = ([65_535_i64; 2], 65_535);
    for round in 0..=rounds {
        let mut acks = Vec::new();
        while let Ok(next) = timeout(SECOND, read(&mut client)).await {
            match next {
                (SETTINGS, 0, _, payload) => {
                    acks.extend(frame(SETTINGS, 1, 0, &[]));
                    for setting in payload.chunks(6) {
                        if u16::from_be_bytes([setting[0], setting[1]])
                            == INITIAL_WINDOW_SIZE
                        {
                            let size = setting[2..].try_into().unwrap();
                            let size = i64::from(u32::from_be_bytes(size));
                            open[0] += size - initial;
                            initial = size;
                        }
                    }
                }
                (WINDOW_UPDATE, _, stream, payload) => {
                    let size = u32::from_be_bytes(payload.try_into().unwrap());
                    open[usize::from(stream == 0)] += i64::from(size);
                }
                (PING, 0, _, payload) => acks.extend(frame(PING, 1, 0, &payload)),
                _ => {}
            }
        }
        client.write_all(&acks).await.unwrap();
        if acks.is_empty() && round < rounds {
            let mut size = open[0].min(open[1]);
            open = open.map(|window| window - size);
            while size > 0 {
                let piece = size.min(16 * 1024);
                let data = vec![b'.'; piece as usize];
                client.write_all(&frame(DATA, 0, 1, &data)).await.unwrap();
                size -= piece;
            }
        }
    }
    initial as usize
}

/// A client that sends before it has read the settings, as it may.
#[tokio::test(start_paused = true)]
async fn a_window_below_that_of_the_protocol_ends_no_early_upload() {
    let least = flow().number("of the server is below {} bytes, which a client may send") as u32;
    const END_HEADERS: u8 = 4;
    const FLOW_CONTROL_ERROR: u32 = 3;
    for (window, sent, resets) in [
        (least, least, vec![]),
        (least - 1, least, vec![]),
        (1, least, vec![]),
        // More than a client may send.
        (1, least + 1, vec![FLOW_CONTROL_ERROR]),
    ] {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(window);
        let (client, _handled) = holding(builder);
        // POST / over http, authority x.
        let mut upload = frame(HEADERS, END_HEADERS, 1, b"\x83\x86\x84\x41\x01x");
        for piece in vec![b'.'; sent as usize].chunks(16 * KIB) {
            upload.extend(frame(DATA, 0, 1, piece));
        }
        let end = goaway(client, vec![upload]).await;
        assert_eq!(end, (None, resets), "{sent} bytes, with a window of {window}");
    }
}

/// Reads a frame: its type, its flags, its stream and its payload.
async fn read(client: &mut DuplexStream) -> (u8, u8, u32, Vec<u8>) {
    let mut head = [0; 9];
    client.read_exact(&mut head).await.unwrap();
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    client.read_exact(&mut payload).await.unwrap();
    let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
    (head[3], head[4], stream, payload)
}

#[tokio::test(start_paused = true)]
async fn an_adaptive_window_grows_up_to_its_limit() {
    let [first, mib] =
        flow().numbers("It begins with {} bytes and grows up to {} MiB");
    let adaptive = || {
        let mut builder = program::builder();
        builder.adaptive_window(true);
        builder
    };
    assert_eq!(
        largest_window(adaptive(), 0).await,
        first as usize,
        "sizes are reset"
    );
    let largest = mib as usize * KIB * KIB;
    assert_eq!(largest_window(adaptive(), 40).await, largest);

    let mut fixed = adaptive();
    fixed.initial_stream_window_size(STREAM_WINDOW);
    assert_eq!(largest_window(fixed, 10).await, STREAM_WINDOW as usize);
}
