//! What src/production/testing.md promises.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::{self, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{self, SystemTime};

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::DATE;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::{Duration, Instant, sleep, sleep_until, timeout};

use harness::block::{tests_of_variant, variant};
use harness::{LIMIT, Prose, page, root, spawn};

/// The program itself.
#[allow(dead_code)]
#[path = "../../production/testing.rs"]
mod program;

fn testing() -> Prose {
    page("production/testing")
}

// The tests of the page, as a reader runs them.

const SERVER: &str = "testing";
const CLIENT: &str = "testing_client";
const PROCESS: &str = "testing_process";

fn source(name: &str) -> String {
    let path = root().join("snippets/production").join(name).with_extension("rs");
    fs::read_to_string(path).unwrap()
}

/// The source with this replaced, which must be there once.
fn changed(source: &str, from: &str, to: &str) -> String {
    assert_eq!(source.matches(from).count(), 1, "`{from}` is there once");
    source.replace(from, to)
}

/// The tests of testing_process.rs; the variable PROGRAM says which program they start.
fn process_tests(name: &str, source: &str) -> PathBuf {
    let path = "std::env::var(\"PROGRAM\").unwrap()";
    let source = changed(source, "env!(\"CARGO_BIN_EXE_testing\")", path);
    tests_of_variant(name, &source)
}

fn command(tests: &Path) -> Command {
    let mut command = Command::new(tests);
    // What proptest finds is no input of the next run.
    command.env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1");
    command
}

/// What this prints, up to its end.
fn output(command: Command) -> Vec<String> {
    let (mut child, lines) = spawn(command);
    let mut all = Vec::new();
    loop {
        match lines.recv_timeout(LIMIT) {
            Ok(line) => all.push(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("the tests do not end:\n{}", all.join("\n"));
            }
        }
    }
    child.wait().unwrap();
    all
}

/// The tests with this result, `ok` or `FAILED`, among these lines.
fn with_result(lines: &[String], result: &str) -> BTreeSet<String> {
    let tests = lines.iter().filter_map(|line| {
        let (name, of_test) = line.strip_prefix("test ")?.split_once(" ... ")?;
        (of_test == result)
            .then(|| name.split("::").last().unwrap().to_owned())
    });
    tests.collect()
}

/// The tests that fail, and how many pass.
fn failing(command: Command) -> (BTreeSet<String>, usize) {
    let lines = output(command);
    assert!(
        lines.iter().any(|line| line.starts_with("test result: ")),
        "the tests run to their end:\n{}",
        lines.join("\n")
    );
    (with_result(&lines, "FAILED"), with_result(&lines, "ok").len())
}

const IN_HANDLER: &str = "it_counts_in_the_handler";
const FRAMES: &str = "frames_do_not_matter";
const OVER_DUPLEX: &str = "it_counts_over_a_duplex";
const OVER_SOCKET: &str = "it_counts_over_a_socket";
const AS_PROCESS: &str = "it_counts_as_a_process";
const HEAD: &str = "half_a_head_is_cut_off_in_time";
const BODY: &str = "half_a_body_is_refused_in_time";

/// The tests of the page that fail if the server is changed like this.
fn fail_if(name: &str, from: &str, to: &str) -> BTreeSet<String> {
    let broken = changed(&source(SERVER), from, to);
    let name = format!("testing_{name}");
    let tests = tests_of_variant(&format!("{name}_tests"), &broken);
    let (mut all, passed) = failing(command(&tests));
    assert_eq!(all.len() + passed, 6);
    let mut process = command(&process_tests("testing_process", &source(PROCESS)));
    process.env("PROGRAM", variant(&name, &broken));
    let (failed, passed) = failing(process);
    assert_eq!(failed.len() + passed, 1);
    all.extend(failed);
    all
}

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

