//! What src/client/connectors.md promises.

use std::collections::HashMap;
use std::convert::Infallible;
use std::error::Error;
use std::fs;
use std::future::{Ready, pending, ready};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream,
};
use std::os::unix::net::UnixListener;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::{
    Connect, Connected, HttpConnector, HttpInfo,
};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioIo};
use socket2::{Domain, Socket, Type};
use tokio::io::{DuplexStream, duplex};
use tokio::time::{Instant, timeout};
use tower_service::Service;

use super::{https, proxies};
use harness::{Connection, LIMIT, Program, Prose, Server, page, wait};

/// The program itself.
#[allow(dead_code)]
#[path = "../../client/connectors.rs"]
mod program;

use program::{Connector, InTime, Io, MAX_BODY, SocketPath};

const NAME: &str = "connectors";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

fn connectors() -> Prose {
    page("client/connectors")
}

fn connect_limit() -> u64 {
    connectors().number("| {} seconds, InTime | all that call does")
}

fn tcp_limit() -> u64 {
    connectors().number("| {} seconds, set_connect_timeout | TCP |")
}

fn total_limit() -> u64 {
    connectors().number("| {} seconds, timeout in fetch | the request")
}

// The program.

/// Runs the program to its end: its status, and what it printed.
fn run(arguments: &[&str]) -> (i32, String) {
    let (status, lines) = Program::client(NAME, arguments).wait();
    (status.code().unwrap(), lines.join("\n"))
}

#[test]
fn connect_to_changes_the_address_and_not_the_request() {
    let server = Server::start();
    let to = server.address.to_string();
    let url = "http://hello.test:81/path?query";
    let mut client = Program::client(NAME, &[url, "--connect-to", &to]);
    let mut connection = server.accept();
    assert_eq!(
        connection.head().unwrap(),
        "GET /path?query HTTP/1.1\r\nhost: hello.test:81\r\n\r\n"
    );
    connection.send(OK);
    assert_eq!(client.line(), format!("connected to {to}"));
    assert_eq!(client.line(), "hi");
    assert!(client.wait().0.success());
}

#[test]
fn connect_to_may_be_a_name() {
    let server = Server::start();
    let to = format!("localhost:{}", server.address.port());
    let client = Program::client(NAME, &["http://hello.test/", "--connect-to", &to]);
    let mut connection = server.accept();
    connection.head().unwrap();
    connection.send(OK);
    assert_eq!(client.line(), format!("connected to {}", server.address));
}

#[test]
fn without_an_option_the_url_says_where_to_connect() {
    let server = Server::start();
    let client = Program::client(NAME, &[&server.url("/")]);
    let mut connection = server.accept();
    let host = server.address;
    assert_eq!(
        connection.head().unwrap(),
        format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n")
    );
    connection.send(OK);
    assert_eq!(client.line(), format!("connected to {host}"));
}

#[test]
fn a_unix_socket_gets_the_same_request() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.sock");
    let listener = UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    let path = path.to_str().unwrap();
    let client =
        Program::client(NAME, &["http://localhost/path", "--unix-socket", path]);
    let mut accepted = None;
    wait("a connection to the Unix socket", || {
        accepted = listener.accept().ok();
        accepted.is_some()
    });
    let (stream, _) = accepted.unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(
            stream.read_line(&mut head).unwrap() > 0,
            "a whole head, not {head:?}"
        );
    }
    assert_eq!(head, "GET /path HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.get_mut().write_all(OK.as_bytes()).unwrap();
    assert_eq!(client.line(), format!("connected to {path}"));
    assert_eq!(client.line(), "hi");
}

#[test]
fn it_asks_the_listeners_of_the_book() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.sock");
    let path = path.to_str().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$2\" \"unix:$1\""]);
    command.arg(harness::cargo::program("listeners")).arg(path);
    let server = Program::listen(command);
    assert_eq!(server.line(), format!("listening on unix:{path}"));
    let (status, printed) = run(&["http://localhost/", "--unix-socket", path]);
    assert_eq!(status, 0, "{printed}");
    let expected = format!("connected to {path}\nyou are user ");
    assert!(printed.starts_with(&expected), "{printed}");
}

