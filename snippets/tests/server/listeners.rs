//! What src/server/listeners.md promises.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::time::Duration;

use http_body_util::Empty;
use hyper::Response;
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::{Domain, SockFilter, SockRef, Socket, TcpKeepalive, Type};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use harness::{LIMIT, Program, page, spawn, wait};

use crate::server::graceful_shutdown_connections::read_by_the_server;

#[allow(dead_code)]
#[path = "../../server/listeners.rs"]
mod program;

const NAME: &str = "listeners";

/// A folder for a socket, and the path of the socket in it.
fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.sock");
    (folder, path)
}

/// The program on a free port and on one more address. The second line says where that is.
fn start_with(address: &str) -> (Program, String) {
    start_after("", address)
}

/// The same, after these commands of the shell.
fn start_after(commands: &str, address: &str) -> (Program, String) {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{commands}\nexec \"$0\" \"$2\" \"$1\"")]);
    let program = Program::listen({
        command.arg(harness::cargo::program(NAME)).arg(address);
        command
    });
    let line = program.line();
    let address = line.strip_prefix("listening on ");
    let address =
        address.unwrap_or_else(|| panic!("it listens on {address:?}: {line}"));
    (program, address.to_owned())
}

fn unix(path: &Path) -> String {
    format!("unix:{}", path.display())
}

/// The program on a Unix socket.
fn start_unix(path: &Path) -> Program {
    let (program, address) = start_with(&unix(path));
    assert_eq!(address, unix(path));
    program
}

/// Runs the program, which must not start: what it prints.
fn refused(addresses: &[&str]) -> String {
    let mut command = Command::new(harness::cargo::program(NAME));
    command.args(addresses);
    fails(command)
}

fn fails(command: Command) -> String {
    let (mut child, lines) = spawn(command);
    let line = lines.recv_timeout(LIMIT).expect("the program says why it fails");
    if line.starts_with("listening on") {
        child.kill().ok();
    }
    wait("the end of the program", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(1), "{line}");
    line
}

/// Asks, and gives the body of the answer.
fn ask(mut stream: impl Read + Write) -> String {
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let body = answer.strip_prefix("HTTP/1.1 200 OK\r\n").expect(&answer);
    body.split_once("\r\n\r\n").unwrap().1.to_owned()
}

fn ask_tcp(address: SocketAddr) -> String {
    let stream = TcpStream::connect(address)
        .unwrap_or_else(|error| panic!("no connection to {address}: {error}"));
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    ask(stream)
}

fn ask_unix(path: &Path) -> String {
    let stream = UnixStream::connect(path).unwrap_or_else(|error| {
        panic!("no connection to {}: {error}", path.display())
    });
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    ask(stream)
}

/// The port at the end of `http://[::]:3000`.
fn port(address: &str) -> u16 {
    address.rsplit_once(':').unwrap().1.parse().unwrap()
}

fn v4(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn v6(port: u16) -> SocketAddr {
    (Ipv6Addr::LOCALHOST, port).into()
}

/// # Panics
///
/// On a machine without IPv6, where the test that needs it can show nothing.
fn needs_ipv6() {
    if let Err(error) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
        panic!(
            "this test needs IPv6, and this machine has no ::1 ({error}): see /proc/net/if_inet6"
        );
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

fn me() -> String {
    let user = fs::metadata("/proc/self").unwrap().uid();
    format!("you are user {user}, process {}\n", process::id())
}

// One service on many addresses.

#[test]
fn one_service_answers_on_tcp_ipv6_and_a_unix_socket() {
    needs_ipv6();
    let (_folder, path) = folder();
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$2\" '[::1]:0' '*:0' \"$1\""]);
    command.arg(harness::cargo::program(NAME)).arg(unix(&path));
    let program = Program::listen(command);
    let six = port(program.line().strip_prefix("listening on http://[::1]").unwrap());
    let both = port(program.line().strip_prefix("listening on http://[::]").unwrap());
    assert_eq!(program.line(), format!("listening on {}", unix(&path)));
    let any = page("server/listeners")
        .number("With port {} the system chooses a free port");
    assert_eq!(any, 0, "the port that the program was given");
    assert!(
        ![program.address.port(), six, both].contains(&0),
        "the port that it prints"
    );

    assert_eq!(ask_tcp(program.address), "you are 127.0.0.1\n");
    assert_eq!(ask_tcp(v6(six)), "you are ::1\n");
    assert_eq!(ask_tcp(v4(both)), "you are 127.0.0.1\n");
    assert_eq!(ask_tcp(v6(both)), "you are ::1\n");
    assert_eq!(ask_unix(&path), me());
}

