//! What src/server/size-limits.md promises.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures_util::stream;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::client::conn::http2::handshake;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::time::sleep;

use harness::{Connection, Program, Prose, page, wait};

use super::limits::{
    END_HEADERS_AND_STREAM, ENHANCE_YOUR_CALM, HEADERS, PREFACE, REFUSED_STREAM,
    SETTINGS, answer, bare, by_default, end, frame, get, goaway, malformed,
    read_frame, requests, slow, slow_and_reset, with_timers,
};

/// The program itself, for tests on an in-memory connection.
#[allow(dead_code)]
#[path = "../../server/size_limits.rs"]
mod program;

const DATA: u8 = 0;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

fn sizes() -> Prose {
    page("server/size-limits")
}

// On the running program.

fn hello(connection: &mut Connection) -> bool {
    connection.try_get("/").is_ok()
        && connection
            .response()
            .is_ok_and(|answer| answer.text() == "Hello, World!\n")
}

#[test]
fn an_address_has_so_many_places() {
    let max = sizes()
        .number("With {} connections open, the next one from the same address");
    let program = Program::start("size-limits");
    let mut places: Vec<Connection> = (0..max).map(|_| program.connect()).collect();
    assert!(places.iter_mut().all(hello));
    assert_eq!(program.connect().rest().unwrap(), "", "closed without an answer");
    drop(places);
    wait("a place that is free again", || hello(&mut program.connect()));
}

/// Linux has all of 127.0.0.0/8.
#[cfg(target_os = "linux")]
#[test]
fn a_flood_from_one_address_leaves_places_for_others() {
    let program = Program::start("size-limits");
    let flood: Vec<Connection> = (0..100).map(|_| program.connect()).collect();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
    socket.connect(&program.address.into()).unwrap();
    let mut other = Connection::new(socket.into());
    assert!(hello(&mut other));
    drop(flood);
}

#[test]
fn silent_clients_do_not_keep_their_places() {
    let program = Program::start("size-limits");
    let silent: Vec<Connection> = (0..16).map(|_| program.connect()).collect();
    wait("the end of the silent clients", || hello(&mut program.connect()));
    drop(silent);
}

#[test]
fn an_ipv6_network_counts_as_one_address() {
    let max = sizes()
        .number("With {} connections open, the next one from the same address");
    let places = program::Places::default();
    let take = |address: &str| places.take(address.parse::<IpAddr>().unwrap());
    let taken: Vec<_> = (0..max).map(|n| take(&format!("2001:db8::{n:x}"))).collect();
    assert!(taken.iter().all(Option::is_some));
    assert!(take("2001:db8::ffff:1").is_none());
    assert!(take("2001:db8:0:1::1").is_some());
    drop(taken);
    assert!(take("2001:db8::1").is_some());

    let mapped: Vec<_> = (0..max).map(|_| take("::ffff:192.0.2.1")).collect();
    assert!(take("192.0.2.1").is_none());
    assert!(take("192.0.2.2").is_some());
    drop(mapped);
}

#[test]
fn too_many_headers_and_too_large_a_head_get_431() {
    let program = Program::start("size-limits");
    let headers = |count| "a: b\r\n".repeat(count);
    for (lines, status) in [
        (headers(50), "200 OK"),
        (headers(51), "431 Request Header Fields Too Large"),
        (
            format!("a: {}\r\n", "b".repeat(200_000)),
            "431 Request Header Fields Too Large",
        ),
    ] {
        let mut connection = program.connect();
        connection.send(format!("GET / HTTP/1.1\r\n{lines}\r\n"));
        let answer = connection.response().unwrap();
        assert_eq!(answer.status(), format!("HTTP/1.1 {status}"));
        if status.starts_with("431") {
            let end = "connection failed: message head is too large";
            assert_eq!(program.line(), end);
        }
    }
}

// On in-memory connections: the program's settings, and hyper's defaults.