#[test]
fn it_says_why_a_unix_socket_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.sock");
    let error = |text: &str| {
        let path = path.to_str().unwrap();
        let expected = format!("client error (Connect): {path}: {text}");
        let got = run(&["http://localhost/", "--unix-socket", path]);
        assert_eq!(got, (1, expected));
    };
    error("No such file or directory (os error 2)");
    drop(UnixListener::bind(&path).unwrap());
    error("Connection refused (os error 111)");
}

#[test]
fn an_https_url_is_never_sent_in_plain_text() {
    let server = Server::start();
    let address = server.address.to_string();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.sock");
    let unix = UnixListener::bind(&path).unwrap();
    unix.set_nonblocking(true).unwrap();
    let path = path.to_str().unwrap();
    for options in [&[][..], &["--connect-to", &address], &["--unix-socket", path]] {
        let url = format!("https://{address}/");
        let expected = format!(
            "client error (Connect): this connector has no TLS for https://{address}/"
        );
        assert_eq!(run(&[&[&*url], options].concat()), (1, expected));
    }
    assert!(server.try_accept().is_none(), "the server sees no connection");
    assert!(unix.accept().is_err(), "the Unix socket sees no connection");
}

#[test]
fn wrong_arguments_get_the_usage() {
    let usage = "usage: connectors URL [--connect-to HOST:PORT | --unix-socket PATH]";
    for arguments in [
        &[][..],
        &["http://a.test/", "--connect-to"],
        &["http://a.test/", "--other", "x"],
        &["http://a.test/", "--unix-socket", "a", "b"],
    ] {
        assert_eq!(run(arguments), (1, usage.to_owned()));
    }
    // hyper would connect to port 80.
    connectors().says(":99999, HttpConnector would take the default one.");
    let no_port = "the port is not a number up to 65535";
    for to in ["127.0.0.1:99999", "127.0.0.1:x", "[::1]:99999"] {
        let url = format!("http://{to}/");
        let in_connect = format!("client error (Connect): {no_port}");
        assert_eq!(run(&[&url]), (1, in_connect));
        let expected = (1, no_port.to_owned());
        assert_eq!(run(&["http://a.test/", "--connect-to", to]), expected);
    }
    let (status, printed) = run(&["http://a.test/", "--connect-to", "not a host"]);
    assert_eq!((status, &*printed), (1, "invalid uri character"));
}

#[test]
#[ignore = "needs nginx"]
fn others_nginx_answers_on_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.sock").display().to_string();
    let http = format!(
        "server {{
             listen 127.0.0.1:PORT; listen unix:{path};
             return 200 \"$http_host $request_uri $remote_addr\";
         }}"
    );
    let nginx = Program::nginx(folder.path(), &http);
    assert_eq!(
        run(&["http://a.test/x", "--unix-socket", &path]),
        (0, format!("connected to {path}\na.test /x unix:"))
    );
    let address = nginx.address.to_string();
    assert_eq!(
        run(&["http://a.test/x", "--connect-to", &address]),
        (0, format!("connected to {address}\na.test /x 127.0.0.1"))
    );
}

// In memory, with a clock that stands still while there is work to do.

impl Io for TokioIo<DuplexStream> {}

/// Each connection is to a server in memory, with this service.
#[derive(Clone)]
struct InMemory<S>(S);

impl<S, F> Service<Uri> for InMemory<S>
where
    S: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send,
{
    type Response = Box<dyn Io>;
    type Error = Infallible;
    type Future = Ready<Result<Box<dyn Io>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (client, server) = duplex(64 * 1024);
        tokio::spawn(
            http1::Builder::new()
                .serve_connection(TokioIo::new(server), service_fn(self.0.clone())),
        );
        ready(Ok(Box::new(TokioIo::new(client))))
    }
}

