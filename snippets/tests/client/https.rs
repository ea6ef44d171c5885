//! What src/client/https.md promises.

use std::convert::Infallible;
use std::error::Error;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_rustls::{ConfigBuilderExt, FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{HttpConnector, HttpInfo};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SigningKey,
};
use rustls::DigitallySignedStruct;
use rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::connectors::{V4, silent};
use crate::server::tls::{alpn, folder, in_time};
use harness::{Program, Prose, Server, page};

/// The program itself, for tests with servers and a clock of their own.
#[allow(dead_code)]
#[path = "../../client/https.rs"]
mod program;

use program::Options;

fn https() -> Prose {
    page("client/https")
}

pub(super) fn connect_limit() -> u64 {
    https().number("| {} seconds | timeout around the connector: the name, TCP and TLS")
}

// What a server shows.

pub type Ca = CertifiedIssuer<'static, KeyPair>;

pub fn ca(name: &str) -> Ca {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate, then those that it is sent with, and its key.
pub struct Identity(pub Vec<rcgen::Certificate>, pub KeyPair);

pub fn sign<K: SigningKey>(
    issuer: &Issuer<K>,
    names: &[&str],
    change: impl FnOnce(&mut CertificateParams),
) -> Identity {
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    Identity(vec![params.signed_by(&key, issuer).unwrap()], key)
}

/// A certificate for 127.0.0.1 and localhost.
fn good(ca: &Ca) -> Identity {
    sign(ca, &["127.0.0.1", "localhost"], |_| {})
}

/// A server in this process.
struct Shown {
    identity: Identity,
    alpn: &'static [&'static str],
    tls: &'static SupportedProtocolVersion,
    /// The CA of the clients, who must have a certificate.
    clients: Option<String>,
}

impl Shown {
    fn new(identity: Identity) -> Shown {
        Shown { identity, alpn: &["h2", "http/1.1"], tls: &TLS13, clients: None }
    }

    fn config(self) -> ServerConfig {
        let Identity(chain, key) = self.identity;
        let builder = ServerConfig::builder_with_protocol_versions(&[self.tls]);
        let builder = match self.clients {
            Some(ca) => {
                let folder = TempDir::new().unwrap();
                let file = write(&folder, "clients.pem", &ca);
                let roots = program::own_roots(&file).unwrap();
                let verifier = WebPkiClientVerifier::builder(roots.into()).build();
                builder.with_client_cert_verifier(verifier.unwrap())
            }
            None => builder.with_no_client_auth(),
        };
        let chain = chain.iter().map(|cert| cert.der().clone()).collect();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = alpn(self.alpn);
        config
    }

    /// Serves: each answer says the name in the handshake, and whether the client has a certificate.
    async fn serve(self) -> SocketAddr {
        self.serve_with(|stream| async move {
            let (_, session) = stream.get_ref();
            let name = session.server_name().unwrap_or("no name").to_owned();
            let known = session.peer_certificates().is_some();
            let service = service_fn(move |_: Request<Incoming>| {
                let text = format!("{name}, known: {known}");
                async {
                    Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(text)))
                }
            });
            auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await
                .ok();
        })
        .await
    }

    async fn serve_with<F>(
        self,
        serve: impl Fn(TlsStream<TcpStream>) -> F + Send + 'static,
    ) -> SocketAddr
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let acceptor = TlsAcceptor::from(Arc::new(self.config()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                match acceptor.accept(stream).into_fallible().await {
                    Ok(stream) => drop(tokio::spawn(serve(stream))),
                    // Reads on, so that a reset does not overtake the alert.
                    Err((_, mut stream)) => {
                        stream.shutdown().await.ok();
                        tokio::spawn(async move {
                            stream.read_to_end(&mut Vec::new()).await.ok();
                        });
                    }
                }
            }
        });
        address
    }
}

// The client.

fn write(folder: &TempDir, name: &str, pem: &str) -> String {
    let path = folder.path().join(name);
    fs::write(&path, pem).unwrap();
    path.to_str().unwrap().to_owned()
}

fn options(address: SocketAddr, ca: &str) -> Options {
    let (url, ca) = (format!("https://{address}/"), Some(ca.to_owned()));
    Options { url, ca, ..Options::default() }
}

/// What the program prints, on either output.
async fn print(options: &Options) -> Result<String, String> {
    let result = in_time(program::run(options)).await;
    let (head, body) = result.map_err(|error| program::report(&*error))?;
    Ok(format!("{head}: {}", String::from_utf8(body.to_vec()).unwrap()))
}

/// Asks a server for which the client has this CA.
async fn ask(server: Shown, ca: &str) -> Result<String, String> {
    let folder = TempDir::new().unwrap();
    let file = write(&folder, "ca.pem", ca);
    print(&options(server.serve().await, &file)).await
}

