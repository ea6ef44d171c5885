//! What src/client/stopping.md promises.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use harness::{Connection, LIMIT, Program, Server, page};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

#[allow(dead_code)]
#[path = "../../client/stopping.rs"]
mod program;

const WHOLE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

/// On a paused clock: later than all limits of the program.
const LATE: Duration = Duration::from_secs(3600);

/// Starts the program; the connections of its workers, with a request on each.
fn start(server: &Server) -> (Program, Vec<Connection>) {
    let workers = page("client/stopping").number("has {} workers") as usize;
    let program = Program::client("stopping", &[&server.url("/")]);
    let connections = (0..workers).map(|_| {
        let mut connection = server.accept();
        connection.head().unwrap();
        connection
    });
    let connections = connections.collect();
    (program, connections)
}

#[test]
fn a_signal_lets_the_requests_under_way_finish_and_begins_no_others() {
    for signal in ["INT", "TERM"] {
        let server = Server::start();
        let (mut program, mut connections) = start(&server);
        program.signal(signal);
        assert_eq!(program.line(), "stopping: no new requests");
        for connection in &mut connections {
            connection.send(WHOLE);
            assert_eq!(program.line(), "200 OK, 2 bytes");
        }
        let (status, printed) = program.wait();
        assert_eq!(printed, ["stopped: nothing was cancelled"]);
        assert!(status.success());
        for mut connection in connections {
            assert_eq!(connection.rest().unwrap(), "", "no request after the signal");
        }
        assert!(server.try_accept().is_none(), "no new connection after the signal");
    }
}

#[test]
fn a_second_signal_cancels_what_is_left() {
    let server = Server::start();
    let (mut program, mut connections) = start(&server);
    program.signal("INT");
    assert_eq!(program.line(), "stopping: no new requests");
    let mut answered = connections.pop().unwrap();
    answered.send(WHOLE);
    assert_eq!(program.line(), "200 OK, 2 bytes");
    program.signal("INT");
    let left = connections.len();
    let (status, printed) = program.wait();
    assert_eq!(printed, [format!("stopped: {left} requests were cancelled")]);
    assert_eq!(status.code(), Some(1));
    for mut connection in connections {
        assert_eq!(connection.rest().unwrap(), "");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_left_at_the_deadline_is_cancelled() {
    let seconds = page("client/stopping").number("{} seconds after the signal");
    let mut workers = JoinSet::new();
    let held = Arc::new(());
    for _ in 0..3 {
        let held = held.clone();
        workers.spawn(async move {
            pending::<()>().await;
            drop(held);
        });
    }
    let start = Instant::now();
    let drain = timeout(LATE, program::drain(workers, pending()));
    assert_eq!(drain.await.expect("the drain ends by itself"), 3);
    assert_eq!(start.elapsed().as_secs(), seconds);
    assert_eq!(Arc::strong_count(&held), 1, "the futures are dropped");
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_waits_for_no_deadline() {
    let mut workers = JoinSet::new();
    workers.spawn(pending());
    let start = Instant::now();
    assert_eq!(program::drain(workers, std::future::ready(())).await, 1);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_worker_gives_a_request_up_at_its_limit() {
    let seconds = page("client/stopping").number("A request may take {} seconds");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = url(&listener);
    let (stop, stopping) = tokio::sync::watch::channel(false);
    // It ends after the first request.
    stop.send(true).unwrap();
    let start = Instant::now();
    let work = timeout(LATE, program::work(client(), url, stopping));
    work.await.expect("the worker ends by itself");
    assert_eq!(start.elapsed().as_secs(), seconds);
}

fn client() -> Client<HttpConnector, Empty<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}

fn url(listener: &TcpListener) -> Uri {
    format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap()
}

/// Reads the head of a request.
async fn head(stream: &mut (impl AsyncReadExt + Unpin)) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
}

/// Waits for the end of the connection; what came before it.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let read = timeout(LIMIT, stream.read_to_end(&mut rest)).await;
    read.expect("the client closes the connection").ok();
    rest
}

#[tokio::test]
async fn a_dropped_request_closes_its_http1_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client();
    let mut request = Box::pin(client.get(url(&listener)));
    let mut stream = tokio::select! {
        _ = &mut request => panic!("nobody answers"),
        accepted = async {
            let mut stream = listener.accept().await.unwrap().0;
            head(&mut stream).await;
            stream
        } => accepted,
    };
    drop(request);
    assert_eq!(rest(&mut stream).await, b"");
}