/// What the program fetches. Its own time limit must be the first.
async fn fetch<C>(
    connector: C,
    uri: Uri,
) -> Result<(String, Bytes), program::BoxError>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let fetched = timeout(2 * LIMIT, program::fetch(connector, uri)).await;
    fetched.expect("`fetch` ends by itself")
}

fn hello() -> Uri {
    Uri::from_static("http://hello.test/")
}

/// An error with its causes.
fn chain(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

#[tokio::test]
async fn a_test_needs_no_sockets() {
    let connector = InMemory(async |request: Request<Incoming>| {
        let text = format!("{:?}", request.headers()["host"]);
        Ok(Response::new(Full::from(text)))
    });
    let (peer, body) = fetch(connector, hello()).await.unwrap();
    assert_eq!((&*peer, &*body), ("a stream without a name", &b"\"hello.test\""[..]));
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_ends_with_the_total_limit() {
    let start = Instant::now();
    let error = fetch(InMemory(async |_| pending().await), hello()).await;
    assert_eq!(error.unwrap_err().to_string(), "deadline has elapsed");
    assert_eq!(start.elapsed().as_secs(), total_limit());
}

#[derive(Clone)]
struct NeverReady;

impl Service<Uri> for NeverReady {
    type Response = Box<dyn Io>;
    type Error = Infallible;
    type Future = Ready<Result<Box<dyn Io>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Pending
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        unreachable!("it is not ready")
    }
}

#[tokio::test(start_paused = true)]
async fn the_total_limit_covers_poll_ready_and_the_layer_does_not() {
    let start = Instant::now();
    let error = fetch(InTime(NeverReady), hello()).await;
    assert_eq!(error.unwrap_err().to_string(), "deadline has elapsed");
    assert_eq!(start.elapsed().as_secs(), total_limit());
}

#[tokio::test]
async fn a_body_over_the_limit_is_not_kept() {
    for (size, whole) in [(MAX_BODY, true), (MAX_BODY + 1, false)] {
        let connector =
            InMemory(move |_| ready(Ok(Response::new(Full::from(vec![b'.'; size])))));
        let result = fetch(connector, hello()).await;
        match result {
            Ok((_, body)) => assert!(whole && body.len() == size),
            Err(error) => {
                assert!(!whole);
                assert_eq!(error.to_string(), "length limit exceeded");
            }
        }
    }
}

/// A resolver that knows these names, and a count of the questions.
#[derive(Clone, Default)]
struct Names {
    names: HashMap<&'static str, Vec<SocketAddr>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Service<Name> for Names {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        self.asked.lock().unwrap().push(name.to_string());
        let found = self.names.get(name.as_str()).cloned().map(Vec::into_iter);
        ready(found.ok_or_else(|| io::Error::other("my own words")))
    }
}

fn names(addresses: &[SocketAddr]) -> Names {
    let names = HashMap::from([("a.test", addresses.to_vec())]);
    Names { names, ..Names::default() }
}

/// `HttpConnector`, with `a.test` at these addresses.
fn http(addresses: &[SocketAddr]) -> HttpConnector<Names> {
    HttpConnector::new_with_resolver(names(addresses))
}

fn client<C>(connector: C) -> Client<C, Empty<Bytes>>
where
    C: Connect + Clone,
{
    Client::builder(TokioExecutor::new()).build(connector)
}

/// The two ends of the connection that a response came on.
async fn ends<C>(connector: C, url: &str) -> Result<HttpInfo, legacy::Error>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let response = timeout(LIMIT, client(connector).get(url.parse().unwrap()));
    let response = response.await.expect("an answer, or an error, in time")?;
    Ok(response.extensions().get::<HttpInfo>().expect("an HttpInfo").clone())
}

async fn error<C>(connector: C, url: &str) -> String
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let error = ends(connector, url).await.expect_err("no connection");
    assert!(error.is_connect());
    chain(&error)
}

