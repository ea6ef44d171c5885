//! What the program zero-downtime does when it is told to stop, and which socket it listens on.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use super::deploying::constant;
use harness::{Answer, Connection, LIMIT, Load, Program, page};

const READY: &str = "HTTP/1.1 200 OK";
const NOT_READY: &str = "HTTP/1.1 503 Service Unavailable";
const STOPPING: &str = "stopping: not ready, still accepting";
const CLOSED: &str = "stopping: not accepting";
const IN_TIME: &str = "stopped: every connection has ended in time";
const CUT_OFF: &str = "stopped: some connections were cut off at the deadline";
const BY_FORCE: &str = "stopped by force: some task does not end";

/// The program, told to stop at this moment.
fn stopping() -> (Program, Instant) {
    let program = Program::start("zero-downtime");
    let signal = Instant::now();
    program.signal("TERM");
    assert_eq!(program.line(), STOPPING);
    (program, signal)
}

/// The program on this address: `listen` adds a second one, which the program does not read.
fn start_at(address: SocketAddr) -> Program {
    let mut command = Command::new(harness::cargo::program("zero-downtime"));
    command.arg(address.to_string());
    Program::listen(command)
}

fn ask(connection: &mut Connection, path: &str) -> Answer {
    connection.get(path);
    connection.response().unwrap()
}

/// The program waits at least this long after the signal. Its last line says that it did not wait
/// until the drain deadline.
fn ends(program: &mut Program, signal: Instant, at_least: Duration) {
    let (status, printed) = program.wait();
    let elapsed = signal.elapsed();
    assert_eq!(printed.last().unwrap(), IN_TIME);
    assert_eq!(status.code(), Some(0));
    assert!(elapsed >= at_least, "ended {elapsed:?} after the signal");
}

fn lame_duck() -> Duration {
    Duration::from_secs(constant("LAME_DUCK"))
}

fn linger() -> Duration {
    Duration::from_secs(constant("LINGER"))
}

#[test]
fn before_the_signal_it_is_ready_and_keeps_connections() {
    let program = Program::start("zero-downtime");
    let mut connection = program.connect();
    for path in ["/ready", "/"] {
        let answer = ask(&mut connection, path);
        assert_eq!(answer.status(), READY);
        assert_eq!(answer.header("connection"), None);
    }
}

#[test]
fn after_the_signal_it_is_not_ready_and_goes_on_working() {
    for signal in ["TERM", "INT"] {
        let program = Program::start("zero-downtime");
        let mut old = program.connect();
        assert_eq!(ask(&mut old, "/").header("connection"), None);
        program.signal(signal);
        assert_eq!(program.line(), STOPPING);
        // The connection from before the signal, and new ones.
        for (path, status) in
            [("/ready", NOT_READY), ("/", READY), ("/ready", NOT_READY)]
        {
            let mut connection = std::mem::replace(&mut old, program.connect());
            let answer = ask(&mut connection, path);
            assert_eq!(answer.status(), status);
            assert_eq!(answer.header("connection"), Some("close"));
            assert_eq!(connection.rest().unwrap(), "");
        }
    }
}

#[test]
fn it_accepts_to_the_end_of_the_lame_duck_and_refuses_then() {
    let page = page("server/zero-downtime");
    let promised = page.number("For {} seconds after the signal it still answers");
    assert_eq!(promised, constant("LAME_DUCK"));
    assert_eq!(
        page.number("takes more than {} seconds even without a client"),
        promised
    );
    let (mut program, signal) = stopping();
    let refused = loop {
        match TcpStream::connect(program.address) {
            Ok(stream) => {
                let answer = ask(&mut Connection::new(stream), "/");
                assert_eq!(answer.status(), READY);
            }
            Err(error) => break error,
        }
        assert!(signal.elapsed() < LIMIT, "the listener is still open");
    };
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    assert!(signal.elapsed() >= Duration::from_secs(promised));
    assert_eq!(program.line(), CLOSED);
    ends(&mut program, signal, lame_duck());
}

