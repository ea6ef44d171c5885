//! What src/server/graceful-shutdown.md promises.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fs;
use std::future::Future;
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use http_body_util::Full;
use http_body_util::channel::{Channel, Sender};
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
use harness::{Connection, Load, Program, page, sockets, wait};

const STOPPING: &str = "stopping: waiting for the requests in flight";
const ENDED: &str = "stopped: every connection has ended in time";
const CUT_OFF: &str = "stopped: some connections were cut off at the deadline";

/// A server with a request in flight.
fn busy(path: &str) -> (Program, Connection) {
    let program = Program::start("graceful-shutdown");
    let mut connection = program.connect();
    connection.get(path);
    assert_eq!(program.line(), format!("GET {path}"));
    (program, connection)
}

/// The exit status when all connections ended in time, and when the deadline cut some off.
fn exit_statuses() -> [Option<i32>; 2] {
    page("server/graceful-shutdown")
        .numbers::<2>(
            "{} if all connections ended in time, also those that ended with an error, and {} if the deadline cut some off",
        )
        .map(|status| Some(status as i32))
}

fn drain_deadline() -> Duration {
    let seconds = page("server/graceful-shutdown")
        .number("{} seconds after the signal, this program stops waiting");
    Duration::from_secs(seconds)
}

/// A request in flight when the signal comes is answered, and the program ends well.
fn in_flight_requests_complete(signal: &str) {
    let (mut program, mut slow) = busy("/slow");
    program.signal(signal);
    assert_eq!(program.line(), STOPPING);
    let response = slow.response().expect("a request in flight is answered");
    assert_eq!(response.status(), "HTTP/1.1 200 OK");
    assert_eq!(response.header("connection"), Some("close"));
    assert_eq!(response.text(), "slow, but whole\n");
    assert_eq!(slow.rest().unwrap(), "");
    let (status, printed) = program.wait();
    assert_eq!(printed, [ENDED]);
    assert_eq!(status.code(), exit_statuses()[0]);
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
    let (mut program, _endless) = busy("/endless");
    let mut unused = program.connect();
    let mut idle = program.connect();
    idle.get("/");
    idle.response().unwrap();
    program.signal("TERM");
    assert_eq!(idle.rest().unwrap(), "");
    assert_eq!(unused.rest().unwrap(), "");
    // Neither the deadline nor the header timeout has closed them: both print a line.
    program.signal("TERM");
    let (_, printed) = program.wait();
    assert_eq!(printed, ["GET /", STOPPING, "stopped: told twice"]);
}

#[test]
fn new_connections_are_refused() {
    let (program, mut slow) = busy("/slow");
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
    let stream = TcpStream::connect(program.address).unwrap();
    let client = stream.local_addr().unwrap().port();
    let mut connection = Connection::new(stream);
    connection.send("GET / HTTP/1.1\r\nhost: ");
    // Bytes that the server has not read do not count: to hyper the connection is unused.
    wait("the server to read half a head", || {
        unread(program.address.port(), client) == 0
    });
    program.signal("TERM");
    assert_eq!(connection.rest().unwrap(), "");
    let (status, mut printed) = program.wait();
    // The task may print its error when `shutdown` has already returned.
    printed.sort();
    let cut_off = "connection failed: read header from client timeout";
    assert_eq!(printed, [cut_off, ENDED, STOPPING]);
    assert_eq!(status.code(), exit_statuses()[0]);
}

/// How many bytes wait in the server's socket of a connection between these ports.
fn unread(server: u16, client: u16) -> u64 {
    let mut sockets = sockets().into_iter();
    let socket = sockets.find(|it| it.local_port == server && it.remote_port == client);
    socket.expect("the connection is open").unread
}

#[test]
fn an_endless_response_is_ended_by_the_deadline() {
    let (mut program, mut endless) = busy("/endless");
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
    assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
    let lasted = start.elapsed();
    let deadline = drain_deadline();
    assert!((deadline..2 * deadline).contains(&lasted), "cut off after {lasted:?}");
    let (status, printed) = program.wait();
    assert_eq!(printed, [STOPPING, CUT_OFF]);
    assert_eq!(status.code(), exit_statuses()[1]);
}

