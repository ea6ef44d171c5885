//! What src/server/files.md promises.

use std::convert::Infallible;
use std::error::Error;
use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http_body_util::{Full, StreamBody};
use httpdate::{fmt_http_date, parse_http_date};
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_LENGTH;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

use harness::{Answer, Connection, Program, memory, page, wait};

use crate::server::hello_world::survives_running_out_of_descriptors;

/// The program, and the folder that it serves.
struct Files {
    program: Program,
    folder: TempDir,
}

/// Starts the program for this folder.
fn serve(folder: impl AsRef<OsStr>) -> Program {
    // `Program` puts the address last. `exec` keeps the number of the process.
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$2\" \"$1\""]);
    command.arg(harness::cargo::program("files")).arg(folder);
    Program::listen(command)
}

impl Files {
    fn start(files: &[(&str, &[u8])]) -> Files {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        Files { program: serve(folder.path()), folder }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// The answer to a request with these headers.
    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut connection = self.program.connect();
        ask(&mut connection, method, path, headers)
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[])
    }

    /// A file of so many zeros, which take no place.
    fn sparse(&self, name: &str, size: u64) -> File {
        let file = File::create(self.path(name)).unwrap();
        file.set_len(size).unwrap();
        file
    }

    /// The start of an answer: the length that it announces.
    fn begin(&self, path: &str) -> (Connection, u64) {
        let mut connection = self.program.connect();
        connection.get(path);
        let head = connection.head().unwrap();
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: "));
        (connection, length.unwrap().parse().unwrap())
    }
}

