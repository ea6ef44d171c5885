//! What proxies make of requests with two meanings.
//!
//! Each is sent to a proxy, byte by byte as it stands here, and a raw backend behind it records the bytes that
//! it gets. The tests of the page *Proxy Headers* send them to its program, the benchmark also to nginx.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Nothing takes longer, unless it is broken.
const LIMIT: Duration = Duration::from_secs(20);

/// A backend that answers each request that it can read with `ok`.
#[derive(Clone)]
pub struct Backend {
    pub address: SocketAddr,
    connections: Arc<Mutex<Vec<Record>>>,
}

/// The bytes of a connection, and whether it has ended.
#[derive(Clone, Default)]
struct Record {
    bytes: Vec<u8>,
    ended: bool,
}

impl Backend {
    pub fn start() -> Backend {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let backend = Backend { address, connections: Arc::default() };
        let records = backend.connections.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, records) = (stream.unwrap(), records.clone());
                thread::spawn(move || record(stream, &records));
            }
        });
        backend
    }

    /// What came of each vector, once its proxy has ended: its status, and what was passed on.
    pub fn outcomes(&self, statuses: Vec<String>) -> Vec<String> {
        // Whoever connected before this has been accepted before it.
        drop(TcpStream::connect(self.address).unwrap());
        let start = Instant::now();
        let records = loop {
            let records = self.connections.lock().unwrap();
            let fence = records.last().is_some_and(|last| last.bytes.is_empty());
            if fence && records.iter().all(|record| record.ended) {
                break records;
            }
            assert!(start.elapsed() < LIMIT, "the proxy has not ended");
            drop(records);
            thread::sleep(Duration::from_millis(1));
        };
        let mut passed: Vec<Vec<String>> = vec![Vec::new(); statuses.len()];
        for record in records.iter() {
            requests(&record.bytes, &mut passed);
        }
        let outcome = |(status, passed): (String, Vec<String>)| match &passed[..] {
            [] => status,
            _ => format!("{status}, passed with {}", passed.join(" and ")),
        };
        statuses.into_iter().zip(passed).map(outcome).collect()
    }
}

/// What a strict reader makes of the requests of a connection, for the vector that each belongs to.
fn requests(mut bytes: &[u8], passed: &mut [Vec<String>]) {
    let mut vector = None;
    while !bytes.is_empty() {
        vector = tag(bytes).or(vector);
        let (what, length) = match read(bytes) {
            // That it was cut off, the backend notices.
            Parsed::Partial => return,
            Parsed::Whole(_, length) if bytes.starts_with(b"GET /after ") => {
                (None, length)
            }
            Parsed::Whole(_, length) if bytes.starts_with(b"GET /smuggled") => {
                (Some("**smuggled**".to_owned()), length)
            }
            Parsed::Whole(framing, length) => (Some(framing), length),
            Parsed::Ambiguous(why) => {
                (Some(format!("**ambiguous: {why}**")), bytes.len())
            }
        };
        if let (Some(vector), Some(what)) = (vector, what) {
            passed[vector].push(what);
        }
        bytes = &bytes[length..];
    }
}

/// The number of the vector in the first line.
fn tag(bytes: &[u8]) -> Option<usize> {
    let line = bytes.split(|byte| *byte == b'\n').next()?;
    let at = find(line, b"/v")? + 2;
    let digits = line[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&line[at..at + digits]).ok()?.parse().ok()
}

fn record(mut stream: TcpStream, records: &Mutex<Vec<Record>>) {
    let index = {
        let mut records = records.lock().unwrap();
        records.push(Record::default());
        records.len() - 1
    };
    let mut unanswered = Vec::new();
    let mut buffer = [0; 64 * 1024];
    loop {
        let count = stream.read(&mut buffer).unwrap_or(0);
        let mut all = records.lock().unwrap();
        all[index].bytes.extend(&buffer[..count]);
        all[index].ended = count == 0;
        drop(all);
        if count == 0 {
            return;
        }
        unanswered.extend(&buffer[..count]);
        while let Parsed::Whole(_, length) = read(&unanswered)
            && length > 0
        {
            unanswered.drain(..length);
            let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(ok).ok();
        }
    }
}

