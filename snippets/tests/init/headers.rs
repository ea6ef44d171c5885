//! What src/init/headers.md promises.

use std::collections::BTreeSet;
use std::convert::Infallible;

use headers::Mime;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE, VARY,
    WWW_AUTHENTICATE,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt, duplex};

use harness::{Program, Prose, page, root};

use crate::init::runtime::panics;
use crate::server::hello_world::survives_running_out_of_descriptors;

/// The program itself, for requests without a socket.
#[allow(dead_code)]
#[path = "../../init/headers.rs"]
mod program;

fn headers() -> Prose {
    page("init/headers")
}

/// The answer to a request with these headers.
async fn ask(path: &str, headers: &[(&str, &[u8])]) -> (HeaderMap, u16, String) {
    let mut request = Request::builder().uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let (head, body) = program::handle(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.headers, head.status.as_u16(), String::from_utf8(body.into()).unwrap())
}

fn all(headers: &HeaderMap, name: HeaderName) -> Vec<String> {
    let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
    headers.get_all(name).iter().map(text).collect()
}

#[test]
fn builders_append() {
    headers().says("the same name twice is sent twice");
    let response = Response::builder().header(VARY, "a").header("Vary", "b");
    assert_eq!(all(response.body(()).unwrap().headers(), VARY), ["a", "b"]);
    let request = Request::builder().header(COOKIE, "a").header("Cookie", "b");
    assert_eq!(all(request.body(()).unwrap().headers(), COOKIE), ["a", "b"]);
}

#[test]
fn insert_returns_the_first_of_the_values_that_it_replaces() {
    let mut map = HeaderMap::new();
    for value in ["a", "b"] {
        map.append(VARY, value.parse().unwrap());
    }
    let replaced = map.insert(VARY, HeaderValue::from_static("c")).unwrap();
    assert_eq!(replaced, "a");
    assert_eq!(all(&map, VARY), ["c"]);
}

#[test]
fn there_is_no_retain() {
    headers().says("There is no retain.");
    let methods = sources::locked("http", "1").methods("src/header/map.rs", "HeaderMap");
    let names: Vec<_> = methods.into_iter().map(|it| it.name).collect();
    assert!(names.contains(&"remove".to_owned()), "{names:?}");
    assert!(!names.contains(&"retain".to_owned()), "there is one now: change the page");
}