/// The program of the page about servers, with the files that it needs.
fn tls_server() -> (Program, TempDir) {
    let folder = folder();
    let mut command = Command::new(harness::cargo::program("tls"));
    command.current_dir(&folder);
    (Program::listen(command), folder)
}

pub fn file(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).to_str().unwrap().to_owned()
}

// The roots.

#[test]
fn a_ca_of_our_own_is_trusted() {
    let (server, folder) = tls_server();
    let url = format!("https://{}/", server.address);
    let mut client =
        Program::client("https", &[&url, "--ca", &file(&folder, "ca.pem")]);
    let (status, printed) = client.wait();
    assert!(status.success(), "{printed:?}");
    assert_eq!(printed, ["HTTP/2.0 200 OK", "Hello over HTTP/2.0!"]);
}

#[test]
fn an_error_ends_the_program_with_status_1_and_one_line() {
    let (server, folder) = tls_server();
    let url = format!("https://{}/", server.address);
    let wrong = file(&folder, "cert.pem");
    let mut client = Program::client("https", &[&url, "--ca", &wrong]);
    let (status, printed) = client.wait();
    let error = "client error (Connect): invalid peer certificate: UnknownIssuer";
    assert_eq!((status.code(), printed), (Some(1), vec![error.to_owned()]));
}

/// With a CA of its own, the program trusts no other.
#[test]
fn the_cas_of_the_system_are_those_of_the_environment_if_it_names_some() {
    let (server, folder) = tls_server();
    let none = write(&folder, "none.pem", "");
    let url = format!("https://{}/", server.address);
    let run = |variable: &str, value: &str| {
        let mut command = Command::new(harness::cargo::program("https"));
        command.arg(&url).stdin(Stdio::null());
        command.env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR");
        command.env(variable, value);
        let (mut child, lines) = harness::spawn(command);
        let line = lines.recv_timeout(harness::LIMIT).expect("it prints something");
        child.kill().ok();
        child.wait().unwrap();
        line
    };
    assert_eq!(run("SSL_CERT_FILE", &file(&folder, "ca.pem")), "HTTP/2.0 200 OK");
    let other = TempDir::new().unwrap();
    fs::copy(file(&folder, "ca.pem"), other.path().join("ca.pem")).unwrap();
    assert_eq!(
        run("SSL_CERT_DIR", other.path().to_str().unwrap()),
        "HTTP/2.0 200 OK"
    );
    assert_eq!(
        run("SSL_CERT_FILE", &none),
        "no native root CA certificates found (errors: [])"
    );
    // Without the variables: the CAs of this machine, which do not include ours.
    let line = run("UNUSED", "");
    assert!(
        line.ends_with(": invalid peer certificate: UnknownIssuer")
            || line.starts_with("no native root CA certificates found"),
        "{line}"
    );
}

