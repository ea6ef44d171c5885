//! What src/server/graceful-shutdown.md promises.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::server::hello_world::survives_running_out_of_descriptors;
use harness::{Connection, Load, Program, assert_prints};

const STOPPING: &str = "stopping: waiting for the requests in flight";
const ANSWERED: &str = "stopped: every request is answered";
const CUT_OFF: &str = "stopped: some requests were cut off at the deadline";

/// A server with a slow request in flight.
fn busy() -> (Program, Connection) {
    let program = Program::start("graceful-shutdown");
    let mut slow = program.connect();
    slow.get("/slow");
    assert_eq!(program.line(), "GET /slow");
    (program, slow)
}

/// A request in flight when the signal comes is answered, and the program ends well.
fn in_flight_requests_complete(signal: &str) {
    let (mut program, mut slow) = busy();
    program.signal(signal);
    assert_eq!(program.line(), STOPPING);
    let response = slow.response().expect("a request in flight is answered");
    assert_eq!(response.status(), "HTTP/1.1 200 OK");
    assert_eq!(response.header("connection"), Some("close"));
    assert_eq!(response.text(), "slow, but whole\n");
    assert_eq!(slow.rest().unwrap(), "");
    let (status, printed) = program.wait();
    assert_eq!(printed, [ANSWERED]);
    assert_eq!(status.code(), Some(0));
}

#[test]
fn in_flight_requests_complete_after_sigterm() {
    in_flight_requests_complete("TERM");
}

#[test]
fn in_flight_requests_complete_after_sigint() {
    in_flight_requests_complete("INT");
}

#[test]
fn before_the_signal_nothing_says_close() {
    let program = Program::start("graceful-shutdown");
    let mut connection = program.connect();
    connection.get("/");
    assert_eq!(connection.response().unwrap().header("connection"), None);
}

#[test]
fn idle_and_unused_connections_close_at_once() {
    let (program, mut slow) = busy();
    let mut unused = program.connect();
    let mut idle = program.connect();
    idle.get("/");
    idle.response().unwrap();
    let start = Instant::now();
    program.signal("TERM");
    assert_eq!(idle.rest().unwrap(), "");
    assert_eq!(unused.rest().unwrap(), "");
    // The slow request holds the program for two seconds; it has not held these.
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    slow.response().unwrap();
}

#[test]
fn new_connections_are_refused() {
    let (program, mut slow) = busy();
    program.signal("TERM");
    assert_eq!(program.line(), STOPPING);
    let refused =
        TcpStream::connect(program.address).expect_err("the listener is gone");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    slow.response().unwrap();
}

#[test]
fn a_half_sent_head_is_cut_off_by_the_header_timeout() {
    let mut program = Program::start("graceful-shutdown");
    let mut connection = program.connect();
    let start = Instant::now();
    connection.send("GET / HTTP/1.1\r\nhost: ");
    // Nothing shows that the server has read these bytes. Unread, they would not count: hyper
    // would take the connection for one that was never used, and close it at once.
    thread::sleep(Duration::from_millis(300));
    program.signal("TERM");
    assert_eq!(connection.rest().unwrap(), "");
    let seconds = start.elapsed().as_secs_f64();
    assert!((2.9..4.5).contains(&seconds), "closed after {seconds} s");
    let (status, printed) = program.wait();
    let error = ["connection failed: ", "read header from client timeout"];
    assert_prints(&printed, &[STOPPING, error[0], error[1], ANSWERED]);
    assert_eq!(status.code(), Some(0));
}

#[test]
fn an_endless_response_is_ended_by_the_deadline() {
    let mut program = Program::start("graceful-shutdown");
    let mut endless = program.connect();
    endless.get("/endless");
    endless.head().unwrap();
    assert_eq!(endless.chunk().unwrap().unwrap(), b"tick\n");
    let start = Instant::now();
    program.signal("TERM");
    let cut = loop {
        match endless.chunk() {
            Ok(Some(tick)) => assert_eq!(tick, b"tick\n"),
            Ok(None) => panic!("an endless body has ended well"),
            Err(error) => break error,
        }
    };
    assert_eq!(cut.kind(), std::io::ErrorKind::UnexpectedEof);
    let seconds = start.elapsed().as_secs_f64();
    assert!((4.9..7.0).contains(&seconds), "cut off after {seconds} s");
    let (status, printed) = program.wait();
    assert_eq!(printed, ["GET /endless", STOPPING, CUT_OFF]);
    assert_eq!(status.code(), Some(1));
}

#[test]
fn a_second_signal_forces_the_exit() {
    for (first, second) in [("INT", "INT"), ("TERM", "INT"), ("TERM", "TERM")] {
        let (mut program, mut slow) = busy();
        program.signal(first);
        assert_eq!(program.line(), STOPPING);
        let start = Instant::now();
        program.signal(second);
        let (status, printed) = program.wait();
        assert_eq!(printed, ["stopped: told twice"]);
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        assert_eq!(status.code(), Some(130));
        assert!(slow.response().is_err());
    }
}

