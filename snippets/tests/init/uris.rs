//! What src/init/uris.md promises.

use std::convert::Infallible;
use std::error::Error;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::header::{
    HOST, InvalidHeaderName, InvalidHeaderValue, MaxSizeReached,
};
use hyper::http::uri::{InvalidUri, InvalidUriParts};
use hyper::http::{method::InvalidMethod, status::InvalidStatusCode};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio::time::timeout;

use harness::{LIMIT, Program, Prose, page, rows};

use crate::init::runtime::panics;
use crate::server::hello_world::survives_running_out_of_descriptors;

/// The program itself, for requests without a socket.
#[allow(dead_code)]
#[path = "../../init/uris.rs"]
mod program;

fn uris() -> Prose {
    page("init/uris")
}

const PAGE: &str = "src/init/uris.md";

#[test]
fn the_table_says_how_each_text_is_parsed() {
    for row in rows(PAGE, "What is a Uri").iter().skip(1) {
        let text = row.codes(0)[0].to_owned();
        let said = row.cells[1].as_str();
        let line = row.line;
        match text.parse::<Uri>() {
            Err(error) => {
                let begin = format!("`{error}`");
                assert!(said.starts_with(&begin), "{PAGE}:{line}: {text} is {begin}");
            }
            Ok(uri) => {
                let has = (
                    uri.scheme().is_some(),
                    uri.authority().is_some(),
                    !uri.path().is_empty(),
                    uri.query().is_some(),
                );
                let wanted = match said.split([':', ';', ',']).next().unwrap() {
                    "scheme" => (true, true, true, false),
                    "an authority alone" => (false, true, false, false),
                    "path and query" => (false, false, true, true),
                    "a path" | "the path `*`" => (false, false, true, false),
                    other => panic!(
                        "{PAGE}:{line}: {text} is a URI, and the page says {other}: correct the page, or teach this test the word"
                    ),
                };
                assert_eq!(has, wanted, "{PAGE}:{line}: {text}");
            }
        }
    }
    let parts = |text: &str| text.parse::<Uri>().unwrap();
    assert_eq!(parts("http://example.com").path(), "/");
    assert_eq!(parts("//example.com/foo").path(), "//example.com/foo");
    assert_eq!(parts("*").path(), "*");
    assert_eq!(parts("http://[::1]:3000/").host(), Some("[::1]"));
}

#[test]
fn from_static_panics_with_the_text_of_the_error() {
    uris().says("panics: static str is not valid URI: invalid format");
    for (text, error) in [
        ("example.com/foo", "invalid format"),
        ("/two words", "invalid uri character"),
        ("", "empty string"),
    ] {
        let panicked = panics(move || drop(Uri::from_static(text)));
        assert_eq!(panicked, format!("static str is not valid URI: {error}"));
        assert_eq!(Uri::try_from(text).unwrap_err().to_string(), error);
    }
    let error = Uri::builder().path_and_query("/two words").build().unwrap_err();
    assert_eq!(error.to_string(), "invalid uri character");
    let error = "example.com/foo".parse::<Uri>().unwrap_err();
    assert_eq!(format!("{error:?}"), "InvalidUri(InvalidFormat)");
    uris().says("of the error is InvalidUri(InvalidFormat) or the like");
}

#[test]
fn what_people_type_becomes_a_uri() {
    uris().says("becomes http://xn--grn-ioa.de/two%20words");
    for (text, uri) in [
        ("http://grün.de/two words#top", "http://xn--grn-ioa.de/two%20words"),
        (" HTTP://Example.com:80 ", "http://example.com/"),
        ("https://a.test/<\"`{é}>?q=<\"'é `>", "https://a.test/%3C%22%60%7B%C3%A9%7D%3E?q=%3C%22%27%C3%A9%20`%3E"),
        ("http://[::1]/a/../b", "http://[::1]/b"),
        ("http://me:p w@a.test/", "http://me:p%20w@a.test/"),
        ("http://a.test/\n", "http://a.test/"),
    ] {
        assert_eq!(program::typed(text).unwrap().to_string(), uri, "{text}");
    }
    for text in ["file:///x", "localhost:3000/x", "mailto:a@b.test", "ftp://a.test/"] {
        let error = program::typed(text).unwrap_err().to_string();
        assert_eq!(error, "neither http nor https", "{text}");
    }
    for text in ["", "example.com/foo", "/foo", "http://", "http://a b/"] {
        assert!(program::typed(text).is_err(), "{text}");
    }
    uris().says("Url::join resolves a relative link");
    let base = url::Url::parse("http://a.test/b/c").unwrap();
    assert_eq!(base.join("../d").unwrap().as_str(), "http://a.test/d");
    assert_eq!(base.join("//example.com/foo").unwrap().as_str(), "http://example.com/foo");
}