#[test]
fn an_ipv6_address_takes_ipv6_only_and_a_star_takes_both() {
    needs_ipv6();
    // The same port of IPv4 is free, unless another program happens to have it.
    let free = (0..5).any(|_| {
        let (program, address) = start_with("[::]:0");
        let port = port(&address);
        assert_eq!(ask_tcp(v6(port)), "you are ::1\n");
        let listener = TcpListener::bind(v4(port));
        drop(program);
        listener.is_ok()
    });
    assert!(free, "the socket of [::] takes IPv4 as well");

    let (_program, address) = start_with("*:0");
    let taken = TcpListener::bind(v4(port(&address))).unwrap_err();
    assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn one_port_for_ipv4_and_ipv6_on_two_sockets() {
    needs_ipv6();
    let started = (0..5).any(|_| {
        let (first, address) = start_with("[::]:0");
        let port = port(&address);
        drop(first);
        let mut command = Command::new(harness::cargo::program(NAME));
        command.args([format!("0.0.0.0:{port}"), format!("[::]:{port}")]);
        let (mut child, lines) = spawn(command);
        let next = || lines.recv_timeout(LIMIT).unwrap();
        let started = next() == format!("listening on http://0.0.0.0:{port}")
            && next() == format!("listening on http://[::]:{port}");
        if started {
            assert_eq!(ask_tcp(v4(port)), "you are 127.0.0.1\n");
            assert_eq!(ask_tcp(v6(port)), "you are ::1\n");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        started
    });
    assert!(started, "0.0.0.0 and [::] cannot have the same port");
}

#[test]
fn curl_asks_through_the_unix_socket() {
    let (_folder, path) = folder();
    let _program = start_unix(&path);
    let mut curl = Command::new("curl");
    curl.args(["-q", "--max-time", "20", "--silent", "--show-error"]);
    curl.arg("--unix-socket").arg(&path).arg("http://localhost/");
    let output = curl.output().expect("curl is installed");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with("you are user "), "{output:?}");
}

// The file of a Unix socket.

#[test]
fn a_unix_socket_has_its_mode_whatever_the_umask() {
    for umask in ["000", "022", "077"] {
        let (_folder, path) = folder();
        let (_program, _) = start_after(&format!("umask {umask}"), &unix(&path));
        assert_eq!(mode(&path), program::MODE, "with umask {umask}");
    }
}

#[tokio::test]
async fn nobody_can_connect_before_the_mode_is_set() {
    let (_folder, path) = folder();
    let (socket, file) = program::bind_unix(&path).await.unwrap();
    // As long as it does not listen nobody gets in, and by then it has its mode.
    assert_eq!(mode(&path), program::MODE);
    let error = UnixStream::connect(&path).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    let _listener = socket.listen(program::BACKLOG).unwrap();
    UnixStream::connect(&path).unwrap();
    drop(file);
}

#[test]
fn the_file_of_a_crashed_server_is_replaced() {
    let (_folder, path) = folder();
    let program = start_unix(&path);
    let inode = fs::metadata(&path).unwrap().ino();
    drop(program); // by SIGKILL
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode, "the crash left a file");
    let error = UnixStream::connect(&path).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    let _program = start_unix(&path);
    assert_eq!(ask_unix(&path), me());
}