#[test]
fn running_out_of_descriptors_is_survived() {
    survives_running_out_of_descriptors("graceful-shutdown");
}

#[test]
fn a_failing_accept_does_not_delay_the_signal() {
    let mut program = Program::start_with_descriptors("graceful-shutdown", 20);
    let _connections: Vec<Connection> = (0..30).map(|_| program.connect()).collect();
    let failed = "accept failed: Too many open files (os error 24)";
    assert_eq!(program.line(), failed);
    let start = Instant::now();
    program.signal("TERM");
    let (status, printed) = program.wait();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    let printed: Vec<_> = printed.iter().filter(|line| *line != failed).collect();
    assert_eq!(printed, [STOPPING, ANSWERED]);
    assert_eq!(status.code(), Some(0));
}

/// The server prints a line when it begins to handle a request.
#[test]
fn under_load_every_request_that_was_begun_is_answered() {
    let mut program = Program::start("graceful-shutdown");
    let load = Load::default();
    let address = program.address;
    let (status, printed) = thread::scope(|scope| {
        load.start(scope, address, 64, 8);
        load.wait_for_answers(1000);
        program.signal("TERM");
        program.wait()
    });
    let begun = printed.iter().filter(|line| *line == "GET /").count();
    assert!(begun > 1000, "{begun} requests are no load");
    assert_eq!(load.answered.into_inner(), begun);
    assert_eq!(printed.last().unwrap(), ANSWERED);
    assert_eq!(status.code(), Some(0));
}

// What hyper and tokio do, and so the reasons for what the program does. The clock of these tests
// is tokio's own: it jumps ahead when every task waits.

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Both ends of a connection on which the client has sent `bytes`.
async fn sent(bytes: &str) -> (DuplexStream, TokioIo<DuplexStream>) {
    let (mut client, server) = tokio::io::duplex(1024);
    client.write_all(bytes.as_bytes()).await.unwrap();
    (client, TokioIo::new(server))
}

const REQUEST: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

/// Answers after two seconds.
async fn slowly(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    sleep(2 * SECOND).await;
    Ok(Response::new(Full::from("answer")))
}

async fn read_all(mut client: DuplexStream) -> String {
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(start_paused = true)]
async fn giving_up_the_wait_does_not_end_spawned_tasks() {
    let (client, io) = sent(REQUEST).await;
    let graceful = GracefulShutdown::new();
    let conn = http1::Builder::new().serve_connection(io, service_fn(slowly));
    tokio::spawn(graceful.watch(conn));
    sleep(SECOND).await;
    assert!(timeout(SECOND / 2, graceful.shutdown()).await.is_err());
    // Nobody waits any more, and the answer comes all the same.
    assert!(read_all(client).await.ends_with("answer"));
}

#[tokio::test(start_paused = true)]
async fn a_join_set_ends_its_tasks() {
    let (client, io) = sent(REQUEST).await;
    let graceful = GracefulShutdown::new();
    let conn = http1::Builder::new().serve_connection(io, service_fn(slowly));
    let mut connections = JoinSet::new();
    connections.spawn(graceful.watch(conn));
    sleep(SECOND).await;
    assert!(timeout(SECOND / 2, graceful.shutdown()).await.is_err());
    connections.shutdown().await;
    assert_eq!(read_all(client).await, "");
}

#[tokio::test(start_paused = true)]
async fn dropping_graceful_shutdown_starts_it() {
    let (client, io) = sent("").await;
    let graceful = GracefulShutdown::new();
    let conn = http1::Builder::new().serve_connection(io, service_fn(slowly));
    let conn = tokio::spawn(graceful.watch(conn));
    sleep(HOUR).await;
    assert!(!conn.is_finished(), "the connection is kept while `graceful` is");
    drop(graceful);
    conn.await.unwrap().unwrap();
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn without_a_timer_half_a_head_holds_the_shutdown_for_ever() {
    let (client, io) = sent("GET / HTTP/1.1\r\n").await;
    let graceful = GracefulShutdown::new();
    let conn = http1::Builder::new().serve_connection(io, service_fn(slowly));
    tokio::spawn(graceful.watch(conn));
    sleep(SECOND).await;
    assert!(timeout(HOUR, graceful.shutdown()).await.is_err());
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn select_turns_off_a_branch_whose_pattern_does_not_match() {
    let mut results = VecDeque::from([Err("too many open files"), Ok(1), Ok(2)]);
    let mut accept = || std::future::ready(results.pop_front().unwrap());
    let mut accepted = Vec::new();
    let signal = sleep(HOUR);
    tokio::pin!(signal);
    loop {
        tokio::select! {
            Ok(stream) = accept() => accepted.push(stream),
            () = &mut signal => break,
        }
    }
    assert!(
        accepted.is_empty(),
        "two connections have come and nobody has accepted them"
    );
}