/// A server that answers one request on each connection.
fn server(address: IpAddr) -> SocketAddr {
    let listener = bind(address);
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut connection = Connection::new(stream.unwrap());
            thread::spawn(move || {
                // Some connect and ask for nothing.
                if connection.head().is_ok() {
                    connection.send(OK);
                }
            });
        }
    });
    address
}

/// # Panics
///
/// On a machine without this address, where a test that needs it can show nothing.
fn bind(address: IpAddr) -> TcpListener {
    TcpListener::bind((address, 0)).unwrap_or_else(|error| {
        panic!(
            "this test needs {address}, and this machine does not have it: {error}"
        )
    })
}

pub(super) const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// An address that answers no SYN, as one behind a firewall: its backlog is full.
pub(super) struct Silent {
    pub(super) address: SocketAddr,
    _listener: Socket,
    _waiting: TcpStream,
}

pub(super) fn silent(address: IpAddr) -> Silent {
    drop(bind(address));
    let address = SocketAddr::from((address, 0));
    let listener = Socket::new(Domain::for_address(address), Type::STREAM, None);
    let listener = listener.unwrap();
    listener.bind(&address.into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let waiting = TcpStream::connect(address).unwrap();
    Silent { address, _listener: listener, _waiting: waiting }
}

/// An address where nothing listens.
fn closed(address: IpAddr) -> SocketAddr {
    bind(address).local_addr().unwrap()
}

#[tokio::test]
async fn a_dead_ipv6_network_costs_no_more_than_happy_eyeballs() {
    let delay =
        connectors().number("After {} ms, or as soon as all of these have failed");
    let (dead, alive) = (silent(V6), server(V4));
    let start = Instant::now();
    let info = ends(http(&[dead.address, alive]), "http://a.test/").await.unwrap();
    assert_eq!(info.remote_addr(), alive);
    let elapsed = start.elapsed();
    assert!(elapsed >= Duration::from_millis(delay), "{elapsed:?}");

    // As its only address, the dead one is found dead by the time limit alone.
    let mut connector = http(&[dead.address]);
    connector.set_connect_timeout(Some(Duration::from_millis(50)));
    assert_eq!(
        error(connector, "http://a.test/").await,
        "client error (Connect): tcp connect error: deadline has elapsed"
    );
}

#[tokio::test(start_paused = true)]
async fn the_other_family_begins_after_the_delay_and_addresses_of_one_share_the_time()
{
    // All these are silent, so nothing happens but what a timer does.
    let (six, four, more) = (silent(V6), silent(V4), silent(V4));
    let delay =
        connectors().number("After {} ms, or as soon as all of these have failed");
    let limit = 1_000;
    for (addresses, expected) in [
        (&[six.address][..], limit),
        (&[six.address, four.address], delay + limit),
        (&[four.address, six.address, more.address], delay + limit),
        // Each has half of the time, or a third.
        (&[four.address, more.address], limit),
        (&[four.address, more.address, four.address], limit),
    ] {
        let mut connector = http(addresses);
        connector.set_connect_timeout(Some(Duration::from_millis(limit)));
        let start = Instant::now();
        let connecting = timeout(LIMIT, connector.call(uri("http://a.test/"))).await;
        connecting.expect("a limit ends it").expect_err("all are silent");
        let elapsed = start.elapsed().as_millis() as u64;
        // A timer is late by up to a millisecond.
        let range = expected..=expected + addresses.len() as u64;
        assert!(range.contains(&elapsed), "{addresses:?}: {elapsed}, not {expected}");
    }
    connectors().says("gives each an equal share of its time");
}

#[tokio::test]
async fn the_other_family_begins_at_once_if_the_first_is_refused() {
    let (first, alive) = (closed(V6), server(V4));
    let mut connector = http(&[first, alive]);
    connector.set_happy_eyeballs_timeout(Some(Duration::from_secs(3600)));
    let info = ends(connector, "http://a.test/").await.unwrap();
    assert_eq!(info.remote_addr(), alive);
}

#[tokio::test]
async fn a_silent_address_holds_up_the_rest_of_its_family() {
    let (six, four) = (silent(V6), silent(V4));
    let alive = server(V4);
    // While these two wait, a third one connects.
    let mut off = http(&[six.address, alive]);
    off.set_happy_eyeballs_timeout(None);
    let off = tokio::spawn(async move { off.call(uri("http://a.test/")).await });
    let mut same = http(&[four.address, alive]);
    let same = tokio::spawn(async move { same.call(uri("http://a.test/")).await });
    ends(http(&[six.address, alive]), "http://a.test/").await.unwrap();
    assert!(
        !same.is_finished(),
        "without a limit a silent address holds up the rest"
    );
    assert!(!off.is_finished(), "`None` does not turn to the other family");
    same.abort();
    off.abort();

    // With a limit the next one has its turn.
    let mut connector = http(&[four.address, alive]);
    connector.set_connect_timeout(Some(Duration::from_millis(100)));
    let info = ends(connector, "http://a.test/").await.unwrap();
    assert_eq!(info.remote_addr(), alive);
}

fn uri(uri: &str) -> Uri {
    uri.parse().unwrap()
}

/// Where a connector tried to connect to.
async fn dialled(connector: &mut HttpConnector<Names>, url: &str) -> String {
    match timeout(LIMIT, connector.call(uri(url))).await.unwrap() {
        Ok(stream) => stream.inner().peer_addr().unwrap().to_string(),
        Err(error) => format!("{error:?}"),
    }
}

#[tokio::test]
async fn the_port_of_a_resolver_counts_only_if_the_url_has_none() {
    let (first, second) = (server(V4), server(V4));
    let mut connector = http(&[first]);
    assert_eq!(dialled(&mut connector, "http://a.test/").await, first.to_string());
    let url = format!("http://a.test:{}/", second.port());
    assert_eq!(dialled(&mut connector, &url).await, second.to_string());

    // Nobody listens here, so the error says it.
    let mut connector = http(&["127.91.3.7:0".parse().unwrap()]);
    connector.enforce_http(false);
    for (url, address) in
        [("http://a.test/", "127.91.3.7:80"), ("https://a.test/", "127.91.3.7:443")]
    {
        let dialled = dialled(&mut connector, url).await;
        let address = regex::Regex::new(&format!(r"(^|\W){address}($|\W)")).unwrap();
        assert!(address.is_match(&dialled), "{url}: {dialled}");
    }
}

#[tokio::test]
async fn each_connection_looks_up_its_name_but_not_an_address() {
    let address = server(V4);
    let names = names(&[address]);
    let mut connector = HttpConnector::new_with_resolver(names.clone());
    for _ in 0..2 {
        connector.call(uri("http://a.test/")).await.unwrap();
    }
    connector.call(uri(&format!("http://{address}/"))).await.unwrap();
    assert_eq!(*names.asked.lock().unwrap(), ["a.test", "a.test"]);
}

#[tokio::test]
async fn errors_of_names_and_addresses() {
    assert_eq!(
        error(http(&[]), "http://b.test/").await,
        "client error (Connect): dns error: my own words"
    );
    assert_eq!(
        error(http(&[]), "http://a.test/").await,
        "client error (Connect): tcp connect error: Network unreachable"
    );
    // With a network or without, nobody has this name.
    let system = error(HttpConnector::new(), "http://a.invalid/").await;
    let expected =
        "client error (Connect): dns error: failed to lookup address information: ";
    assert!(system.starts_with(expected), "{system}");

    // The first one is reported, and only `{:?}` says which that is.
    let (first, second) = (closed(V4), closed(V4));
    let error = ends(http(&[first, second]), "http://a.test/").await.unwrap_err();
    assert_eq!(
        chain(&error),
        "client error (Connect): tcp connect error: Connection refused (os error 111)"
    );
    let debug = format!("{error:?}");
    assert!(debug.contains(&first.to_string()), "{debug}");
    assert!(!debug.contains(&second.to_string()), "{debug}");
}

/// The zone of a link-local address: of the URL it is not read, of a resolver it is kept.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_link_local_address_needs_a_zone_from_a_resolver() {
    let without = error(HttpConnector::new(), "http://[fe80::1]:1/").await;
    let expected = "tcp connect error: Invalid argument (os error 22)";
    assert!(without.ends_with(expected), "{without}");
    connectors().says(expected);
    let in_url = error(HttpConnector::new(), "http://[fe80::1%25lo]:1/").await;
    assert!(in_url.starts_with("client error (Connect): dns error: "), "{in_url}");

    let address = SocketAddrV6::new("fe80::1".parse().unwrap(), 0, 0, 1);
    let error = ends(http(&[address.into()]), "http://a.test:1/").await.unwrap_err();
    let debug = format!("{error:?}");
    assert!(debug.contains("[fe80::1%1]:1"), "{debug}");
}