#[test]
fn the_socket_of_a_running_server_is_not_taken() {
    let (_folder, path) = folder();
    let _program = start_unix(&path);
    let expected = format!("Error: \"{}: address in use\"", unix(&path));
    assert_eq!(refused(&[&unix(&path)]), expected);
    assert_eq!(ask_unix(&path), me());
}

#[test]
fn what_another_program_has_at_the_path_stays() {
    let (_folder, path) = folder();
    let in_use =
        format!("Error: \"{}: Address already in use (os error 98)\"", unix(&path));
    // A socket that somebody listens on, without our lock.
    let listener = UnixListener::bind(&path).unwrap();
    assert_eq!(refused(&[&unix(&path)]), in_use);
    UnixStream::connect(&path).expect("it is there as before");
    drop(listener);
    fs::remove_file(&path).unwrap();
    // A file, to which nobody can connect either.
    fs::write(&path, "data").unwrap();
    assert_eq!(refused(&[&unix(&path)]), in_use);
    assert_eq!(fs::read(&path).unwrap(), b"data");
    // The same behind a link.
    let link = path.with_extension("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    refused(&[&unix(&link)]);
    assert_eq!(fs::read(&link).unwrap(), b"data");
}

#[tokio::test]
async fn of_two_servers_that_start_at_once_one_gets_the_socket() {
    let (_folder, path) = folder();
    // A stale file, which both want to replace.
    drop(UnixListener::bind(&path).unwrap());
    let (socket, _file) = program::bind_unix(&path).await.unwrap();
    // The first one does not listen yet, and looks as stale as the old file.
    let error = UnixStream::connect(&path).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    let second = program::bind_unix(&path).await.err();
    let second = second.expect("the second one takes the socket of the first");
    assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
    let _listener = socket.listen(program::BACKLOG).unwrap();
    UnixStream::connect(&path).expect("the first one has it");
}

#[test]
fn at_the_end_the_file_is_removed() {
    for signal in ["INT", "TERM"] {
        let (_folder, path) = folder();
        let mut program = start_unix(&path);
        let mut idle = UnixStream::connect(&path).unwrap();
        idle.set_read_timeout(Some(LIMIT)).unwrap();
        program.signal(signal);
        let (status, printed) = program.wait();
        assert_eq!((status.code(), printed), (Some(0), vec![]));
        assert!(!path.exists());
        assert_eq!(idle.read(&mut [0]).unwrap_or(0), 0);
    }
}

/// A client that has sent half of a request, when the server has got the signal.
fn half_a_request_at_the_signal(program: &Program) -> TcpStream {
    let mut client = TcpStream::connect(program.address).unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: ").unwrap();
    read_by_the_server(&client);
    program.signal("TERM");
    wait("the listener to be closed", || {
        TcpStream::connect(program.address).is_err()
    });
    client
}

#[test]
fn a_request_in_flight_is_answered_after_the_signal() {
    let mut program = Program::start(NAME);
    let mut client = half_a_request_at_the_signal(&program);
    client.write_all(b"x\r\n\r\n").expect("the connection is open");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("the request is answered");
    assert!(answer.ends_with("you are 127.0.0.1\n"), "{answer:?}");
    let (status, printed) = program.wait();
    assert_eq!((status.code(), printed), (Some(0), vec![]));
}

#[test]
fn at_the_deadline_requests_in_flight_are_cut_off() {
    let path = harness::root().join("snippets/server/listeners.rs");
    let text = fs::read_to_string(path).unwrap();
    let deadline = "DRAIN_DEADLINE: Duration = Duration::from_secs(10)";
    assert!(text.contains(deadline), "the deadline is set elsewhere now");
    let short = "DRAIN_DEADLINE: Duration = Duration::from_millis(100)";
    let binary = harness::block::variant("listeners", &text.replace(deadline, short));
    let mut program = Program::listen(Command::new(binary));
    let mut client = half_a_request_at_the_signal(&program);
    let (status, printed) = program.wait();
    let error = "Error: \"some connections were cut off at the deadline\"";
    assert_eq!((status.code(), printed), (Some(1), vec![error.to_owned()]));
    assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);
}