#[test]
fn a_wrong_answer_fails_all_that_count() {
    testing().says("the answer | fails | fails | fails | fails");
    let failed =
        fail_if("answer", r#"format!("{words}\n")),"#, r#"format!("{}\n", words + 1)),"#);
    assert_eq!(
        failed,
        names([IN_HANDLER, FRAMES, OVER_DUPLEX, OVER_SOCKET, AS_PROCESS])
    );
}

#[test]
fn a_wrong_length_passes_in_the_function() {
    testing().says("HTTP, such as the content-length | passes | fails | fails | fails");
    let failed = fail_if(
        "length",
        "let mut response = Response::new(Full::new(text.into()));",
        "let mut response = Response::new(Full::new(text.into()));
         response.headers_mut().insert(\"content-length\", HeaderValue::from_static(\"1\"));",
    );
    assert_eq!(failed, names([OVER_DUPLEX, OVER_SOCKET, AS_PROCESS]));
}

#[test]
fn a_broken_accept_loop_passes_over_a_duplex() {
    testing().says("the accept loop | passes | passes | fails | fails");
    let failed = fail_if("accept", "    loop {\n", "    return;\n    loop {\n");
    assert_eq!(failed, names([OVER_SOCKET, AS_PROCESS]));
}

#[test]
fn a_broken_main_passes_over_a_socket() {
    testing().says("main | passes | passes | passes | fails");
    let failed = fail_if("listening", "listening on http://{}", "ready at http://{}");
    assert_eq!(failed, names([AS_PROCESS]));
    let failed = fail_if(
        "argument",
        r#"nth(1).unwrap_or("127.0.0.1:3000""#,
        r#"nth(2).unwrap_or("127.0.0.1""#,
    );
    assert_eq!(failed, names([AS_PROCESS]));
}

#[test]
fn only_the_property_sees_a_word_in_two_frames() {
    let prose = testing();
    prose.says(
        "If the handler began each frame as if it began a word, all other tests on \
         this page would pass",
    );
    prose.says("minimal failing input: frames = [\"a\", \"a\"]");
    let start = "while let Some(frame) = body.frame().await {";
    let forgets = format!("{start} inside = false;");
    assert_eq!(fail_if("frames", start, &forgets), names([FRAMES]));
    let broken = changed(&source(SERVER), start, &forgets);
    let lines = output(command(&tests_of_variant("testing_frames_tests", &broken)));
    // Each frame is printed on a line of its own.
    let printed = lines.join(" ").split_whitespace().collect::<String>();
    assert!(
        printed.contains("minimalfailinginput:frames=[\"a\",\"a\",]"),
        "{}",
        lines.join("\n")
    );
}

#[test]
fn each_time_limit_has_its_test() {
    let limit = ".header_read_timeout(HEAD)";
    let head = fail_if("head", limit, ".header_read_timeout(None)");
    assert_eq!(head, names([HEAD]));
    let late = fail_if("late_head", limit, ".header_read_timeout(HEAD + BODY / 100)");
    assert_eq!(late, names([HEAD]));
    let body = fail_if("body", "timeout(BODY, words(", "timeout(BODY * 100, words(");
    assert_eq!(body, names([BODY]));
}

#[test]
fn the_tests_of_the_client_fail_with_it() {
    let fail_if = |name: &str, from: &str, to: &str| {
        let broken = changed(&source(CLIENT), from, to);
        let tests = tests_of_variant(&format!("testing_client_{name}"), &broken);
        let (failed, passed) = failing(command(&tests));
        assert_eq!(failed.len() + passed, 2);
        failed
    };
    let half = fail_if(
        "half",
        "let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await?;",
        "let (mut body, mut all) = (response.into_body(), Vec::new());
         while let Some(Ok(frame)) = body.frame().await {
             all.extend(frame.into_data().unwrap_or_default());
         }
         let body = Limited::new(Full::new(Bytes::from(all)), MAX_ANSWER).collect().await?;",
    );
    assert_eq!(half, names(["a_server_that_breaks_off"]));
    let silent = fail_if("silent", "timeout(TIME, exchange(", "timeout(TIME * 3, exchange(");
    assert_eq!(silent, names(["a_server_that_does_not_answer"]));
}

#[test]
fn each_test_is_quick() {
    let [limit, cases] = testing().numbers(
        "none takes more than {} milliseconds, the property below with its {} cases included",
    );
    assert_eq!(u64::from(proptest::test_runner::Config::default().cases), cases);
    let limit = Duration::from_millis(limit);
    let mut count = 0;
    for (name, tests) in [
        (SERVER, tests_of_variant("testing_tests", &source(SERVER))),
        (CLIENT, tests_of_variant("testing_client_tests", &source(CLIENT))),
        (PROCESS, process_tests("testing_process", &source(PROCESS))),
    ] {
        let program = harness::cargo::program("testing");
        let mut list = command(&tests);
        list.arg("--list");
        let list = output(list);
        let list = list.iter().filter_map(|line| line.strip_suffix(": test"));
        for test in list {
            count += 1;
            // The machine may be busy: what counts is the best of some runs.
            let best = (0..20).map(|_| {
                let mut one = command(&tests);
                one.args(["--exact", test]).env("PROGRAM", &program);
                let start = time::Instant::now();
                let (failed, passed) = failing(one);
                assert_eq!((failed, passed), (BTreeSet::new(), 1), "{name}: {test}");
                start.elapsed()
            });
            let mut best = best.inspect(|time| println!("{test}: {time:?}"));
            assert!(best.any(|time| time < limit), "{name}: {test} takes longer");
        }
    }
    assert_eq!(count, 9);
}

// Sockets and processes.

#[tokio::test]
async fn two_tests_cannot_have_the_same_port() {
    let prose = testing();
    let port = prose.number("Bind port {}, and the system chooses a free one") as u16;
    assert_eq!(prose.number("has this port. Use port {}."), u64::from(port));
    prose.says("Address already in use (os error 98)");
    let one = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let other = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    assert_ne!(one.local_addr().unwrap(), other.local_addr().unwrap());
    let error = TcpListener::bind(one.local_addr().unwrap()).await.unwrap_err();
    assert_eq!(error.to_string(), "Address already in use (os error 98)");
}

#[tokio::test]
async fn clients_connect_before_the_first_accept() {
    testing().says(
        "Clients can connect as soon as bind has returned, even before the first accept",
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connect = timeout(LIMIT, TcpStream::connect(address)).await.unwrap();
    connect.expect("nobody has called accept");
}

#[test]
fn the_server_ends_with_the_runtime_of_its_test() {
    testing().says(
        "Nor need it stop the server: each #[tokio::test] has its own runtime, and \
         when that ends, so do its tasks",
    );
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (running, mut over) = oneshot::channel::<()>();
    let mut stream = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            program::run(listener).await;
            drop(running);
        });
        let mut stream = TcpStream::connect(address).await.unwrap();
        let get = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        stream.write_all(get).await.unwrap();
        let read = timeout(LIMIT, stream.read(&mut [0; 1024])).await;
        assert_ne!(read.unwrap().unwrap(), 0);
        stream.into_std().unwrap()
    });
    assert_eq!(over.try_recv(), Err(oneshot::error::TryRecvError::Empty));
    drop(runtime);
    assert_eq!(over.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let read = std::io::Read::read(&mut stream, &mut [0; 1024]);
    assert_eq!(read.unwrap(), 0, "the connection is closed, too");
}