fn ask(
    connection: &mut Connection,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Answer {
    let headers: String =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    connection.send(format!("{method} {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n"));
    let head = connection.head().unwrap();
    let mut body = Vec::new();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    if method != "HEAD"
        && let Some(length) = length
    {
        body = connection.bytes(length.parse().unwrap()).unwrap();
    }
    Answer { head, body }
}

/// The status of an answer, as a number.
fn status(answer: &Answer) -> &str {
    &answer.status()["HTTP/1.1 ".len()..][..3]
}

/// Bytes that differ from their neighbours, and from those a piece away.
fn bytes(size: usize) -> Vec<u8> {
    (0..size as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

const TEXT: &[u8] = b"0123456789";

#[test]
fn a_file_arrives_byte_by_byte() {
    let files = Files::start(&[]);
    let mut connection = files.program.connect();
    let piece = 128 * 1024;
    for size in [0, 1, 1_000, piece - 1, piece, piece + 1, 3 * piece, 1_000_001] {
        fs::write(files.path("file"), bytes(size)).unwrap();
        let answer = ask(&mut connection, "GET", "/file", &[]);
        assert_eq!(status(&answer), "200");
        assert_eq!(answer.header("content-length"), Some(&*size.to_string()));
        assert!(
            answer.body == bytes(size),
            "{size} bytes, and others than in the file"
        );
    }
}

#[test]
fn names_are_decoded_and_have_types() {
    let files = Files::start(&[("Grüße 1.html", TEXT), ("a%2fb", TEXT), ("x", TEXT)]);
    fs::create_dir(files.path("sub")).unwrap();
    fs::write(files.path("sub/style.css"), TEXT).unwrap();
    for (path, media_type) in [
        ("/Gr%C3%BC%c3%9fe%201.html", "text/html"),
        ("/a%252fb", "application/octet-stream"),
        ("/x?version=2", "application/octet-stream"),
        ("/sub/style.css", "text/css"),
    ] {
        let answer = files.get(path);
        assert_eq!(answer.body, TEXT, "{path}");
        assert_eq!(answer.header("content-type"), Some(media_type), "{path}");
    }
}

#[test]
fn ranges() {
    let files = Files::start(&[("ten", TEXT), ("empty", b"")]);
    for (range, part, content_range) in [
        ("bytes=2-4", "234", "bytes 2-4/10"),
        ("bytes=0-0", "0", "bytes 0-0/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=7-100", "789", "bytes 7-9/10"),
        ("bytes=7-99999999999999999999999", "789", "bytes 7-9/10"),
        ("bytes=-3", "789", "bytes 7-9/10"),
        ("bytes=-100", "0123456789", "bytes 0-9/10"),
        ("Bytes=0-9", "0123456789", "bytes 0-9/10"),
    ] {
        let answer = files.ask("GET", "/ten", &[("range", range)]);
        assert_eq!(status(&answer), "206", "{range}");
        assert_eq!(answer.text(), part, "{range}");
        assert_eq!(answer.header("content-range"), Some(content_range), "{range}");
    }
    for (file, range, content_range) in [
        ("/ten", "bytes=10-", "bytes */10"),
        ("/ten", "bytes=10-20", "bytes */10"),
        ("/ten", "bytes=99999999999999999999999-", "bytes */10"),
        ("/ten", "bytes=-0", "bytes */10"),
        ("/empty", "bytes=0-", "bytes */0"),
        ("/empty", "bytes=-5", "bytes */0"),
    ] {
        let answer = files.ask("GET", file, &[("range", range)]);
        assert_eq!(status(&answer), "416", "{range}");
        assert_eq!(answer.header("content-range"), Some(content_range), "{range}");
        assert_eq!(answer.text(), "", "{range}");
    }
    // These are no range of bytes, or several.
    for range in [
        "bytes=4-2",
        "bytes=-",
        "bytes=",
        "bytes",
        "bytes=a-b",
        "bytes=+1-2",
        "bytes=1--2",
        "lines=1-2",
        "bytes=0-1,4-5",
        "bytes=0-1, 4-5",
        "",
        "\u{e9}",
    ] {
        let answer = files.ask("GET", "/ten", &[("range", range)]);
        assert_eq!(status(&answer), "200", "{range}");
        assert_eq!(answer.body, TEXT, "{range}");
        assert_eq!(answer.header("accept-ranges"), Some("bytes"), "{range}");
    }
    let twice = [("range", "bytes=0-1"), ("range", "bytes=4-5")];
    assert_eq!(files.ask("GET", "/ten", &twice).body, TEXT);
}

#[test]
fn a_range_in_the_middle_of_a_large_file() {
    let files = Files::start(&[("large", &bytes(1_000_000))]);
    let answer = files.ask("GET", "/large", &[("range", "bytes=300001-900001")]);
    assert!(answer.body == bytes(1_000_000)[300_001..=900_001]);
}

#[test]
fn conditions() {
    let files = Files::start(&[("ten", TEXT)]);
    let then = SystemTime::now() - Duration::from_secs(100);
    let file = File::options().write(true).open(files.path("ten")).unwrap();
    file.set_times(FileTimes::new().set_modified(then)).unwrap();
    let first = files.get("/ten");
    let etag = first.header("etag").unwrap();
    let date = first.header("last-modified").unwrap();
    assert_eq!(date, fmt_http_date(then));
    let before = &*fmt_http_date(then - Duration::from_secs(1));
    let after = &*fmt_http_date(then + Duration::from_secs(1));
    let weak = &*format!("W/{etag}");
    let list = &*format!("\"a\", {weak} , \"b\"");
    let strong_list = &*format!("\"a\",{etag}");
    let other = "\"other\"";

    for (headers, expected) in [
        (vec![("if-none-match", etag)], "304"),
        (vec![("if-none-match", weak)], "304"),
        (vec![("if-none-match", list)], "304"),
        (vec![("if-none-match", other), ("if-none-match", etag)], "304"),
        (vec![("if-none-match", "*")], "304"),
        (vec![("if-none-match", other)], "200"),
        (vec![("if-modified-since", date)], "304"),
        (vec![("if-modified-since", after)], "304"),
        (vec![("if-modified-since", before)], "200"),
        (vec![("if-modified-since", "yesterday")], "200"),
        // The tag decides, not the date.
        (vec![("if-none-match", other), ("if-modified-since", date)], "200"),
        (vec![("if-match", etag)], "200"),
        (vec![("if-match", strong_list)], "200"),
        (vec![("if-match", "*")], "200"),
        (vec![("if-match", other)], "412"),
        // A weak tag does not promise the same bytes.
        (vec![("if-match", weak)], "412"),
        (vec![("if-unmodified-since", date)], "200"),
        (vec![("if-unmodified-since", after)], "200"),
        (vec![("if-unmodified-since", before)], "412"),
        (vec![("if-unmodified-since", "yesterday")], "200"),
        (vec![("if-match", etag), ("if-unmodified-since", before)], "200"),
        // If-Match is first, and a range last.
        (vec![("if-match", other), ("if-none-match", etag)], "412"),
        (vec![("if-none-match", etag), ("range", "bytes=0-1")], "304"),
        (vec![("if-match", etag), ("range", "bytes=0-1")], "206"),
        // Only the same tag is a reason for a part.
        (vec![("if-range", etag), ("range", "bytes=0-1")], "206"),
        (vec![("if-range", other), ("range", "bytes=0-1")], "200"),
        (vec![("if-range", weak), ("range", "bytes=0-1")], "200"),
        (vec![("if-range", date), ("range", "bytes=0-1")], "200"),
        (vec![("if-range", other), ("range", "bytes=10-")], "200"),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = files.ask(method, "/ten", &headers);
            // A range is for GET alone.
            let part = expected == "206" && method == "HEAD";
            let expected = if part { "200" } else { expected };
            assert_eq!(status(&answer), expected, "{method} {headers:?}");
            assert_eq!(answer.header("etag"), Some(etag), "{method} {headers:?}");
            let whole = if expected == "200" { TEXT } else { b"" };
            if method == "GET" && expected != "206" {
                assert_eq!(answer.body, whole, "{headers:?}");
            }
        }
    }
}

#[test]
fn head_is_get_without_the_body() {
    let files =
        Files::start(&[("ten", TEXT), ("empty", b""), ("large", &bytes(500_000))]);
    for path in ["/ten", "/empty", "/large", "/nothing"] {
        let date = |answer: Answer| {
            let lines =
                answer.head.lines().filter(|line| !line.starts_with("date: "));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let (head, get) = (files.ask("HEAD", path, &[]), files.get(path));
        assert_eq!(date(head), date(get), "{path}");
    }
    // The connection is in order after it.
    let mut connection = files.program.connect();
    ask(&mut connection, "HEAD", "/large", &[]);
    assert_eq!(ask(&mut connection, "GET", "/ten", &[]).body, TEXT);
}

#[test]
fn other_methods_get_405() {
    let files = Files::start(&[("ten", TEXT)]);
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = files.ask(method, "/ten", &[("content-length", "0")]);
        assert_eq!(status(&answer), "405");
        assert_eq!(answer.header("allow"), Some("GET, HEAD"));
    }
    assert_eq!(fs::read(files.path("ten")).unwrap(), TEXT);
}

#[test]
fn what_is_outside_stays_outside() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let root = outside.path().join("root");
    fs::create_dir_all(root.join("sub")).unwrap();
    for name in ["ten", "sub/ten", ".hidden", "a\\b"] {
        fs::write(root.join(name), TEXT).unwrap();
    }
    symlink("sub/ten", root.join("inside")).unwrap();
    symlink("../secret", root.join("relative")).unwrap();
    symlink(outside.path().join("secret"), root.join("absolute")).unwrap();
    symlink(root.join("ten"), root.join("absolute-inside")).unwrap();
    symlink("..", root.join("up")).unwrap();
    symlink("/proc/self/root", root.join("magic")).unwrap();
    let program = serve(&root);
    let get = |path: &str| ask(&mut program.connect(), "GET", path, &[]);
    for path in ["/ten", "/sub/ten", "/inside"] {
        assert_eq!(get(path).body, TEXT, "{path}");
    }
    for path in [
        "/../secret",
        "/sub/../../secret",
        "/%2e%2e/secret",
        "/%2E./secret",
        "/..%2fsecret",
        "/%2e%2e%2fsecret",
        "/..%5csecret",
        "/..\\secret",
        "/sub/../ten",
        "/./ten",
        "//ten",
        "/sub//ten",
        "/ten/",
        "/sub%2ften",
        "/a%5cb",
        "/a\\b",
        "/ten%00",
        "/ten%00.html",
        "/%00",
        "/.hidden",
        "/%2ehidden",
        "/%ff",
        "/ten/x",
        "/relative",
        "/absolute",
        "/absolute-inside",
        "/up/secret",
        "/magic/etc/hostname",
        "/",
        "",
        "/nothing",
    ] {
        let answer = get(if path.is_empty() { "http://x" } else { path });
        assert_eq!(
            answer.head.lines().next(),
            Some("HTTP/1.1 404 Not Found"),
            "{path}"
        );
        assert_eq!(answer.text(), "404 Not Found\n", "{path}");
    }
    let long = format!("/{}", "x".repeat(300));
    assert_eq!(status(&get(&long)), "404");
}

/// A folder on the path becomes a symlink that leads outside, again and again, at any moment of a request.
#[test]
fn a_symlink_that_appears_meanwhile_leads_nowhere() {
    let outside = tempfile::tempdir().unwrap();
    let root = outside.path().join("root");
    fs::create_dir_all(root.join("inside")).unwrap();
    fs::write(outside.path().join("file"), "secret").unwrap();
    fs::write(root.join("inside/file"), "public").unwrap();
    symlink("inside", root.join("door")).unwrap();
    let program = serve(&root);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Relaxed) {
                for target in ["..", "inside"] {
                    symlink(target, root.join("next")).unwrap();
                    fs::rename(root.join("next"), root.join("door")).unwrap();
                }
            }
        });
        let mut connection = program.connect();
        let (mut inside, mut outside) = (0, 0);
        wait("both states of the door", || {
            let answer = ask(&mut connection, "GET", "/door/file", &[]);
            match status(&answer) {
                "200" => inside += 1,
                _ => outside += 1,
            }
            let leaked = answer.text() == "secret";
            over.fetch_or(leaked, Relaxed);
            assert!(!leaked, "the server has sent a file from outside");
            inside >= 50 && outside >= 50
        });
        over.store(true, Relaxed);
    });
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let files = Files::start(&[]);
    fs::create_dir(files.path("folder")).unwrap();
    let made = Command::new("mkfifo").arg(files.path("fifo")).status().unwrap();
    assert!(made.success());
    for path in ["/folder", "/fifo"] {
        assert_eq!(status(&files.get(path)), "404", "{path}");
    }
    let _socket = UnixListener::bind(files.path("socket")).unwrap();
    assert_eq!(status(&files.get("/socket")), "500");
    assert_eq!(
        files.program.line(),
        "request failed: \"socket\": No such device or address (os error 6)"
    );
    let devices = serve("/dev");
    for path in ["/null", "/zero", "/random"] {
        let answer = ask(&mut devices.connect(), "GET", path, &[]);
        assert_eq!(status(&answer), "404", "{path}");
    }
}