#[tokio::test]
async fn each_wrong_certificate_has_its_error() {
    let ours = ca("ours");
    let pem = ours.pem();
    let day = rcgen::date_time_ymd;
    let expired =
        sign(&ours, &["127.0.0.1"], |cert| cert.not_after = day(2000, 1, 1));
    let early = sign(&ours, &["127.0.0.1"], |cert| cert.not_before = day(2999, 1, 1));
    let purpose = sign(&ours, &["127.0.0.1"], |cert| {
        cert.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    let common_name = sign(&ours, &[], |cert| {
        cert.distinguished_name.push(DnType::CommonName, "127.0.0.1");
    });
    // A CA between ours and the server, whose certificate is not sent.
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "between");
    let key = KeyPair::generate().unwrap();
    let between = params.signed_by(&key, &ours).unwrap();
    let between_issuer = Issuer::new(params, key);
    let not_sent = sign(&between_issuer, &["127.0.0.1"], |_| {});
    let leaf = good(&ours);
    let leaf_pem = leaf.0[0].pem();
    // As `openssl req -x509` makes it.
    let authority = |cert: &mut CertificateParams| {
        cert.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    };
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    authority(&mut params);
    let key = KeyPair::generate().unwrap();
    let itself = params.self_signed(&key).unwrap();
    let itself_pem = itself.pem();

    for (what, ca, identity, error) in [
        ("another CA", ca("other").pem(), good(&ours), "UnknownIssuer"),
        ("another CA of that name", ca("ours").pem(), good(&ours), "BadSignature"),
        ("its own certificate as the CA", leaf_pem, leaf, "UnknownIssuer"),
        ("an intermediate not sent", pem.clone(), not_sent, "UnknownIssuer"),
        (
            "a CA as the server",
            itself_pem,
            Identity(vec![itself], key),
            "Other(OtherError(CaUsedAsEndEntity))",
        ),
        (
            "another name",
            pem.clone(),
            sign(&ours, &["example.com"], |_| {}),
            r#"certificate not valid for name "127.0.0.1"; certificate is only valid for DnsName("example.com")"#,
        ),
        (
            "a common name alone",
            pem.clone(),
            common_name,
            r#"certificate not valid for name "127.0.0.1"; certificate is not valid for any names (according to its subjectAltName extension)"#,
        ),
        ("expired", pem.clone(), expired, "certificate expired: verification time "),
        (
            "early",
            pem.clone(),
            early,
            "certificate not valid yet: verification time ",
        ),
        (
            "for clients",
            pem.clone(),
            purpose,
            "certificate does not allow extended key usage for server authentication",
        ),
    ] {
        let printed = ask(Shown::new(identity), &ca).await.unwrap_err();
        let error =
            format!("client error (Connect): invalid peer certificate: {error}");
        assert!(printed.starts_with(&error), "{what}: {printed}");
        let open_end = ["verification time ", "authentication"];
        let whole =
            printed == error || open_end.iter().any(|end| error.ends_with(end));
        assert!(whole, "{what}: {printed}");
    }
    // With the certificate of the CA between, it is found.
    let mut sent = sign(&between_issuer, &["127.0.0.1"], |_| {});
    sent.0.push(between);
    ask(Shown::new(sent), &pem).await.unwrap();
    // A file can have several CAs.
    let two = ca("other").pem() + &ours.pem();
    ask(Shown::new(good(&ours)), &two).await.unwrap();
    // A certificate that signed itself, and is no CA, can be a root.
    let itself =
        rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let itself_pem = itself.cert.pem();
    let identity = Identity(vec![itself.cert], itself.signing_key);
    ask(Shown::new(identity), &itself_pem).await.unwrap();
}

#[tokio::test]
async fn what_is_not_tls_has_its_error() {
    let folder = folder();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for answer in ["HTTP/1.1 400 Bad Request\r\n\r\n", ""] {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.ok();
            stream.read_to_end(&mut Vec::new()).await.ok();
        }
    });
    let options = options(address, &file(&folder, "ca.pem"));
    for error in
        ["received corrupt message of type InvalidContentType", "tls handshake eof"]
    {
        let printed = print(&options).await.unwrap_err();
        assert_eq!(printed, format!("client error (Connect): {error}"));
    }
}

#[tokio::test]
async fn files_that_are_wrong_are_named() {
    let folder = folder();
    let none = "none.pem";
    write(&folder, none, "");
    for (ca, cert, key, error) in [
        (none, None, None, "none.pem: there is no certificate in it"),
        ("absent.pem", None, None, "No such file or directory"),
        (
            "ca.pem",
            Some("client-cert.pem"),
            Some("key.pem"),
            "client-cert.pem: keys may not be consistent: KeyMismatch",
        ),
        ("ca.pem", Some("client-cert.pem"), Some(none), "none.pem: no items found"),
        ("ca.pem", Some("client-cert.pem"), None, "usage: https URL"),
    ] {
        let file = |name: &str| file(&folder, name);
        let options = Options {
            url: "https://127.0.0.1:1/".to_owned(),
            ca: Some(file(ca)),
            cert: cert.map(file),
            key: key.map(file),
        };
        let printed = print(&options).await.unwrap_err();
        assert!(printed.contains(error), "{printed}");
    }
}

// The version.

#[tokio::test]
async fn the_version_is_negotiated() {
    let ca = ca("ours");
    for (alpn, version) in [
        (&["h2", "http/1.1"][..], "HTTP/2.0"),
        // The server chooses.
        (&["http/1.1", "h2"], "HTTP/1.1"),
        (&["h2"], "HTTP/2.0"),
        (&["http/1.1"], "HTTP/1.1"),
        (&[], "HTTP/1.1"),
    ] {
        for tls in [&TLS12, &TLS13] {
            let server = Shown { alpn, tls, ..Shown::new(good(&ca)) };
            let printed = ask(server, &ca.pem()).await.unwrap();
            assert_eq!(printed, format!("{version} 200 OK: no name, known: false"));
        }
    }
    let server = Shown { alpn: &["http/1.0"], ..Shown::new(good(&ca)) };
    let printed = ask(server, &ca.pem()).await.unwrap_err();
    let alert = "client error (Connect): received fatal alert: NoApplicationProtocol";
    assert_eq!(printed, alert);
}

#[tokio::test]
async fn a_connector_for_http_1_alone_never_sees_http_2() {
    let ca = ca("ours");
    let folder = TempDir::new().unwrap();
    let known = Options {
        ca: Some(write(&folder, "ca.pem", &ca.pem())),
        ..Options::default()
    };
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(program::tls_config(&known).unwrap())
        .https_only()
        .enable_http1()
        .build();
    let client = Client::builder(TokioExecutor::new()).build(https);
    let url = format!("https://{}/", Shown::new(good(&ca)).serve().await);
    let fetched = in_time(program::fetch(&client, url.parse().unwrap())).await;
    assert_eq!(fetched.unwrap().0, "HTTP/1.1 200 OK");
    let response = in_time(client.get(url.parse().unwrap())).await.unwrap();
    assert!(response.extensions().get::<HttpInfo>().is_some(), "of the connection");
}

