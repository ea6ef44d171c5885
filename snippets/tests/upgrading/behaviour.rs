//! What compiles with hyper 0.14 and hyper 1 and behaves differently: src/upgrading/behaviour.md.
//! The time limits run on tokio's paused clock, over connections in memory.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::{LIMIT, page};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_014 as old;
use hyper_014::body::HttpBody as _;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

const HOUR: Duration = Duration::from_secs(3600);
const HALF: &str = "GET / HTTP/1.1\r\nho";
const WHOLE: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
/// The preface of HTTP/2, an empty SETTINGS frame.
const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const UPGRADE: &str =
    "GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: greeting\r\n\r\n";

/// The result of this, which must not take longer than any step of a test.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(LIMIT, what).await.expect("this ends in time")
}

async fn hello(_: Request<Incoming>) -> hyper::Result<Response<Empty<Bytes>>> {
    Ok(Response::new(Empty::new()))
}

async fn old_hello(
    _: old::Request<old::Body>,
) -> old::Result<old::Response<old::Body>> {
    Ok(old::Response::new(old::Body::empty()))
}

/// Serves one end of a connection, sends this from the other and goes silent: after how many
/// seconds the server closes it. None if it is still open after an hour. The clock is paused.
async fn closed_after<F>(
    sent: &str,
    serve: impl FnOnce(DuplexStream) -> F,
) -> Option<u64>
where
    F: Future<Output: Send> + Send + 'static,
{
    let (mut client, io) = duplex(1024);
    tokio::spawn(serve(io));
    client.write_all(sent.as_bytes()).await.unwrap();
    let start = Instant::now();
    let end = timeout(HOUR, client.read_to_end(&mut Vec::new())).await;
    end.ok().map(|_| start.elapsed().as_secs())
}

async fn on_0_14(io: DuplexStream, limit: Duration) {
    let mut http = old::server::conn::Http::new();
    http.http1_header_read_timeout(limit);
    http.serve_connection(io, old::service::service_fn(old_hello)).await.ok();
}

async fn on_http1(io: DuplexStream, limit: Option<Duration>) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new());
    if let Some(limit) = limit {
        builder.header_read_timeout(limit);
    }
    builder.serve_connection(TokioIo::new(io), service_fn(hello)).await.ok();
}

async fn on_auto(io: DuplexStream, limit: Duration) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limit);
    builder.serve_connection(TokioIo::new(io), service_fn(hello)).await.ok();
}

