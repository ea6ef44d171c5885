//! What src/server/server-sent-events.md promises.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::yield_now;
use tokio::time::{Instant, timeout};

use harness::{Answer, Connection, LIMIT, Program, Prose, page, wait};

/// The program itself, for its pieces.
#[allow(dead_code)]
#[path = "../../server/server_sent_events.rs"]
mod program;

use program::{History, handle, subscribe};

const RETRY: &str = "retry: 2000\n\n";

fn sse() -> Prose {
    page("server/server-sent-events")
}

fn kept() -> u64 {
    sse().number("The program keeps the last {} events")
}

// On the running program.

/// A stream of events, from after this one, or from now on.
fn listen(program: &Program, last: Option<u64>) -> Connection {
    let mut connection = program.connect();
    let last = last.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
    connection.send(format!("GET /events HTTP/1.1\r\nhost: x\r\n{last}\r\n"));
    let head = connection.head().unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    if let Some((_, id)) = last.split_once(": ") {
        let next = id.trim().parse::<u64>().unwrap().saturating_add(1);
        let line = format!("a client listens from event {next} on");
        // A client that has left is logged if a write to it came before its end was read.
        wait("the log to say where it begins", || program.line() == line);
    }
    assert_eq!(event(&mut connection), RETRY);
    connection
}

/// The next event of a stream.
fn event(connection: &mut Connection) -> String {
    String::from_utf8(connection.chunk().unwrap().expect("the stream goes on"))
        .unwrap()
}

fn publish(program: &Program, text: &str) {
    let answer = post(program, text.as_bytes());
    assert_eq!(answer.status(), "HTTP/1.1 202 Accepted");
}

fn post(program: &Program, body: &[u8]) -> Answer {
    let mut connection = program.connect();
    let length = body.len();
    connection.send(format!(
        "POST /events HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n"
    ));
    connection.send(body);
    connection.response().unwrap()
}

#[test]
fn each_event_reaches_everyone_before_the_next_is_made() {
    let program = Program::start("server-sent-events");
    let mut clients = [listen(&program, None), listen(&program, None)];
    for id in 1..=3 {
        publish(&program, &format!("event {id}"));
        for client in &mut clients {
            assert_eq!(event(client), format!("id: {id}\ndata: event {id}\n\n"));
        }
    }
}

#[test]
fn a_stream_says_what_it_is_and_that_nobody_may_keep_it() {
    let program = Program::start("server-sent-events");
    let mut connection = program.connect();
    connection.get("/events");
    let head = connection.head().unwrap();
    for line in [
        "content-type: text/event-stream\r\n",
        "cache-control: no-cache\r\n",
        "x-accel-buffering: no\r\n",
    ] {
        assert!(head.contains(line), "{head}");
    }
}

#[test]
fn a_client_that_comes_back_gets_what_it_missed() {
    let program = Program::start("server-sent-events");
    let mut client = listen(&program, None);
    for id in 1..=2 {
        publish(&program, &format!("event {id}"));
    }
    assert!(event(&mut client).starts_with("id: 1\n"));
    drop(client);
    publish(&program, "event 3");
    let mut client = listen(&program, Some(1));
    assert_eq!(event(&mut client), "id: 2\ndata: event 2\n\n");
    assert_eq!(event(&mut client), "id: 3\ndata: event 3\n\n");
    publish(&program, "event 4");
    assert_eq!(event(&mut client), "id: 4\ndata: event 4\n\n");

    // Others begin with what comes next.
    let mut client = listen(&program, None);
    publish(&program, "event 5");
    assert_eq!(event(&mut client), "id: 5\ndata: event 5\n\n");

    // An id of another run.
    let _clients = [6, 1_000_000, u64::MAX].map(|id| {
        let mut client = listen(&program, Some(id));
        assert_eq!(event(&mut client), "id: 1\ndata: event 1\n\n");
        client
    });
}

#[test]
fn lines_and_nothing_but_utf_8() {
    let program = Program::start("server-sent-events");
    let mut client = listen(&program, None);
    for (text, data) in [
        ("", "data: \n"),
        (
            "one\ntwo\r\nthree\rfour\n",
            "data: one\ndata: two\ndata: three\ndata: four\ndata: \n",
        ),
        (" größer: ja\n\nid: 7", "data:  größer: ja\ndata: \ndata: id: 7\n"),
    ] {
        publish(&program, text);
        let event = event(&mut client);
        let (id, rest) = event.split_once('\n').unwrap();
        assert!(id.starts_with("id: "), "{event}");
        assert_eq!(rest, format!("{data}\n"));
    }
    let answer = post(&program, b"caf\xe9");
    assert_eq!(answer.status(), "HTTP/1.1 400 Bad Request");
}

#[test]
fn too_long_an_event_is_refused() {
    let program = Program::start("server-sent-events");
    let mut body = vec![b'.'; 16 * 1024];
    assert_eq!(post(&program, &body).status(), "HTTP/1.1 202 Accepted");
    body.push(b'.');
    assert_eq!(post(&program, &body).status(), "HTTP/1.1 413 Payload Too Large");
}