#[tokio::test]
async fn local_addresses_and_interfaces() {
    let (four, six) = (server(V4), server(V6));
    let mut connector = http(&[six, four]);
    connector.set_local_address(Some([127, 0, 0, 2].into()));
    let info = ends(connector.clone(), "http://a.test/").await.unwrap();
    assert_eq!(info.remote_addr(), four, "only addresses of its family are tried");
    assert_eq!(info.local_addr().ip(), IpAddr::from([127, 0, 0, 2]));
    assert_eq!(
        error(connector, &format!("http://{six}/")).await,
        "client error (Connect): tcp connect error: Network unreachable"
    );
    connectors().says("the others too, from any source");
    let mut connector = http(&[six, four]);
    connector.set_local_address(Some([127, 0, 0, 2].into()));
    connector.set_happy_eyeballs_timeout(None);
    let info = ends(connector, "http://a.test/").await.unwrap();
    assert_eq!((info.remote_addr(), info.local_addr().ip()), (six, V6));
    let mut connector = http(&[six, four]);
    connector.set_local_addresses([127, 0, 0, 2].into(), Ipv6Addr::LOCALHOST);
    let info = ends(connector, "http://a.test/").await.unwrap();
    assert_eq!(info.remote_addr(), six, "with both, the first one is");

    let mut connector = http(&[four]);
    connector.set_local_address(Some([192, 0, 2, 1].into()));
    assert_eq!(
        error(connector, "http://a.test/").await,
        "client error (Connect): tcp bind local error: Cannot assign requested address (os error 99)"
    );

    let mut connector = http(&[four]);
    connector.set_interface("lo");
    ends(connector.clone(), "http://a.test/").await.unwrap();
    connector.set_interface("nothing0");
    assert_eq!(
        error(connector, "http://a.test/").await,
        "client error (Connect): tcp bind interface error: No such device (os error 19)"
    );
}