#[tokio::test]
#[should_panic(expected = "ALPN protocols should not be pre-defined")]
async fn the_versions_are_not_for_the_tls_config() {
    let folder = folder();
    let known = Options { ca: Some(file(&folder, "ca.pem")), ..Options::default() };
    let mut config = program::tls_config(&known).unwrap();
    config.alpn_protocols = alpn(&["h2"]);
    program::client(config);
}

// Names.

#[tokio::test]
async fn an_address_is_not_sent_and_must_be_in_the_certificate() {
    let ca = ca("ours");
    let folder = TempDir::new().unwrap();
    let file = write(&folder, "ca.pem", &ca.pem());
    let address = Shown::new(good(&ca)).serve().await;
    let mut options = options(address, &file);
    assert_eq!(
        print(&options).await.unwrap(),
        "HTTP/2.0 200 OK: no name, known: false"
    );
    options.url = format!("https://localhost:{}/", address.port());
    assert_eq!(
        print(&options).await.unwrap(),
        "HTTP/2.0 200 OK: localhost, known: false"
    );
}

#[tokio::test]
async fn the_name_in_the_certificate_may_be_another_than_in_the_url() {
    let ca = ca("ours");
    let folder = TempDir::new().unwrap();
    let known = Options {
        ca: Some(write(&folder, "ca.pem", &ca.pem())),
        ..Options::default()
    };
    let address = Shown::new(sign(&ca, &["db.internal"], |_| {})).serve().await;
    let name = "db.internal".try_into().unwrap();
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(program::tls_config(&known).unwrap())
        .https_only()
        .with_server_name_resolver(FixedServerNameResolver::new(name))
        .enable_all_versions()
        .build();
    let client = Client::builder(TokioExecutor::new()).build(https);
    let url = format!("https://{address}/").parse().unwrap();
    let (_, body) = in_time(program::fetch(&client, url)).await.unwrap();
    assert_eq!(body, "db.internal, known: false");
}

#[tokio::test]
async fn a_port_that_is_none_is_refused() {
    https().says("check_port refuses a port such as :99999, for which hyper would take the default one.");
    let folder = folder();
    for (host, refused) in [
        ("127.0.0.1:99999", true),
        ("127.0.0.1:x", true),
        ("[::1]:99999", true),
        ("u:1@localhost:99999", true),
        ("u:x@localhost:1", false),
        ("127.0.0.1:1", false),
        ("[::1]:1", false),
    ] {
        let options = Options {
            url: format!("https://{host}/"),
            ca: Some(file(&folder, "ca.pem")),
            ..Options::default()
        };
        let error = print(&options).await.unwrap_err();
        let found = error == "the port is not a number up to 65535";
        assert_eq!(found, refused, "{host}: {error}");
    }
}

// Other roots, and other verifiers.

/// Asks a server over a client with this TLS.
async fn ask_with(tls: rustls::ClientConfig, address: SocketAddr) -> Result<(), String> {
    let url = format!("https://{address}/").parse().unwrap();
    let client = program::client(tls);
    let result = in_time(program::fetch(&client, url)).await;
    result.map(drop).map_err(|error| program::report(&*error))
}

fn in_io<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e (dyn Error + 'static)> {
    let inner = error.downcast_ref::<io::Error>()?.get_ref()?;
    Some(inner)
}

