//! What src/client/redirects.md promises.

use std::future::{Future, ready};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, service_fn};
use tower_http::follow_redirect::RequestUri;

use harness::{Program, Prose, Server, page};

use super::failures::{Memory, chain};
use super::retries::{DATA, HEADERS, NINE_BYTES, answer, frame, reset};

/// The program itself, for tests on an in-memory connection with a clock that they move.
#[allow(dead_code)]
#[path = "../../client/redirects.rs"]
mod program;

fn redirects() -> Prose {
    page("client/redirects")
}

/// A request as it came: where to, its head in lower case, and its body.
#[derive(Clone, Debug)]
struct Seen {
    origin: String,
    head: String,
    body: String,
}

/// What a server answers to a request: a status, and where to go.
type Route = fn(&Seen) -> (u16, String);

/// Runs a request against servers that all answer by `route`, some time after each request.
fn fetch(
    route: Route,
    delay: Duration,
    request: Request<Full<Bytes>>,
) -> (Result<Response<Bytes>, BoxError>, Vec<Seen>, Duration) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let requests = seen.clone();
    let result = paused(async move {
        let connector = BoxCloneSyncService::<Uri, Memory, io::Error>::new(
            service_fn(move |uri: Uri| {
                let (client, mut stream) = Memory::pair();
                let seen = seen.clone();
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.unwrap());
                    }
                    let head = String::from_utf8(head).unwrap().to_lowercase();
                    let length = head.lines().find_map(|line| {
                        line.strip_prefix("content-length: ")?.parse().ok()
                    });
                    let mut body = vec![0; length.unwrap_or(0)];
                    stream.read_exact(&mut body).await.unwrap();
                    let origin = uri.to_string().trim_end_matches('/').to_owned();
                    let body = String::from_utf8(body).unwrap();
                    let request = Seen { origin, head, body };
                    let (status, location) = route(&request);
                    seen.lock().unwrap().push(request);
                    sleep(delay).await;
                    let response = format!(
                        "HTTP/1.1 {status} x\r\nlocation: {location}\r\nset-cookie: new=1\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"
                    );
                    stream.write_all(response.as_bytes()).await.unwrap();
                });
                ready(Ok(client))
            }),
        );
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let start = Instant::now();
        let result = program::fetch(&client, request).await;
        (result, start.elapsed())
    });
    let requests = requests.lock().unwrap().clone();
    (result.0, requests, result.1)
}

fn paused<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(future)
}

fn request(method: Method, uri: &str) -> Request<Full<Bytes>> {
    let body =
        if method == Method::POST || method == Method::PUT { "hello" } else { "" };
    Request::builder()
        .method(method)
        .uri(uri)
        .header("content-type", "text/plain")
        .header("authorization", "secret")
        .header("cookie", "secret")
        .header("proxy-authorization", "secret")
        .header("x-api-key", "secret")
        .body(Full::from(body))
        .unwrap()
}

/// The requests that come of one to a server which answers by `route`.
fn follow(route: Route, method: Method, uri: &str) -> Vec<Seen> {
    let (result, seen, _) = fetch(route, Duration::ZERO, request(method, uri));
    assert_eq!(result.unwrap().status(), 200);
    seen
}

/// The second request, after a response with this status to the first.
fn second(method: Method, status: u16) -> Seen {
    let route: Route = match status {
        301 => |seen| {
            if seen.head.contains(" /a ") { (301, "/b".into()) } else { done() }
        },
        302 => |seen| {
            if seen.head.contains(" /a ") { (302, "/b".into()) } else { done() }
        },
        303 => |seen| {
            if seen.head.contains(" /a ") { (303, "/b".into()) } else { done() }
        },
        307 => |seen| {
            if seen.head.contains(" /a ") { (307, "/b".into()) } else { done() }
        },
        308 => |seen| {
            if seen.head.contains(" /a ") { (308, "/b".into()) } else { done() }
        },
        _ => unreachable!(),
    };
    let mut seen = follow(route, method, "http://one.test/a");
    assert_eq!(seen.len(), 2);
    seen.pop().unwrap()
}

fn done() -> (u16, String) {
    (200, "/".into())
}