#[tokio::test]
async fn without_enforce_http_https_is_sent_in_plain_text() {
    let server = Server::start();
    let url = format!("https://{}/secret", server.address);
    assert_eq!(
        error(HttpConnector::new(), &url).await,
        "client error (Connect): invalid URL, scheme is not http"
    );
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    let answered = thread::spawn(move || {
        let mut connection = server.accept();
        let head = connection.head().unwrap();
        connection.send(OK);
        head
    });
    ends(connector, &url).await.unwrap();
    assert!(answered.join().unwrap().starts_with("GET /secret HTTP/1.1\r\n"));
}

#[tokio::test(start_paused = true)]
async fn the_limit_around_a_connector_covers_the_lookup_and_set_connect_timeout_does_not()
 {
    type Never = std::future::Pending<io::Result<std::vec::IntoIter<SocketAddr>>>;
    let resolver = tower::service_fn(|_: Name| -> Never { pending() });
    let mut connector = HttpConnector::new_with_resolver(resolver);
    connector.set_connect_timeout(Some(Duration::from_secs(1)));
    let hour = Duration::from_secs(3600);
    let bare = client(connector.clone());
    assert!(timeout(hour, bare.get(hello())).await.is_err(), "the lookup goes on");

    let start = Instant::now();
    let limited = client(InTime(connector));
    let answer = timeout(hour, limited.get(hello())).await;
    let error = answer.expect("the layer gives up").unwrap_err();
    assert_eq!(chain(&error), "client error (Connect): deadline has elapsed");
    assert!(error.is_connect());
    assert_eq!(start.elapsed().as_secs(), connect_limit());
}