/// What the page on retries says about the place of the error of TLS.
#[tokio::test]
async fn the_error_of_rustls_is_inside_of_an_io_error() {
    page("client/retries").says("it is inside of an io::Error that is inside of another. Ask get_ref of each: source() does not lead to it");
    let address = Shown::new(good(&ca("ours"))).serve().await;
    let none = builder().with_root_certificates(rustls::RootCertStore::empty());
    let client = program::client(none.with_no_client_auth());
    let url = format!("https://{address}/").parse().unwrap();
    let error = in_time(program::fetch(&client, url)).await.unwrap_err();
    let (mut next, mut inside) = (Some(&*error as &(dyn Error + 'static)), false);
    while let Some(error) = next {
        assert!(!error.is::<rustls::Error>(), "source() leads to it");
        let innermost = in_io(error).and_then(in_io);
        inside |= innermost.is_some_and(|inner| inner.is::<rustls::Error>());
        next = error.source();
    }
    assert!(inside, "{}", program::report(&*error));
}

fn builder() -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::WantsVerifier> {
    rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
}

const UNKNOWN: &str =
    "client error (Connect): invalid peer certificate: UnknownIssuer";

/// Runs itself in a process where our CA is the only one of the system.
#[tokio::test]
async fn with_mozillas_list_the_cas_of_the_system_are_ignored() {
    if let Ok(address) = std::env::var("MOZILLAS_LIST") {
        let address = address.parse().unwrap();
        let tls = builder().with_native_roots().unwrap().with_no_client_auth();
        ask_with(tls, address).await.expect("the system has our CA");
        let tls = builder().with_webpki_roots().with_no_client_auth();
        assert_eq!(ask_with(tls, address).await.unwrap_err(), UNKNOWN);
        return;
    }
    https().says("a new list needs a new build; the CAs of the system are ignored");
    let ca = ca("ours");
    let folder = TempDir::new().unwrap();
    let address = Shown::new(good(&ca)).serve().await;
    let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "client::https::with_mozillas_list_the_cas_of_the_system_are_ignored"])
        .env("SSL_CERT_FILE", write(&folder, "ca.pem", &ca.pem()))
        .env("MOZILLAS_LIST", address.to_string())
        .kill_on_drop(true);
    let output = in_time(command.output()).await.unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
}

/// Accepts one certificate, whoever signed it.
#[derive(Debug)]
struct Pinned(CertificateDer<'static>, WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity == self.0 {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signature, &self.1)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signature, &self.1)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.1.supported_schemes()
    }
}

#[tokio::test]
async fn a_verifier_of_our_own_pins_a_certificate() {
    https().says("each client that you have not updated stops working");
    let ca = ca("ours");
    let (first, second) = (good(&ca), good(&ca));
    let algorithms = ring::default_provider().signature_verification_algorithms;
    let pinned = Pinned(first.0[0].der().clone(), algorithms);
    let tls = builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pinned))
        .with_no_client_auth();
    for version in [&TLS12, &TLS13] {
        let identity = Identity(first.0.clone(), copy(&first.1));
        let shown = Shown { tls: version, ..Shown::new(identity) };
        ask_with(tls.clone(), shown.serve().await).await.unwrap();
    }
    // The same CA, and another key.
    let error = ask_with(tls, Shown::new(second).serve().await).await.unwrap_err();
    let expected = "client error (Connect): invalid peer certificate: ApplicationVerificationFailure";
    assert_eq!(error, expected);
}

fn copy(key: &KeyPair) -> KeyPair {
    KeyPair::from_pem(&key.serialize_pem()).unwrap()
}

// Plain text.

#[test]
fn http_urls_are_refused_and_nothing_is_sent() {
    let server = Server::start();
    let folder = folder();
    let ca = file(&folder, "ca.pem");
    let mut client = Program::client("https", &[&server.url("/"), "--ca", &ca]);
    let (status, printed) = client.wait();
    assert_eq!(status.code(), Some(1));
    assert_eq!(printed, ["client error (Connect): unsupported scheme http"]);
    assert!(server.try_accept().is_none(), "the client connects");
}

#[tokio::test]
async fn https_or_http_sends_everything_in_plain_text_if_the_url_says_http() {
    let folder = folder();
    let known = Options { ca: Some(file(&folder, "ca.pem")), ..Options::default() };
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(program::tls_config(&known).unwrap())
        .https_or_http()
        .enable_all_versions()
        .build();
    let client = Client::builder(TokioExecutor::new()).build(https);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let request = Request::get(url)
        .header("authorization", "Bearer secret")
        .body(Empty::<Bytes>::new());
    let asked = tokio::spawn(client.request(request.unwrap()));
    in_time(async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let mut bytes = [0; 512];
            let count = stream.read(&mut bytes).await.unwrap();
            assert_ne!(count, 0, "the connection ends after {head:?}");
            head.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        }
        assert!(head.contains("authorization: Bearer secret"), "{head}");
    })
    .await;
    asked.abort();
}

#[tokio::test]
async fn a_connector_of_our_own_must_allow_https() {
    let ca = ca("ours");
    let folder = TempDir::new().unwrap();
    let known = Options {
        ca: Some(write(&folder, "ca.pem", &ca.pem())),
        ..Options::default()
    };
    let address = Shown::new(good(&ca)).serve().await;
    for allowed in [false, true] {
        let mut http = HttpConnector::new();
        http.enforce_http(!allowed);
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(program::tls_config(&known).unwrap())
            .https_only()
            .enable_all_versions()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new()).build(https);
        let url = format!("https://{address}/").parse().unwrap();
        let result = in_time(program::fetch(&client, url)).await;
        if allowed {
            result.unwrap();
            continue;
        }
        let error = "client error (Connect): invalid URL, scheme is not http";
        assert_eq!(program::report(&*result.unwrap_err()), error);
    }
}

// Certificates of clients.