#[test]
fn with_no_client_it_ends_a_quarter_of_a_second_after_the_lame_duck() {
    page("server/deploying")
        .says("Without any client, the program ends a quarter of a second after the lame duck");
    page("server/zero-downtime").says("accept for another quarter of a second");
    let (mut program, signal) = stopping();
    ends(&mut program, signal, lame_duck() + Duration::from_millis(250));
}

#[test]
fn a_client_that_says_nothing_is_waited_for_while_it_lingers() {
    page("server/zero-downtime").says("wait for a second at most");
    let mut program = Program::start("zero-downtime");
    let mut silent = program.connect();
    let signal = Instant::now();
    program.signal("TERM");
    assert_eq!(silent.rest().unwrap(), "");
    ends(&mut program, signal, lame_duck() + linger());
}

#[test]
fn a_request_in_flight_at_the_signal_gets_the_header() {
    let program = Program::start("zero-downtime");
    let mut connection = program.connect();
    connection.get("/");
    connection.get("/slow");
    // The handler of the second request begins when the first is answered.
    assert_eq!(connection.response().unwrap().header("connection"), None);
    program.signal("TERM");
    assert_eq!(program.line(), STOPPING);
    assert_eq!(connection.response().unwrap().header("connection"), Some("close"));
}

#[test]
fn a_client_that_pipelines_must_send_the_second_request_again() {
    let (program, _) = stopping();
    let mut connection = program.connect();
    connection
        .send("GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(connection.response().unwrap().header("connection"), Some("close"));
    assert!(connection.response().is_err(), "the second request is answered");
}

#[test]
fn a_task_that_blocks_does_not_keep_the_process() {
    let times = ["LAME_DUCK", "LINGER", "DRAIN_DEADLINE"].map(constant);
    let promised = page("server/zero-downtime").number("add up to {} seconds here");
    assert_eq!(promised, times.iter().sum::<u64>());
    page("server/zero-downtime")
        .says("half a second after the last step should have ended");
    let mut program = Program::start("zero-downtime");
    let mut connection = program.connect();
    connection.get("/");
    connection.get("/stuck");
    connection.response().unwrap();
    let signal = Instant::now();
    program.signal("TERM");
    let (status, printed) = program.wait();
    let elapsed = signal.elapsed();
    assert_eq!(printed, [STOPPING, CLOSED, CUT_OFF, BY_FORCE]);
    assert_eq!(status.code(), Some(1));
    assert!(elapsed >= Duration::from_secs(promised) + Duration::from_millis(500));
}

/// Starts the program with a listening socket as its file descriptor 3, as systemd does. `$$` is the
/// process that becomes the program.
fn inherit(listener: &TcpListener, pid: &str) -> Program {
    let mut command = Command::new("sh");
    let script = r#"LISTEN_FDS=1 exec "$0" "$@" 3<&0 0</dev/null"#;
    command.args(["-c", &format!("LISTEN_PID={pid} {script}")]);
    command.arg(harness::cargo::program("zero-downtime"));
    command.stdin(Stdio::from(OwnedFd::from(listener.try_clone().unwrap())));
    Program::listen(command)
}

#[test]
fn a_restart_on_an_inherited_socket_refuses_no_connect() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Before the first instance, and between the first and the second, nobody accepts.
    let connect = || {
        let stream = TcpStream::connect(address).expect("the socket is open");
        let mut connection = Connection::new(stream);
        connection.get("/");
        connection
    };
    let mut first_client = connect();
    let mut first = inherit(&listener, "$$");
    assert_eq!(first.address, address);
    assert_eq!(first_client.response().unwrap().status(), READY);
    drop(first_client);
    let signal = Instant::now();
    first.signal("TERM");
    ends(&mut first, signal, lame_duck());
    let mut second_client = connect();
    let second = inherit(&listener, "$$");
    assert_eq!(second.address, address);
    assert_eq!(second_client.response().unwrap().status(), READY);
}