#[test]
fn a_stop_ends_the_streams_after_their_last_event() {
    let mut program = Program::start("server-sent-events");
    let mut clients = [listen(&program, Some(0)), listen(&program, Some(0))];
    publish(&program, "the last event");
    program.signal("INT");
    for client in &mut clients {
        assert_eq!(event(client), "id: 1\ndata: the last event\n\n");
        assert_eq!(client.chunk().unwrap(), None, "the stream ends properly");
    }
    let (status, lines) = program.wait();
    assert!(status.success());
    assert_eq!(lines, [""; 0]);
}

#[test]
fn a_client_that_leaves_is_no_error() {
    let mut program = Program::start("server-sent-events");
    drop(listen(&program, Some(0)));
    program.signal("INT");
    let (status, lines) = program.wait();
    assert!(status.success());
    let logged = lines.iter().any(|line| line.contains("before message completed"));
    assert!(!logged, "{lines:?}");
}

// The pieces of the program.

/// A subscriber with a channel in place of the body.
fn subscriber(history: &watch::Sender<History>, seen: u64) -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(subscribe(history.subscribe(), seen, sender));
    receiver
}

async fn next(receiver: &mut mpsc::Receiver<Bytes>) -> String {
    let piece = timeout(LIMIT, receiver.recv()).await.expect("an event comes");
    String::from_utf8(piece.expect("the stream goes on").to_vec()).unwrap()
}

fn push(history: &watch::Sender<History>, count: u64) {
    for _ in 0..count {
        history.send_modify(|history| history.push("x"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_too_late_is_told_how_much_it_missed() {
    let history = watch::Sender::new(History::default());
    push(&history, kept() + 20);
    for (seen, missed) in [(0, Some(20)), (19, Some(1)), (20, None)] {
        let mut client = subscriber(&history, seen);
        assert_eq!(next(&mut client).await, RETRY);
        if let Some(missed) = missed {
            assert_eq!(
                next(&mut client).await,
                format!("event: missed\ndata: {missed}\n\n")
            );
        }
        for id in 21..=kept() + 20 {
            assert_eq!(next(&mut client).await, format!("id: {id}\ndata: x\n\n"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_misses_events_and_holds_up_nobody() {
    let history = watch::Sender::new(History::default());
    let mut slow = subscriber(&history, 0);
    let mut quick = subscriber(&history, 0);
    assert_eq!(next(&mut quick).await, RETRY);
    let count = 5 * kept();
    for id in 1..=count {
        push(&history, 1);
        assert_eq!(next(&mut quick).await, format!("id: {id}\ndata: x\n\n"));
    }
    // What it had in its hands when it stopped.
    assert_eq!(next(&mut slow).await, RETRY);
    assert_eq!(next(&mut slow).await, "id: 1\ndata: x\n\n");
    let missed = count - kept() - 1;
    assert_eq!(next(&mut slow).await, format!("event: missed\ndata: {missed}\n\n"));
    for id in count - kept() + 1..=count {
        assert_eq!(next(&mut slow).await, format!("id: {id}\ndata: x\n\n"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_events_are_sent_before_the_end() {
    let history = watch::Sender::new(History::default());
    push(&history, 2);
    let mut client = subscriber(&history, 0);
    history.send_modify(|history| history.ended = true);
    assert_eq!(next(&mut client).await, RETRY);
    for id in 1..=2 {
        assert_eq!(next(&mut client).await, format!("id: {id}\ndata: x\n\n"));
    }
    assert_eq!(client.recv().await, None, "the stream ends");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_has_heartbeats() {
    let seconds = sse().number("It does so after {} seconds without an event");
    let history = watch::Sender::new(History::default());
    let mut client = subscriber(&history, 0);
    assert_eq!(next(&mut client).await, RETRY);
    let start = Instant::now();
    for _ in 0..3 {
        assert_eq!(next(&mut client).await, ":\n\n");
    }
    assert_eq!(start.elapsed().as_secs(), 3 * seconds);
    push(&history, 1);
    assert_eq!(next(&mut client).await, "id: 1\ndata: x\n\n");
    assert_eq!(start.elapsed().as_secs(), 3 * seconds);
}

/// A connection to the program, in memory.
fn connect(history: &Arc<watch::Sender<History>>) -> DuplexStream {
    let (client, server) = duplex(1024);
    let history = history.clone();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        handle(request, history.clone())
    });
    tokio::spawn(
        http1::Builder::new().serve_connection(TokioIo::new(server), service),
    );
    client
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_a_client_that_leaves() {
    let history = Arc::new(watch::Sender::new(History::default()));
    let mut client = connect(&history);
    client.write_all(b"GET /events HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    while history.receiver_count() == 0 {
        yield_now().await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(client);
    let start = Instant::now();
    while history.receiver_count() > 0 {
        assert_eq!(start.elapsed(), Duration::ZERO, "not with the next heartbeat");
        yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_comes_slowly_is_refused() {
    let history = Arc::new(watch::Sender::new(History::default()));
    let mut client = connect(&history);
    let head = "POST /events HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n12345";
    client.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(LIMIT, client.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(history.borrow().last_id(), 0);
}

#[tokio::test]
async fn broadcast_says_how_many_a_receiver_missed() {
    let (sender, mut receiver) = broadcast::channel(2);
    for number in 1..=5 {
        sender.send(number).unwrap();
    }
    assert_eq!(receiver.recv().await, Err(broadcast::error::RecvError::Lagged(3)));
    assert_eq!(receiver.recv().await, Ok(4));
    assert!(sender.subscribe().is_empty(), "a new receiver gets none of these");
}