/// A server that wants certificates of a CA, and the files that the client has.
struct Strict {
    folder: TempDir,
    ca: Ca,
}

impl Strict {
    fn new() -> Strict {
        let (folder, ca) = (TempDir::new().unwrap(), ca("ours"));
        write(&folder, "ca.pem", &ca.pem());
        Strict { folder, ca }
    }

    /// Asks as a client that has this certificate.
    async fn ask(
        &self,
        client: Option<Identity>,
        alpn: &'static [&'static str],
        tls: &'static SupportedProtocolVersion,
    ) -> Result<String, String> {
        let clients = Some(self.ca.pem());
        let server = Shown { alpn, tls, clients, ..Shown::new(good(&self.ca)) };
        let mut options =
            options(server.serve().await, &file(&self.folder, "ca.pem"));
        if let Some(Identity(chain, key)) = client {
            options.cert = Some(write(&self.folder, "c.pem", &chain[0].pem()));
            options.key = Some(write(&self.folder, "k.pem", &key.serialize_pem()));
        }
        print(&options).await
    }
}

#[tokio::test]
async fn a_client_certificate_is_accepted() {
    let strict = Strict::new();
    for tls in [&TLS12, &TLS13] {
        for (alpn, version) in [(&["h2"], "HTTP/2.0"), (&["http/1.1"], "HTTP/1.1")] {
            let alice = sign(&strict.ca, &["alice"], |_| {});
            let printed = strict.ask(Some(alice), alpn, tls).await.unwrap();
            assert_eq!(printed, format!("{version} 200 OK: no name, known: true"));
        }
    }
}

#[tokio::test]
async fn a_client_certificate_is_for_servers_that_ask() {
    let Strict { folder, ca } = Strict::new();
    let address = Shown::new(good(&ca)).serve().await;
    let mut options = options(address, &file(&folder, "ca.pem"));
    let Identity(chain, key) = sign(&ca, &["alice"], |_| {});
    options.cert = Some(write(&folder, "c.pem", &chain[0].pem()));
    options.key = Some(write(&folder, "k.pem", &key.serialize_pem()));
    let printed = print(&options).await.unwrap();
    assert_eq!(printed, "HTTP/2.0 200 OK: no name, known: false");
}

#[tokio::test]
async fn without_a_client_certificate_tls_1_2_fails_to_connect() {
    let strict = Strict::new();
    for alpn in [&["h2"], &["http/1.1"]] {
        let printed = strict.ask(None, alpn, &TLS12).await.unwrap_err();
        let error =
            "client error (Connect): received fatal alert: CertificateRequired";
        assert_eq!(printed, error);
    }
}

/// The connection is there when the alert comes, so the request fails. Which error that is depends
/// on who is quicker.
#[tokio::test]
async fn without_a_client_certificate_tls_1_3_fails_later() {
    let strict = Strict::new();
    for alpn in [&["h2"], &["http/1.1"]] {
        let printed = strict.ask(None, alpn, &TLS13).await.unwrap_err();
        assert!(is_late(&printed), "over {alpn:?}: {printed}");
    }
}

fn is_late(printed: &str) -> bool {
    [
        "client error (SendRequest): connection error: received fatal alert: CertificateRequired",
        "client error (SendRequest): channel closed",
        "client error (Canceled): operation was canceled: connection closed",
        "client error (Canceled): operation was canceled: connection was not ready",
    ]
    .contains(&printed)
}

// Time.

#[tokio::test(start_paused = true)]
async fn a_silent_handshake_ends_in_time() {
    let limit = connect_limit();
    let folder = folder();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let options = options(address, &file(&folder, "ca.pem"));
    let start = Instant::now();
    let printed = program::run(&options).await.map_err(|e| program::report(&*e));
    assert_eq!(
        printed.unwrap_err(),
        "client error (Connect): deadline has elapsed",
        "the time limit covers the handshake"
    );
    assert_eq!(start.elapsed().as_secs(), limit);
}

#[tokio::test(start_paused = true)]
async fn a_silent_address_ends_with_the_limit_of_tcp() {
    let limit = https().number("| {} seconds | set_connect_timeout");
    let folder = folder();
    let silent = silent(V4);
    let options = options(silent.address, &file(&folder, "ca.pem"));
    let start = Instant::now();
    let printed = program::run(&options).await.map_err(|e| program::report(&*e));
    let error = "client error (Connect): tcp connect error: deadline has elapsed";
    assert_eq!(printed.unwrap_err(), error);
    assert_eq!(start.elapsed().as_secs(), limit);
}