#[test]
fn while_one_instance_drains_connects_wait_for_the_next() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut first = inherit(&listener, "$$");
    // Keeps the first one until its deadline.
    let mut stuck = first.connect();
    stuck.get("/stuck");
    first.signal("TERM");
    assert_eq!(first.line(), STOPPING);
    assert_eq!(first.line(), CLOSED);
    let mut client = first.connect();
    client.get("/");
    let second = inherit(&listener, "$$");
    let answer = client.response().unwrap();
    assert_eq!(answer.header("connection"), None, "the first would say close");
    assert_eq!(ask(&mut second.connect(), "/ready").status(), READY);
    assert!(!first.has_ended());
}

#[test]
fn listen_fds_meant_for_another_process_are_left_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let program = inherit(&listener, "1");
    assert_ne!(program.address, listener.local_addr().unwrap());
}

#[test]
fn a_second_signal_forces_the_exit() {
    let (mut program, _) = stopping();
    program.signal("INT");
    let (status, printed) = program.wait();
    assert_eq!(printed, ["stopped: told twice"]);
    assert_eq!(status.code(), Some(130));
}

#[test]
fn under_load_no_request_is_lost() {
    let mut program = Program::start("zero-downtime");
    let load = Load::default();
    let address = program.address;
    let (status, _) = thread::scope(|scope| {
        load.start(scope, address, 24, 8);
        load.wait_for_answers(500);
        program.signal("TERM");
        program.wait()
    });
    assert_eq!(load.lost.into_inner(), 0);
    // At last each client is refused, and by that it knows that the server is gone.
    assert_eq!(load.refused.into_inner(), 32);
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_hand_over_on_a_shared_port_refuses_no_connect() {
    let mut program = Program::start("zero-downtime");
    let load = Load::default();
    let (_next, status) = thread::scope(|scope| {
        load.start(scope, program.address, 12, 4);
        let next = start_at(program.address);
        program.signal("TERM");
        let (status, _) = program.wait();
        load.wait_for_answers(load.answered.load(Relaxed) + 100);
        load.over.store(true, Relaxed);
        (next, status)
    });
    assert_eq!(status.code(), Some(0));
    assert_eq!((load.lost.into_inner(), load.refused.into_inner()), (0, 0));
}

#[cfg(target_os = "linux")]
#[test]
fn a_connect_that_the_filter_drops_waits_a_second_for_the_next_server() {
    page("server/zero-downtime").says("sends the packet again after a second");
    let mut program = Program::start("zero-downtime");
    let address = program.address;
    let _next = start_at(address);
    let over = AtomicBool::new(false);
    let connect = || {
        let mut slowest = Duration::ZERO;
        let begun = Instant::now();
        while !over.load(Relaxed) && begun.elapsed() < LIMIT {
            let connecting = Instant::now();
            TcpStream::connect(address).expect("the next server listens");
            slowest = slowest.max(connecting.elapsed());
            thread::sleep(Duration::from_millis(5));
        }
        slowest
    };
    let slowest = thread::scope(|scope| {
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(connect)).collect();
        program.signal("TERM");
        program.wait();
        over.store(true, Relaxed);
        clients.into_iter().map(|client| client.join().unwrap()).max().unwrap()
    });
    assert!(
        slowest >= Duration::from_secs(1),
        "the slowest connect took {slowest:?}"
    );
}

#[test]
fn it_binds_a_port_where_another_program_left_connections_in_time_wait() {
    // The standard library sets SO_REUSEADDR and not SO_REUSEPORT.
    let predecessor = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = predecessor.local_addr().unwrap();
    let mut client = Connection::new(TcpStream::connect(address).unwrap());
    // It closes first, so the connection stays in TIME_WAIT on its side.
    drop(predecessor.accept().unwrap());
    assert_eq!(client.rest().unwrap(), "");
    drop((client, predecessor));
    assert_eq!(start_at(address).address, address);
}