#[test]
fn a_failed_assertion_ends_the_program() {
    testing().says(
        "With kill_on_drop, the program also ends if an assertion fails first",
    );
    let kill = ".kill_on_drop(true)";
    for (name, drop) in [("testing_process_fails", kill), ("testing_process_leaves", "")]
    {
        let fails = "panic!(\"left {}\", child.id().unwrap())";
        let source = changed(&source(PROCESS), "child.kill().await.unwrap()", fails);
        let source = changed(&source, kill, drop);
        let mut tests = command(&process_tests(name, &source));
        tests.env("PROGRAM", harness::cargo::program("testing"));
        // The program has the standard error of its test: the lines end when both have ended.
        let (mut tests, lines) = spawn(tests);
        harness::wait("the end of the test", || tests.try_wait().unwrap().is_some());
        let mut printed = Vec::new();
        while !printed.iter().any(|line: &String| line.starts_with("test result")) {
            printed.push(lines.recv_timeout(LIMIT).unwrap());
        }
        let limit = if drop == kill { LIMIT } else { Duration::from_millis(300) };
        let end = loop {
            if let Err(end) = lines.recv_timeout(limit) {
                break end;
            }
        };
        let id = printed.iter().find_map(|line| line.strip_prefix("left "));
        let id = id.unwrap_or_else(|| panic!("no id in {printed:?}"));
        if drop == kill {
            assert_eq!(end, mpsc::RecvTimeoutError::Disconnected, "it is left");
        } else {
            Command::new("kill").args(["-KILL", id]).status().unwrap();
            assert_eq!(end, mpsc::RecvTimeoutError::Timeout, "nothing is left");
        }
    }
}

