//! What src/client/uploads.md promises.

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::net::TcpStream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Bytes, Frame};
use hyper::client::conn::http1;
use hyper::header::{EXPECT, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tempfile::NamedTempFile;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use harness::{Connection, LIMIT, Program, Server, page};

#[cfg(target_os = "linux")]
use super::failures::nobody_accepts;
use program::{ASK_ABOVE, CONSENT, ReadsOn, Upload};

/// The program itself, for tests in memory and with a clock that they move.
#[allow(dead_code)]
#[path = "../../client/uploads.rs"]
mod program;

/// A file of so many bytes, which are not all the same.
fn file(length: usize) -> (NamedTempFile, Vec<u8>) {
    let bytes: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
    let mut file = NamedTempFile::with_prefix("a \"photo\"").unwrap();
    file.write_all(&bytes).unwrap();
    (file, bytes)
}

fn client(url: &str, how: &str, file: &NamedTempFile) -> Program {
    Program::client("uploads", &[url, how, file.path().to_str().unwrap()])
}

/// The status of the program and what it printed, once it has ended.
fn end(mut client: Program) -> (i32, String) {
    let (status, lines) = client.wait();
    (status.code().unwrap(), lines.join("\n"))
}

const CREATED: &str = "HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}";
const TOO_LARGE: &str =
    "HTTP/1.1 413 Payload Too Large\r\ncontent-length: 10\r\n\r\ntoo large\n";

fn above() -> usize {
    ASK_ABOVE as usize + 1
}

// What is sent.

#[test]
fn a_file_is_sent_as_it_is_with_its_length() {
    for (how, method, length) in [("put", "PUT", 100_000), ("post", "POST", 0)] {
        let server = Server::start();
        let (file, bytes) = file(length);
        let client = client(&server.url("/files/a?b"), how, &file);
        let mut conn = server.accept();
        let head = format!(
            "{method} /files/a?b HTTP/1.1\r\ncontent-type: application/octet-stream\r\nhost: {}\r\ncontent-length: {length}\r\n\r\n",
            server.address
        );
        assert_eq!(conn.head().unwrap(), head);
        assert!(
            conn.bytes(length).unwrap() == bytes,
            "the bytes are those of the file"
        );
        conn.send(CREATED);
        let printed = format!("{length} of {length} bytes\n201 Created\n{{}}");
        assert_eq!(end(client), (0, printed));
        assert_eq!(conn.rest().unwrap(), "", "nothing follows the body");
    }
}

#[test]
fn a_form_has_a_title_and_the_file_between_its_boundaries() {
    let server = Server::start();
    let (file, bytes) = file(100_000);
    let client = client(&server.url("/photos"), "form", &file);
    let mut conn = server.accept();
    let head = conn.head().unwrap();
    let start =
        "POST /photos HTTP/1.1\r\ncontent-type: multipart/form-data; boundary=";
    let rest = head.strip_prefix(start).unwrap_or_else(|| panic!("{head}"));
    let (boundary, rest) = rest.split_once("\r\n").unwrap();
    let name = file.path().file_name().unwrap().to_str().unwrap();
    let quoted = name.replace('"', "%22");
    let mut body = format!(
        "--{boundary}\r\ncontent-disposition: form-data; name=\"title\"\r\n\r\n{name}\r\n\
         --{boundary}\r\ncontent-disposition: form-data; name=\"photo\"; filename=\"{quoted}\"\r\n\
         content-type: application/octet-stream\r\n\r\n"
    )
    .into_bytes();
    body.extend(&bytes);
    body.extend(format!("\r\n--{boundary}--\r\n").as_bytes());
    let fields =
        format!("host: {}\r\ncontent-length: {}\r\n\r\n", server.address, body.len());
    assert_eq!(rest, fields);
    assert!(conn.bytes(body.len()).unwrap() == body, "the parts are exact");
    conn.send(CREATED);
    assert_eq!(end(client).0, 0);
    assert_eq!(conn.rest().unwrap(), "", "nothing follows the body");
}

#[test]
fn a_boundary_is_not_used_twice() {
    let server = Server::start();
    let (file, _) = file(1);
    let mut boundaries = [0, 1].map(|_| {
        let _client = client(&server.url("/"), "form", &file);
        let head = server.accept().head().unwrap();
        head.lines().find(|line| line.contains("boundary")).unwrap().to_owned()
    });
    boundaries.sort();
    assert_ne!(boundaries[0], boundaries[1]);
}

#[test]
fn what_is_not_a_file_is_refused_before_anything_is_sent() {
    let client = Program::client("uploads", &["http://127.0.0.1:1/", "put", "/"]);
    assert_eq!(end(client), (1, "not a file: /".to_owned()));
}

/// What the upload of this reader writes, and how it ends.
async fn uploaded(
    bytes: &'static [u8],
    length: u64,
) -> (Vec<u8>, Result<(), String>) {
    let (near, mut far) = duplex(1024 * 1024);
    let (mut sender, conn) = http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(conn);
    let server = tokio::spawn(async move {
        let mut written = vec![0; 1024];
        let read = far.read(&mut written).await.unwrap();
        written.truncate(read);
        far.write_all(CREATED.as_bytes()).await.ok();
        written
    });
    let request =
        Request::put("/").header(HOST, "x").body(Upload::new(bytes, length));
    let result = sender.send_request(request.unwrap()).await;
    (server.await.unwrap(), result.map(drop).map_err(|error| report(&error)))
}

fn report(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", report(source)),
        None => error.to_string(),
    }
}