#[test]
fn a_second_signal_forces_the_exit() {
    let told_twice = page("server/graceful-shutdown")
        .number("The last branch exits instead, with {}, the status");
    for (first, second) in [("INT", "INT"), ("TERM", "INT"), ("TERM", "TERM")] {
        let (mut program, mut endless) = busy("/endless");
        program.signal(first);
        assert_eq!(program.line(), STOPPING);
        program.signal(second);
        let (status, printed) = program.wait();
        assert_eq!(printed, ["stopped: told twice"]);
        assert_eq!(status.code(), Some(told_twice as i32));
        assert!(endless.response().is_err());
    }
}

/// The program with more paths: a handler that never yields, one whose work blocks, one that shows
/// when it is dropped; and with a line for each connection that counts the tasks in the set.
static VARIANT: LazyLock<PathBuf> = LazyLock::new(|| {
    let program = harness::root().join("snippets/server/graceful_shutdown.rs");
    let mut program = fs::read_to_string(program).unwrap();
    for (place, more) in [
        (
            "            signal.await;\n",
            r#"
            let time = env::var("TIME").unwrap_or("0".to_owned());
            sleep(Duration::from_secs(time.parse().unwrap())).await;
"#,
        ),
        (
            "    let body = match request.uri().path() {\n",
            r#"
        "/stuck" => loop {
            thread::sleep(Duration::from_secs(1));
        },
        "/blocking" => {
            let work = || -> () { loop { thread::sleep(Duration::from_secs(1)) } };
            tokio::task::spawn_blocking(work).await.unwrap();
            unreachable!()
        }
        "/waiting" => {
            struct Guard;
            impl Drop for Guard {
                fn drop(&mut self) {
                    log("the handler is dropped");
                }
            }
            let _guard = Guard;
            std::future::pending().await
        }
"#,
        ),
        (
            "            stream = accept(&listener) => {\n",
            "log(format_args!(\"tasks: {}\", connections.len()));",
        ),
    ] {
        assert_eq!(program.matches(place).count(), 1, "one place for {more}");
        program = program.replace(place, &format!("{place}{more}"));
    }
    harness::block::variant("graceful_shutdown", &program)
});

/// Starts the variant with one thread for its tasks, and sends a request.
fn variant(path: &str) -> (Program, Connection) {
    variant_with_time(path, Duration::ZERO)
}

/// The same, with this much more time before it is ended by force.
fn variant_with_time(path: &str, time: Duration) -> (Program, Connection) {
    let mut command = Command::new(&*VARIANT);
    command.env("TIME", time.as_secs().to_string());
    command.env("TOKIO_WORKER_THREADS", "1");
    let program = Program::listen(command);
    let mut connection = program.connect();
    connection.get(path);
    assert_eq!(program.line(), "tasks: 0");
    assert_eq!(program.line(), format!("GET {path}"));
    (program, connection)
}

/// Stops a program that cannot stop by itself; the lines that it prints.
fn stop_by_force(path: &str) -> Vec<String> {
    let (mut program, _connection) = variant(path);
    let earliest = Instant::now();
    program.signal("TERM");
    let latest = Instant::now();
    let (status, printed) = program.wait();
    let (most, least) = (earliest.elapsed(), latest.elapsed());
    let deadline = drain_deadline();
    let grace = page("server/graceful-shutdown")
        .number("Otherwise the thread ends the process {} ms after the deadline");
    assert!(most >= deadline + Duration::from_millis(grace), "ended after {most:?}");
    assert!(least < deadline + SECOND, "ended after {least:?}");
    assert_eq!(status.code(), Some(1));
    printed
}

#[test]
fn a_handler_that_never_yields_does_not_hold_the_process() {
    let printed = stop_by_force("/stuck");
    assert_eq!(printed, [STOPPING, "stopped by force: some task does not end"]);
}

#[test]
fn blocking_work_does_not_hold_the_process() {
    let printed = stop_by_force("/blocking");
    let forced = "stopped by force: some task does not end";
    assert_eq!(printed, [STOPPING, CUT_OFF, forced]);
}