#[tokio::test]
async fn kill_ends_one_process_and_waits() {
    testing().says("kill ends this process and no other, and waits for its end");
    let start = async || {
        let mut child = tokio::process::Command::new(harness::cargo::program("testing"))
            .arg("127.0.0.1:0")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = timeout(LIMIT, lines.next_line()).await.unwrap().unwrap().unwrap();
        let address = line.strip_prefix("listening on http://").unwrap();
        let address: SocketAddr = address.parse().unwrap();
        (child, lines, address)
    };
    let (mut one, mut lines, _) = start().await;
    let (mut other, _lines, address) = start().await;
    timeout(LIMIT, one.kill()).await.unwrap().unwrap();
    assert!(one.try_wait().unwrap().is_some(), "it has ended");
    let end = timeout(LIMIT, lines.next_line()).await.unwrap().unwrap();
    assert_eq!(end, None);
    TcpStream::connect(address).await.expect("the other goes on");
    other.kill().await.unwrap();
}

// The client.

#[tokio::test]
async fn a_script_that_does_not_read_gives_another_error() {
    let prose = testing();
    prose.says("Let the script read the request first");
    prose.says("operation was canceled: received unexpected message from connection. The script answers before");
    let (client, mut server) = duplex(1024);
    server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n1").await.unwrap();
    let (mut sender, conn) =
        handshake::<_, Empty<Bytes>>(TokioIo::new(client)).await.unwrap();
    tokio::spawn(conn);
    let error = sender.send_request(Request::new(Empty::new())).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap();
    assert_eq!(
        format!("{error}: {cause}"),
        "operation was canceled: received unexpected message from connection"
    );
}

// Time.

/// A runtime with a paused clock, and what its test returns.
fn paused<T>(test: impl Future<Output = T>) -> T {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(test)
}

#[test]
fn the_clock_does_not_wait_for_a_socket() {
    testing().says("wait for a socket, or a thread of your own | the clock jumps, and a timeout around the wait fires at once");
    let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (answer, may_answer) = mpsc::channel();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        may_answer.recv_timeout(LIMIT).unwrap();
        stream.write_all(b"!").unwrap();
    });
    paused(async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let (real, start) = (time::Instant::now(), Instant::now());
        let hour = Duration::from_secs(3600);
        let late = timeout(hour, stream.read_u8()).await;
        late.expect_err("the hour is over");
        assert_eq!(start.elapsed(), hour);
        assert!(real.elapsed() < LIMIT);
        answer.send(()).unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'!');
    });
    server.join().unwrap();
}

#[test]
fn the_clock_does_not_wait_for_a_thread() {
    let (sender, receiver) = oneshot::channel();
    let (over, is_over) = mpsc::channel();
    let other = thread::spawn(move || {
        is_over.recv_timeout(LIMIT).expect("the timeout fires at once");
        sender.send(()).expect_err("nobody waits any more");
    });
    let late =
        paused(async { timeout(Duration::from_secs(3600), receiver).await });
    late.expect_err("the hour is over");
    over.send(()).unwrap();
    other.join().unwrap();
}

#[test]
fn the_clock_waits_for_spawn_blocking() {
    testing().says("wait for spawn_blocking | the clock stands still while it runs, so a timeout around it does not fire");
    paused(async {
        let start = Instant::now();
        let (timer, fires) = mpsc::channel();
        tokio::spawn(async move {
            sleep(Duration::from_millis(1)).await;
            timer.send(()).ok();
        });
        // The timer of a millisecond has a hundred of them.
        let blocking = spawn_blocking(move || {
            fires.recv_timeout(Duration::from_millis(100))
        });
        let result = timeout(Duration::from_millis(1), blocking).await;
        let result = result.expect("the timeout does not fire").unwrap();
        result.expect_err("nor does any other timer");
        assert_eq!(start.elapsed(), Duration::ZERO);
    });
}

#[test]
fn a_test_without_a_timer_hangs() {
    testing().says("wait for something that never comes, without a timer | the test hangs");
    let (stop, stopped) = oneshot::channel();
    let test = thread::spawn(|| {
        paused(async {
            let (mut client, _server) = duplex(1024);
            tokio::select! {
                _ = client.read_u8() => "read",
                _ = stopped => "stopped",
            }
        })
    });
    thread::sleep(Duration::from_millis(300));
    assert!(!test.is_finished(), "it waits for ever");
    stop.send(()).unwrap();
    assert_eq!(test.join().unwrap(), "stopped");
}