/// What a strict reader makes of the bytes of a request.
enum Parsed {
    /// Its framing, and how long it is. Nothing is a whole one of length 0.
    Whole(String, usize),
    Partial,
    /// It can be read in two ways.
    Ambiguous(&'static str),
}

/// Reads the first request, as strictly as it can be read.
fn read(bytes: &[u8]) -> Parsed {
    if bytes.is_empty() {
        return Parsed::Whole("nothing".to_owned(), 0);
    }
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Parsed::Partial;
    };
    let Ok(head) = std::str::from_utf8(&bytes[..end]) else {
        return Parsed::Ambiguous("not text");
    };
    if head.replace("\r\n", "").contains(['\r', '\n', '\0']) {
        return Parsed::Ambiguous("a bare CR, LF or NUL");
    }
    let mut lines = head.split("\r\n");
    let first: Vec<_> = lines.next().unwrap_or_default().split(' ').collect();
    if first.len() != 3 || first[2] != "HTTP/1.1" && first[2] != "HTTP/1.0" {
        return Parsed::Ambiguous("the request line");
    }
    let (mut length, mut chunked, mut hosts) = (None, false, 0);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            return Parsed::Ambiguous("a line without a colon");
        };
        let token =
            |c: char| c.is_ascii_alphanumeric() || "-_.!#$%&'*+^`|~".contains(c);
        if name.is_empty() || !name.chars().all(token) {
            return Parsed::Ambiguous("a name that is none");
        }
        let value = value.trim();
        match &*name.to_ascii_lowercase() {
            "content-length" if length.is_some() => {
                return Parsed::Ambiguous("two lengths");
            }
            "content-length" => match value.parse::<usize>() {
                Ok(number) if number.to_string() == value => length = Some(number),
                _ => return Parsed::Ambiguous("a length that is no number"),
            },
            "transfer-encoding" if chunked || value != "chunked" => {
                return Parsed::Ambiguous("more than `chunked`");
            }
            "transfer-encoding" => chunked = true,
            "host" => hosts += 1,
            _ => {}
        }
    }
    if hosts > 1 {
        return Parsed::Ambiguous("two hosts");
    }
    let body = &bytes[end + 4..];
    match (length, chunked) {
        (Some(_), true) => Parsed::Ambiguous("a length and chunks"),
        (Some(length), false) if body.len() < length => Parsed::Partial,
        (Some(length), false) => {
            Parsed::Whole(format!("length {length}"), end + 4 + length)
        }
        (None, false) => Parsed::Whole("no body".to_owned(), end + 4),
        (None, true) => match read_chunks(body) {
            Ok(Some((data, length))) => {
                Parsed::Whole(format!("chunks of {data}"), end + 4 + length)
            }
            Ok(None) => Parsed::Partial,
            Err(why) => Parsed::Ambiguous(why),
        },
    }
}

/// How much data the chunks have, and how many bytes they take.
fn read_chunks(body: &[u8]) -> Result<Option<(usize, usize)>, &'static str> {
    let (mut at, mut data) = (0, 0);
    loop {
        let Some(line) = body[at..].windows(2).position(|two| two == b"\r\n") else {
            return Ok(None);
        };
        let digits = std::str::from_utf8(&body[at..at + line]).unwrap_or("?");
        if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err("a size of a chunk");
        }
        let size = usize::from_str_radix(digits, 16).map_err(|_| "a size")?;
        at += line + 2;
        if size == 0 {
            let end = body[at..].windows(2).position(|two| two == b"\r\n");
            return match end {
                Some(0) => Ok(Some((data, at + 2))),
                _ => Ok(body[at..]
                    .windows(4)
                    .position(|four| four == b"\r\n\r\n")
                    .map(|end| (data, at + end + 4))),
            };
        }
        if body.len() < at + size + 2 {
            return Ok(None);
        }
        if &body[at + size..at + size + 2] != b"\r\n" {
            return Err("the end of a chunk");
        }
        data += size;
        at += size + 2;
    }
}

