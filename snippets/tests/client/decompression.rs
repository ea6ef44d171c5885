//! What src/client/decompression.md promises.

use std::fs;
use std::future::ready;
use std::io;

use async_compression::tokio::bufread::GzipDecoder;
use async_compression::tokio::write::{BrotliEncoder, GzipEncoder, ZstdEncoder};
use futures_util::TryStreamExt;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, ETAG, HeaderMap, HeaderValue};
use hyper::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;
use tokio_util::io::StreamReader;
use tower::{ServiceBuilder, ServiceExt};
use tower_http::decompression::DecompressionLayer;

use harness::{Program, Prose, Server, page};

#[cfg(target_os = "linux")]
use super::failures::nobody_accepts;

/// The program itself, for tests with a clock that they move.
#[allow(dead_code)]
#[path = "../../client/decompression.rs"]
mod program;

const TOO_LONG: &str = "length limit exceeded";

fn decompression() -> Prose {
    page("client/decompression")
}

fn max_compressed() -> usize {
    1024 * decompression().number("at most {} KiB may arrive") as usize
}

fn max_body() -> usize {
    1024 * 1024 * decompression().number("may become at most {} MiB") as usize
}

/// Runs a program against a server that answers with these bytes, and then closes the connection.
/// The head of the request, the status, and what the program prints.
fn answered(program: &str, bytes: &[u8]) -> (String, i32, String) {
    let server = Server::start();
    let mut client = Program::client(program, &[&server.url("/")]);
    let mut connection = server.accept();
    let request = connection.head().unwrap();
    connection.send(bytes);
    drop(connection);
    let (status, lines) = client.wait();
    (request, status.code().unwrap(), lines.join("\n"))
}