#[test]
fn nothing_is_decoded_or_made_shorter() {
    let page = uris();
    page.says("%20, /../ and the case of letters stay");
    page.says("None for a URL without a port, and also for :99999");
    let uri: Uri = "HTTP://Example.COM:99999/a/../%20/%2f?A=%41".parse().unwrap();
    assert_eq!(uri.host(), Some("Example.COM"));
    assert_eq!((uri.path(), uri.query()), ("/a/../%20/%2f", Some("A=%41")));
    assert_eq!(uri.port_u16(), None);
    assert_eq!("http://a:80/".parse::<Uri>().unwrap().port_u16(), Some(80));
}

/// A connection to the handler, and what it is asked for.
fn serve() -> DuplexStream {
    let (client, server) = duplex(64 * 1024);
    tokio::spawn(async move {
        let service = service_fn(|request: Request<Incoming>| async move {
            let host = request.headers().contains_key(HOST);
            let uri = request.uri().to_string();
            let whole = program::whole(&request);
            let whole = whole.map_or_else(|error| error.to_string(), |it| it.to_string());
            Ok::<_, Infallible>(Response::new(format!("{uri} {host} {whole}")))
        });
        let io = TokioIo::new(server);
        auto::Builder::new(TokioExecutor::new()).serve_connection(io, service).await
    });
    client
}

/// What `serve` answers over HTTP/1, or over HTTP/2.
async fn ask(second: bool, request: Request<Empty<Bytes>>) -> String {
    let io = TokioIo::new(serve());
    let answer = async {
        let response = if second {
            let executor = TokioExecutor::new();
            let (mut sender, conn) = http2::handshake(executor, io).await.unwrap();
            tokio::spawn(conn);
            sender.send_request(request).await.unwrap()
        } else {
            let (mut sender, conn) = http1::handshake(io).await.unwrap();
            tokio::spawn(conn);
            sender.send_request(request).await.unwrap()
        };
        response.into_body().collect().await.unwrap().to_bytes()
    };
    let answer = timeout(LIMIT, answer).await.expect("an answer");
    String::from_utf8(answer.into()).unwrap()
}

#[tokio::test]
async fn the_whole_url_is_found_in_both_versions() {
    let page = uris();
    page.says("Over HTTP/1 that is path and query, and the host is in the header host");
    page.says("Over HTTP/2 it is the whole URL");
    let request = |uri: &str| Request::get(uri);
    let empty = Empty::<Bytes>::new;
    let first = request("/a?b").header(HOST, "a.test:80").body(empty()).unwrap();
    assert_eq!(ask(false, first).await, "/a?b true http://a.test:80/a?b");
    let second = request("http://a.test/a?b").body(empty()).unwrap();
    assert_eq!(ask(true, second).await, "http://a.test/a?b false http://a.test/a?b");
    // A proxy is asked for the whole URL, and its own wins over the header.
    let proxied = request("http://a.test/").header(HOST, "b.test").body(empty()).unwrap();
    assert_eq!(ask(false, proxied).await, "http://a.test/ true http://a.test/");
    let without = request("/").body(empty()).unwrap();
    assert_eq!(ask(false, without).await, "/ false no host");
    let broken = request("/").header(HOST, "a b").body(empty()).unwrap();
    assert_eq!(ask(false, broken).await, "/ true invalid uri character");
}

#[tokio::test]
async fn hyper_sends_a_path_as_it_is_and_no_fragment_and_no_authorization() {
    uris().says("hyper makes no authorization header of them");
    let (client, mut server) = duplex(1024);
    let (mut sender, conn) = http1::handshake(TokioIo::new(client)).await.unwrap();
    tokio::spawn(conn);
    let request = |uri: &str| Request::get(uri).body(Empty::<Bytes>::new()).unwrap();
    let sent = sender.send_request(request("http://me:secret@a.test/grün#top"));
    let read = async {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            bytes.push(server.read_u8().await.unwrap());
        }
        String::from_utf8(bytes).unwrap()
    };
    tokio::select! {
        _ = sent => panic!("nobody answers"),
        bytes = timeout(LIMIT, read) => {
            let line = "GET http://me:secret@a.test/grün HTTP/1.1\r\n\r\n";
            assert_eq!(bytes.unwrap(), line);
        }
    }
}

#[test]
fn paths_and_queries_are_decoded_apart() {
    let program = Program::start("uris");
    let mut connection = program.connect();
    for (path, lines) in [
        ("/a%2Fb+c", "path: /a/b+c\n"),
        ("/gr%C3%BCn", "path: /grün\n"),
        ("/%FF", "path: /\u{fffd}\n"),
        ("/?q=a+b&q=%26&x", "path: /\nq = a b\nq = &\nx = \n"),
        ("/%3Fq=1", "path: /?q=1\n"),
    ] {
        connection.send(format!("GET {path} HTTP/1.1\r\nhost: a.test\r\n\r\n"));
        let answer = connection.response().unwrap();
        assert_eq!(answer.text(), format!("url: http://a.test{path}\n{lines}"));
    }
    connection.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(connection.response().unwrap().status(), "HTTP/1.1 400 Bad Request");
}

