//! What the program zero-downtime does when it is told to stop, and which socket it listens on.
//! src/server/zero-downtime.md and src/server/deploying.md build on it.

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use super::deploying::constant;
use harness::{Answer, Connection, LIMIT, Load, Program, spawn};

const READY: &str = "HTTP/1.1 200 OK";
const NOT_READY: &str = "HTTP/1.1 503 Service Unavailable";
const STOPPING: &str = "stopping: not ready, still accepting";
const CLOSED: &str = "stopping: not accepting";
const ANSWERED: &str = "stopped: every request is answered";

/// The program, told to stop at this moment.
fn stopping() -> (Program, Instant) {
    let program = Program::start("zero-downtime");
    let signal = Instant::now();
    program.signal("TERM");
    assert_eq!(program.line(), STOPPING);
    (program, signal)
}

fn ask(connection: &mut Connection, path: &str) -> Answer {
    connection.get(path);
    connection.response().unwrap()
}

/// The program ends well, so many seconds after the signal.
fn ends(program: &mut Program, signal: Instant, seconds: u64) {
    let (status, printed) = program.wait();
    let elapsed = signal.elapsed().as_secs_f64();
    assert_eq!(printed.last().unwrap(), ANSWERED);
    assert_eq!(status.code(), Some(0));
    let expected = seconds as f64 - 0.1..seconds as f64 + 0.9;
    assert!(expected.contains(&elapsed), "ended {elapsed} s after the signal");
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
    let (mut program, signal) = stopping();
    let accepting = Duration::from_millis(1000 * constant("LAME_DUCK") - 400);
    while signal.elapsed() < accepting {
        let answer = ask(&mut program.connect(), "/");
        assert_eq!(answer.status(), READY);
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(program.line(), CLOSED);
    // The line comes just before the listener closes.
    while TcpStream::connect(program.address).is_ok() {
        assert!(signal.elapsed() < LIMIT, "the listener is still open");
    }
    ends(&mut program, signal, constant("LAME_DUCK"));
}

#[test]
fn with_no_client_it_ends_after_the_lame_duck() {
    let (mut program, signal) = stopping();
    ends(&mut program, signal, constant("LAME_DUCK"));
}

#[test]
fn a_client_that_says_nothing_is_waited_for_while_it_lingers() {
    let mut program = Program::start("zero-downtime");
    let mut silent = program.connect();
    let signal = Instant::now();
    program.signal("TERM");
    assert_eq!(silent.rest().unwrap(), "");
    ends(&mut program, signal, constant("LAME_DUCK") + constant("LINGER"));
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
    ends(&mut first, signal, constant("LAME_DUCK"));
    let mut second_client = connect();
    let second = inherit(&listener, "$$");
    assert_eq!(second.address, address);
    assert_eq!(second_client.response().unwrap().status(), READY);
}

#[test]
fn while_one_instance_drains_connects_wait_for_the_next() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut first = inherit(&listener, "$$");
    first.signal("TERM");
    assert_eq!(first.line(), STOPPING);
    // In flight for two seconds, so beyond the lame duck.
    thread::sleep(Duration::from_millis(1000 * constant("LAME_DUCK") - 1000));
    let mut slow = first.connect();
    slow.get("/slow");
    assert_eq!(first.line(), CLOSED);
    // The line comes just before the queue is emptied for the last time.
    thread::sleep(Duration::from_millis(200));
    let mut client = first.connect();
    client.get("/");
    let second = inherit(&listener, "$$");
    let answer = client.response().unwrap();
    assert_eq!(answer.header("connection"), None, "the first would say close");
    let mut again = second.connect();
    assert_eq!(ask(&mut again, "/ready").status(), READY);
    assert_eq!(slow.response().unwrap().header("connection"), Some("close"));
    assert_eq!(first.wait().1, [ANSWERED]);
}

#[test]
fn listen_fds_meant_for_another_process_are_left_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let program = inherit(&listener, "1");
    assert_ne!(program.address, listener.local_addr().unwrap());
}

/// The processes of one process group. They are killed when it is dropped.
struct Group(u32);

impl Drop for Group {
    fn drop(&mut self) {
        let group = format!("-{}", self.0);
        Command::new("kill").args(["-KILL", "--", &group]).status().unwrap();
    }
}

#[test]
fn a_shell_keeps_the_signal_from_its_child() {
    let mut command = Command::new("sh");
    command.args(["-c", r#""$0" "$@"; true"#]);
    command.arg(harness::cargo::program("zero-downtime")).arg("127.0.0.1:0");
    command.process_group(0);
    let (mut shell, lines) = spawn(command);
    let group = Group(shell.id());
    let line = lines.recv_timeout(LIMIT).unwrap();
    let address = line.strip_prefix("listening on http://").unwrap();
    let pid = shell.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(shell.wait().unwrap().signal(), Some(15));
    // The shell is gone, and the server has not heard of it.
    let mut connection = Connection::new(TcpStream::connect(address).unwrap());
    let answer = ask(&mut connection, "/ready");
    assert_eq!(answer.status(), READY);
    assert_eq!(answer.header("connection"), None);
    drop(group);
    assert_eq!(lines.iter().count(), 0, "it was never told to stop");
}

#[test]
fn exec_gives_the_signal_to_the_program() {
    let mut command = Command::new("sh");
    command.args(["-c", r#"exec "$0" "$@""#]);
    command.arg(harness::cargo::program("zero-downtime"));
    let program = Program::listen(command);
    program.signal("TERM");
    assert_eq!(program.line(), STOPPING);
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
    let address = program.address;
    let mut next = Command::new(harness::cargo::program("zero-downtime"));
    next.arg(address.to_string());
    let (mut next, line, status) = thread::scope(|scope| {
        load.start(scope, address, 12, 4);
        let (next, lines) = spawn(next);
        let line = lines.recv_timeout(LIMIT);
        program.signal("TERM");
        let (status, _) = program.wait();
        load.wait_for_answers(load.answered.load(Relaxed) + 100);
        load.over.store(true, Relaxed);
        (next, line, status)
    });
    next.kill().unwrap();
    next.wait().unwrap();
    assert_eq!(line.unwrap(), format!("listening on http://{address}"));
    assert_eq!(status.code(), Some(0));
    assert_eq!((load.lost.into_inner(), load.refused.into_inner()), (0, 0));
}