#[test]
fn what_comes_after_the_drain_comes_after_the_last_handler() {
    // A busy machine must not end the process by force before that.
    let (mut program, _connection) = variant_with_time("/waiting", 20 * SECOND);
    program.signal("TERM");
    let (_, printed) = program.wait();
    assert_eq!(printed, [STOPPING, "the handler is dropped", CUT_OFF]);
}

#[test]
fn tasks_that_have_ended_leave_the_set() {
    let (mut program, mut connection) = variant("/");
    connection.response().unwrap();
    drop(connection);
    let connections = 200;
    for _ in 0..connections {
        let mut connection = program.connect();
        connection.send("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        connection.response().unwrap();
        assert_eq!(connection.rest().unwrap(), "");
    }
    program.signal("KILL");
    let (_, printed) = program.wait();
    let tasks: Vec<usize> = printed
        .iter()
        .filter_map(|line| line.strip_prefix("tasks: ")?.parse().ok())
        .collect();
    assert_eq!(tasks.len(), connections);
    // One at a time; the loop may see the end of a task late.
    let most = *tasks.iter().max().unwrap();
    assert!(most < connections / 4, "the set has grown to {most} tasks");
}

/// A process that ends with the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The server, the two ends of what it prints, after its first line, and its address.
fn with_output() -> (Killed, BufReader<UnixStream>, UnixStream, String) {
    let (reader, writer) = UnixStream::pair().unwrap();
    let mut command = Command::new(harness::cargo::program("graceful-shutdown"));
    command.arg("127.0.0.1:0");
    command.stdout(OwnedFd::from(writer.try_clone().unwrap()));
    let server = Killed(command.spawn().unwrap());
    let mut line = String::new();
    let mut reader = BufReader::new(reader);
    reader.read_line(&mut line).unwrap();
    let address = line.trim_end().strip_prefix("listening on http://").unwrap();
    (server, reader, writer, address.to_owned())
}

fn stop(server: &mut Killed) -> Option<i32> {
    let pid = server.0.id().to_string();
    Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    wait("the end of the server", || server.0.try_wait().unwrap().is_some());
    server.0.wait().unwrap().code()
}

#[test]
fn nobody_needs_to_read_the_output() {
    let (mut server, reader, _writer, address) = with_output();
    drop(reader);
    let mut connection = Connection::new(TcpStream::connect(address).unwrap());
    connection.get("/");
    assert_eq!(connection.response().unwrap().text(), "Hello, World!\n");
    assert_eq!(stop(&mut server), Some(0));
}

#[test]
fn a_reader_of_the_output_that_stalls_does_not_keep_the_process() {
    let (mut server, _reader, mut writer, _address) = with_output();
    // After this there is no room, and the next line that the server prints blocks.
    writer.set_nonblocking(true).unwrap();
    while writer.write(&[b'.'; 4096]).is_ok() {}
    while writer.write(b".").is_ok() {}
    writer.set_nonblocking(false).unwrap();
    assert_eq!(stop(&mut server), Some(1));
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
    program.signal("TERM");
    let (status, printed) = program.wait();
    let printed: Vec<_> = printed.iter().filter(|line| *line != failed).collect();
    assert_eq!(printed, [STOPPING, ENDED]);
    assert_eq!(status.code(), Some(0));
}

/// The server prints a line when it begins to handle a request.
#[test]
fn under_load_every_request_that_was_begun_is_answered() {
    let mut program = Program::start("graceful-shutdown");
    let clients = page("server/graceful-shutdown")
        .number("under the load of {} clients") as usize;
    let load = Load::default();
    let address = program.address;
    let (status, printed) = thread::scope(|scope| {
        load.start(scope, address, clients - 8, 8);
        load.wait_for_answers(1000);
        program.signal("TERM");
        program.wait()
    });
    let begun = printed.iter().filter(|line| *line == "GET /").count();
    assert!(begun > 1000, "{begun} requests are no load");
    assert_eq!(load.answered.into_inner(), begun);
    assert_eq!(printed.last().unwrap(), ENDED);
    assert_eq!(status.code(), Some(0));
}

/// Status 0 does not say that every request was answered.
#[test]
fn connections_that_are_not_accepted_are_lost_and_the_status_is_0() {
    // On a busy machine a server may accept them all before it sees the signal.
    let lost = (0..20).find(|_| answered_after_a_stop(100) < 100);
    assert!(lost.is_some(), "20 servers accepted each connection before the signal");
}

/// The answers to requests that have arrived, with the signal, while the process did not run.
fn answered_after_a_stop(requests: usize) -> usize {
    let mut program = Program::start("graceful-shutdown");
    // While the process is stopped, the system completes connections and keeps the signal.
    program.signal("STOP");
    let mut connections: Vec<_> = (0..requests).map(|_| program.connect()).collect();
    for connection in &mut connections {
        connection.get("/");
    }
    program.signal("TERM");
    program.signal("CONT");
    let answered =
        connections.iter_mut().filter_map(|connection| connection.response().ok());
    let answered = answered.count();
    let (status, printed) = program.wait();
    assert_eq!(printed.iter().filter(|line| *line == "GET /").count(), answered);
    assert_eq!(printed.last().unwrap(), ENDED);
    assert_eq!(status.code(), Some(0));
    answered
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
async fn the_first_request_of_a_connection_is_lost_if_it_is_not_read() {
    let (client, io) = sent(REQUEST).await;
    let graceful = GracefulShutdown::new();
    let conn = http1::Builder::new().serve_connection(io, service_fn(slowly));
    tokio::spawn(graceful.watch(conn));
    graceful.shutdown().await;
    assert_eq!(read_all(client).await, "");
}

#[tokio::test(start_paused = true)]
async fn a_request_on_its_way_on_an_idle_connection_is_lost() {
    let (mut client, io) = sent(REQUEST).await;
    let graceful = GracefulShutdown::new();
    let conn = http1::Builder::new().serve_connection(io, service_fn(slowly));
    tokio::spawn(graceful.watch(conn));
    sleep(3 * SECOND).await;
    let mut first = [0; 1024];
    let length = client.read(&mut first).await.unwrap();
    assert!(first[..length].ends_with(b"answer"));
    client.write_all(REQUEST.as_bytes()).await.unwrap();
    graceful.shutdown().await;
    assert_eq!(read_all(client).await, "");
}

/// What a client receives of a body that `producer` sends.
async fn produced<F>(producer: fn(Sender<Bytes, io::Error>) -> F) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let (client, io) = sent("GET / HTTP/1.1\r\nconnection: close\r\n\r\n").await;
    let service = service_fn(move |_| async move {
        let (sender, body) = Channel::new(1);
        tokio::spawn(producer(sender));
        Ok::<_, Infallible>(Response::new(body))
    });
    tokio::spawn(http1::Builder::new().serve_connection(io, service));
    read_all(client).await
}

const WHOLE: &str = "4\r\nhalf\r\n0\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn a_producer_that_panics_ends_its_body_as_if_it_were_whole() {
    let received = produced(|mut sender| async move {
        sender.send_data(Bytes::from("half")).await.unwrap();
        panic!("the producer fails");
    });
    assert!(received.await.ends_with(WHOLE));
}