#[tokio::test]
async fn a_dropped_body_closes_its_http1_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client();
    let server = async {
        let mut stream = listener.accept().await.unwrap().0;
        head(&mut stream).await;
        let part = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
        stream.write_all(part).await.unwrap();
        stream
    };
    let (response, mut stream) = tokio::join!(client.get(url(&listener)), server);
    let mut body = response.unwrap().into_body();
    let frame = body.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "half");
    drop(body);
    assert_eq!(rest(&mut stream).await, b"");
}

#[tokio::test]
async fn a_request_dropped_while_it_connects_ends_the_connect() {
    let connecting = Arc::new(());
    let held = connecting.clone();
    let connector = tower::service_fn(move |_: Uri| {
        let held = held.clone();
        Box::pin(async move {
            let stream = pending::<std::io::Result<TokioIo<TcpStream>>>().await;
            drop(held);
            stream
        })
    });
    let client: Client<_, Empty<Bytes>> =
        Client::builder(TokioExecutor::new()).build(connector);
    let mut request = Box::pin(client.get(Uri::from_static("http://a.test/")));
    let first = timeout(Duration::from_millis(1), &mut request).await;
    assert!(first.is_err(), "it goes on connecting");
    let before = Arc::strong_count(&connecting);
    drop(request);
    let after = Arc::strong_count(&connecting);
    assert_eq!(
        after, 2,
        "the connect is dropped: the test and the connector are left"
    );
    assert!(before > after);
}

/// Over HTTP/2 the server gets the stream's reset, and the next request on the same connection
/// is answered: for a request without a response, and for a body that is not read to its end.
#[tokio::test]
async fn over_http2_a_drop_resets_the_stream_and_the_connection_goes_on() {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let server = tokio::spawn(async move {
        let mut conn = h2::server::handshake(far).await.unwrap();
        let mut resets = Vec::new();
        while let Some(request) = conn.accept().await {
            let (request, mut respond) = request.unwrap();
            let path = request.uri().path().to_owned();
            if path == "/silent" {
                let reset = std::future::poll_fn(move |cx| respond.poll_reset(cx));
                resets.push(tokio::spawn(reset));
            } else {
                let ends = path == "/whole";
                let response = hyper::Response::new(());
                let mut stream = respond.send_response(response, ends).unwrap();
                if !ends {
                    stream.send_data(Bytes::from("half"), false).unwrap();
                    let reset = std::future::poll_fn(move |cx| stream.poll_reset(cx));
                    resets.push(tokio::spawn(reset));
                }
            }
        }
        let mut reasons = Vec::new();
        for reset in resets {
            reasons.push(reset.await.unwrap().unwrap());
        }
        reasons
    });
    let (mut sender, conn) = hyper::client::conn::http2::handshake(
        TokioExecutor::new(),
        TokioIo::new(near),
    )
    .await
    .unwrap();
    let conn = tokio::spawn(conn);
    let ask = |path: &str| {
        let url = format!("http://a.test{path}");
        Request::get(url).body(Empty::<Bytes>::new()).unwrap()
    };

    let silent =
        timeout(Duration::from_millis(20), sender.send_request(ask("/silent")));
    assert!(silent.await.is_err());
    let mut body = sender.send_request(ask("/half")).await.unwrap().into_body();
    let frame = body.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "half");
    drop(body);
    assert_eq!(sender.send_request(ask("/whole")).await.unwrap().status(), 200);
    drop(sender);
    timeout(LIMIT, conn).await.unwrap().unwrap().unwrap();
    let reasons = timeout(LIMIT, server).await.unwrap().unwrap();
    assert_eq!(reasons, [h2::Reason::CANCEL, h2::Reason::CANCEL]);
}

/// A server that keeps each connection until the client closes it, and never answers.
fn silent(listener: TcpListener, open: Arc<AtomicUsize>) {
    tokio::spawn(async move {
        loop {
            let mut stream = listener.accept().await.unwrap().0;
            let open = open.clone();
            tokio::spawn(async move {
                open.fetch_add(1, SeqCst);
                stream.read_to_end(&mut Vec::new()).await.ok();
                open.fetch_sub(1, SeqCst);
            });
        }
    });
}

async fn eventually(what: &str, done: impl Fn() -> bool) {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(LIMIT, wait)
        .await
        .unwrap_or_else(|_| panic!("waited in vain for {what}"));
}

#[tokio::test]
async fn cancelled_requests_leave_no_task_and_no_socket() {
    let count = page("client/stopping").number("cancels {} requests") as usize;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = url(&listener);
    let open = Arc::new(AtomicUsize::new(0));
    silent(listener, open.clone());
    tokio::task::yield_now().await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();

    let client = client();
    let mut requests = JoinSet::new();
    for _ in 0..count {
        requests.spawn(client.get(url.clone()));
    }
    eventually("all requests", || open.load(SeqCst) == count).await;
    assert!(tasks() >= before + 2 * count, "a request has tasks while it waits");
    requests.shutdown().await;
    eventually("the end of the sockets", || open.load(SeqCst) == 0).await;
    eventually("the end of the tasks", || tasks() == before).await;
}