/// A library whose `getaddrinfo` never returns, as with name servers that are silent.
fn never_resolves(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("never.rs"), folder.join("libnever.so"));
    let code = "#[unsafe(no_mangle)]\npub extern \"C\" fn getaddrinfo() -> i32 {
        loop { std::thread::park() }
    }";
    fs::write(&source, code).unwrap();
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition=2024", "--crate-type=cdylib", "-o"]).arg(&library);
    let output = rustc.arg(&source).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    library
}

/// What `#[tokio::main]` does at the end of `main`.
#[test]
fn a_runtime_that_is_dropped_waits_for_a_lookup() {
    connectors().says("With #[tokio::main] the program does not end before the lookup");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (end, lookup) = channel::<()>();
    let (begin, begun) = channel();
    runtime.spawn_blocking(move || {
        begin.send(()).unwrap();
        lookup.recv().ok();
    });
    begun.recv_timeout(LIMIT).unwrap();
    let dropping = thread::spawn(move || drop(runtime));
    thread::sleep(Duration::from_millis(200));
    assert!(!dropping.is_finished(), "the runtime leaves the thread behind");
    drop(end);
    wait("the end of the runtime", || dropping.is_finished());
}

/// The programs of HTTPS and Proxies as well, which say the same.
#[test]
fn a_lookup_that_never_returns_holds_up_neither_the_request_nor_the_end() {
    connectors().says("A limit ends the request, but");
    page("client/https").says("lets the program end while it goes on");
    page("client/proxies").says("A lookup that hangs does not hold up the end");
    let folder = tempfile::tempdir().unwrap();
    let library = never_resolves(folder.path());
    let ca = folder.path().join("ca.pem");
    let own = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
    fs::write(&ca, own.cert.pem()).unwrap();
    let proxy = Server::start();
    let socks = format!("socks5://{}", proxy.address);
    let ca = ["--ca", ca.to_str().unwrap()];
    let started = std::time::Instant::now();
    let mut runs: Vec<_> = [
        (NAME, vec!["http://a.test/"], connect_limit()),
        ("https", [&["https://a.test/"], &ca[..]].concat(), https::connect_limit()),
        (
            "proxies",
            [&["http://a.test/"], &ca[..]].concat(),
            proxies::connect_limit(),
        ),
        // The name of the server, which `resolve` looks up, and that of the proxy.
        (
            "proxies",
            [&["http://a.test/", "--proxy", &socks], &ca[..]].concat(),
            proxies::connect_limit(),
        ),
        (
            "proxies",
            [&["http://a.test/", "--proxy", "http://b.test:1"], &ca[..]].concat(),
            proxies::connect_limit(),
        ),
    ]
    .into_iter()
    .map(|(name, arguments, limit)| {
        let mut command = Command::new(harness::cargo::program(name));
        command.args(&arguments).stdin(Stdio::null()).env("LD_PRELOAD", &library);
        (arguments, harness::spawn(command), limit)
    })
    .collect();
    for (arguments, (child, lines), limit) in &mut runs {
        wait(&format!("the end of {arguments:?}"), || {
            child.try_wait().unwrap().is_some()
        });
        let printed: Vec<_> = lines.iter().collect();
        let error = "client error (Connect): deadline has elapsed";
        assert_eq!(printed, [error], "{arguments:?}");
        assert!(started.elapsed().as_secs() >= *limit, "{arguments:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_address_ends_with_the_limit_of_tcp() {
    let silent = silent(V4);
    let connector = program::tcp(Some(&silent.address.to_string())).unwrap();
    let start = Instant::now();
    let error = fetch(InTime(connector), hello()).await.unwrap_err();
    assert_eq!(
        chain(&*error),
        "client error (Connect): tcp connect error: deadline has elapsed"
    );
    assert_eq!(start.elapsed().as_secs(), tcp_limit());
}

#[tokio::test]
async fn a_layer_passes_on_what_its_connector_returns() {
    let address = server(V4);
    let connector = InTime(program::tcp(None).unwrap());
    let info = ends(connector, &format!("http://{address}/")).await.unwrap();
    assert_eq!(info.remote_addr(), address);
    let refused = InTime(HttpConnector::new());
    assert_eq!(
        error(refused, &format!("http://{}/", closed(V4))).await,
        "client error (Connect): tcp connect error: Connection refused (os error 111)"
    );
}

#[tokio::test]
async fn the_program_sets_nodelay() {
    let address = server(V4);
    let Ok(Connector::Tcp { mut http, .. }) = program::tcp(None) else {
        panic!("it is for TCP")
    };
    let url = uri(&format!("http://{address}/"));
    let stream = http.call(url.clone()).await.unwrap();
    assert!(stream.inner().nodelay().unwrap());
    let stream = HttpConnector::new().call(url).await.unwrap();
    assert!(!stream.inner().nodelay().unwrap(), "off by default");
}

#[tokio::test(start_paused = true)]
async fn the_pool_looks_at_the_url_alone() {
    let opened = Arc::new(AtomicUsize::new(0));
    let server = InMemory(async |_| Ok(Response::new(Full::from("hi"))));
    let connector = tower::service_fn({
        let opened = opened.clone();
        move |uri| {
            opened.fetch_add(1, Relaxed);
            server.clone().call(uri)
        }
    });
    let client = client(connector);
    for (url, expected) in [
        ("http://a.test/", 1),
        ("http://a.test/other", 1),
        ("http://b.test/", 2),
        ("http://a.test:80/", 3),
    ] {
        let response = timeout(LIMIT, client.get(uri(url))).await.unwrap().unwrap();
        response.into_body().collect().await.unwrap();
        // Only when all tasks wait does the clock move.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(opened.load(Relaxed), expected, "after {url}");
    }
}

// What else a stream can say of itself.

impl Io for TokioIo<tokio::io::BufStream<DuplexStream>> {
    fn about(&self) -> Connected {
        Connected::new().proxy(true)
    }
}

impl Io for TokioIo<tokio::io::BufReader<DuplexStream>> {
    fn about(&self) -> Connected {
        Connected::new().negotiated_h2().extra(SocketPath("/over/h2".into()))
    }
}

/// A connector with this stream.
fn once<T>(stream: TokioIo<T>) -> impl Connect + Clone + Send + Sync + 'static
where
    T: Send + 'static,
    TokioIo<T>: Io,
{
    let stream = Arc::new(Mutex::new(Some(Box::new(stream) as Box<dyn Io>)));
    tower::service_fn(move |_: Uri| {
        let stream = stream.lock().unwrap().take();
        ready(stream.ok_or_else(|| io::Error::other("there is one stream")))
    })
}

#[tokio::test]
async fn a_proxy_gets_whole_urls() {
    let (near, far) = duplex(64 * 1024);
    let whole = service_fn(async |request: Request<Incoming>| {
        let target = request.uri().to_string();
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(target)))
    });
    tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(far), whole));
    let near = TokioIo::new(tokio::io::BufStream::new(near));
    let (_, target) = fetch(once(near), uri("http://a.test/path")).await.unwrap();
    assert_eq!(target, "http://a.test/path");
}

#[tokio::test]
async fn a_stream_that_negotiated_h2_is_used_with_http2() {
    let (near, far) = duplex(64 * 1024);
    let version = service_fn(async |request: Request<Incoming>| {
        let version = format!("{:?}", request.version());
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(version)))
    });
    tokio::spawn(
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(far), version),
    );
    let near = TokioIo::new(tokio::io::BufReader::new(near));
    let (peer, version) = fetch(once(near), hello()).await.unwrap();
    assert_eq!((&*peer, &*version), ("/over/h2", &b"HTTP/2.0"[..]));
}
