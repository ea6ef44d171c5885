//! What src/production/performance.md promises: its words are those of the measured tables, and two of
//! the reasons are seen on a connection in memory.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;

use harness::{LIMIT, Prose, page, root, rows};

fn performance() -> Prose {
    page("production/performance")
}

// The measured tables.

const RESULTS: &str = "tools/bench/results/performance.md";

/// The cells of a table of the results, without markup.
#[track_caller]
fn table(name: &str) -> Vec<Vec<String>> {
    let rows = rows(RESULTS, name);
    let plain = |cell: &String| cell.replace("&nbsp;", " ").replace(['*', '`'], "");
    rows.iter().map(|row| row.cells.iter().map(plain).collect()).collect()
}

/// The row of a change, with a load that begins like this: the medians of the CPU time and of the
/// requests per second, in percent.
#[track_caller]
fn cost(change: &str, load: &str) -> (f64, f64) {
    let rows = table("costs");
    let mut row = rows.iter().filter(|row| row[0] == change && row[1].starts_with(load));
    let row = row.next().unwrap_or_else(|| panic!("costs: no row `{change}`, `{load}`"));
    let percent = |cell: &str| {
        let (median, _) = cell.split_once(" (").unwrap();
        (100.0 * median.parse::<f64>().unwrap()).round()
    };
    (percent(&row[2]), percent(&row[3]))
}

/// The first number of a cell, in its unit.
#[track_caller]
fn first(cell: &str) -> f64 {
    let number = cell.split(|c: char| !c.is_ascii_digit() && c != '.').next();
    number.unwrap().parse().unwrap_or_else(|_| panic!("no number begins `{cell}`"))
}

/// The first time of a cell, in µs.
#[track_caller]
fn micros(cell: &str) -> f64 {
    let unit = cell.split(' ').nth(1).unwrap();
    first(cell) * if unit == "ms" { 1000.0 } else { 1.0 }
}

/// That the page says how many times more, by a whole number.
#[track_caller]
fn times(page: u64, percent: f64) {
    assert_eq!(page, (percent / 100.0).round() as u64, "measured: {percent} %");
}

/// That the page says how many percent more.
#[track_caller]
fn adds(page: u64, percent: f64) {
    assert_eq!(page as f64, percent - 100.0, "measured: {percent} %");
}

#[test]
fn the_comparison_is_the_measured_one() {
    let page = performance();
    let results = fs::read_to_string(root().join(RESULTS)).unwrap();
    let size = page.number("The last columns are about the responses of {} bytes");
    assert!(results.contains(&format!("| {size}&nbsp;bytes |")), "the size");
    let kernel = page.number("hyper spends {} % of its time in the kernel");
    assert_eq!(kernel as f64, first(&table("servers")[0][5]));
    let servers = table("servers");
    page.says("the servers were the limit, not the clients");
    assert!(servers.iter().all(|row| first(&row[6]) > 90.0), "the servers are the limit");
    let rows = table("times");
    let of = |column: usize| rows.iter().map(move |row| micros(&row[column]));
    let most = page.number("With one connection the medians differ by less than {} %");
    let (least, longest) = (of(1).fold(f64::MAX, f64::min), of(1).fold(0.0, f64::max));
    assert!(longest < least * (1.0 + most as f64 / 100.0), "{least} to {longest}");
    // So many requests wait, each for the CPU time of those before it.
    page.says("the time of a response is above all the time in a queue");
    for (row, server) in rows.iter().zip(&servers) {
        let queue = 256.0 * first(&server[4]);
        assert!(micros(&row[3]) > 0.8 * queue, "{}: {} µs in a queue", row[0], queue);
    }
}

#[test]
fn the_costs_are_the_measured_ones() {
    let page = performance();
    let small = "13 bytes";
    let cpu = |change: &str, load: &str| cost(change, load).0;

    let debug = page.number("A debug build takes {} times the CPU time");
    times(debug, cpu("a debug build", small));
    let [connection, handshake] = page.numbers(
        "A new connection for each request takes {} times the CPU time, and one with a full \
         TLS handshake {} times as much as that",
    );
    times(connection, cpu("a new connection for each request", small));
    times(handshake, cpu("TLS", "13 bytes, new connections"));
    let [more, much, size] = page.numbers(
        "TLS adds {} % to a small response, but takes {} times the CPU time for {} MiB",
    );
    adds(more, cpu("TLS", small));
    times(much, cpu("TLS", &format!("{size} MiB")));
    let [more, much, size] = page.numbers(
        "HTTP/2 costs CPU time: {} % more for a small response, and {} times as much for {} MiB",
    );
    adds(more, cpu("HTTP/2, one connection", small));
    times(much, cpu("HTTP/2, one connection", &format!("{size} MiB")));

    let blocking = page.number("spawn_blocking adds {} %");
    adds(blocking, cpu("spawn_blocking for each request", small));
    let line = page.number("A log line for each request adds {} %");
    adds(line, cpu("the span, and a line to /dev/null", small));
    let span = page.number("The span alone adds {} %");
    adds(span, cpu("a tracing span for each request", small));

    let [much, size] =
        page.numbers("which takes {} times the CPU time for {} MiB. A small");
    times(much, cpu("writev(false)", &format!("{size} MiB")));
    let [size, more] =
        page.numbers("{} KiB at a time, a megabyte takes {} % more CPU time");
    let small_buffer = format!("max_buf_size of {size} KiB");
    adds(more, cpu(&small_buffer, "uploads of 1 MiB"));
    page.says("It makes no difference to a response in one piece");
    let (responses, rate) = cost(&small_buffer, "1 MiB");
    assert!((responses - 100.0).abs() < 5.0 && (rate - 100.0).abs() < 5.0);

    let flush = page.number("for {} % of the CPU time");
    assert_eq!(flush as f64, cpu("pipeline_flush(true)", "the same"));
    let timer = page.number("Without a timer hyper saves {} %");
    assert_eq!(timer as f64, 100.0 - cpu("no timer, so no time limit", small));
    let one = page.number("a current_thread runtime saves {} %");
    assert_eq!(one as f64, 100.0 - cpu("current_thread runtime", small));

    let [size, more] =
        page.numbers("With BBR, {} MiB over loopback takes {} % more CPU time");
    adds(more, cpu("the congestion control BBR", &format!("{size} MiB")));

    let most = page.number("These make less than {} % of difference");
    for (change, load) in [
        ("BoxBody in place of Full", small),
        ("the auto builder", small),
        ("mimalloc", small),
        ("without TCP_NODELAY", small),
        ("adaptive_window", "the same"),
    ] {
        let difference = (cpu(change, load) - 100.0).abs();
        assert!(difference < most as f64, "{change}: {difference} %");
    }
}