#[test]
fn at_the_end_the_socket_of_another_program_stays() {
    let (_folder, path) = folder();
    let mut program = start_unix(&path);
    // Another program takes the path, without a look at who has it.
    fs::remove_file(&path).unwrap();
    let _listener = UnixListener::bind(&path).unwrap();
    program.signal("TERM");
    let (status, printed) = program.wait();
    assert_eq!((status.code(), printed), (Some(0), vec![]));
    UnixStream::connect(&path).expect("the socket of the other program is there");
}

#[test]
fn only_the_user_can_lock_the_socket() {
    let (_folder, path) = folder();
    let (_program, _) = start_after("umask 000", &unix(&path));
    assert_eq!(mode(&path.with_extension("sock.lock")), 0o600);
}

#[test]
fn the_error_names_a_lock_that_cannot_be_opened() {
    let (_folder, path) = folder();
    let lock = path.with_extension("sock.lock");
    fs::create_dir(&lock).unwrap();
    let expected = format!(
        "Error: \"{}: {}: Is a directory (os error 21)\"",
        unix(&path),
        lock.display()
    );
    assert_eq!(refused(&[&unix(&path)]), expected);
}

#[test]
fn a_listener_that_fails_ends_the_program() {
    let (folder, path) = folder();
    // Nobody reads what the program reports, so that reporting an error panics.
    let pipe = folder.path().join("errors");
    let pipe = pipe.display();
    let commands = format!("mkfifo {pipe}; : <{pipe} & exec 2>{pipe}; ulimit -n 24");
    let (mut program, _) = start_after(&commands, &unix(&path));
    let _clients: Vec<_> =
        (0..24).map_while(|_| UnixStream::connect(&path).ok()).collect();
    let (status, _) = program.wait();
    assert_eq!(status.code(), Some(1), "a supervisor sees that it has failed");
}

#[test]
fn a_server_that_does_not_start_leaves_no_socket() {
    let (_folder, path) = folder();
    let error = refused(&[&unix(&path), "192.0.2.1:0"]);
    assert_eq!(
        error,
        "Error: \"192.0.2.1:0: Cannot assign requested address (os error 99)\""
    );
    assert!(!path.exists());
}

// The options of the sockets.

#[tokio::test]
async fn a_connection_has_the_options_of_its_listener() {
    let listener = program::listen_tcp(v4(0), true).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert!(!client.nodelay().unwrap(), "it is not the default");
    let (stream, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    let socket = SockRef::from(&stream);
    assert!(socket.tcp_nodelay().unwrap());
    assert!(socket.keepalive().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), program::ASK_AFTER);
    assert_eq!(socket.tcp_keepalive_interval().unwrap(), program::ASK_EVERY);
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), program::ASK_TIMES);
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(program::USER_TIMEOUT));
    assert!(
        program::USER_TIMEOUT
            >= program::ASK_AFTER + program::ASK_EVERY * program::ASK_TIMES,
        "the connection ends before the last question of keep-alive"
    );
}

/// A client whose network is gone: from now on its system sees no packet of the server.
fn vanish(client: &TcpStream) {
    let drop_all = SockFilter::new(0x06, 0, 0, 0);
    SockRef::from(client).attach_filter(&[drop_all]).unwrap();
}

