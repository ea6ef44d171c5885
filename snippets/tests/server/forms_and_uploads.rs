//! What src/server/forms-and-uploads.md promises.

use std::io;
use std::process::Command;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::time::{Instant, sleep};

use harness::{Answer, Program, cargo};

use crate::server::request_bodies::{ask, chunked, head, sized};

/// The program itself, for tests on an in-memory connection with a clock that they move.
#[allow(dead_code)]
#[path = "../../server/forms_and_uploads.rs"]
mod program;

const BIN: &str = "forms-and-uploads";
const FORM: &str = "content-type: application/x-www-form-urlencoded\r\n";
const MULTIPART: &str = "content-type: multipart/form-data; boundary=cut\r\n";

fn post(program: &Program, path: &str, headers: &str, body: &str) -> Answer {
    ask(program, sized(path, headers, body.len()) + body)
}

#[track_caller]
fn assert_answer(answer: &Answer, status: &str, text: &str) {
    assert_eq!(answer.status(), format!("HTTP/1.1 {status}"), "{}", answer.text());
    assert_eq!(answer.text(), format!("{text}\n"));
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
}

/// A part of a multipart upload.
fn part(name: &str, data: &str) -> String {
    let head = format!("content-disposition: form-data; name=\"{name}\"");
    format!("--cut\r\n{head}\r\n\r\n{data}\r\n")
}

#[test]
fn a_form_is_decoded_and_what_is_wrong_with_it_is_said() {
    let program = Program::start(BIN);
    let answer = post(&program, "/orders", FORM, "item=green+tea%21&count=2");
    assert_answer(&answer, "201 Created", "2 × \"green tea!\"");
    for (form, reason) in [
        ("", "missing field `item`"),
        ("item=tea", "missing field `count`"),
        ("item=tea&count=two", "invalid digit found in string"),
        ("item=tea&item=milk&count=2", "duplicate field `item`"),
    ] {
        let answer = post(&program, "/orders", FORM, form);
        assert_answer(&answer, "400 Bad Request", reason);
        assert_eq!(answer.header("connection"), Some("close"));
    }
    let answer = post(&program, "/orders", MULTIPART, "item=tea&count=2");
    let reason = "send application/x-www-form-urlencoded";
    assert_answer(&answer, "415 Unsupported Media Type", reason);
}

#[test]
fn the_parts_of_an_upload_are_counted() {
    let program = Program::start(BIN);
    let data = "\r\n--cu".repeat(100_000);
    let body = part("title", "Tea") + &part("empty", "") + &part("photo", &data);
    let body = body + "--cut--\r\n";
    let text = "\"title\": 3 bytes\n\"empty\": 0 bytes\n\"photo\": 600000 bytes";
    let answer = post(&program, "/photos", MULTIPART, &body);
    assert_answer(&answer, "200 OK", text);
    let pieces: Vec<&[u8]> = body.as_bytes().chunks(1000).collect();
    let answer = ask(&program, chunked("/photos", MULTIPART, &pieces, ""));
    assert_answer(&answer, "200 OK", text);
}

#[test]
fn another_type_than_multipart_gets_415() {
    let program = Program::start(BIN);
    for (headers, reason) in [
        (FORM, "Content-Type is not multipart/form-data"),
        (
            "content-type: multipart/form-data\r\n",
            "multipart boundary not found in Content-Type",
        ),
        ("", "failed to decode Content-Type"),
    ] {
        let answer = post(&program, "/photos", headers, &part("title", "Tea"));
        assert_answer(&answer, "415 Unsupported Media Type", reason);
    }
}

#[test]
fn an_upload_without_its_last_boundary_gets_400() {
    let program = Program::start(BIN);
    let body = part("title", "Tea") + "--cut";
    let answer = post(&program, "/photos", MULTIPART, &body);
    assert_answer(&answer, "400 Bad Request", "incomplete multipart stream");
    let body = part("title", "Tea").trim_end().to_owned();
    let answer = post(&program, "/photos", MULTIPART, &body);
    let reason = "field \"title\" received with incomplete data";
    assert_answer(&answer, "400 Bad Request", reason);
}