#[test]
fn words_cannot_add_a_parameter() {
    let base: Uri = "http://me@a.test:8080/old?old=1".parse().unwrap();
    for words in ["", "a b", "a&admin=1", "é#?=+%", "\r\nx: y"] {
        let uri = program::search(&base, words);
        let uri = uri.unwrap_or_else(|error| panic!("{words:?}: {error}"));
        assert_eq!((uri.path(), uri.port_u16()), ("/search", Some(8080)));
        let pairs = form_urlencoded::parse(uri.query().unwrap().as_bytes());
        let pairs: Vec<_> = pairs.into_owned().collect();
        assert_eq!(pairs, [("q".to_owned(), words.to_owned())]);
    }
    // What the comment in the program says, and what happens without.
    let here: Uri = "http://127.0.0.1:8080".parse().unwrap();
    let uri = program::search(&here, "a&b").unwrap();
    assert_eq!(uri, "http://127.0.0.1:8080/search?q=a%26b");
    uris().says("breaks at spaces, and lets & in the text add a parameter");
    let error = format!("/search?q={}", "a b").parse::<Uri>().unwrap_err();
    assert_eq!(error.to_string(), "invalid uri character");
    let added: Uri = format!("/search?q={}", "a&admin=1").parse().unwrap();
    assert_eq!(form_urlencoded::parse(added.query().unwrap().as_bytes()).count(), 2);
}

#[test]
fn methods_are_words_with_case() {
    uris().says("get is another method than GET");
    let program = Program::start("uris");
    let mut connection = program.connect();
    for (method, status) in [
        ("GET", "200 OK"),
        ("SOURCE", "200 OK"),
        ("get", "405 Method Not Allowed"),
        ("source", "405 Method Not Allowed"),
        ("POST", "405 Method Not Allowed"),
        ("M-SEARCH", "405 Method Not Allowed"),
    ] {
        connection.send(format!("{method} / HTTP/1.1\r\nhost: x\r\n\r\n"));
        let answer = connection.response().unwrap();
        assert_eq!(answer.status(), format!("HTTP/1.1 {status}"), "{method}");
        let allow = (!status.starts_with("200")).then_some("GET, SOURCE");
        assert_eq!(answer.header("allow"), allow, "{method}");
    }
    for method in ["", "TWO WORDS", "É", "GET\n"] {
        let error = Method::from_bytes(method.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "invalid HTTP method");
    }
}

#[test]
fn status_codes_have_three_digits() {
    let [least, most] = uris().numbers("is a number from {} to {}.");
    for number in 0..2000 {
        let is = StatusCode::from_u16(number).is_ok();
        assert_eq!(is, (least..=most).contains(&number.into()), "{number}");
    }
}

#[test]
fn the_error_of_a_builder_comes_at_its_body() {
    #[track_caller]
    fn is<T: Error + 'static>(result: Result<Request<()>, hyper::http::Error>, text: &str) {
        let error = result.unwrap_err();
        let name = std::any::type_name::<T>().rsplit("::").next().unwrap();
        assert!(error.is::<T>(), "{error:?} is no {name}");
        assert_eq!(error.to_string(), text);
        uris().says(name);
    }
    let build = Request::builder;
    is::<InvalidMethod>(build().method("A B").body(()), "invalid HTTP method");
    is::<InvalidUri>(build().uri("a b").body(()), "invalid uri character");
    is::<InvalidHeaderName>(build().header("a b", "").body(()), "invalid HTTP header name");
    let value = build().header("a", "\n").body(());
    is::<InvalidHeaderValue>(value, "failed to parse header value");
    // The first one counts.
    is::<InvalidMethod>(build().method("A B").uri("a b").body(()), "invalid HTTP method");

    let status = Response::builder().status(99).body(()).unwrap_err();
    assert!(status.is::<InvalidStatusCode>());
    uris().says("InvalidStatusCode");
    let parts = Uri::builder().scheme("http").build().unwrap_err();
    assert!(parts.is::<InvalidUriParts>(), "{parts:?}");
    uris().says("InvalidUriParts");
    let mut many = Request::builder();
    for index in 0..1 << 15 {
        many = many.header(format!("x-{index}"), "");
    }
    is::<MaxSizeReached>(many.body(()), "max size reached");
}

#[test]
fn running_out_of_descriptors_is_survived() {
    survives_running_out_of_descriptors("uris");
}