/// Sends the vectors to a proxy, by HTTP/1 to the first address and by HTTP/2 to the second: the statuses.
pub fn send(proxy: SocketAddr, proxy2: SocketAddr) -> Vec<String> {
    let http1 = HTTP1.iter().enumerate();
    let http1 = http1.map(|(i, vector)| send_http1(proxy, &vector.bytes(i)));
    let http2 = HTTP2.iter().enumerate();
    let http2 = http2.map(|(i, vector)| send_http2(proxy2, vector, HTTP1.len() + i));
    http1.chain(http2).collect()
}

fn send_http1(proxy: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(proxy);
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while find(&answer, b"\r\n\r\n").is_none() {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => answer.extend(&buffer[..count]),
        }
    }
    let status = String::from_utf8_lossy(&answer);
    let status = status.split(' ').nth(1).unwrap_or("closed").to_owned();
    // Whatever it has taken for the beginning of another request, it forwards before this one.
    let after = b"GET /after HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    if stream.write_all(after).is_ok() {
        stream.read_to_end(&mut Vec::new()).ok();
    }
    status
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

fn send_http2(proxy: SocketAddr, vector: &Http2, number: usize) -> String {
    let mut block = Vec::new();
    for (name, value) in vector.headers {
        block.push(0);
        for text in [*name, &*value.replace("TAG", &format!("v{number}"))] {
            block.push(text.len().try_into().unwrap());
            block.extend(text.as_bytes());
        }
    }
    let end = u8::from(vector.body.is_none());
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    bytes.extend(frame(1, 4 | end, 1, &block));
    if let Some(body) = vector.body {
        bytes.extend(frame(0, 1, 1, body.as_bytes()));
    }
    let mut stream = connect(proxy);
    stream.write_all(&bytes).unwrap();
    loop {
        let mut header = [0; 9];
        if stream.read_exact(&mut header).is_err() {
            break "closed".to_owned();
        }
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        let mut payload = vec![0; length as usize];
        if stream.read_exact(&mut payload).is_err() {
            break "closed".to_owned();
        }
        let stream_id = u32::from_be_bytes(header[5..9].try_into().unwrap());
        match header[3] {
            // The status is the first header: an index of the static table, or a literal.
            1 if stream_id == 1 => break http2_status(&payload),
            3 if stream_id == 1 => break "reset".to_owned(),
            7 => break "closed".to_owned(),
            _ => {}
        }
    }
}

fn http2_status(block: &[u8]) -> String {
    // nginx begins with an update of the table's size.
    let block = if block[0] & 0xe0 == 0x20 { &block[1..] } else { block };
    let indexed = ["200", "204", "206", "304", "400", "404", "500"];
    match block[0] {
        byte @ 0x88..=0x8e => indexed[usize::from(byte - 0x88)].to_owned(),
        // A literal, with Huffman coding or without: three digits.
        _ if block[1] & 0x80 == 0 => {
            String::from_utf8_lossy(&block[2..5]).into_owned()
        }
        _ => huffman_digits(&block[2..2 + usize::from(block[1] & 0x7f)]),
    }
}

