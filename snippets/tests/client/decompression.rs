//! What src/client/decompression.md promises.

use std::fs;
use std::process::Command;

use async_compression::tokio::write::{BrotliEncoder, GzipEncoder, ZstdEncoder};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use harness::{Program, Prose, Server, page};

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

#[test]
fn probe() {
    let one = compress("gzip", b"one\n");
    let two = compress("gzip", b"two\n");
    let both = [&*one, &*two].concat();
    let show = |what: &str, bytes: &[u8]| {
        let (_, status, printed) = answered("decompression", bytes);
        println!("{what}: {status} {printed:?}");
    };
    show("apart", &chunked("gzip", &[&one, &two]));
    show("together", &chunked("gzip", &[&both]));
    show("length", &encoded("gzip", &both));
    let z = [compress("zstd", b"one\n"), compress("zstd", b"two\n")].concat();
    show("zstd", &encoded("zstd", &z));
    for coding in ["br", "gzip", "zstd"] {
        let body = compress(coding, b"Hello, World!\nHello, hyper!\n");
        show(coding, &encoded(coding, &body[..body.len() - 3]));
        let close = encoded(coding, &body[..body.len() - 3]);
        let close = close.iter().map(|b| *b).collect::<Vec<u8>>();
        let _ = close;
        show("plain", &encoded(coding, b"Hello, World! Hello, World! Hello, World!"));
        show("empty", &encoded(coding, b""));
    }
    show(
        "twice",
        &encoded("gzip, gzip", &compress("gzip", &compress("gzip", b"hi"))),
    );
    show("x-gzip", &encoded("x-gzip", &one));
    show("GZIP", &encoded("GZIP", &one));
}

#[test]
#[ignore = "needs nginx"]
fn others_nginx_compresses_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    let text = "Hello, World!\n".repeat(100);
    fs::write(folder.path().join("hello.txt"), &text).unwrap();
    let server = Program::of_others(|port| {
        let config = format!(
            "daemon off; pid {path}/pid; error_log stderr; events {{}}
            http {{
                types {{ text/plain txt; }} access_log off;
                client_body_temp_path {path}/1; proxy_temp_path {path}/2;
                fastcgi_temp_path {path}/3; uwsgi_temp_path {path}/4;
                scgi_temp_path {path}/5;
                gzip on; gzip_types text/plain;
                server {{ listen 127.0.0.1:{port}; root {path}; }}
            }}"
        );
        fs::write(folder.path().join("nginx.conf"), config).unwrap();
        let mut command = Command::new("/usr/sbin/nginx");
        command.args(["-e", "stderr", "-p", &path, "-c"]);
        command.arg(folder.path().join("nginx.conf"));
        command
    });
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