#[test]
fn a_large_file_takes_little_memory() {
    let prose = page("server/files");
    let [size, most] = prose.numbers(
        "While a client downloads {} GB, the server grows by less than {} MB",
    );
    let files = Files::start(&[("small", TEXT)]);
    let size = size * 1_000_000_000;
    files.sparse("large", size);
    files.get("/small");
    let used = || memory(files.program.id()).expect("Linux tells the memory");
    let before = used();
    // This client does not read on, so the server must not read ahead for it.
    let _stalled = files.begin("/large");
    let (mut connection, length) = files.begin("/large");
    assert_eq!(length, size);
    let (mut left, mut looked) = (length, length);
    while left > 0 {
        let count = left.min(1_000_000);
        connection.bytes(count as usize).unwrap();
        left -= count;
        if looked - left >= 100_000_000 || left == 0 {
            looked = left;
            let grown = used().saturating_sub(before);
            assert!(grown < most * 1_000, "{grown} kB more, and {left} bytes to go");
        }
    }
}

#[test]
fn a_file_that_shrinks_breaks_its_response_off() {
    let files = Files::start(&[]);
    let size = 256 * 1024 * 1024;
    let file = files.sparse("large", size);
    let (mut connection, length) = files.begin("/large");
    assert_eq!(length, size);
    file.set_len(1_000).unwrap();
    let rest = connection.rest().unwrap();
    assert!((rest.len() as u64) < size);
    assert_eq!(
        files.program.line(),
        "connection failed: error from user's Body stream: the file has become shorter"
    );
    assert_eq!(files.get("/large").body.len(), 1_000, "the server goes on");
}