#[tokio::test(start_paused = true)]
async fn which_silent_clients_a_header_timeout_closes() {
    let [carried, idle] = page("upgrading/behaviour").numbers(
        "A limit of {} seconds that you carry over from 0.14 closes connections that have been idle for {} seconds",
    );
    assert_eq!(carried, idle);
    let limit = Duration::from_secs(carried);
    for (sent, closes) in [
        ("", [true, true, false]),
        ("P", [true, true, false]),
        (HALF, [true, true, true]),
        (WHOLE, [false, true, true]),
    ] {
        let closed = [
            closed_after(sent, |io| on_0_14(io, limit)).await,
            closed_after(sent, |io| on_http1(io, Some(limit))).await,
            closed_after(sent, |io| on_auto(io, limit)).await,
        ];
        assert_eq!(
            closed,
            closes.map(|closes| closes.then_some(carried)),
            "{sent:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn hyper_1_has_a_header_timeout_by_default_if_it_has_a_timer() {
    let page = page("upgrading/behaviour");
    let head =
        page.number("hyper 1 gives a client {} seconds to send a request head");
    let idle = page.number("the default of {} seconds applies to them as well");
    assert_eq!(closed_after(HALF, |io| on_http1(io, None)).await, Some(head));
    assert_eq!(closed_after(WHOLE, |io| on_http1(io, None)).await, Some(idle));

    let without_timer = |io| async move {
        http1::Builder::new()
            .serve_connection(TokioIo::new(io), service_fn(hello))
            .await
    };
    assert_eq!(closed_after(HALF, without_timer).await, None);
    let before = |io| async move {
        old::server::conn::Http::new()
            .serve_connection(io, old::service::service_fn(old_hello))
            .await
    };
    assert_eq!(closed_after(HALF, before).await, None);
}

/// `auto` with `http1_only` needs no first byte.
#[tokio::test(start_paused = true)]
async fn auto_knows_the_version_if_it_has_only_one() {
    let serve = |io| async move {
        let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
        let limit = Duration::from_secs(2);
        builder.http1().timer(TokioTimer::new()).header_read_timeout(limit);
        builder.serve_connection(TokioIo::new(io), service_fn(hello)).await.ok();
    };
    assert_eq!(closed_after("", serve).await, Some(2));
}

#[tokio::test]
async fn a_limit_without_a_timer_panics() {
    let message =
        |panic: Box<dyn std::any::Any + Send>| match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(panic) => panic.downcast::<&str>().unwrap().to_string(),
        };
    let no_timer = "timeout `header_read_timeout` set, but no timer set";

    let (_client, io) = duplex(1024);
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(Duration::from_secs(1));
    let call = || drop(builder.serve_connection(TokioIo::new(io), service_fn(hello)));
    assert_eq!(message(catch_unwind(AssertUnwindSafe(call)).unwrap_err()), no_timer);

    let (mut client, io) = duplex(1024);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().header_read_timeout(Duration::from_secs(1));
    let conn =
        builder.serve_connection(TokioIo::new(io), service_fn(hello)).into_owned();
    let task = tokio::spawn(conn);
    client.write_all(WHOLE.as_bytes()).await.unwrap();
    assert_eq!(message(soon(task).await.unwrap_err().into_panic()), no_timer);
    assert_eq!(soon(client.read(&mut [0])).await.unwrap(), 0);

    let (mut client, io) = duplex(1024);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.keep_alive_interval(Duration::from_secs(1));
    let task =
        tokio::spawn(builder.serve_connection(TokioIo::new(io), service_fn(hello)));
    client.write_all(PREFACE.as_bytes()).await.unwrap();
    let panic = soon(task).await.unwrap_err().into_panic();
    assert_eq!(message(panic), "You must supply a timer.");
}

/// The first bytes that a server answers to these; none if it closes the connection.
async fn first_answer<F>(sent: &str, serve: impl FnOnce(DuplexStream) -> F) -> Vec<u8>
where
    F: Future<Output: Send> + Send + 'static,
{
    let (mut client, io) = duplex(1024);
    tokio::spawn(serve(io));
    client.write_all(sent.as_bytes()).await.unwrap();
    let mut answer = vec![0; 9];
    let length = soon(client.read(&mut answer)).await.unwrap();
    answer.truncate(length);
    answer
}

#[tokio::test]
async fn auto_with_upgrades_ignores_its_version() {
    let new = || auto::Builder::new(TokioExecutor::new());
    let upgrades = |builder: auto::Builder<TokioExecutor>| {
        move |io| async move {
            let service = service_fn(hello);
            builder
                .serve_connection_with_upgrades(TokioIo::new(io), service)
                .await
                .ok();
        }
    };
    let plain = |builder: auto::Builder<TokioExecutor>| {
        move |io| async move {
            builder.serve_connection(TokioIo::new(io), service_fn(hello)).await.ok();
        }
    };
    let before = |http: old::server::conn::Http| {
        move |io| async move {
            let service = old::service::service_fn(old_hello);
            http.serve_connection(io, service).with_upgrades().await.ok();
        }
    };
    let http2 = |answer: Vec<u8>| answer.get(3) == Some(&4);
    let http1 = |answer: Vec<u8>| answer.starts_with(b"HTTP/1.1 ");

    assert!(http2(first_answer(PREFACE, upgrades(new().http1_only())).await));
    assert!(!http2(first_answer(PREFACE, plain(new().http1_only())).await));
    let only_1 = old::server::conn::Http::new().http1_only(true).clone();
    assert!(!http2(first_answer(PREFACE, before(only_1)).await));

    assert!(http1(first_answer(WHOLE, upgrades(new().http2_only())).await));
    assert!(!http1(first_answer(WHOLE, plain(new().http2_only())).await));
    let only_2 = old::server::conn::Http::new().http2_only(true).clone();
    assert!(!http1(first_answer(WHOLE, before(only_2)).await));
}

#[tokio::test]
async fn large_response_headers_over_http2() {
    let size = page("upgrading/behaviour").number("A response with {} kB of headers");
    let server = || {
        let (client, io) = duplex(64 * 1024);
        let service = service_fn(move |_: Request<Incoming>| async move {
            Response::builder()
                .header("x-large", "x".repeat(size as usize * 1000))
                .body(Empty::<Bytes>::new())
        });
        let builder = http2::Builder::new(TokioExecutor::new());
        tokio::spawn(builder.serve_connection(TokioIo::new(io), service));
        client
    };
    let mut builder = old::client::conn::Builder::new();
    let (mut sender, conn) =
        soon(builder.http2_only(true).handshake(server())).await.unwrap();
    tokio::spawn(conn);
    let request = old::Request::get("http://example.com/").body(old::Body::empty());
    let response = soon(sender.send_request(request.unwrap())).await.unwrap();
    assert_eq!(response.status(), 200);

    for (limit, fails) in [(None, true), (Some(32 * 1024), false)] {
        let mut builder =
            hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        if let Some(limit) = limit {
            builder.max_header_list_size(limit);
        }
        let (mut sender, conn) =
            soon(builder.handshake(TokioIo::new(server()))).await.unwrap();
        tokio::spawn(conn);
        let request = Request::get("http://example.com/").body(Empty::<Bytes>::new());
        let response = soon(sender.send_request(request.unwrap())).await;
        assert_eq!(response.is_err(), fails, "{response:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_error_of_auto_holds_that_of_hyper() {
    let (mut client, io) = duplex(1024);
    client.write_all(HALF.as_bytes()).await.unwrap();
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    let conn = builder.serve_connection(TokioIo::new(io), service_fn(hello));
    let error = timeout(HOUR, conn).await.unwrap().unwrap_err();
    assert!(error.downcast_ref::<hyper::Error>().unwrap().is_timeout());
}

#[tokio::test]
async fn only_hyper_1_receives_trailers_over_http1() {
    let request =
        b"POST / HTTP/1.1\r\nhost: example.com\r\ntransfer-encoding: chunked\r\n\r\n\
        5\r\nhello\r\n0\r\nchecksum: 5d41\r\n\r\n";

    let (sender, received) = tokio::sync::oneshot::channel();
    let sender = Arc::new(Mutex::new(Some(sender)));
    let service =
        old::service::service_fn(move |mut request: old::Request<old::Body>| {
            let sender = sender.lock().unwrap().take().unwrap();
            async move {
                while let Some(data) = request.body_mut().data().await {
                    data?;
                }
                sender.send(request.body_mut().trailers().await?).unwrap();
                Ok::<_, old::Error>(old::Response::new(old::Body::empty()))
            }
        });
    let (mut client, io) = duplex(1024);
    tokio::spawn(old::server::conn::Http::new().serve_connection(io, service));
    client.write_all(request).await.unwrap();
    assert_eq!(soon(received).await.unwrap(), None, "hyper 0.14 drops them");

    let (sender, received) = tokio::sync::oneshot::channel();
    let sender = Arc::new(Mutex::new(Some(sender)));
    let service = service_fn(move |request: Request<Incoming>| {
        let sender = sender.lock().unwrap().take().unwrap();
        async move {
            let body = request.into_body().collect().await?;
            sender.send(body.trailers().cloned()).unwrap();
            Ok::<_, hyper::Error>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let (mut client, io) = duplex(1024);
    tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(io), service));
    client.write_all(request).await.unwrap();
    let trailers = soon(received).await.unwrap().expect("hyper 1 delivers them");
    assert_eq!(trailers["checksum"], "5d41");
}

#[tokio::test]
async fn the_server_of_0_14_allows_upgrades() {
    let service =
        old::service::make_service_fn(|_: &old::server::conn::AddrStream| async {
            Ok::<_, old::Error>(old::service::service_fn(|mut request| async move {
                let upgrade = old::upgrade::on(&mut request);
                tokio::spawn(async {
                    upgrade.await.unwrap().write_all(b"hello").await
                });
                old::Response::builder()
                    .status(101)
                    .header("upgrade", "greeting")
                    .body(old::Body::empty())
            }))
        });
    let server = old::Server::bind(&([127, 0, 0, 1], 0).into()).serve(service);
    let mut client = soon(TcpStream::connect(server.local_addr())).await.unwrap();
    tokio::spawn(server);
    client.write_all(UPGRADE.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(client.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
}

#[tokio::test]
async fn without_with_upgrades_an_upgrade_fails() {
    let (sender, failed) = tokio::sync::oneshot::channel();
    let sender = Arc::new(Mutex::new(Some(sender)));
    let service = service_fn(move |mut request| {
        let sender = sender.lock().unwrap().take().unwrap();
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async { sender.send(upgrade.await.unwrap_err().to_string()) });
        async {
            let response =
                Response::builder().status(101).header("upgrade", "greeting");
            response.body(Empty::<Bytes>::new())
        }
    });
    let (mut client, io) = duplex(1024);
    tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(io), service));
    client.write_all(UPGRADE.as_bytes()).await.unwrap();
    let error = soon(failed).await.unwrap();
    assert_eq!(error, "upgrade expected but low level API in use");
}

#[tokio::test]
async fn the_pooled_client_allows_upgrades() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_ne!(stream.read(&mut [0; 1024]).await.unwrap(), 0);
        let switching = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: greeting\r\n\r\nhello";
        stream.write_all(switching).await.unwrap();
    });
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::get(url)
        .header("connection", "upgrade")
        .header("upgrade", "greeting")
        .body(Empty::<Bytes>::new());
    let response = soon(client.request(request.unwrap())).await.unwrap();
    let upgraded = soon(hyper::upgrade::on(response)).await.unwrap();
    let mut text = String::new();
    soon(TokioIo::new(upgraded).read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "hello");
}