#[test]
fn a_timeout_ends_such_a_test() {
    testing().says("Put a timeout around the wait, as above");
    paused(async {
        let (mut client, _server) = duplex(1024);
        let limit = Duration::from_secs(3600);
        timeout(limit, client.read_u8()).await.expect_err("nothing comes");
    });
}

async fn get(sender: &mut SendRequest<Empty<Bytes>>) -> Response<Incoming> {
    sender.ready().await.unwrap();
    sender.send_request(Request::new(Empty::new())).await.unwrap()
}

#[test]
fn other_clocks_show_the_real_time() {
    testing().says("read SystemTime, std::time::Instant or hyper’s date header | they show the real time");
    paused(async {
        let (client, server) = duplex(1024);
        tokio::spawn(program::serve(server));
        let (mut sender, conn) = handshake(TokioIo::new(client)).await.unwrap();
        tokio::spawn(conn);
        let date = |response: &Response<Incoming>| {
            let date = response.headers()[DATE].to_str().unwrap();
            httpdate::parse_http_date(date).unwrap()
        };
        let (system, instant, start) =
            (SystemTime::now(), time::Instant::now(), Instant::now());
        let response = get(&mut sender).await;
        let before = date(&response);
        response.into_body().collect().await.unwrap();
        // Less than the connection may be idle.
        let later = start + Duration::from_secs(9);
        sleep_until(later).await;
        let response = get(&mut sender).await;
        assert_eq!(start.elapsed(), Duration::from_secs(9));
        let real = instant.elapsed();
        assert!(real < Duration::from_secs(7), "the machine is too busy: {real:?}");
        assert!(system.elapsed().unwrap() < Duration::from_secs(8));
        let dates = date(&response).duration_since(before).unwrap();
        // Dates have whole seconds.
        assert!(dates <= real + Duration::from_secs(1), "{dates:?}");
    });
}

/// What this thread says when it panics.
fn panic_of(thread: thread::JoinHandle<()>) -> String {
    let panic = thread.join().expect_err("it panics");
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref().cloned()).expect("a panic with a text")
}

#[test]
fn several_threads_cannot_have_a_paused_clock() {
    testing().says("use a runtime with several threads | a panic");
    let panics = thread::spawn(|| {
        let runtime = runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::pause() });
    });
    let message = "`time::pause()` requires the `current_thread` Tokio runtime.";
    assert!(panic_of(panics).starts_with(message));
}

#[test]
fn a_runtime_within_a_runtime() {
    testing().says("Cannot start a runtime from within a runtime.");
    let panics = thread::spawn(|| paused(async { paused(async {}) }));
    let message = "Cannot start a runtime from within a runtime.";
    assert!(panic_of(panics).starts_with(message));
}

/// The limits that the page names.
#[test]
fn the_head_has_ten_seconds() {
    let head = testing().number("so the {} seconds of this limit take no time");
    assert_eq!(program::HEAD, Duration::from_secs(head));
}

// Load.

#[test]
fn a_tester_that_waits_omits_what_the_others_see() {
    let [stall, slow, rate, seen] = testing().numbers(
        "If the server stands still for {} second, such a tester sees {} slow request, where clients that send {} requests per second would have seen {}",
    );
    let stall = Duration::from_secs(stall);
    let pause = Duration::from_secs(1) / rate as u32;
    paused(async {
        // A server that stands still from its second second on.
        let start = Instant::now();
        let from = start + Duration::from_secs(1);
        let answer = async move || {
            if Instant::now() >= from {
                sleep_until(from + stall).await;
            }
        };
        let is_slow = |sent: Instant| sent.elapsed() > Duration::ZERO;
        let waiting = tokio::spawn(async move {
            let mut slow = 0;
            while start.elapsed() < Duration::from_secs(4) {
                let sent = Instant::now();
                answer().await;
                slow += u64::from(is_slow(sent));
                sleep_until(sent.max(Instant::now()) + pause).await;
            }
            slow
        });
        let steady = (0..4 * rate as u32).map(|index| {
            tokio::spawn(async move {
                let sent = start + index * pause;
                sleep_until(sent).await;
                answer().await;
                u64::from(is_slow(sent))
            })
        });
        let steady: Vec<_> = steady.collect();
        let mut sum = 0;
        for request in steady {
            sum += request.await.unwrap();
        }
        assert_eq!((waiting.await.unwrap(), sum), (slow, seen));
    });
}