#[test]
fn of_a_file_that_grows_the_first_length_is_sent() {
    let files = Files::start(&[]);
    let size = 32 * 1024 * 1024;
    let mut file = files.sparse("large", size);
    let (mut connection, length) = files.begin("/large");
    assert_eq!(length, size);
    file.set_len(size + 1_000_000).unwrap();
    file.write_all(b"start").unwrap();
    connection.bytes(size as usize).unwrap();
    // What follows on the connection is the next response.
    let next = ask(&mut connection, "HEAD", "/large", &[]);
    assert_eq!(next.header("content-length"), Some(&*(size + 1_000_000).to_string()));
}

#[test]
fn a_file_that_is_replaced_is_sent_as_it_was() {
    let old = bytes(32 * 1024 * 1024);
    let files = Files::start(&[("file", &old), ("new", TEXT)]);
    let (mut connection, length) = files.begin("/file");
    fs::rename(files.path("new"), files.path("file")).unwrap();
    assert!(connection.bytes(length as usize).unwrap() == old);
    assert_eq!(ask(&mut connection, "GET", "/file", &[]).body, TEXT);
}

#[test]
fn the_tag_does_not_see_everything() {
    let files = Files::start(&[("file", b"one")]);
    let times = |then| {
        let file = File::options().write(true).open(files.path("file")).unwrap();
        file.set_times(FileTimes::new().set_modified(then)).unwrap();
    };
    let then = SystemTime::now() - Duration::from_secs(60);
    times(then);
    let tag = files.get("/file").header("etag").unwrap().to_owned();
    let again =
        || status(&files.ask("GET", "/file", &[("if-none-match", &tag)])).to_owned();
    fs::write(files.path("file"), "three").unwrap();
    times(then);
    assert_eq!(again(), "200", "another size");
    fs::write(files.path("file"), "two").unwrap();
    assert_eq!(again(), "200", "another time");
    times(then + Duration::from_nanos(1));
    assert_eq!(again(), "200", "a nanosecond later");
    times(then);
    assert_eq!(again(), "304", "the same size and time, and other bytes");
}