#[test]
fn the_head_of_a_part_is_limited() {
    let program = Program::start(BIN);
    let reason = "failed to read stream: the head of a part is too large";
    let junk = vec![b'.'; 2 * program::MAX_PART_HEAD];
    let pieces: Vec<&[u8]> = junk.chunks(1024).collect();
    for begin in ["preamble", "--cut\r\n", &(part("title", "Tea") + "--cut\r\n")] {
        let pieces = [&[b"\r\n", begin.as_bytes()], &pieces[..]].concat();
        let answer = ask(&program, chunked("/photos", MULTIPART, &pieces, ""));
        assert_answer(&answer, "400 Bad Request", reason);
    }
}

#[test]
fn the_number_of_parts_is_limited() {
    let program = Program::start(BIN);
    let body = part("", "").repeat(program::MAX_PARTS - 1) + "--cut--\r\n";
    let answer = post(&program, "/photos", MULTIPART, &body);
    assert_eq!(answer.status(), "HTTP/1.1 200 OK", "{}", answer.text());
    let body = part("", "").repeat(program::MAX_PARTS + 1) + "--cut--\r\n";
    let answer = post(&program, "/photos", MULTIPART, &body);
    assert_answer(&answer, "413 Payload Too Large", "there are too many parts");
}

#[test]
fn too_large_a_body_gets_413_through_each_reader() {
    let program = Program::start(BIN);
    let text = "length limit exceeded";
    let large = vec![b'.'; program::MAX_UPLOAD + 1];
    let answer = ask(&program, chunked("/files", "", &[&large], ""));
    assert_answer(&answer, "413 Payload Too Large", text);
    let form = &large[..program::MAX_FORM + 1];
    let answer = ask(&program, chunked("/orders", FORM, &[form], ""));
    assert_answer(&answer, "413 Payload Too Large", text);
    let begin = part("photo", "");
    let begin = begin.trim_end().as_bytes();
    let chunks = [begin, b"\r\n\r\n", &large[..]];
    let answer = ask(&program, chunked("/photos", MULTIPART, &chunks, ""));
    let text = "failed to read stream: length limit exceeded";
    assert_answer(&answer, "413 Payload Too Large", text);
    for path in ["/files", "/photos"] {
        let request = sized(path, MULTIPART, program::MAX_UPLOAD + 1);
        let answer = ask(&program, request);
        assert_answer(&answer, "413 Payload Too Large", "the body is too large");
    }
}

#[test]
fn a_file_is_stored_up_to_the_limit() {
    let program = Program::start(BIN);
    let body = vec![b'.'; program::MAX_UPLOAD];
    let answer =
        ask(&program, [sized("/files", "", body.len()).into(), body].concat());
    let text = format!("{} bytes", program::MAX_UPLOAD);
    assert_answer(&answer, "200 OK", &text);
}

#[test]
fn a_disk_that_fails_gets_500_and_the_reason_goes_to_the_log() {
    let mut command = Command::new("sh");
    let full = "trap '' XFSZ; ulimit -f 100; exec \"$0\" \"$@\"";
    command.args(["-c", full]).arg(cargo::program(BIN));
    let full = Program::listen(command);
    let mut command = Command::new(cargo::program(BIN));
    command.env("TMPDIR", "/nonexistent");
    let missing = Program::listen(command);
    for (program, reason) in [(full, "File too large"), (missing, "No such file")] {
        let answer = post(&program, "/files", "", &".".repeat(1_000_000));
        assert_answer(&answer, "500 Internal Server Error", "cannot store the file");
        let line = program.line();
        let log = format!("cannot store a file: {reason}");
        assert!(line.starts_with(&log), "{line}");
    }
}

#[test]
fn an_upload_that_breaks_off_is_an_error_of_the_body() {
    let program = Program::start(BIN);
    let mut connection = program.connect();
    connection.send(sized("/files", "", 10) + "hi");
    drop(connection);
    let error = "error reading a body from connection: \
                 end of file before message length reached";
    assert_eq!(program.line(), format!("POST /files: {error:?}"));
}

/// What `source()` does not show.
#[test]
fn an_io_error_hides_the_error_inside_from_source() {
    use std::error::Error;
    let error = io::Error::other(io::Error::from(io::ErrorKind::TimedOut));
    assert!(error.source().is_none());
    assert!(error.get_ref().is_some());
}

#[test]
fn running_out_of_descriptors_is_survived() {
    crate::server::hello_world::survives_running_out_of_descriptors(BIN);
}