/// hyper#4060.
#[tokio::test]
async fn values_of_a_request_share_the_buffer_of_its_head() {
    headers().says("a clone keeps the whole buffer");
    let (mut client, io) = duplex(1024);
    let (head, [a, b]) = ("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n", ["a: one\r\n", "b: two\r\n"]);
    client.write_all(format!("{head}{a}{b}\r\n").as_bytes()).await.unwrap();
    let service = service_fn(async |request: Request<Incoming>| {
        let [a, b] = ["a", "b"].map(|name| request.headers()[name].clone());
        let place = |value: &HeaderValue| value.as_bytes().as_ptr() as usize;
        assert_eq!(place(&b) - place(&a), "one\r\nb: ".len(), "as they came");
        let copy = HeaderValue::from_bytes(a.as_bytes()).unwrap();
        let distance = place(&copy).abs_diff(place(&a));
        assert!(distance > 3, "the copy is at the same place");
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    http1::Builder::new().serve_connection(TokioIo::new(io), service).await.unwrap();
}

#[tokio::test]
async fn the_list_has_each_value_and_no_secret() {
    let sent: &[(&str, &[u8])] = &[
        ("X-Color", b"blue"),
        ("Authorization", b"Bearer secret"),
        ("accept", b"text/plain"),
        ("Cookie", b"secret=1"),
        ("cookie", b"secret=2"),
        ("x-color", "café".as_bytes()),
        ("x-bytes", b"caf\xe9"),
    ];
    let (_, status, text) = ask("/", sent).await;
    assert_eq!(status, 200);
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["accept: text/plain", "x-bytes: caf\u{fffd}", "x-color: blue", "x-color: café"]
    );
}

#[tokio::test]
async fn the_id_of_the_client_is_kept_if_it_is_one() {
    const ID: HeaderName = HeaderName::from_static("x-request-id");
    let longest = "a".repeat(64);
    for id in ["a-7", "A", &longest] {
        let (headers, ..) = ask("/", &[("X-Request-ID", id.as_bytes())]).await;
        assert_eq!(all(&headers, ID), [id]);
    }
    let mut made = BTreeSet::new();
    let long = "a".repeat(65);
    for sent in ["", "a b", "a\"", "é", &long] {
        let (headers, ..) = ask("/", &[("x-request-id", sent.as_bytes())]).await;
        let number = headers[ID].to_str().ok().and_then(|id| id.parse::<u64>().ok());
        let number = number.unwrap_or_else(|| panic!("{sent:?} has no new id: {headers:?}"));
        assert!(made.insert(number), "{number} is not new");
    }
    let (headers, ..) = ask("/", &[]).await;
    assert!(made.insert(headers[ID].to_str().unwrap().parse().unwrap()));
    assert_eq!(headers["cache-control"], "no-store");
}

#[test]
fn names_take_any_case_where_they_are_not_static() {
    let page = headers();
    page.says("is in lower case, from wherever it comes");
    for name in [
        HeaderName::from_bytes(b"X-CoLoR").unwrap(),
        HeaderName::try_from("X-COLOR").unwrap(),
        HeaderName::try_from(String::from("X-Color")).unwrap(),
        HeaderName::from_lowercase(b"x-color").unwrap(),
    ] {
        assert_eq!(name.as_str(), "x-color");
    }
    assert!(HeaderName::from_bytes(b"X-Color").unwrap() == "X-COLOR");
    let mut map = HeaderMap::new();
    map.insert("X-COLOR", HeaderValue::from(1));
    for name in ["x-color", "X-Color"] {
        assert_eq!(map[name], "1");
        assert!(map.contains_key(name));
    }

    let name = String::from("X-Color");
    let panicked = panics(move || drop(HeaderName::from_static(name.leak())));
    assert_eq!(panicked, "HeaderName::from_static with invalid bytes");
}

#[test]
fn a_text_that_is_no_name_is_not_found_and_not_inserted() {
    headers().says(
        "get returns None, but insert and append panic: static str is invalid name: InvalidHeaderName",
    );
    let value = || HeaderValue::from(1);
    for name in ["two words", "", "é", "colon:"] {
        assert!(HeaderMap::<HeaderValue>::new().get(name).is_none());
        let text = "static str is invalid name: InvalidHeaderName";
        assert_eq!(panics(move || drop(HeaderMap::new().insert(name, value()))), text);
        assert_eq!(panics(move || assert!(HeaderMap::new().append(name, value()))), text);
        assert!(HeaderName::from_bytes(name.as_bytes()).is_err());
    }
    let missing = panics(move || drop(HeaderMap::<HeaderValue>::new()["x-color"].clone()));
    assert_eq!(missing, "no entry found for key \"x-color\"");
}

#[test]
fn values_hold_any_byte_but_control_characters() {
    headers().says("A new value cannot have line breaks or other control characters, except the tab");
    for byte in 0..=u8::MAX {
        let refused = byte.is_ascii_control() && byte != b'\t';
        let value = HeaderValue::from_bytes(&[b'a', byte, b'z']);
        assert_eq!(value.is_err(), refused, "{byte:#x}");
        let Ok(value) = value else { continue };
        // What `to_str` reads, and what is given back whole.
        assert_eq!(value.to_str().is_ok(), byte.is_ascii(), "{byte:#x}");
        assert_eq!(value.as_bytes(), [b'a', byte, b'z']);
    }
    for text in ["a\n", "\ra", "a\r\nset-cookie: b=c", "\0"] {
        assert!(HeaderValue::from_str(text).is_err());
        assert!(text.parse::<HeaderValue>().is_err());
        assert!(HeaderValue::try_from(text.to_owned()).is_err());
    }
    headers().says("It panics: HeaderValue::from_static with invalid bytes");
    for text in ["Zürich", "a\n"] {
        let panicked = panics(move || drop(HeaderValue::from_static(text)));
        assert_eq!(panicked, "HeaderValue::from_static with invalid bytes");
    }
}

#[test]
fn numbers_become_values_and_come_back() {
    for number in [0, 7, u64::MAX] {
        let value = HeaderValue::from(number);
        assert_eq!(value.to_str().unwrap().parse(), Ok(number));
    }
    assert_eq!(HeaderValue::from(-7), "-7");
}

#[test]
fn a_sensitive_value_is_not_printed() {
    headers().says("makes {:?} print Sensitive");
    let mut value = HeaderValue::from_static("secret");
    assert_eq!(format!("{value:?}"), "\"secret\"");
    value.set_sensitive(true);
    assert_eq!(format!("{value:?}"), "Sensitive");
    assert_eq!(value.to_str().unwrap(), "secret");
}

#[tokio::test]
async fn cookies_are_found_in_each_header_and_beside_bad_ones() {
    for (sent, count) in [
        (&[][..], 1),
        (&[&b"visits=2"[..]], 3),
        (&[b"theme=light; visits=2"], 3),
        (&[b"theme=light;visits=2;"], 3),
        // Over HTTP/2 a client may split them.
        (&[b"theme=light", b"visits=2"], 3),
        (&["name=é; visits=2".as_bytes()], 3),
        (&[b"name=\xff", b"visits=2"], 3),
        (&[b"=; x; visits=2"], 3),
        (&[b"visits=2; visits=8"], 3),
        (&[b"VISITS=2"], 1),
        (&[b"visits=many"], 1),
        (&[b"visits=4294967295"], u32::MAX),
    ] {
        let sent: Vec<_> = sent.iter().map(|value| ("cookie", *value)).collect();
        let (headers, status, text) = ask("/visits", &sent).await;
        assert_eq!((status, &*text), (200, &*format!("visits: {count}\n")), "{sent:?}");
        let visits = format!("visits={count}; HttpOnly; SameSite=Lax; Path=/");
        let theme = "theme=dark; HttpOnly; SameSite=Lax; Path=/".to_owned();
        assert_eq!(all(&headers, SET_COOKIE), [visits, theme]);
    }
}

#[test]
fn a_cookie_does_not_look_at_its_value() {
    headers().says("adds an attribute");
    let cookie = cookie::Cookie::build(("a", "1; Domain=example.com")).build();
    assert_eq!(cookie.to_string(), "a=1; Domain=example.com");
    let read = cookie::Cookie::parse(cookie.to_string()).unwrap();
    assert_eq!((read.value(), read.domain()), ("1", Some("example.com")));
    let over_https = cookie::Cookie::build(("a", "1")).secure(true).build();
    assert_eq!(over_https.to_string(), "a=1; Secure");
    let manifest = sources::locked("cookie", "0.18").features;
    assert!(manifest.contains_key("signed"));
    assert!(manifest.contains_key("percent-encode"));
    let methods = sources::locked("cookie", "0.18").methods("src/lib.rs", "Cookie");
    assert!(methods.iter().any(|it| it.name == "encoded"));
}

#[tokio::test]
async fn only_the_right_password_and_token_are_let_in() {
    headers().says("the word Basic in any case");
    let basic = |text: &str| {
        let mut map = HeaderMap::new();
        let (name, password) = text.split_once(':').unwrap();
        let value = ::headers::Authorization::basic(name, password);
        ::headers::HeaderMapExt::typed_insert(&mut map, value);
        map[AUTHORIZATION].to_str().unwrap().to_owned()
    };
    let right = basic("admin:open sesame");
    let token = "fpKL54jvWmEGVoRdCNjG";
    for (path, sent, status) in [
        ("/admin", right.clone(), 200),
        ("/admin", right.replace("Basic", "bASIC"), 200),
        ("/admin", basic("admin:open sesamE"), 401),
        ("/admin", basic("admin:"), 401),
        ("/admin", basic("root:open sesame"), 401),
        ("/admin", basic("admin:open sesame:"), 401),
        ("/admin", format!("Bearer {token}"), 401),
        ("/admin", "Basic".to_owned(), 401),
        ("/admin", "Basic ".to_owned(), 401),
        ("/admin", "Basic !".to_owned(), 401),
        ("/admin", "é".to_owned(), 401),
        ("/metrics", format!("Bearer {token}"), 200),
        ("/metrics", format!("bearer {token}"), 200),
        ("/metrics", format!("Bearer {token}x"), 401),
        ("/metrics", format!("Bearer {}", &token[1..]), 401),
        ("/metrics", "Bearer".to_owned(), 401),
        ("/metrics", "Bearer é".to_owned(), 401),
        ("/metrics", right, 401),
    ] {
        let (headers, answer, _) =
            ask(path, &[("authorization", sent.as_bytes())]).await;
        assert_eq!(answer, status, "{path} {sent}");
        assert_eq!(headers.contains_key(WWW_AUTHENTICATE), status == 401);
    }
    let (headers, status, _) = ask("/metrics", &[]).await;
    assert_eq!((status, all(&headers, WWW_AUTHENTICATE)), (401, vec!["Bearer".into()]));
}

#[test]
fn secrets_are_compared_by_subtle() {
    // `==` would do the same, but for the time.
    let source = include_str!("../../init/headers.rs");
    let call = "one.as_bytes().ct_eq(other.as_bytes()).into()";
    assert!(source.contains(call), "the program must compare secrets by {call}");
    let subtle = sources::locked("subtle", "2").text("src/lib.rs");
    headers().says("compares all bytes, if the lengths are the same");
    assert!(subtle.contains("function short-circuits if the lengths"));
}

#[test]
fn media_types_compare_without_their_parameters() {
    headers().says("can be parsed and compared without its parameters");
    let html: Mime = "Text/HTML; charset=utf-8".parse().unwrap();
    assert_eq!(html.essence_str(), "text/html");
}

#[test]
fn typed_insert_replaces() {
    headers().says("typed_insert replaces, as insert does");
    let mut map = HeaderMap::new();
    for value in ["a", "b"] {
        map.append("content-length", value.parse().unwrap());
    }
    let length = ::headers::ContentLength(5);
    ::headers::HeaderMapExt::typed_insert(&mut map, length);
    assert_eq!(all(&map, hyper::header::CONTENT_LENGTH), ["5"]);
}

#[test]
fn two_headers_of_one_name_arrive_and_two_lengths_do_not() {
    headers().says("hyper does not look for duplicates, except for content-length");
    let program = Program::start("headers");
    let mut connection = program.connect();
    connection.send(
        "GET / HTTP/1.1\r\nhost: x\r\ncontent-type: a/b\r\nx: y\r\nContent-Type: c/d\r\n\r\n",
    );
    let answer = connection.response().unwrap();
    assert_eq!(answer.text(), "host: x\ncontent-type: a/b\ncontent-type: c/d\nx: y\n");
    connection.send(
        "GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    );
    assert_eq!(connection.response().unwrap().status(), "HTTP/1.1 400 Bad Request");
}

#[test]
fn a_map_has_a_limit_that_no_peer_reaches() {
    let names = headers().number("A map takes {} names, and any number of values");
    let name = |index: u64| HeaderName::from_bytes(format!("x-{index}").as_bytes());
    let mut map = HeaderMap::new();
    for _ in 0..2 * names {
        map.try_append("x-0", HeaderValue::from(0)).unwrap();
    }
    for index in 1..names {
        map.try_insert(name(index).unwrap(), HeaderValue::from(0)).unwrap();
    }
    headers().says("even for a name that it already has");
    for name in [name(names).unwrap(), name(0).unwrap()] {
        let value = HeaderValue::from(0);
        let error = map.try_append(name.clone(), value.clone());
        let error = error.expect_err("the map takes more names than the page says");
        assert_eq!(error.to_string(), "max size reached");
        let error = map.try_insert(name.clone(), value.clone()).unwrap_err();
        assert_eq!(error.to_string(), "max size reached");
        let (mut one, mut other) = (map.clone(), map.clone());
        let (same, too) = (name.clone(), value.clone());
        for text in [
            panics(move || drop(one.insert(same, too))),
            panics(move || assert!(other.append(name, value))),
        ] {
            assert_eq!(text, "size overflows MAX_SIZE: MaxSizeReached");
        }
    }

    let program = Program::start("headers");
    let mut connection = program.connect();
    let many: String = (0..names).map(|index| format!("x-{index}: 0\r\n")).collect();
    connection.send(format!("GET / HTTP/1.1\r\nhost: x\r\n{many}"));
    let refused = connection.response().unwrap();
    assert_eq!(refused.status(), "HTTP/1.1 431 Request Header Fields Too Large");
}

#[test]
fn the_messages_of_the_page_are_those_that_the_other_tests_see() {
    let page = std::fs::read_to_string(root().join("src/init/headers.md")).unwrap();
    let (_, wrong) = page.split_once("## What goes wrong").unwrap();
    let error = HeaderValue::from_str("token\n").unwrap_err();
    assert!(wrong.contains(&format!("**`{error}`.**")), "{error}");
    assert!(HeaderValue::from_str("token\n".trim()).is_ok());
}

#[test]
fn running_out_of_descriptors_is_survived() {
    survives_running_out_of_descriptors("headers");
}