/// A response with this coding and body.
fn encoded(coding: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A response with this coding and a body in these chunks.
fn chunked(coding: &str, chunks: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!(
        "HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    .into_bytes();
    for chunk in chunks {
        bytes.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend(*chunk);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\nchecksum: 7\r\n\r\n");
    bytes
}

async fn finish(mut encoder: impl AsyncWrite + Unpin, text: &[u8]) {
    encoder.write_all(text).await.unwrap();
    encoder.shutdown().await.unwrap();
}

#[tokio::main(flavor = "current_thread")]
async fn compress(coding: &str, text: &[u8]) -> Vec<u8> {
    compressed(coding, text).await
}

async fn compressed(coding: &str, text: &[u8]) -> Vec<u8> {
    let mut compressed = Vec::new();
    match coding {
        "br" => finish(BrotliEncoder::new(&mut compressed), text).await,
        "gzip" => finish(GzipEncoder::new(&mut compressed), text).await,
        "zstd" => finish(ZstdEncoder::new(&mut compressed), text).await,
        other => panic!("no test has {other}"),
    }
    compressed
}

#[test]
fn the_request_says_which_codings_the_client_reads() {
    let (request, ..) = answered("decompression", &encoded("identity", b""));
    assert!(
        request.contains("\r\naccept-encoding: zstd,gzip,deflate,br\r\n"),
        "{request}"
    );
    let (request, ..) = answered("responses", &encoded("identity", b""));
    assert!(!request.contains("accept-encoding"), "{request}");
}

#[test]
fn gzip_brotli_and_zstd_are_read() {
    for coding in ["br", "gzip", "zstd"] {
        let body = compress(coding, b"Hello, World!\n");
        let (_, status, printed) = answered("decompression", &encoded(coding, &body));
        let expected = "200 OK, length unknown\nHello, World!";
        assert_eq!((status, &*printed), (0, expected), "{coding}");
    }
    let (_, status, printed) =
        answered("decompression", &encoded("identity", b"hi\n"));
    assert_eq!((status, &*printed), (0, "200 OK, 3 bytes\nhi"));
}

#[test]
fn a_bomb_is_stopped_at_the_limit() {
    for coding in ["br", "gzip", "zstd"] {
        let body = compress(coding, &vec![b'0'; max_body()]);
        assert!(body.len() * 100 < max_body(), "{coding} does not compress enough");
        let (_, status, printed) = answered("decompression", &encoded(coding, &body));
        assert_eq!(status, 0, "the limit is too low: {coding}: {printed:.90}");
        let body = compress(coding, &vec![b'0'; max_body() + 1]);
        let (_, status, printed) = answered("decompression", &encoded(coding, &body));
        assert_eq!(status, 1, "{coding}: the limit does not hold: {printed:.90}");
        assert!(printed.ends_with(TOO_LONG), "{coding}: {printed:.90}");
    }
}

#[test]
fn a_port_that_is_too_large_is_refused() {
    let (status, lines) =
        Program::client("decompression", &["http://127.0.0.1:99999/"]).wait();
    assert_eq!(lines, ["the port is not a number up to 65535"]);
    assert_eq!(status.code(), Some(1));
}

#[cfg(target_os = "linux")]
#[tokio::test(start_paused = true)]
async fn the_limit_covers_the_connect() {
    let seconds = decompression().number("within {} seconds");
    let (url, _full) = nobody_accepts();
    let start = Instant::now();
    let error = program::get_in_time(&url).await.unwrap_err();
    assert_eq!(error.to_string(), "the whole response took too long");
    assert_eq!(start.elapsed().as_secs(), seconds);
}

#[test]
fn a_length_beyond_the_limit_is_printed_as_it_is() {
    let body = vec![b'x'; max_compressed() + 1];
    let (_, status, printed) = answered("decompression", &encoded("identity", &body));
    let expected = format!("200 OK, {} bytes\n{TOO_LONG}", body.len());
    assert_eq!((status, printed), (1, expected));
}

/// Blocks of deflate that hold no byte.
#[test]
fn bytes_that_become_nothing_are_stopped_too() {
    let mut body = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    while body.len() <= max_compressed() {
        body.extend([0, 0, 0, 0xff, 0xff]);
    }
    let (_, status, printed) = answered("decompression", &encoded("gzip", &body));
    assert_eq!(status, 1, "{printed}");
    assert!(printed.ends_with(TOO_LONG), "{printed}");
}

#[test]
fn hyper_alone_does_not_decompress() {
    let body = compress("gzip", b"Hello, World!\n");
    let (_, status, printed) = answered("responses", &encoded("gzip", &body));
    assert_eq!(status, 1, "{printed}");
    assert!(
        printed.ends_with("invalid utf-8 sequence of 1 bytes from index 1"),
        "{printed}"
    );
}

/// What the program prints of a response with this coding and body.
fn printed(coding: &str, body: &[u8]) -> String {
    answered("decompression", &encoded(coding, body)).2
}

#[test]
fn only_the_first_of_several_gzip_streams_is_read() {
    let (one, two) = (compress("gzip", b"one\n"), compress("gzip", b"two\n"));
    let (_, status, apart) =
        answered("decompression", &chunked("gzip", &[&one, &two]));
    assert_eq!(status, 1, "tower-http has learnt it, the page must change: {apart}");
    let error = "there are extra bytes after body has been decompressed";
    assert!(apart.ends_with(error), "{apart}");
    let both = [one, two].concat();
    let (_, status, together) = answered("decompression", &encoded("gzip", &both));
    assert_eq!((status, &*together), (0, "200 OK, length unknown\none"));
}

#[tokio::test]
async fn async_compression_reads_them_all() {
    let both =
        [compressed("gzip", b"one\n").await, compressed("gzip", b"two\n").await];
    let stream = Full::new(Bytes::from(both.concat())).into_data_stream();
    let reader = StreamReader::new(stream.map_err(io::Error::other));
    let mut decoder = GzipDecoder::new(reader);
    decoder.multiple_members(true);
    let mut text = String::new();
    decoder.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "one\ntwo\n");
}

#[test]
fn a_compressed_body_that_is_cut_short_is_an_error() {
    for (coding, error) in [
        ("br", "reached unexpected EOF"),
        ("gzip", "unexpected end of file"),
        ("zstd", "zstd stream did not finish"),
    ] {
        let body = compress(coding, b"Hello, World!\nHello, hyper!\n");
        let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\n\r\n");
        let cut = [head.as_bytes(), &body[..body.len() - 3]].concat();
        let (_, status, printed) = answered("decompression", &cut);
        assert_eq!(status, 1, "{coding}: a part passes for the whole: {printed}");
        assert!(printed.ends_with(error), "{coding}: {printed}");
    }
}

#[test]
fn a_body_in_another_coding_than_its_header_says_is_an_error() {
    for (coding, error) in [
        ("br", "brotli error"),
        ("gzip", "Invalid gzip header"),
        ("zstd", "Unknown frame descriptor"),
    ] {
        let printed = printed(coding, "Hello, World!\n".repeat(3).as_bytes());
        assert!(printed.ends_with(error), "{coding}: {printed}");
    }
}

#[test]
fn a_coding_by_another_name_is_left_alone() {
    let body = compress("gzip", b"hi\n");
    for coding in ["x-gzip", "GZIP", "gzip, gzip"] {
        let printed = printed(coding, &body);
        let error = "invalid utf-8 sequence of 1 bytes from index 1";
        assert!(printed.ends_with(error), "{coding}: {printed}");
    }
}

#[test]
fn a_response_without_a_body_passes() {
    assert_eq!(printed("gzip", b""), "200 OK, length unknown");
}

#[tokio::test]
async fn the_layer_removes_two_headers_and_keeps_the_trailers() {
    let body = compressed("gzip", b"hi\n").await;
    let answer = move |_: Request<()>| {
        let trailers = HeaderMap::from_iter([(ETAG, HeaderValue::from(7))]);
        let sent = Full::new(Bytes::from(body.clone()));
        let response = Response::builder()
            .header(CONTENT_ENCODING, "gzip")
            .header(CONTENT_LENGTH, body.len())
            .body(sent.with_trailers(ready(Some(Ok(trailers)))));
        ready(response)
    };
    let client = ServiceBuilder::new()
        .layer(DecompressionLayer::new())
        .map_response(|response: Response<_>| response)
        .service_fn(answer);
    let response = client.clone().oneshot(Request::new(())).await.unwrap();
    assert!(response.headers().is_empty(), "{:?}", response.headers());
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()[ETAG], "7");
    assert_eq!(body.to_bytes(), "hi\n");
}

#[test]
#[ignore = "needs nginx"]
fn others_nginx_compresses_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let text = "Hello, World!\n".repeat(100);
    fs::write(folder.path().join("hello.txt"), &text).unwrap();
    let server = Program::nginx(
        folder.path(),
        "types { text/plain txt; } gzip on; gzip_types text/plain;
         server { listen 127.0.0.1:PORT; root .; }",
    );
    let url = format!("http://{}/hello.txt", server.address);
    for (program, length) in
        [("decompression", "length unknown"), ("responses", "1400 bytes")]
    {
        let (status, lines) = Program::client(program, &[&url]).wait();
        let expected = format!("200 OK, {length}\n{text}");
        assert_eq!(lines.join("\n"), expected.trim_end(), "{program}");
        assert!(status.success());
    }
}