#[test]
fn after_301_302_and_303_a_post_becomes_a_get_without_a_body() {
    for status in [301, 302, 303] {
        let Seen { head, body, .. } = second(Method::POST, status);
        assert!(head.starts_with("get /b http/1.1\r\n"), "{status}: {head}");
        assert!(!head.contains("content-"), "{status}: {head}");
        assert_eq!(body, "", "{status}");
    }
}

/// Each response of the test sets one.
#[test]
fn a_cookie_of_a_redirect_is_not_kept() {
    redirects().says("hyper keeps no cookies, nor does FollowRedirect.");
    let head = second(Method::GET, 302).head;
    assert!(head.contains("\r\ncookie: secret\r\n"), "what the caller has set: {head}");
    assert!(!head.contains("new=1"), "{head}");
}

#[test]
fn after_307_and_308_a_post_stays_a_post() {
    for status in [307, 308] {
        let Seen { head, body, .. } = second(Method::POST, status);
        assert!(head.starts_with("post /b http/1.1\r\n"), "{status}: {head}");
        assert!(head.contains("content-type: text/plain"), "{status}: {head}");
        assert_eq!(body, "hello", "{status}");
    }
}

#[test]
fn other_methods_change_with_303_alone() {
    for status in [301, 302, 307, 308] {
        let Seen { head, body, .. } = second(Method::PUT, status);
        assert!(head.starts_with("put /b "), "{status}: {head}");
        assert_eq!(body, "hello", "{status}");
    }
    assert!(second(Method::PUT, 303).head.starts_with("get /b "));
    assert!(second(Method::HEAD, 303).head.starts_with("head /b "));
}

/// Which of the secrets the last request has.
fn secrets(requests: &[Seen]) -> Vec<&str> {
    let head = &requests.last().unwrap().head;
    let names = ["authorization", "cookie", "proxy-authorization", "x-api-key"];
    let has = |name: &&str| head.contains(&format!("\r\n{name}: "));
    names.into_iter().filter(has).collect()
}

#[test]
fn the_same_origin_gets_the_credentials() {
    let seen = follow(
        |seen| if seen.head.contains(" /a ") { (302, "/b".into()) } else { done() },
        Method::GET,
        "http://one.test/a",
    );
    let all = ["authorization", "cookie", "proxy-authorization", "x-api-key"];
    assert_eq!(secrets(&seen), all);
}

#[test]
fn another_host_port_or_scheme_gets_no_credentials() {
    redirects().says("and so does a header such as x-api-key");
    let routes: [Route; 3] = [
        |seen| {
            if seen.head.contains(" /a ") {
                (307, "http://two.test/b".into())
            } else {
                done()
            }
        },
        |seen| {
            if seen.head.contains(" /a ") {
                (307, "http://one.test:81/b".into())
            } else {
                done()
            }
        },
        |seen| {
            if seen.head.contains(" /a ") {
                (307, "https://one.test/b".into())
            } else {
                done()
            }
        },
    ];
    for (route, origin) in routes.into_iter().zip([
        "http://two.test",
        "http://one.test:81",
        "https://one.test",
    ]) {
        let seen = follow(route, Method::GET, "http://one.test/a");
        assert_eq!(seen[1].origin, origin);
        assert_eq!(secrets(&seen), ["x-api-key"], "{origin}");
    }
}

#[test]
fn credentials_do_not_come_back_with_the_first_host() {
    let seen = follow(
        |seen| {
            if seen.head.contains(" /a ") {
                (302, "http://two.test/b".into())
            } else if seen.head.contains(" /b ") {
                (302, "http://one.test/c".into())
            } else {
                done()
            }
        },
        Method::GET,
        "http://one.test/a",
    );
    assert_eq!(seen[2].origin, "http://one.test");
    assert_eq!(secrets(&seen), ["x-api-key"]);
}

#[test]
fn https_does_not_lead_to_http() {
    let (result, seen, _) = fetch(
        |_| (302, "http://one.test/b".into()),
        Duration::ZERO,
        request(Method::GET, "https://one.test/a"),
    );
    assert_eq!(
        result.unwrap_err().to_string(),
        "no redirect from https to http://one.test/b"
    );
    assert_eq!(seen.len(), 1);
}