#[tokio::test]
async fn a_file_that_became_shorter_is_an_error_and_one_that_grew_is_cut() {
    let (_, result) = uploaded(b"tea", 4).await;
    let error = "error from user's Body stream: the file is shorter than it was";
    assert_eq!(result, Err(error.to_owned()));
    let (written, result) = uploaded(b"tea", 2).await;
    assert_eq!(result, Ok(()));
    assert!(written.ends_with(b"content-length: 2\r\n\r\nte"), "{written:?}");
}

// Expect: 100-continue.

#[test]
fn a_long_upload_asks_first_and_a_short_one_does_not() {
    let mebibytes = page("client/uploads").number("is longer than {} MiB");
    assert_eq!(ASK_ABOVE, mebibytes * 1024 * 1024);
    for (length, asks) in [(above() - 1, false), (above(), true)] {
        let server = Server::start();
        let (file, bytes) = file(length);
        let client = client(&server.url("/"), "put", &file);
        let mut conn = server.accept();
        let head = conn.head().unwrap();
        assert_eq!(head.contains("\r\nexpect: 100-continue\r\n"), asks, "{head}");
        conn.send("HTTP/1.1 100 Continue\r\n\r\n");
        assert!(conn.bytes(length).unwrap() == bytes, "the whole file comes");
        conn.send(CREATED);
        let printed = format!("{length} of {length} bytes\n201 Created\n{{}}");
        assert!(end(client).1.ends_with(&printed));
    }
}

#[test]
fn a_refusal_instead_of_100_costs_no_byte_of_the_body() {
    let server = Server::start();
    let (file, bytes) = file(above());
    let client = client(&server.url("/"), "put", &file);
    let mut conn = server.accept();
    conn.head().unwrap();
    conn.send(TOO_LARGE);
    let printed =
        format!("0 of {} bytes\n413 Payload Too Large: too large", bytes.len());
    assert_eq!(end(client), (1, printed));
    assert_eq!(conn.rest().unwrap(), "", "no byte of the body");
}

#[test]
fn nor_does_a_refusal_whose_body_takes_longer_than_the_wait() {
    let server = Server::start();
    let (file, bytes) = file(above());
    let client = client(&server.url("/"), "put", &file);
    let mut conn = server.accept();
    conn.head().unwrap();
    let (head, body) = TOO_LARGE.split_at(TOO_LARGE.len() - 5);
    conn.send(head);
    // Without the refusal, the upload would begin now.
    thread::sleep(CONSENT + Duration::from_millis(300));
    conn.send(body);
    let (status, printed) = end(client);
    // A line each second, and one at the end.
    let (progress, error) = printed.rsplit_once('\n').unwrap();
    assert_eq!((status, error), (1, "413 Payload Too Large: too large"));
    let nothing = format!("0 of {} bytes", bytes.len());
    assert!(progress.lines().all(|line| line == nothing), "{progress}");
    assert_eq!(conn.rest().unwrap(), "", "no byte of the body");
}

/// A connection in memory, over which a request that asks first is on its way; and the task that
/// reads its response, and then keeps what it asked with until it is told to drop it.
async fn asking() -> (DuplexStream, JoinHandle<StatusCode>, Arc<Notify>) {
    let (near, far) = duplex(1024);
    let (mut sender, conn) = http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(conn);
    let mut request = Request::put("/")
        .header(HOST, "x")
        .body(Upload::new(&b"tea"[..], 3))
        .unwrap();
    let asked = program::ask_first(&mut request);
    let end = Arc::new(Notify::new());
    let ends = end.clone();
    let response = tokio::spawn(async move {
        let response = sender.send_request(request).await.unwrap();
        asked.answered.store(true, Relaxed);
        ends.notified().await;
        let status = response.status();
        response.into_body().collect().await.expect("a whole response");
        drop(asked);
        status
    });
    (far, response, end)
}