#[test]
fn dates_that_http_does_not_know() {
    let files = Files::start(&[("file", TEXT)]);
    let file = File::options().write(true).open(files.path("file")).unwrap();
    let year = Duration::from_secs(365 * 24 * 3600);
    for then in [UNIX_EPOCH - 10 * year, SystemTime::now() + 100 * year] {
        file.set_times(FileTimes::new().set_modified(then)).unwrap();
        let answer = files.get("/file");
        assert_eq!(answer.body, TEXT);
        let date = |name| parse_http_date(answer.header(name).unwrap()).unwrap();
        assert!(date("last-modified") <= date("date"), "{}", answer.head);
    }
}

#[test]
fn a_client_that_leaves_is_no_trouble() {
    let files = Files::start(&[("ten", TEXT)]);
    files.sparse("large", 1_000_000_000);
    for _ in 0..20 {
        files.begin("/large");
    }
    assert_eq!(files.get("/ten").body, TEXT);
    wait("the close of the files", || {
        let open = fs::read_dir(format!("/proc/{}/fd", files.program.id())).unwrap();
        open.flatten().all(|entry| {
            fs::read_link(entry.path()).is_ok_and(|path| !path.ends_with("large"))
        })
    });
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    let output = Command::new(harness::cargo::program("files"))
        .args(["127.0.0.1:0", "/nowhere"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let printed = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        printed,
        "Error: \"/nowhere: No such file or directory (os error 2)\"\n"
    );
}

#[test]
fn running_out_of_descriptors_is_survived() {
    survives_running_out_of_descriptors("files");
}

/// How a connection ends whose response announces six bytes, and has this body.
async fn six_bytes<B>(body: fn() -> B) -> Result<(), Box<dyn Error + Send + Sync>>
where
    B: hyper::body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let (mut client, server) = tokio::io::duplex(1024);
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await?;
    let service = service_fn(move |_: Request<Incoming>| async move {
        let response = Response::builder().header(CONTENT_LENGTH, 6).body(body());
        Ok::<_, Infallible>(response.unwrap())
    });
    let io = TokioIo::new(server);
    let conn = http1::Builder::new().serve_connection(io, service);
    Ok(tokio::spawn(conn).await??)
}

#[tokio::test]
async fn a_length_must_be_that_of_the_body() {
    let unknown = || {
        let frame = hyper::body::Frame::data(Bytes::from("hello"));
        StreamBody::new(futures_util::stream::iter([Ok::<_, Infallible>(frame)]))
    };
    let error = six_bytes(unknown).await.unwrap_err();
    assert_eq!(error.to_string(), "user body write aborted");
    assert_eq!(
        error.source().unwrap().to_string(),
        "early end, expected 1 more bytes"
    );
    let error = six_bytes(|| Full::new(Bytes::from("hello"))).await.unwrap_err();
    let panic = error.downcast::<tokio::task::JoinError>().unwrap();
    assert!(panic.to_string().contains(
        "payload claims content-length of 5, custom content-length header claims 6"
    ));
    six_bytes(|| Full::new(Bytes::from("hello!"))).await.unwrap();
}