#[tokio::test(start_paused = true)]
async fn abort_shows_the_client_that_the_body_is_cut_off() {
    let received = produced(|mut sender| async move {
        sender.send_data(Bytes::from("half")).await.unwrap();
        sleep(SECOND).await;
        sender.abort(io::Error::other("the producer fails"));
    });
    assert!(received.await.ends_with("4\r\nhalf\r\n"));
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

/// With a third branch that completes, the one whose pattern did not match is tried again.
#[tokio::test(start_paused = true)]
async fn select_turns_the_branch_on_again_when_another_completes() {
    let mut results = VecDeque::from([Err("too many open files"), Ok(1), Ok(2)]);
    let mut accept = || {
        let result = results.pop_front();
        async move {
            if let Some(result) = result {
                result
            } else {
                std::future::pending().await
            }
        }
    };
    let mut ended = VecDeque::from([SECOND]);
    let mut accepted = Vec::new();
    let signal = sleep(HOUR);
    tokio::pin!(signal);
    loop {
        let end = ended.pop_front().unwrap_or(2 * HOUR);
        tokio::select! {
            Ok(stream) = accept() => accepted.push(stream),
            () = sleep(end) => {}
            () = &mut signal => break,
        }
    }
    assert_eq!(accepted, [1, 2]);
}