// On connections in memory, with the clock paused.

/// Sends these pieces, each after a pause. The answer, and when it came.
async fn slowly(head: String, pieces: &[(u64, &[u8])]) -> (String, u64) {
    let (client, server) = duplex(64 * 1024);
    tokio::spawn(program::serve(server));
    let (mut reader, mut writer) = tokio::io::split(client);
    let start = Instant::now();
    writer.write_all(head.as_bytes()).await.unwrap();
    let send = async {
        for (pause, piece) in pieces {
            sleep(Duration::from_secs(*pause)).await;
            writer.write_all(piece).await.ok();
        }
        std::future::pending::<()>().await;
    };
    let mut status = [0; 12];
    tokio::select! {
        result = reader.read_exact(&mut status) => { result.unwrap(); }
        () = send => unreachable!(),
    }
    (String::from_utf8_lossy(&status[9..]).into_owned(), start.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_is_given_up_through_each_reader() {
    let pause = program::PAUSE.as_secs();
    for (path, headers) in [("/orders", FORM), ("/files", ""), ("/photos", MULTIPART)]
    {
        let head = sized(path, headers, 1000);
        let (status, time) = slowly(head, &[(0, b"--cut\r\n")]).await;
        assert_eq!((&*status, time), ("408", pause), "{path}");
    }
    // It has sent enough to be on time for long, and pauses.
    let head = sized("/files", "", 200_000);
    let (status, time) = slowly(head, &[(0, &[b'.'; 100_000])]).await;
    assert_eq!((&*status, time), ("408", pause));
}

#[tokio::test(start_paused = true)]
async fn a_body_has_a_minimum_rate() {
    let rate = program::BYTES_PER_SECOND as usize;
    let steady = vec![b'.'; rate];
    let head = sized("/files", "", 20 * rate);
    let (status, time) = slowly(head.clone(), &[(1, &steady[..]); 20]).await;
    assert_eq!((&*status, time), ("200", 20));
    // Half as fast, it loses half a second each second.
    let (status, time) = slowly(head, &[(1, &steady[..rate / 2]); 40]).await;
    assert_eq!(status, "408");
    assert!((6..12).contains(&time), "{time} s");
}

/// Only what the client lets us wait counts.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_not_the_fault_of_the_client() {
    use http_body_util::BodyExt;
    use hyper::{Request, Response, body::Incoming, service::service_fn};
    let (mut client, server) = duplex(64 * 1024);
    let service = service_fn(async |request: Request<Incoming>| {
        let mut body = program::Steady::new(request.into_body());
        let first = body.frame().await.unwrap().unwrap();
        sleep(Duration::from_secs(3600)).await;
        let rest = body.collect().await;
        assert!(first.is_data() && rest.is_ok(), "{:?}", rest.err());
        Ok::<_, std::convert::Infallible>(Response::new(String::new()))
    });
    let conn = hyper::server::conn::http1::Builder::new()
        .serve_connection(hyper_util::rt::TokioIo::new(server), service);
    let send = async {
        client
            .write_all(
                head("/", "connection: close\r\ncontent-length: 4\r\n").as_bytes(),
            )
            .await
            .unwrap();
        sleep(Duration::from_secs(1)).await;
        client.write_all(b"ab").await.unwrap();
        sleep(Duration::from_secs(3602)).await;
        client.write_all(b"cd").await.unwrap();
        client
    };
    let (_, mut client) = tokio::join!(conn, send);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

/// Over HTTP/2 several pieces are ready at once.
#[tokio::test]
async fn a_large_part_is_taken_over_http2_too() {
    let (client, server) = duplex(64 * 1024);
    let service = hyper::service::service_fn(program::answer);
    tokio::spawn(
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(server), service),
    );
    let io = TokioIo::new(client);
    let (mut client, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
            .await
            .unwrap();
    tokio::spawn(driver);
    let data = ".".repeat(1024 * 1024);
    let body = part("photo", &data) + "--cut--\r\n";
    let request = hyper::Request::post("http://x/photos")
        .header("content-type", "multipart/form-data; boundary=cut")
        .body(http_body_util::Full::<hyper::body::Bytes>::from(body))
        .unwrap();
    let response = client.send_request(request).await.unwrap();
    let text = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(text, format!("\"photo\": {} bytes\n", data.len()));
}