#[tokio::test(start_paused = true)]
async fn after_a_refusal_the_body_does_not_come_later_either() {
    let (mut far, response, end) = asking().await;
    arrived(&mut far).await;
    let (head, body) = TOO_LARGE.split_at(TOO_LARGE.len() - 5);
    far.write_all(head.as_bytes()).await.unwrap();
    sleep(10 * CONSENT).await;
    assert_eq!(arrived(&mut far).await, "", "no byte of the body");
    end.notify_one();
    sleep(10 * CONSENT).await;
    far.write_all(body.as_bytes()).await.unwrap();
    assert_eq!(timeout(LIMIT, response).await.unwrap().unwrap(), 413);
    let mut rest = Vec::new();
    let end = timeout(LIMIT, far.read_to_end(&mut rest)).await;
    end.expect("the connection is closed").unwrap();
    assert!(rest.is_empty(), "{rest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_holds_itself_back_and_does_not_know_of_the_refusal_comes_later()
{
    page("client/uploads").says("hyper would still send the body");
    let (near, mut far) = duplex(1024);
    let (mut sender, conn) = http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(conn);
    let mut request = Request::put("/").header(HOST, "x");
    request = request.header(EXPECT, "100-continue");
    let later = futures_util::stream::once(async {
        sleep(CONSENT).await;
        Ok::<_, io::Error>(Frame::data(Bytes::from("tea")))
    });
    let request = request.body(StreamBody::new(Box::pin(later))).unwrap();
    let response = tokio::spawn(async move {
        let response = sender.send_request(request).await.unwrap();
        response.into_body().collect().await.unwrap();
        sender
    });
    arrived(&mut far).await;
    far.write_all(TOO_LARGE.as_bytes()).await.unwrap();
    let _sender = response.await.unwrap();
    assert_eq!(arrived(&mut far).await, "");
    sleep(CONSENT).await;
    assert!(arrived(&mut far).await.contains("tea"));
}

/// What has arrived.
async fn arrived(far: &mut DuplexStream) -> String {
    let mut bytes = [0; 1024];
    // Everything else that can run now runs first; the clock moves by a millisecond.
    sleep(Duration::from_millis(1)).await;
    tokio::select! {
        biased;
        read = far.read(&mut bytes) => String::from_utf8_lossy(&bytes[..read.unwrap()]).into(),
        () = std::future::ready(()) => String::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn the_body_waits_for_100_continue() {
    let (mut far, ..) = asking().await;
    let head = arrived(&mut far).await;
    assert!(head.ends_with("\r\n\r\n"), "the head alone: {head}");
    far.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n").await.unwrap();
    assert_eq!(arrived(&mut far).await, "", "another hint is no consent");
    sleep(CONSENT / 2).await;
    assert_eq!(arrived(&mut far).await, "", "no byte before the consent");
    far.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
    assert_eq!(arrived(&mut far).await, "tea");
}

#[tokio::test(start_paused = true)]
async fn the_body_does_not_wait_for_ever() {
    page("client/uploads").says("or until a second is over");
    assert_eq!(CONSENT.as_secs(), 1);
    let start = Instant::now();
    let (mut far, ..) = asking().await;
    arrived(&mut far).await;
    sleep(CONSENT - start.elapsed() - Duration::from_millis(2)).await;
    assert_eq!(arrived(&mut far).await, "");
    sleep(Duration::from_millis(2)).await;
    assert_eq!(arrived(&mut far).await, "tea");
}

#[tokio::test(start_paused = true)]
async fn hyper_alone_sends_the_body_with_the_head() {
    let (near, mut far) = duplex(1024);
    let (mut sender, conn) = http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(conn);
    let request = Request::put("/").header(HOST, "x").header(EXPECT, "100-continue");
    let request = request.body(Full::<Bytes>::from("tea")).unwrap();
    tokio::spawn(async move { sender.send_request(request).await.map(drop) });
    let all = arrived(&mut far).await;
    assert!(all.contains("\r\nexpect: 100-continue\r\n"), "{all}");
    assert!(all.ends_with("\r\n\r\ntea"), "{all}");
}

// A server that answers before it has the whole body.

/// Starts an upload that needs several writes, and reads its head and some of its body.
fn begun(server: &Server) -> (Program, Connection, usize, NamedTempFile) {
    let (file, bytes) = file(8 * 1024 * 1024);
    let client = client(&server.url("/"), "put", &file);
    let mut conn = server.accept();
    conn.head().unwrap();
    conn.send("HTTP/1.1 100 Continue\r\n\r\n");
    conn.bytes(1000).unwrap();
    (client, conn, bytes.len(), file)
}

#[test]
fn a_response_in_the_middle_of_the_upload_is_read_at_once() {
    let server = Server::start();
    let (client, mut conn, _, _file) = begun(&server);
    conn.send(TOO_LARGE);
    // The server reads nothing more, and keeps the connection open.
    let (status, printed) = end(client);
    assert_eq!(status, 1);
    assert!(printed.ends_with("413 Payload Too Large: too large"), "{printed}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_response_is_read_although_the_server_closes_with_unread_bytes() {
    page("client/uploads").says("On Linux");
    for _ in 0..5 {
        let server = Server::start();
        let (client, mut conn, _, _file) = begun(&server);
        conn.send(TOO_LARGE);
        drop(conn);
        let (status, printed) = end(client);
        assert_eq!(status, 1);
        assert!(printed.ends_with("413 Payload Too Large: too large"), "{printed}");
    }
}

#[test]
fn an_upload_ends_when_the_server_is_gone() {
    let server = Server::start();
    let (client, conn, _, _file) = begun(&server);
    drop(conn);
    let (status, printed) = end(client);
    assert_eq!(status, 1);
    let last = printed.lines().last().unwrap();
    let ends = [
        "client error (SendRequest): connection closed before message completed",
        "client error (SendRequest): connection error: Connection reset by peer (os error 104)",
    ];
    assert!(ends.contains(&last), "{printed}");
}

/// A stream whose writes fail after the first, when a response has already arrived.
#[derive(Debug)]
struct Closed {
    writes: usize,
    kind: io::ErrorKind,
    answer: Option<&'static str>,
    reader: Option<Waker>,
}

impl AsyncWrite for Closed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes += 1;
        if self.writes == 1 {
            return Poll::Ready(Ok(bytes.len().min(64 * 1024)));
        }
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Poll::Ready(Err(self.kind.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Closed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.writes < 2 {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        buffer.put_slice(self.answer.take().unwrap_or_default().as_bytes());
        Poll::Ready(Ok(()))
    }
}

fn closed(kind: io::ErrorKind, answer: Option<&'static str>) -> TokioIo<Closed> {
    TokioIo::new(Closed { writes: 0, kind, answer, reader: None })
}

/// What comes of an upload over this stream.
async fn over<T>(io: T) -> Result<String, String>
where
    T: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let (mut sender, conn) = http1::handshake(io).await.unwrap();
    tokio::spawn(conn);
    let body = Full::<Bytes>::from(vec![b'.'; 4 * 1024 * 1024]);
    let request = Request::put("/").header(HOST, "x").body(body).unwrap();
    let response = sender.send_request(request).await;
    let response = response.map_err(|error| report(&error))?;
    let status = response.status();
    let body =
        response.into_body().collect().await.map_err(|error| report(&error))?;
    Ok(format!("{status}: {}", String::from_utf8_lossy(&body.to_bytes())))
}

#[tokio::test]
async fn hyper_alone_does_not_read_on_after_a_failed_write() {
    use io::ErrorKind::{BrokenPipe, ConnectionReset};
    for kind in [BrokenPipe, ConnectionReset] {
        let lost = over(closed(kind, Some(TOO_LARGE))).await.unwrap_err();
        assert!(lost.starts_with("error writing a body to connection: "), "{lost}");
        let read = over(ReadsOn(closed(kind, Some(TOO_LARGE)))).await;
        assert_eq!(read.as_deref(), Ok("413 Payload Too Large: too large\n"));
        let none = over(ReadsOn(closed(kind, None))).await.unwrap_err();
        assert_eq!(none, "connection closed before message completed");
    }
    let other = over(ReadsOn(closed(io::ErrorKind::TimedOut, Some(TOO_LARGE)))).await;
    assert!(other.is_err(), "other errors stay errors");
}

/// Whether a connection is ready again whose server answered in the middle of this body, and then
/// read the rest.
async fn ready_after_an_early_response<B>(body: B, length: usize) -> bool
where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let (near, mut far) = duplex(64 * 1024);
    let (mut sender, conn) = http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(conn);
    let request = Request::put("/").header(HOST, "x").body(body).unwrap();
    let upload = tokio::spawn(async move {
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 413);
        response.into_body().collect().await.unwrap();
        sender
    });
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(far.read_u8().await.unwrap());
    }
    far.write_all(TOO_LARGE.as_bytes()).await.unwrap();
    let response = timeout(LIMIT, upload).await;
    let mut sender = response.expect("the response comes at once").unwrap();
    assert!(!sender.is_ready(), "the upload is under way");
    let mut bytes = vec![0; length];
    let whole = timeout(LIMIT, far.read_exact(&mut bytes)).await;
    whole.expect("the whole body comes").unwrap();
    timeout(LIMIT, sender.ready()).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn after_an_early_response_the_upload_goes_on_to_its_end() {
    let bytes = vec![b'.'; 1024 * 1024];
    let upload = Upload::new(io::Cursor::new(bytes.clone()), bytes.len() as u64);
    assert!(
        ready_after_an_early_response(upload, bytes.len()).await,
        "it is ready again"
    );
    let full = Full::<Bytes>::from(bytes.clone());
    assert!(
        !ready_after_an_early_response(full, bytes.len()).await,
        "not after a `Full`"
    );
}

// Progress, and time.

#[tokio::test]
async fn what_hyper_has_taken_has_not_arrived() {
    let server = Server::start(); // accepts nothing, so the kernel keeps what it gets
    let upload = Upload::new(&[b'.'; 10_000][..], 10_000);
    let taken = upload.taken.clone();
    let stream = TcpStream::connect(server.address).unwrap();
    stream.set_nonblocking(true).unwrap();
    let stream = tokio::net::TcpStream::from_std(stream).unwrap();
    let (mut sender, conn) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(conn);
    let request = Request::put("/").header(HOST, "x").body(upload).unwrap();
    tokio::spawn(async move { sender.send_request(request).await.map(drop) });
    let deadline = Instant::now() + LIMIT;
    while taken.load(Relaxed) < 10_000 {
        assert!(Instant::now() < deadline, "hyper takes the whole body");
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_grows_with_the_file() {
    let [base, rate] = page("client/uploads")
        .numbers("{} seconds, and as long as the file takes at {} bytes per second");
    let server = Server::start();
    let (file, _) = file(3 * rate as usize);
    let start = Instant::now();
    let arguments =
        [server.url("/"), "put".into(), file.path().to_str().unwrap().into()];
    let error = program::run(&arguments).await.unwrap_err();
    assert_eq!(error.to_string(), "the upload took too long");
    assert_eq!(start.elapsed().as_secs(), base + 3);
}

#[cfg(target_os = "linux")]
#[tokio::test(start_paused = true)]
async fn the_limit_covers_the_connect() {
    let [seconds, _] = page("client/uploads")
        .numbers("{} seconds, and as long as the file takes at {} bytes per second");
    let (url, _full) = nobody_accepts();
    let start = Instant::now();
    let (file, _) = file(0);
    let arguments = [url, "put".into(), file.path().to_str().unwrap().into()];
    let error = program::run(&arguments).await.unwrap_err();
    assert_eq!(error.to_string(), "the upload took too long");
    assert_eq!(start.elapsed().as_secs(), seconds);
}

#[test]
fn a_port_that_is_too_large_is_refused() {
    let (status, lines) =
        Program::client("uploads", &["http://127.0.0.1:99999/", "put", "LICENSE"])
            .wait();
    assert_eq!(lines, ["the port is not a number up to 65535"]);
    assert_eq!(status.code(), Some(1));
}

// A server that others wrote.

#[test]
#[ignore = "needs nginx"]
fn others_nginx() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let nginx = Program::nginx(
        path,
        "server {
             listen 127.0.0.1:PORT; root .; client_max_body_size 4m;
             location / { dav_methods PUT; }
         }",
    );
    let url = format!("http://{}/photo", nginx.address);
    for length in [100_000, 2 * 1024 * 1024] {
        let (file, bytes) = file(length);
        let (status, printed) = end(client(&url, "put", &file));
        assert_eq!(status, 0, "{printed}");
        assert!(fs::read(path.join("photo")).unwrap() == bytes, "nginx has the file");
    }
    let (file, _) = file(5 * 1024 * 1024);
    let (status, printed) = end(client(&url, "put", &file));
    assert_eq!(status, 1);
    assert!(printed.contains("413 Request Entity Too Large"), "{printed}");
    assert!(printed.starts_with("0 of "), "no byte of the body: {printed}");
}