/// Digits in the Huffman code of HPACK: 0, 1 and 2 have five bits, the others six.
fn huffman_digits(bytes: &[u8]) -> String {
    let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
    let (mut at, mut digits) = (0, String::new());
    while digits.len() < 3 {
        let short = u32::from_str_radix(&bits[at..at + 5], 2).unwrap();
        if short < 3 {
            digits += &short.to_string();
            at += 5;
        } else {
            let long = u32::from_str_radix(&bits[at..at + 6], 2).unwrap();
            digits += &(long - 0x19 + 3).to_string();
            at += 6;
        }
    }
    digits
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// What the table calls a vector, its headers, and its body.
struct Http1 {
    what: &'static str,
    head: &'static str,
    body: &'static str,
}

impl Http1 {
    fn bytes(&self, number: usize) -> Vec<u8> {
        let Http1 { head, body, .. } = self;
        // One that has a line of its own is whole.
        let bytes = if head.starts_with("GET ") || head.starts_with("POST ") {
            format!("{head}{body}")
        } else {
            format!("POST /TAG HTTP/1.1\r\nhost: x\r\n{head}\r\n{body}")
        };
        bytes.replace("TAG", &format!("v{number}")).into_bytes()
    }
}

struct Http2 {
    what: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: Option<&'static str>,
}

/// In a body, it is a request for whoever believes that the body has ended before.
macro_rules! smuggled {
    ($before:literal) => {
        concat!($before, "GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n")
    };
}

#[rustfmt::skip]
const HTTP1: &[Http1] = &[
    Http1 { what: "`content-length`, then `transfer-encoding`", head: "content-length: 40\r\ntransfer-encoding: chunked\r\n", body: smuggled!("0\r\n\r\n") },
    Http1 { what: "`transfer-encoding`, then `content-length`", head: "transfer-encoding: chunked\r\ncontent-length: 40\r\n", body: smuggled!("0\r\n\r\n") },
    Http1 { what: "two lengths that differ", head: "content-length: 5\r\ncontent-length: 0\r\n", body: smuggled!("hello") },
    Http1 { what: "two lengths that are equal", head: "content-length: 5\r\ncontent-length: 5\r\n", body: "hello" },
    Http1 { what: "`content-length: 5, 5`", head: "content-length: 5, 5\r\n", body: "hello" },
    Http1 { what: "`content-length: +5`", head: "content-length: +5\r\n", body: "hello" },
    Http1 { what: "`content-length: 05`", head: "content-length: 05\r\n", body: "hello" },
    Http1 { what: "`content-length:` over 64 bits", head: "content-length: 18446744073709551621\r\n", body: "hello" },
    Http1 { what: "`transfer-encoding: gzip, chunked`", head: "transfer-encoding: gzip, chunked\r\n", body: "5\r\nhello\r\n0\r\n\r\n" },
    Http1 { what: "`transfer-encoding: chunked, chunked`", head: "transfer-encoding: chunked, chunked\r\n", body: "5\r\nhello\r\n0\r\n\r\n" },
    Http1 { what: "`transfer-encoding` twice", head: "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", body: "5\r\nhello\r\n0\r\n\r\n" },
    Http1 { what: "`transfer-encoding: chunked, identity`", head: "transfer-encoding: chunked, identity\r\n", body: "5\r\nhello\r\n0\r\n\r\n" },
    Http1 { what: "`transfer-encoding: xchunked`", head: "transfer-encoding: xchunked\r\n", body: "5\r\nhello\r\n0\r\n\r\n" },
    Http1 { what: "`transfer-encoding: \"chunked\"`", head: "transfer-encoding: \"chunked\"\r\n", body: "5\r\nhello\r\n0\r\n\r\n" },
    Http1 { what: "a vertical tab before `chunked`", head: "transfer-encoding: \x0bchunked\r\n", body: "5\r\nhello\r\n0\r\n\r\n" },
    Http1 { what: "`transfer-encoding : chunked`", head: "transfer-encoding : chunked\r\n", body: "5\r\nhello\r\n0\r\n\r\n" },
    Http1 { what: "`content-length : 5`", head: "content-length : 5\r\n", body: "hello" },
    Http1 { what: "`transfer-encoding: chunked` in HTTP/1.0", head: "POST /TAG HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n", body: "5\r\nhello\r\n0\r\n\r\n" },
    Http1 { what: "a folded line (obs-fold)", head: "x: a\r\n b: c\r\ncontent-length: 0\r\n", body: "" },
    Http1 { what: "`transfer-encoding:`, folded", head: "transfer-encoding:\r\n chunked\r\n", body: "5\r\nhello\r\n0\r\n\r\n" },
    Http1 { what: "a space before the first header", head: "POST /TAG HTTP/1.1\r\n content-length: 5\r\nhost: x\r\n\r\n", body: "hello" },
    Http1 { what: "lines that end in a bare LF", head: "POST /TAG HTTP/1.1\nhost: x\ncontent-length: 5\n\n", body: "hello" },
    Http1 { what: "a bare CR in a value", head: "x: a\rcontent-length: 5\r\ncontent-length: 0\r\n", body: "" },
    Http1 { what: "a NUL in a value", head: "x: a\0b\r\ncontent-length: 0\r\n", body: "" },
    Http1 { what: "a NUL in the target", head: "GET /TAG\0 HTTP/1.1\r\nhost: x\r\n\r\n", body: "" },
    Http1 { what: "a space in the target", head: "GET /TAG b HTTP/1.1\r\nhost: x\r\n\r\n", body: "" },
    Http1 { what: "a header without a name", head: ": a\r\ncontent-length: 0\r\n", body: "" },
    Http1 { what: "a line without a colon", head: "transfer-encoding\r\ncontent-length: 0\r\n", body: "" },
    Http1 { what: "chunk size `0x5`", head: "transfer-encoding: chunked\r\n", body: "0x5\r\nhello\r\n0\r\n\r\n" },
    Http1 { what: "chunk size `+5`", head: "transfer-encoding: chunked\r\n", body: "+5\r\nhello\r\n0\r\n\r\n" },
    Http1 { what: "chunk size of 65 bits", head: "transfer-encoding: chunked\r\n", body: "10000000000000005\r\nhello\r\n0\r\n\r\n" },
    Http1 { what: "chunk size `005`", head: "transfer-encoding: chunked\r\n", body: "005\r\nhello\r\n0\r\n\r\n" },
    Http1 { what: "a chunk extension", head: "transfer-encoding: chunked\r\n", body: "5;a=b\r\nhello\r\n0\r\n\r\n" },
    Http1 { what: "a bare LF in a chunk extension", head: "transfer-encoding: chunked\r\n", body: "5;a\nhello\r\n0\r\n\r\n" },
    Http1 { what: "a bare LF after a chunk size", head: "transfer-encoding: chunked\r\n", body: "5\nhello\r\n0\r\n\r\n" },
    Http1 { what: "no CRLF after a chunk", head: "transfer-encoding: chunked\r\n", body: "5\r\nhello0\r\n\r\n" },
    Http1 { what: "a trailer `content-length: 5`", head: "transfer-encoding: chunked\r\ntrailer: content-length\r\n", body: "5\r\nhello\r\n0\r\ncontent-length: 5\r\n\r\n" },
    Http1 { what: "`connection: content-length`", head: "connection: content-length\r\ncontent-length: 35\r\n", body: smuggled!("") },
    Http1 { what: "`connection: transfer-encoding`", head: "connection: transfer-encoding\r\ntransfer-encoding: chunked\r\n", body: "5\r\nhello\r\n0\r\n\r\n" },
    Http1 { what: "`connection: host`", head: "connection: host\r\ncontent-length: 0\r\n", body: "" },
    Http1 { what: "GET with a body", head: "GET /TAG HTTP/1.1\r\nhost: x\r\ncontent-length: 35\r\n\r\n", body: smuggled!("") },
    Http1 { what: "GET with a body in chunks", head: "GET /TAG HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n", body: concat!(smuggled!("23\r\n"), "\r\n0\r\n\r\n") },
    Http1 { what: "two hosts", head: "GET /TAG HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", body: "" },
    Http1 { what: "no host", head: "GET /TAG HTTP/1.1\r\n\r\n", body: "" },
    Http1 { what: "`host: x/y`", head: "GET /TAG HTTP/1.1\r\nhost: x/y\r\n\r\n", body: "" },
    Http1 { what: "`host: x@y`", head: "GET /TAG HTTP/1.1\r\nhost: x@y\r\n\r\n", body: "" },
    Http1 { what: "`GET http://y/`, with `host: x`", head: "GET http://y/TAG HTTP/1.1\r\nhost: x\r\n\r\n", body: "" },
    Http1 { what: "a request line without a version", head: "GET /TAG\r\n", body: "" },
    Http1 { what: "`upgrade: h2c`", head: "GET /TAG HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAA\r\n\r\n", body: "" },
];

const POST: (&str, &str) = (":method", "POST");
const ROOT: (&str, &str) = (":path", "/TAG");
const HTTP: (&str, &str) = (":scheme", "http");
const HOST: (&str, &str) = (":authority", "x");

#[rustfmt::skip]
const HTTP2: &[Http2] = &[
    Http2 { what: "`transfer-encoding: chunked`", headers: &[POST, ROOT, HTTP, HOST, ("transfer-encoding", "chunked")], body: Some(smuggled!("0\r\n\r\n")) },
    Http2 { what: "`connection: close`", headers: &[POST, ROOT, HTTP, HOST, ("connection", "close")], body: None },
    Http2 { what: "`te: gzip`", headers: &[POST, ROOT, HTTP, HOST, ("te", "gzip")], body: None },
    Http2 { what: "`content-length: 0`, and a body", headers: &[POST, ROOT, HTTP, HOST, ("content-length", "0")], body: Some(smuggled!("")) },
    Http2 { what: "`content-length: 5`, and less", headers: &[POST, ROOT, HTTP, HOST, ("content-length", "5")], body: Some("hi") },
    Http2 { what: "`content-length: 5`, and no body", headers: &[POST, ROOT, HTTP, HOST, ("content-length", "5")], body: None },
    Http2 { what: "two lengths that differ", headers: &[POST, ROOT, HTTP, HOST, ("content-length", "5"), ("content-length", "0")], body: Some("hello") },
    Http2 { what: "a CRLF in a value", headers: &[POST, ROOT, HTTP, HOST, ("x", "a\r\ncontent-length: 5")], body: None },
    Http2 { what: "a colon in a name", headers: &[POST, ROOT, HTTP, HOST, ("content-length: 5\r\nx", "a")], body: None },
    Http2 { what: "a name with a capital", headers: &[POST, ROOT, HTTP, HOST, ("Content-Length", "5")], body: None },
    Http2 { what: "a request line in `:method`", headers: &[(":method", "GET /smuggled HTTP/1.1\r\nx:"), ROOT, HTTP, HOST], body: None },
    Http2 { what: "a request line in `:path`", headers: &[POST, (":path", "/TAG HTTP/1.1\r\nhost: x\r\n\r\nGET /smuggled"), HTTP, HOST], body: None },
    Http2 { what: "a CRLF in `:authority`", headers: &[POST, ROOT, HTTP, (":authority", "x\r\ny: z")], body: None },
    Http2 { what: "`host: y`, and `:authority` x", headers: &[POST, ROOT, HTTP, HOST, ("host", "y")], body: None },
    Http2 { what: "two paths", headers: &[POST, ROOT, (":path", "/smuggled"), HTTP, HOST], body: None },
];

/// What the table calls the vectors, in the order of their numbers.
pub fn names() -> impl Iterator<Item = &'static str> {
    HTTP1.iter().map(|v| v.what).chain(HTTP2.iter().map(|v| v.what))
}

/// How many of them are HTTP/1.
pub fn http1_count() -> usize {
    HTTP1.len()
}