#[test]
fn too_many_redirects_are_an_error() {
    let limit = redirects().number("After {} redirects it gives up");
    let (result, seen, _) = fetch(
        |_| (302, "/again".into()),
        Duration::ZERO,
        request(Method::GET, "http://one.test/"),
    );
    assert_eq!(chain(&*result.unwrap_err()), "too many redirects");
    assert_eq!(seen.len() as u64, limit + 1);
}

#[test]
fn the_total_limit_covers_all_requests() {
    let limit = redirects().number("everything has {} seconds");
    let (result, seen, took) = fetch(
        |_| (302, "/again".into()),
        Duration::from_secs(limit / 4),
        request(Method::GET, "http://one.test/"),
    );
    assert_eq!(chain(&*result.unwrap_err()), "deadline has elapsed");
    assert!((4..=5).contains(&seen.len()), "{}", seen.len());
    let took = took.as_secs_f64();
    assert!((limit as f64..limit as f64 + 0.1).contains(&took), "{took}");
}

#[test]
fn a_host_header_of_the_caller_is_for_the_first_origin_alone() {
    let routes: [(Route, &str); 5] = [
        (
            |seen| {
                if seen.head.contains(" /a ") { (302, "/b".into()) } else { done() }
            },
            "caller.test",
        ),
        (
            |seen| {
                if seen.head.contains(" /a ") {
                    (302, "http://two.test/b".into())
                } else {
                    done()
                }
            },
            "two.test",
        ),
        (
            |seen| {
                if seen.head.contains(" /a ") {
                    (302, "http://one.test:81/b".into())
                } else {
                    done()
                }
            },
            "one.test:81",
        ),
        (
            |seen| {
                if seen.head.contains(" /a ") {
                    (302, "https://one.test/b".into())
                } else {
                    done()
                }
            },
            "one.test",
        ),
        (
            // There, and back.
            |seen| {
                if seen.head.contains(" /a ") {
                    (302, "http://two.test/b".into())
                } else if seen.head.contains(" /b ") {
                    (302, "http://one.test/c".into())
                } else {
                    done()
                }
            },
            "one.test",
        ),
    ];
    for (route, host) in routes {
        let mut first = request(Method::GET, "http://one.test/a");
        first.headers_mut().insert("host", "caller.test".parse().unwrap());
        let (result, seen, _) = fetch(route, Duration::ZERO, first);
        result.unwrap();
        let host_of = |seen: &Seen| {
            let line = seen.head.lines().find_map(|line| line.strip_prefix("host: "));
            line.unwrap().to_owned()
        };
        let [first, last] = [&seen[0], seen.last().unwrap()].map(host_of);
        assert_eq!(first, "caller.test", "the first request has the caller's host");
        assert_eq!(last, host, "the host of the last request:\n{}", seen.last().unwrap().head);
    }
}

#[test]
fn the_total_limit_covers_the_connect() {
    let limit = redirects().number("everything has {} seconds");
    let (result, took) = paused(async {
        let hang = |_: Uri| std::future::pending::<io::Result<Memory>>();
        let connector = BoxCloneSyncService::new(service_fn(hang));
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let start = Instant::now();
        let request = request(Method::GET, "http://one.test/");
        (program::fetch(&client, request).await, start.elapsed())
    });
    assert_eq!(chain(&*result.unwrap_err()), "deadline has elapsed");
    assert_eq!(took.as_secs(), limit);
}

#[test]
fn a_body_that_ends_early_is_an_error() {
    let answer_with = |frames: Vec<u8>, method| {
        paused(async {
            let connector = BoxCloneSyncService::new(service_fn(move |_: Uri| {
                let ((client, mut server), frames) = (Memory::pair(), frames.clone());
                tokio::spawn(async move {
                    answer(&mut server, &frames).await;
                    std::future::pending::<()>().await
                });
                ready(Ok::<_, io::Error>(client))
            }));
            let client = Client::builder(TokioExecutor::new())
                .http2_only(true)
                .build(connector);
            program::fetch(&client, request(method, "http://one.test/")).await
        })
    };
    let early = [
        frame(HEADERS, 4, 1, NINE_BYTES),
        frame(DATA, 0, 1, b"hi"),
        reset(h2::Reason::NO_ERROR),
    ];
    let result = answer_with(early.concat(), Method::GET);
    assert_eq!(result.unwrap_err().to_string(), "the body ended early");
    let head = answer_with(frame(HEADERS, 5, 1, NINE_BYTES), Method::HEAD);
    assert_eq!(head.unwrap().headers()["content-length"], "9");
}