#[test]
fn the_runs_agree_but_for_one_load() {
    let [connections, size] = performance()
        .numbers("trust a large ratio, except where {} connections take {} MiB each");
    let results = fs::read_to_string(root().join(RESULTS)).unwrap();
    let worst = format!(", {connections} × {size}&nbsp;MiB).");
    assert!(results.contains(&worst), "the largest difference between the runs");
}

#[test]
fn an_upload_makes_the_memory_of_its_connection_large() {
    let page = performance();
    page.says("An upload makes a connection large");
    let size = page.number("set it to {} KiB");
    let rows = table("memory");
    let of = |name: &str| {
        let row = rows.iter().find(|row| row[0] == name);
        first(&row.unwrap_or_else(|| panic!("memory: no row `{name}`"))[1])
    };
    let large = of("HTTP/1, after an upload of 1 MiB");
    let small = of(&format!("HTTP/1, after the upload, max_buf_size of {size} KiB"));
    assert!(large > 10.0 * of("HTTP/1"), "{large} KiB");
    assert!(small < 2.0 * of("HTTP/1"), "{small} KiB");
}

#[test]
fn a_client_that_waits_hides_a_server_that_stands_still() {
    performance().says("A client that waits for each response sends nothing");
    let rows = table("omission");
    let p99 = |row: usize| micros(&rows[row][3]);
    assert!(p99(0) < 1_000.0 && p99(1) < 1_000.0, "hidden, counted from sending");
    assert!(p99(2) > 50_000.0, "seen, counted from when it was due");
}

// On a connection in memory.

/// Counts the writes, and notes how much room hyper offers to the last read.
struct Watched {
    io: TokioIo<DuplexStream>,
    writes: Arc<AtomicUsize>,
    room: Arc<AtomicUsize>,
}

impl Read for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.room.store(cursor.remaining(), Relaxed);
        Pin::new(&mut self.io).poll_read(cx, cursor)
    }
}

impl Write for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Relaxed);
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

async fn answer(
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {}
    Ok(Response::new(Full::from("done")))
}

/// Sends these requests to a server, and waits for as many answers: the writes that they took, and the room for
/// the next read of the connection, which is idle then.
async fn exchange(builder: &http1::Builder, requests: &[u8], count: usize) -> (usize, usize) {
    let (mut client, server) = duplex(1 << 20);
    let (writes, room) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let io = TokioIo::new(server);
    let io = Watched { io, writes: writes.clone(), room: room.clone() };
    let conn = tokio::spawn(builder.serve_connection(io, service_fn(answer)));
    client.write_all(requests).await.unwrap();
    let mut answers = Vec::new();
    while String::from_utf8_lossy(&answers).matches("done").count() < count {
        let read = timeout(LIMIT, client.read_buf(&mut answers)).await;
        assert!(read.expect("there is an answer").unwrap() > 0);
    }
    drop(client);
    conn.await.unwrap().unwrap();
    (writes.load(Relaxed), room.load(Relaxed))
}

#[tokio::test]
async fn pipeline_flush_writes_answers_together() {
    performance().says("writes each response by itself");
    performance().says("it writes those together whose requests have come together");
    let requests = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(3);
    let (writes, _) = exchange(&http1::Builder::new(), &requests, 3).await;
    assert_eq!(writes, 3, "each by itself");
    let mut builder = http1::Builder::new();
    let (writes, _) = exchange(builder.pipeline_flush(true), &requests, 3).await;
    assert_eq!(writes, 1, "together");
}

#[tokio::test]
async fn an_upload_grows_the_read_buffer_to_about_max_buf_size() {
    performance().says("hyper doubles its read buffer while each read fills it, to about max_buf_size, and an idle connection keeps it");
    let head = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4194304\r\n\r\n";
    let upload = [head.as_bytes(), &[b'.'; 4 << 20]].concat();
    let get = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut builder = http1::Builder::new();
    let (_, room) = exchange(&builder, get, 1).await;
    assert!(room <= 8 * 1024, "after a GET: {room}");
    let (_, room) = exchange(&builder, &upload, 1).await;
    assert!(room > 200 * 1024, "after an upload: {room}");
    let (_, room) = exchange(builder.max_buf_size(64 * 1024), &upload, 1).await;
    assert!((32 * 1024..=128 * 1024).contains(&room), "with a limit: {room}");
}