/// Serves a client that vanishes, on a connection with these options, until the connection ends. hyper
/// has no time limit here.
async fn serve_a_client_that_vanishes(options: impl Fn(&SockRef), request: &str) {
    let listener = tokio::net::TcpListener::bind(v4(0)).await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (stream, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    options(&SockRef::from(&stream));
    vanish(&client);
    client.write_all(request.as_bytes()).unwrap();
    let conn = http1::Builder::new().serve_connection(
        TokioIo::new(stream),
        service_fn(async |_| {
            Ok::<_, io::Error>(Response::new(Empty::<Bytes>::new()))
        }),
    );
    let end = timeout(LIMIT, conn).await;
    // For hyper this is the end of an idle connection, and no error.
    end.expect("the connection of a client that is gone ends").unwrap();
}

#[tokio::test]
async fn keep_alive_finds_a_silent_client_that_is_gone() {
    let second = Duration::from_secs(1);
    let keepalive =
        TcpKeepalive::new().with_time(second).with_interval(second).with_retries(1);
    let options = |socket: &SockRef| socket.set_tcp_keepalive(&keepalive).unwrap();
    serve_a_client_that_vanishes(options, "").await;
}

#[tokio::test]
async fn a_client_that_acknowledges_nothing_is_given_up() {
    let limit = Some(Duration::from_millis(500));
    let options = |socket: &SockRef| socket.set_tcp_user_timeout(limit).unwrap();
    let request = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    serve_a_client_that_vanishes(options, request).await;
}

#[tokio::test]
async fn a_short_user_timeout_overrules_the_number_of_questions() {
    let second = Duration::from_secs(1);
    // All questions take longer than this test may.
    let keepalive =
        TcpKeepalive::new().with_time(second).with_interval(second).with_retries(127);
    let options = |socket: &SockRef| {
        socket.set_tcp_keepalive(&keepalive).unwrap();
        socket.set_tcp_user_timeout(Some(Duration::from_millis(500))).unwrap();
    };
    serve_a_client_that_vanishes(options, "").await;
}

#[tokio::test]
async fn a_live_client_that_does_not_read_is_cut_off_too() {
    let listener = tokio::net::TcpListener::bind(v4(0)).await.unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut stream, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    let limit = Some(Duration::from_millis(500));
    SockRef::from(&stream).set_tcp_user_timeout(limit).unwrap();
    let writing = async {
        loop {
            if let Err(error) = stream.write_all(&[0; 64 * 1024]).await {
                return error.kind();
            }
        }
    };
    let end = timeout(LIMIT, writing).await.expect("the connection ends");
    assert_eq!(end, io::ErrorKind::TimedOut);
}

/// How many clients Linux connects to a socket that accepts none: so many at least. The next one waits.
fn backlog(address: SocketAddr, least: usize) -> usize {
    let mut waiting = Vec::new();
    loop {
        // Only a client that may find the backlog full is given up soon.
        let full = waiting.len() >= least;
        let limit = if full { Duration::from_millis(200) } else { LIMIT };
        match TcpStream::connect_timeout(&address, limit) {
            Ok(stream) => waiting.push(stream),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                return waiting.len();
            }
        }
        assert!(waiting.len() < 1000, "the backlog takes all");
    }
}

#[tokio::test]
async fn with_a_full_backlog_a_tcp_client_waits() {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&v4(0).into()).unwrap();
    listener.listen(5).unwrap();
    // Linux takes one more, and others while the last handshakes are under way.
    let count = backlog(listener.local_addr().unwrap().as_socket().unwrap(), 6);
    assert!((6..16).contains(&count), "{count}");

    let default = page("server/listeners").number("TcpListener::bind asks for {}");
    let default = default as usize;
    let listener = tokio::net::TcpListener::bind(v4(0)).await.unwrap();
    let count = backlog(listener.local_addr().unwrap(), default + 1);
    assert!((default + 1..default + 16).contains(&count), "{count}");
}