#[tokio::test]
async fn the_time_limit_of_the_connector_is_for_tcp_alone() {
    let folder = folder();
    let known = Options { ca: Some(file(&folder, "ca.pem")), ..Options::default() };
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_connect_timeout(Some(Duration::from_secs(60)));
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(program::tls_config(&known).unwrap())
        .https_only()
        .enable_all_versions()
        .wrap_connector(http);
    let client = Client::builder(TokioExecutor::new()).build(https);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let asked = tokio::spawn(async move {
        client.request(Request::get(url).body(Empty::<Bytes>::new()).unwrap()).await
    });
    let (mut stream, _) = in_time(listener.accept()).await.unwrap();
    // The client hello: TCP is connected.
    assert_ne!(in_time(stream.read(&mut [0; 8])).await.unwrap(), 0);
    tokio::time::pause();
    sleep(Duration::from_secs(100_000)).await;
    assert!(!asked.is_finished(), "set_connect_timeout covers TLS after all");
    asked.abort();
}

#[tokio::test]
async fn a_silent_or_endless_response_ends_in_time() {
    let limit = https().number("| {} seconds | timeout around fetch");
    for answer in ["", "HTTP/1.1 200 OK\r\n\r\n"] {
        let ca = ca("ours");
        let folder = TempDir::new().unwrap();
        let server = Shown { alpn: &["http/1.1"], ..Shown::new(good(&ca)) };
        let address = server
            .serve_with(move |mut stream| async move {
                assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
                tokio::time::pause();
                stream.write_all(answer.as_bytes()).await.unwrap();
                // A client without a limit sees the end.
                for _ in 0..50 {
                    sleep(Duration::from_millis(500)).await;
                    if !answer.is_empty() {
                        stream.write_all(b"x").await.unwrap();
                        stream.flush().await.unwrap();
                    }
                }
                stream.shutdown().await.unwrap();
            })
            .await;
        let options = options(address, &write(&folder, "ca.pem", &ca.pem()));
        let start = Instant::now();
        let printed = program::run(&options).await.map_err(|e| program::report(&*e));
        assert_eq!(printed.unwrap_err(), "deadline has elapsed", "after {answer:?}");
        assert_eq!(start.elapsed().as_secs(), limit, "after {answer:?}");
        tokio::time::resume();
    }
}

// Bodies.

#[tokio::test]
async fn a_body_that_is_cut_is_an_error() {
    https().says("The connection ended in the middle of a body, or after a body without a length");
    let ca = ca("ours");
    let cut = "error reading a body from connection: peer closed connection without sending TLS close_notify: https://docs.rs/rustls/latest/rustls/manual/_03_howto/index.html#unexpected-eof";
    for (header, end, result) in [
        ("connection: close\r\n\r\n", true, Ok("half of ")),
        ("connection: close\r\n\r\n", false, Err(cut)),
        ("content-length: 20\r\n\r\n", false, Err(cut)),
        ("transfer-encoding: chunked\r\n\r\n10\r\n", false, Err(cut)),
        // All of it is there.
        ("content-length: 8\r\n\r\n", false, Ok("half of ")),
    ] {
        let result = result.map(|body| format!("HTTP/1.1 200 OK: {body}"));
        let result = result.map_err(str::to_owned);
        let folder = TempDir::new().unwrap();
        let server = Shown { alpn: &["http/1.1"], ..Shown::new(good(&ca)) };
        let address = server
            .serve_with(move |mut stream| async move {
                assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
                let answer = format!("HTTP/1.1 200 OK\r\n{header}half of ");
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
                if end {
                    stream.shutdown().await.unwrap();
                } else {
                    stream.into_inner().0.shutdown().await.unwrap();
                }
            })
            .await;
        let options = options(address, &write(&folder, "ca.pem", &ca.pem()));
        assert_eq!(print(&options).await, result, "{header}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_an_error() {
    let ca = ca("ours");
    let folder = TempDir::new().unwrap();
    let server = Shown { alpn: &["http/1.1"], ..Shown::new(good(&ca)) };
    let address = server
        .serve_with(|mut stream| async move {
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            stream.write_all(&vec![b'x'; 1024 * 1024 + 1]).await.ok();
            stream.shutdown().await.ok();
        })
        .await;
    let options = options(address, &write(&folder, "ca.pem", &ca.pem()));
    assert_eq!(print(&options).await.unwrap_err(), "length limit exceeded");
}

// Servers that others wrote.

fn text(printed: &[String]) -> String {
    printed.join("\n")
}

fn client(server: &Program, folder: &TempDir, more: &[&str]) -> (bool, String) {
    let url = format!("https://{}/", server.address);
    let ca = file(folder, "ca.pem");
    let arguments = [&[&*url, "--ca", &*ca], more].concat();
    let (status, printed) = Program::client("https", &arguments).wait();
    (status.success(), text(&printed))
}

pub fn nginx(folder: &TempDir, settings: &str) -> Program {
    let http = format!(
        "server {{
             listen 127.0.0.1:PORT ssl{settings}
             ssl_certificate cert.pem; ssl_certificate_key key.pem;
             location /silent {{ return 444; }}
             location / {{ return 200 '$server_protocol, $ssl_client_s_dn\\n'; }}
         }}"
    );
    Program::nginx(folder.path(), &http)
}