#[tokio::test]
async fn dropping_the_last_client_closes_idle_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (first, server) = (client(), async {
        let mut stream = listener.accept().await.unwrap().0;
        head(&mut stream).await;
        stream.write_all(WHOLE.as_bytes()).await.unwrap();
        stream
    });
    let last = first.clone();
    let (response, mut stream) = tokio::join!(first.get(url(&listener)), server);
    response.unwrap().into_body().collect().await.unwrap();
    drop(first);
    let wait = timeout(Duration::from_millis(20), stream.read_u8()).await;
    assert!(wait.is_err(), "a clone keeps the connection");
    drop(last);
    assert_eq!(rest(&mut stream).await, b"");
}

#[tokio::test]
async fn a_request_outlives_the_client_that_sent_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client();
    let request = client.get(url(&listener));
    drop(client);
    let server = async {
        let mut stream = listener.accept().await.unwrap().0;
        head(&mut stream).await;
        stream.write_all(WHOLE.as_bytes()).await.unwrap();
        stream
    };
    let (response, _stream) = tokio::join!(request, server);
    let body = response.unwrap().into_body().collect().await.unwrap();
    assert_eq!(body.to_bytes(), "hi");
}

#[tokio::test]
async fn a_dropped_join_handle_lets_the_request_go_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let request = client().get(url(&listener));
    let (done, answered) = tokio::sync::oneshot::channel();
    drop(tokio::spawn(async move {
        done.send(request.await.unwrap().status()).ok();
    }));
    let mut stream = listener.accept().await.unwrap().0;
    head(&mut stream).await;
    stream.write_all(WHOLE.as_bytes()).await.unwrap();
    assert_eq!(timeout(LIMIT, answered).await.unwrap().unwrap(), 200);
}

/// The frames of a body, and the readiness of a sender, each asked for in a `select!` that drops
/// the future many times before it is done.
#[tokio::test(start_paused = true)]
async fn frame_and_ready_lose_nothing_in_select() {
    let (near, mut far) = tokio::io::duplex(1024);
    let (mut sender, conn) =
        hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(conn);
    tokio::spawn(async move {
        for _ in 0..2 {
            head(&mut far).await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n";
            far.write_all(answer).await.unwrap();
            for digit in b"01234567890123456789" {
                tokio::time::sleep(Duration::from_millis(30)).await;
                far.write_u8(*digit).await.unwrap();
            }
        }
        far.read_u8().await.ok();
    });
    let mut lost = 0;
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    for _ in 0..2 {
        loop {
            tokio::select! {
                biased;
                _ = tick.tick() => lost += 1,
                ready = sender.ready() => break ready.unwrap(),
            }
        }
        let request = Request::get("/").body(Empty::<Bytes>::new()).unwrap();
        let mut body = sender.send_request(request).await.unwrap().into_body();
        let mut whole = Vec::new();
        loop {
            tokio::select! {
                biased;
                _ = tick.tick() => lost += 1,
                frame = body.frame() => match frame {
                    Some(frame) => whole.extend(frame.unwrap().into_data().unwrap()),
                    None => break,
                },
            }
        }
        assert_eq!(whole, b"01234567890123456789");
    }
    assert!(lost > 40, "futures were dropped {lost} times");
}

/// nginx holds each request in front of a server that stays silent, and logs 499 for the
/// clients that went away.
#[test]
#[ignore = "needs nginx"]
fn others_nginx_sees_that_the_client_left() {
    let folder = tempfile::tempdir().unwrap();
    let silent = Server::start();
    let http = format!(
        "server {{
             listen 127.0.0.1:PORT; access_log access;
             location / {{ proxy_pass {}; }}
         }}",
        silent.url("")
    );
    let program = Program::nginx(folder.path(), &http);
    let url = format!("http://{}/", program.address);
    let workers = page("client/stopping").number("has {} workers") as usize;
    let mut client = Program::client("stopping", &[&url]);
    let backends: Vec<_> = (0..workers).map(|_| silent.accept()).collect();
    client.signal("INT");
    assert_eq!(client.line(), "stopping: no new requests");
    client.signal("INT");
    assert_eq!(
        client.wait().1,
        [format!("stopped: {workers} requests were cancelled")]
    );
    harness::wait("nginx to log that its clients left", || {
        let log = std::fs::read_to_string(folder.path().join("access")).unwrap();
        log.matches(" 499 ").count() == workers
    });
    drop(backends);
}