#[tokio::test]
async fn with_a_full_backlog_a_unix_client_that_does_not_block_gets_an_error() {
    let (_folder, path) = folder();
    let socket = tokio::net::UnixSocket::new_stream().unwrap();
    socket.bind(&path).unwrap();
    let listener = socket.listen(1).unwrap();
    let mut waiting = Vec::new();
    let error = loop {
        match tokio::net::UnixStream::connect(&path).await {
            Ok(stream) => waiting.push(stream),
            Err(error) => break error,
        }
        assert!(waiting.len() < 10, "the backlog takes all");
    };
    assert_eq!(error.to_string(), "Resource temporarily unavailable (os error 11)");
    // The program does not take that for a server that has crashed.
    let taken = program::bind_unix(&path).await.err().expect("the socket is in use");
    assert_eq!(taken.to_string(), "Address already in use (os error 98)");
    timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    tokio::net::UnixStream::connect(&path).await.expect("it is there as before");
}

#[test]
fn listeners_that_share_a_port_share_the_clients_even_if_one_does_not_accept() {
    let listen = |address: SocketAddr| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(1024).unwrap();
        socket.set_nonblocking(true).unwrap();
        TcpListener::from(socket)
    };
    let first = listen(v4(0));
    let address = first.local_addr().unwrap();
    let listeners = [first, listen(address)];
    let clients: Vec<_> =
        (0..64).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut accepted = [0, 0];
    wait("all clients", || {
        for (listener, count) in listeners.iter().zip(&mut accepted) {
            while listener.accept().is_ok() {
                *count += 1;
            }
        }
        accepted[0] + accepted[1] == clients.len()
    });
    assert!(!accepted.contains(&0), "one listener has all clients");
}

// What goes wrong.

#[test]
fn an_address_that_is_taken() {
    let program = Program::start(NAME);
    let address = program.address.to_string();
    let text = format!("Error: \"{address}: Address already in use (os error 98)\"");
    assert_eq!(refused(&[&address]), text);
    let both = format!("*:{}", program.address.port());
    let text = format!("Error: \"{both}: Address already in use (os error 98)\"");
    assert_eq!(refused(&[&both]), text);
}

#[test]
fn a_path_that_is_too_long() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x".repeat(108));
    let text =
        format!("Error: \"{}: path must be shorter than SUN_LEN\"", unix(&path));
    assert_eq!(refused(&[&unix(&path)]), text);
}

#[test]
fn a_low_port_needs_a_privilege() {
    let first: u16 =
        fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
            .expect("Linux says which ports are free for all")
            .trim()
            .parse()
            .unwrap();
    let mut command = Command::new(harness::cargo::program(NAME));
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        command.uid(65534).gid(65534);
    }
    // Containers often free all ports: then there is none that needs the privilege.
    if first > 1 {
        let address = format!("127.0.0.1:{}", first - 1);
        command.arg(&address);
        let text = format!("Error: \"{address}: Permission denied (os error 13)\"");
        assert_eq!(fails(command), text);
    } else {
        command.arg("127.0.0.1:1");
        let (mut child, lines) = spawn(command);
        let line = lines.recv_timeout(LIMIT);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(line.unwrap(), "listening on http://127.0.0.1:1");
    }
}

#[test]
fn a_unix_listener_survives_without_descriptors() {
    let (_folder, path) = folder();
    let (program, _) = start_after("ulimit -n 24", &unix(&path));
    let mut clients: Vec<_> =
        (0..24).map(|_| UnixStream::connect(&path).unwrap()).collect();
    assert_eq!(program.line(), "accept failed: Too many open files (os error 24)");
    let last = clients.pop().unwrap();
    drop(clients);
    last.set_read_timeout(Some(LIMIT)).unwrap();
    assert_eq!(ask(last), me());
}

#[test]
fn an_address_of_another_machine_and_a_name() {
    for (address, text) in [
        ("192.0.2.1:0", "Cannot assign requested address (os error 99)"),
        ("localhost:0", "invalid socket address syntax"),
    ] {
        assert_eq!(refused(&[address]), format!("Error: \"{address}: {text}\""));
    }
}