#[test]
#[ignore = "needs nginx"]
fn others_nginx() {
    let folder = folder();
    let (cert, key) =
        (file(&folder, "client-cert.pem"), file(&folder, "client-key.pem"));
    let own = ["--cert", &cert, "--key", &key];
    for (settings, version) in [(" http2;", "HTTP/2.0"), (";", "HTTP/1.1")] {
        let server = nginx(&folder, settings);
        let expected = format!("{version} 200 OK\n{version}, ");
        assert_eq!(client(&server, &folder, &[]), (true, expected));
    }
    // It closes without an answer.
    let server = nginx(&folder, ";");
    let url = format!("https://{}/silent", server.address);
    let arguments = [&*url, "--ca", &file(&folder, "ca.pem")];
    let (_, printed) = Program::client("https", &arguments).wait();
    let closed = "client error (SendRequest): connection error: peer closed connection without sending TLS close_notify";
    assert!(text(&printed).starts_with(closed), "{printed:?}");
    // nginx has the handshake, and refuses the request.
    let strict = " http2; ssl_verify_client on; ssl_client_certificate ca.pem;";
    let server = nginx(&folder, strict);
    let (success, printed) = client(&server, &folder, &[]);
    assert!(
        success && printed.starts_with("HTTP/2.0 400 Bad Request\n"),
        "{printed}"
    );
    let expected = "HTTP/2.0 200 OK\nHTTP/2.0, CN=alice".to_owned();
    assert_eq!(client(&server, &folder, &own), (true, expected));
}

#[test]
fn nothing_here_needs_openssl() {
    page("client/https").says("or use hyper-rustls, as on this page, which needs no OpenSSL");
    let lock = std::fs::read_to_string(harness::root().join("Cargo.lock")).unwrap();
    assert!(lock.contains("name = \"rustls\""), "the lock file has other words");
    assert!(!lock.contains("name = \"openssl-sys\""), "cargo tree --invert openssl-sys");
}

fn openssl(folder: &Path, more: &[&str]) -> Program {
    Program::of_others(|port| {
        let mut command = Command::new("openssl");
        command.current_dir(folder).stdin(Stdio::null());
        command.args(["s_server", "-www", "-quiet", "-accept"]);
        command.arg(format!("127.0.0.1:{port}")).args(more);
        command
    })
}

#[test]
#[ignore = "needs openssl"]
fn others_openssl() {
    page("client/https").says("OpenSSL says wrong version number.");
    let plain = Program::start("hello-world");
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &plain.address.to_string()]);
    let printed = command.stdin(Stdio::null()).output().unwrap().stderr;
    let printed = String::from_utf8(printed).unwrap();
    assert!(printed.contains("wrong version number"), "{printed}");

    let folder = folder();
    let identity = ["-cert", "cert.pem", "-key", "key.pem"];
    for version in ["-tls1_2", "-tls1_3"] {
        let server = openssl(folder.path(), &[&identity[..], &[version]].concat());
        let (success, printed) = client(&server, &folder, &[]);
        assert!(success && printed.starts_with("HTTP/1.0 200 OK\n"), "{printed}");
    }
    // A server that insists on certificates of clients.
    let strict = ["-alpn", "h2", "-Verify", "1", "-verify_return_error"];
    let strict = [&identity[..], &strict, &["-CAfile", "ca.pem"]].concat();
    let server = openssl(folder.path(), &strict);
    let (success, printed) = client(&server, &folder, &[]);
    assert!(!success && is_late(&printed), "{printed}");
    // What `openssl req -x509` makes is a CA, unless one asks for something else.
    for extension in
        ["subjectKeyIdentifier=hash", "basicConstraints=critical,CA:FALSE"]
    {
        let mut command = Command::new("openssl");
        command
            .current_dir(folder.path())
            .args(["req", "-x509", "-newkey", "rsa:2048"]);
        command.args(["-nodes", "-subj", "/CN=localhost", "-keyout", "own-key.pem"]);
        command.args(["-addext", "subjectAltName=IP:127.0.0.1", "-out", "ca.pem"]);
        command.args(["-addext", extension]);
        assert!(command.output().unwrap().status.success());
        let own = ["-cert", "ca.pem", "-key", "own-key.pem"];
        let server = openssl(folder.path(), &own);
        let (success, printed) = client(&server, &folder, &[]);
        assert_eq!(success, extension.ends_with("FALSE"), "{printed}");
        let error = ": Other(OtherError(CaUsedAsEndEntity))";
        assert!(success || printed.ends_with(error), "{printed}");
    }
}