#[test]
fn a_location_may_be_relative() {
    let routes: [(Route, &str); 5] = [
        (
            |seen| {
                if seen.head.contains(" /x/a ") { (302, "b".into()) } else { done() }
            },
            "http://one.test/x/b",
        ),
        (
            |seen| {
                if seen.head.contains(" /x/a ") {
                    (302, "../b#part".into())
                } else {
                    done()
                }
            },
            "http://one.test/b",
        ),
        (
            |seen| {
                if seen.head.contains(" /x/a ") {
                    (302, "?q=1".into())
                } else {
                    done()
                }
            },
            "http://one.test/x/a?q=1",
        ),
        (
            |seen| {
                if seen.head.contains(" /x/a ") {
                    (302, "//two.test/b".into())
                } else {
                    done()
                }
            },
            "http://two.test/b",
        ),
        (
            |seen| {
                if seen.head.contains(" /x/a ") {
                    (302, "/caf\u{e9} 1".into())
                } else {
                    done()
                }
            },
            "http://one.test/caf%C3%A9%201",
        ),
    ];
    for (route, expected) in routes {
        let (result, seen, _) =
            fetch(route, Duration::ZERO, request(Method::GET, "http://one.test/x/a"));
        let response = result.unwrap();
        assert_eq!(seen.len(), 2, "{expected}");
        let RequestUri(uri) = response.extensions().get().unwrap();
        assert_eq!(uri.to_string().split('#').next().unwrap(), expected);
    }
}

#[test]
fn a_redirect_without_a_usable_location_is_returned() {
    redirects().says("Its location is missing, or is no URL");
    let routes: [Route; 2] =
        [|_| (302, "http://".into()), |_| (302, "http://one.test:99999/".into())];
    for route in routes {
        let (result, seen, _) =
            fetch(route, Duration::ZERO, request(Method::GET, "http://one.test/"));
        assert_eq!(result.unwrap().status(), 302);
        assert_eq!(seen.len(), 1);
    }
}

// On the running program.

#[test]
fn it_rejects_a_port_that_is_too_large() {
    let (status, lines) =
        Program::client("redirects", &["http://127.0.0.1:99999/"]).wait();
    assert_eq!(lines, ["the port is not a number up to 65535"]);
    assert_eq!(status.code(), Some(1));
}

#[test]
fn it_follows_a_redirect_to_another_server_and_says_where_it_is() {
    let (first, other) = (Server::start(), Server::start());
    let url = other.url("/there");
    let mut program = Program::client("redirects", &[&first.url("/here"), "hello"]);
    let mut connection = first.accept();
    assert!(connection.head().unwrap().starts_with("POST /here "));
    connection.bytes(5).unwrap();
    connection.send(format!(
        "HTTP/1.1 303 See Other\r\nlocation: {url}\r\ncontent-length: 0\r\n\r\n"
    ));
    let mut connection = other.accept();
    let head = connection.head().unwrap();
    assert_eq!(
        head,
        format!("GET /there HTTP/1.1\r\nhost: {}\r\n\r\n", other.address)
    );
    connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let (status, lines) = program.wait();
    assert_eq!(lines, [format!("200 OK from {url}"), "ok".to_owned()]);
    assert!(status.success());
}

#[test]
#[ignore = "needs nginx"]
fn others_nginx_redirects() {
    let folder = tempfile::tempdir().unwrap();
    let nginx = Program::nginx(
        folder.path(),
        "server {
             listen 127.0.0.1:PORT;
             location /moved { return 302 /to; }
             location /kept { return 307 http://127.0.0.1:PORT/to; }
             location /loop { return 301 /loop; }
             location /to { return 200 \"$request_method\\n\"; }
         }",
    );
    let url = |path| format!("http://{}{path}", nginx.address);
    let to = format!("200 OK from {}", url("/to"));
    let lines =
        |path, body| Program::client("redirects", &[&url(path), body]).wait().1;
    assert_eq!(lines("/moved", "hello"), [&*to, "GET"]);
    assert_eq!(lines("/kept", "hello"), [&*to, "POST"]);
    assert_eq!(lines("/loop", "hello"), ["too many redirects"]);
}