#[tokio::test(start_paused = true)]
async fn the_program_has_lower_limits_for_http2() {
    for (count, refused) in [(20, vec![]), (21, vec![REFUSED_STREAM])] {
        let (client, conn) = bare(program::builder());
        let frames = vec![requests(0, count, slow)];
        let (goaway, resets) = goaway(client, frames).await;
        assert_eq!(resets, refused);
        assert_eq!(goaway, Some(0), "keep-alive ends it: nobody answers the PING");
        conn.await.unwrap().unwrap_err();
    }
    assert_eq!(status_of_headers(program::builder(), 8 * 1024 - 1000).await, 200);
    assert_eq!(status_of_headers(program::builder(), 8 * 1024).await, 431);
}

/// The status of a request over HTTP/2 with a header of so many bytes.
async fn status_of_headers(
    builder: hyper_util::server::conn::auto::Builder<TokioExecutor>,
    size: usize,
) -> u16 {
    let (client, _conn) = bare(builder);
    let (mut client, driver) =
        handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
    tokio::spawn(driver);
    let mut request = get("/");
    request.headers_mut().insert("x", ".".repeat(size).parse().unwrap());
    client.send_request(request).await.unwrap().status().as_u16()
}

#[tokio::test(start_paused = true)]
async fn the_head_of_an_http1_request_is_limited() {
    let headers = sizes().number("over {} headers") as usize;
    let size = 1000 * sizes().number("a head of {} kB, at once |") as usize;
    let passes =
        1000 * sizes().number("with the default a head of {} kB can pass") as usize;
    let uri = sizes().number("a URI of {} bytes") as usize;
    let head = |lines: &str| format!("GET / HTTP/1.1\r\n{lines}\r\n");
    let large = "431 Request Header Fields Too Large";
    let error = "message head is too large";
    let path = |size| format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(size - 1));
    for (head, status, result) in [
        (head(&"a: b\r\n".repeat(headers)), "200 OK", None),
        (head(&"a: b\r\n".repeat(headers + 1)), large, Some(error)),
        (head(&format!("a: {}\r\n", "b".repeat(passes))), "200 OK", None),
        (head(&format!("a: {}\r\n", "b".repeat(size))), large, Some(error)),
        (path(uri - 1), "200 OK", None),
        (path(uri), "414 URI Too Long", Some("URI too long")),
    ] {
        let (mut client, conn) = bare(with_timers());
        client.write_all(head.as_bytes()).await.unwrap();
        let answer = answer(&mut client).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        if let Some(text) = result {
            assert_eq!(end(conn).await.1, Err(text.to_owned()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn max_header_size_is_exact() {
    let head = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    for (size, status) in [(head.len(), "200 OK"), (head.len() - 1, "431 Request")] {
        let (mut client, server) = duplex(1024);
        let service = service_fn(async |_: Request<Incoming>| {
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        });
        let mut builder = http1::Builder::new();
        builder.max_header_size(size);
        tokio::spawn(builder.serve_connection(TokioIo::new(server), service));
        client.write_all(head.as_bytes()).await.unwrap();
        let answer = answer(&mut client).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
}

#[test]
fn a_buffer_has_a_least_size() {
    let least = sizes().number("the minimum is {} bytes") as usize;
    http1::Builder::new().max_buf_size(least);
    let panic = catch_unwind(|| {
        let _ = http1::Builder::new().max_buf_size(least - 1);
    });
    let panic = panic.unwrap_err();
    let text = panic.downcast_ref::<&str>().unwrap();
    sizes().says(text);
}

#[tokio::test]
async fn each_chunk_is_a_frame() {
    sizes().says("Chunks of one byte arrive as frames of one byte");
    let (mut client, io) = duplex(1024);
    let service = service_fn(async |request: Request<Incoming>| {
        let mut body = request.into_body();
        let mut sizes = Vec::new();
        while let Some(frame) = body.frame().await {
            sizes.push(frame?.into_data().unwrap().len());
        }
        assert_eq!(sizes, [1; 20]);
        Ok::<_, hyper::Error>(Response::new(Empty::<Bytes>::new()))
    });
    let conn = http1::Builder::new().serve_connection(TokioIo::new(io), service);
    let chunks = "1\r\nx\r\n".repeat(20);
    let head = "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    client.write_all(format!("{head}{chunks}0\r\n\r\n").as_bytes()).await.unwrap();
    conn.await.unwrap();
}

#[tokio::test]
async fn the_answers_of_hyper_have_no_body() {
    sizes().says("your handler is not called, they have no body");
    let headers = sizes().number("over {} headers") as usize + 1;
    let headers = "a: b\r\n".repeat(headers);
    let uri = "a".repeat(sizes().number("a URI of {} bytes") as usize);
    for (request, status) in [
        ("GET / FTP/1.0\r\n\r\n".to_owned(), "400 Bad Request"),
        (format!("GET /{uri} HTTP/1.1\r\n\r\n"), "414 URI Too Long"),
        (format!("GET / HTTP/1.1\r\n{headers}\r\n"), "431 Request Header Fields Too Large"),
    ] {
        let (mut client, io) = duplex(1024 * 1024);
        client.write_all(request.as_bytes()).await.unwrap();
        let service = service_fn(async |_: Request<Incoming>| -> Result<Response<Empty<Bytes>>, Infallible> {
            unreachable!("hyper answers by itself")
        });
        let conn = http1::Builder::new().serve_connection(TokioIo::new(io), service);
        conn.await.unwrap_err();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        assert!(answer.contains("\r\ncontent-length: 0\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn chunk_extensions_and_trailers_are_limited() {
    let extensions = 1024 * sizes().number("{} KiB of chunk extensions") as usize;
    let trailers = 1024 * sizes().number("{} KiB of trailers") as usize;
    let extension = |size| format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(size));
    let trailer = |size| format!("0\r\nt: {}\r\n\r\n", "t".repeat(size));
    let most = sizes().number("over {} trailers") as usize;
    let several = |count| format!("0\r\n{}\r\n", "t: t\r\n".repeat(count));
    for (body, fails) in [
        (extension(extensions - 100), None),
        (extension(extensions), Some("chunk extensions over limit")),
        (trailer(trailers - 100), None),
        (trailer(trailers), Some("chunk trailers bytes over limit")),
        (several(most), None),
        (several(most + 1), Some("chunk trailers count overflow")),
    ] {
        let (mut client, conn) = bare(with_timers());
        let head = "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
        client.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        match fails {
            None => assert!(answer(&mut client).await.starts_with("HTTP/1.1 200 OK")),
            Some(text) => {
                let end = end(conn).await.1.unwrap_err();
                assert!(end.contains(text), "it ends with {end:?}, not with {text:?}: compare the table of src/server/size-limits.md");
            }
        }
    }
}

/// Pipelined requests are not handled side by side.
#[tokio::test(start_paused = true)]
async fn http1_handles_one_request_after_the_other() {
    let (handlers, mut client) = pending_handlers();
    client
        .write_all("GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(3).as_bytes())
        .await
        .unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(handlers.load(Relaxed), 1);
}

/// A connection whose handlers do not end, and how many have been started.
fn pending_handlers() -> (Arc<AtomicUsize>, tokio::io::DuplexStream) {
    let handlers = Arc::new(AtomicUsize::new(0));
    let (client, server) = duplex(1024 * 1024);
    let started = handlers.clone();
    let service = service_fn(move |_: Request<Incoming>| {
        started.fetch_add(1, Relaxed);
        std::future::pending::<Result<Response<Empty<Bytes>>, Infallible>>()
    });
    tokio::spawn(async move {
        let builder = with_timers();
        builder.serve_connection(TokioIo::new(server), service).await.ok();
    });
    (handlers, client)
}

#[tokio::test(start_paused = true)]
async fn the_streams_of_a_connection_are_limited() {
    let max = sizes().number("over {} requests at a time") as u32;
    assert_eq!(by_default(vec![requests(0, max, slow)]).await, (None, vec![]));
    let refused = (None, vec![REFUSED_STREAM]);
    assert_eq!(by_default(vec![requests(0, max + 1, slow)]).await, refused);
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_resets_is_limited_and_not_their_number() {
    let max = sizes().number("over {} requests reset in one burst") as u32;
    assert_eq!(by_default(vec![requests(0, max, slow_and_reset)]).await.0, None);
    let more = vec![requests(0, max + 1, slow_and_reset)];
    assert_eq!(by_default(more).await.0, Some(ENHANCE_YOUR_CALM));

    let [few, next] =
        sizes().numbers("resets {} requests, waits, and resets the next {}");
    assert_eq!(few, next);
    let few = few as u32;
    let (handlers, client) = pending_handlers();
    let paced = (0..100).map(|n| requests(few * n, few, slow_and_reset)).collect();
    assert_eq!(goaway(client, paced).await.0, None);
    assert_eq!(handlers.load(Relaxed), 100 * few as usize);
}

#[tokio::test(start_paused = true)]
async fn the_requests_that_the_server_resets_are_limited() {
    let max = sizes().number("over {} requests that the server resets") as u32;
    let (end, resets) = by_default(vec![requests(0, max, malformed)]).await;
    assert_eq!((end, resets.len()), (None, max as usize));
    let more = vec![requests(0, max + 1, malformed)];
    assert_eq!(by_default(more).await.0, Some(ENHANCE_YOUR_CALM));

    let served = sizes().number("over {} requests at a time") as u32;
    assert_eq!(by_default(vec![requests(0, served + max, slow)]).await.0, None);
    let more = vec![requests(0, served + max + 1, slow)];
    assert_eq!(by_default(more).await.0, Some(ENHANCE_YOUR_CALM));
}

#[tokio::test(start_paused = true)]
async fn the_headers_of_an_http2_request_are_limited() {
    let limit = 1024 * sizes().number("headers a little over {} KiB") as usize;
    // Each header counts with its name, its value, and 32 bytes.
    assert_eq!(status_of_headers(with_timers(), limit - 1024).await, 200);
    assert_eq!(status_of_headers(with_timers(), limit).await, 431);

    let size = 1000 * sizes().number("headers of {} kB") as usize;
    let block = [
        b"\x82\x86\x84\x41\x01x\x00\x01x\x7f".to_vec(),
        length(size),
        vec![b'.'; size],
    ];
    let block = block.concat();
    let mut pieces = block.chunks(16 * 1024);
    let mut frames = frame(HEADERS, 1, 1, pieces.next().unwrap());
    for piece in pieces {
        frames.extend(frame(CONTINUATION, 0, 1, piece));
    }
    assert!(by_default(vec![frames]).await.0.is_some());
}

/// The rest of a length over 127, as HPACK writes it (RFC 7541, section 5.1).
fn length(size: usize) -> Vec<u8> {
    let mut rest = size - 127;
    let mut bytes = Vec::new();
    while rest >= 128 {
        bytes.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    bytes.push(rest as u8);
    bytes
}

#[tokio::test(start_paused = true)]
async fn continuations_without_an_end_are_limited() {
    let max = sizes().number("{} CONTINUATION frames and no end") as usize;
    let continuations = |count| {
        let mut frames = frame(HEADERS, 1, 1, b"\x82\x86\x84\x41\x01x");
        frames.extend(frame(CONTINUATION, 0, 1, &[]).repeat(count));
        vec![frames]
    };
    assert_eq!(by_default(continuations(max - 1)).await.0, None);
    assert_eq!(by_default(continuations(max)).await.0, Some(ENHANCE_YOUR_CALM));
}

#[tokio::test(start_paused = true)]
async fn empty_data_frames_are_limited() {
    let max = sizes().number("over {} empty DATA frames that end no body") as usize;
    let empty = |count| {
        let mut frames = frame(HEADERS, 4, 1, b"\x83\x86\x84\x41\x01x");
        frames.extend(frame(DATA, 0, 1, &[]).repeat(count));
        vec![frames]
    };
    assert_eq!(by_default(empty(max)).await.0, None);
    assert_eq!(by_default(empty(max + 1)).await.0, Some(ENHANCE_YOUR_CALM));
}

#[tokio::test(start_paused = true)]
async fn tiny_data_frames_that_nobody_reads_are_limited() {
    let (_, client) = pending_handlers();
    let mut frames = frame(HEADERS, 4, 1, b"\x83\x86\x84\x41\x01x");
    frames.extend(frame(DATA, 0, 1, b".").repeat(3_000));
    assert_eq!(goaway(client, vec![frames]).await.0, Some(ENHANCE_YOUR_CALM));
}

#[tokio::test(start_paused = true)]
async fn frames_that_ask_for_nothing_are_not_limited() {
    for one in [
        frame(PING, 0, 0, &[0; 8]),
        frame(SETTINGS, 0, 0, &[]),
        frame(2, 0, 1, &[0, 0, 0, 0, 16]),
    ] {
        let floods = vec![one.repeat(10_000), one.repeat(10_000)];
        assert_eq!(by_default(floods).await, (None, vec![]));
    }
}

/// What the server allows, as its first frames say.
#[tokio::test]
async fn the_window_of_a_connection_is_limited() {
    let expected = 1024 * sizes().number("{} KiB for all requests together");
    let (mut client, _conn) = bare(with_timers());
    let start = [PREFACE.as_bytes(), &frame(SETTINGS, 0, 0, &[])].concat();
    client.write_all(&start).await.unwrap();
    // The window of a connection begins with 65,535 (RFC 9113, section 6.9.2).
    let mut window = 65_535;
    while let Ok(Ok((kind, stream, payload))) =
        tokio::time::timeout(Duration::from_secs(1), read_frame(&mut client)).await
    {
        if kind == WINDOW_UPDATE && stream == 0 {
            window += u64::from(u32::from_be_bytes(payload.try_into().unwrap()));
        }
    }
    assert_eq!(window, expected);
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_and_not_taken_is_limited_for_each_request() {
    let expected = 1024 * sizes().number("{} KiB for each request") as usize;
    let pulled = Arc::new(AtomicUsize::new(0));
    let count = pulled.clone();
    let service = service_fn(move |_: Request<Incoming>| {
        let count = count.clone();
        let body = StreamBody::new(stream::repeat_with(move || {
            count.fetch_add(1024, Relaxed);
            Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[b'.'; 1024])))
        }));
        async move { Ok::<_, Infallible>(Response::new(BodyExt::boxed(body))) }
    });
    let (mut client, server) = duplex(16 * 1024);
    tokio::spawn(async move {
        let builder = with_timers();
        builder.serve_connection(TokioIo::new(server), service).await.ok();
    });
    let large = (i32::MAX as u32).to_be_bytes();
    let settings = [&[0, 4][..], &large].concat();
    let mut frames = PREFACE.as_bytes().to_vec();
    frames.extend(frame(SETTINGS, 0, 0, &settings));
    frames.extend(frame(
        WINDOW_UPDATE,
        0,
        0,
        &(i32::MAX as u32 - 65_535).to_be_bytes(),
    ));
    for stream in [1, 3, 5] {
        frames.extend(frame(
            HEADERS,
            END_HEADERS_AND_STREAM,
            stream,
            b"\x82\x86\x84\x41\x01x",
        ));
    }
    client.write_all(&frames).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    let pulled = pulled.load(Relaxed);
    let most = 3 * (expected + 64 * 1024);
    assert!((3 * expected..most).contains(&pulled), "{pulled} bytes");
}

/// hyper's client does not wait for the settings of the server.
#[tokio::test(start_paused = true)]
async fn a_client_that_begins_with_many_requests_is_refused_some() {
    let (client, server) = duplex(1024 * 1024);
    let (client, driver) =
        handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
    tokio::spawn(driver);
    let requests: Vec<_> = (0..30)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { client.send_request(get("/")).await })
        })
        .collect();
    sleep(Duration::from_secs(1)).await;
    let service = service_fn(|_: Request<Incoming>| {
        std::future::pending::<Result<Response<Empty<Bytes>>, Infallible>>()
    });
    tokio::spawn(async move {
        let builder = program::builder();
        builder.serve_connection(TokioIo::new(server), service).await.ok();
    });
    sleep(Duration::from_secs(1)).await;
    let mut refused = 0;
    for request in requests.into_iter().filter(|request| request.is_finished()) {
        let error = program::report(&request.await.unwrap().unwrap_err());
        assert!(error.contains("refused stream before processing"), "{error}");
        refused += 1;
    }
    assert_eq!(refused, 10);
}
