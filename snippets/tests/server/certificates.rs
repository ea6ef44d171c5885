//! What src/server/certificates.md promises.

use std::fs;
use std::io;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{
    ClientConfig, HandshakeKind, RootCertStore, ServerConfig,
};

use crate::server::limits::end;
use crate::server::tls::{alpn, ask, client, connect, folder, in_time, roots};
use harness::{Program, Prose, page};

/// The program itself, for tests on an in-memory connection with a clock that they move.
#[allow(dead_code)]
#[path = "../../server/certificates.rs"]
mod program;

fn certificates() -> Prose {
    page("server/certificates")
}

fn check() -> u64 {
    certificates().number("The files are read every {} seconds")
}

/// The server in this process: what `main` has before it listens.
struct Server {
    folder: TempDir,
    known: Result<program::Files, String>,
    configs: watch::Sender<Arc<ServerConfig>>,
}

impl Server {
    async fn new() -> Server {
        let folder = folder();
        let files = program::read(folder.path()).await.unwrap();
        let configs =
            watch::Sender::new(Arc::new(program::tls_config(&files).unwrap()));
        Server { folder, known: Ok(files), configs }
    }

    /// A connection, and how it ends.
    fn begin(&self) -> (DuplexStream, JoinHandle<Result<(), String>>) {
        let (client, server) = duplex(64 * 1024);
        let config = self.configs.borrow().clone();
        let conn = tokio::spawn(async {
            let result = program::serve(server, config).await;
            result.map_err(|error| program::report(&*error))
        });
        (client, conn)
    }

    async fn connect(
        &self,
        config: ClientConfig,
        name: &str,
    ) -> io::Result<TlsStream<DuplexStream>> {
        in_time(connect(self.begin().0, config, name)).await
    }

    async fn renew(&mut self) -> Option<String> {
        program::renew(self.folder.path(), &mut self.known, &self.configs).await
    }

    fn replace(&self, name: &str, by: &TempDir) {
        fs::copy(by.path().join(name), self.folder.path().join(name)).unwrap();
    }

    /// Whether a client that trusts the CA of this folder can connect.
    async fn is_trusted_by(&self, folder: &TempDir) -> bool {
        self.connect(client(folder, &[]), "localhost").await.is_ok()
    }
}

/// A client with the certificate in these files.
fn client_with(folder: &TempDir, versions: &[&str], name: &str) -> ClientConfig {
    let file = |what: &str| folder.path().join(format!("{name}-{what}.pem"));
    let cert = CertificateDer::from_pem_file(file("cert")).unwrap();
    let key = PrivateKeyDer::from_pem_file(file("key")).unwrap();
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots(folder))
        .with_client_auth_cert(vec![cert], key)
        .unwrap();
    config.alpn_protocols = alpn(versions);
    config
}

#[tokio::test]
async fn certificates_are_exchanged_without_a_restart() {
    let mut server = Server::new().await;
    let (old, new) = (folder(), folder());
    for name in program_files() {
        fs::copy(server.folder.path().join(name), old.path().join(name)).unwrap();
    }
    // A connection that stays open.
    let config = client_with(&old, &["http/1.1"], "client");
    let mut kept = server.connect(config, "localhost").await.unwrap();
    hello(&mut kept).await;

    assert_eq!(server.renew().await, None, "nothing has changed");
    // The certificate first, then its key: in between they do not match.
    server.replace("cert.pem", &new);
    let mismatch =
        "the old ones stay: cert.pem: keys may not be consistent: KeyMismatch";
    assert_eq!(server.renew().await.as_deref(), Some(mismatch));
    assert_eq!(server.renew().await, None, "it is said once");
    assert!(server.is_trusted_by(&old).await);

    for name in program_files() {
        server.replace(name, &new);
    }
    let used = "the new ones are in use";
    assert_eq!(server.renew().await.as_deref(), Some(used));
    assert!(!server.is_trusted_by(&old).await);
    assert!(server.is_trusted_by(&new).await);
    hello(&mut kept).await;
}

/// Asks on a connection that stays open.
async fn hello(stream: &mut TlsStream<DuplexStream>) {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    while !answer.ends_with("Hello, alice!\n") {
        let mut bytes = [0; 512];
        let count = in_time(stream.read(&mut bytes)).await.unwrap();
        assert_ne!(count, 0, "the connection ends after {answer:?}");
        answer.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
}

fn program_files() -> [&'static str; 7] {
    [
        "ca.pem",
        "cert.pem",
        "key.pem",
        "example-cert.pem",
        "example-key.pem",
        "client-cert.pem",
        "client-key.pem",
    ]
}

#[tokio::test]
async fn broken_files_keep_the_old_certificates() {
    let mut server = Server::new().await;
    let old = fs::read_to_string(server.folder.path().join("cert.pem")).unwrap();
    for (name, content, error) in [
        ("cert.pem", &old[..old.len() / 2], "cert.pem: missing section end marker"),
        ("cert.pem", "", "cert.pem: there is no certificate in it"),
        ("key.pem", "", "cert.pem: no items found"),
        ("example-cert.pem", &old, "example-cert.pem: keys may not be consistent"),
        ("ca.pem", "", "ca.pem: no root trust anchors were provided"),
    ] {
        let path = server.folder.path().join(name);
        let saved = fs::read(&path).unwrap();
        fs::write(&path, content).unwrap();
        let line = server.renew().await.unwrap();
        assert!(line.starts_with(&format!("the old ones stay: {error}")), "{line}");
        fs::write(path, saved).unwrap();
    }
    fs::remove_file(server.folder.path().join("cert.pem")).unwrap();
    assert_eq!(
        server.renew().await.unwrap(),
        "the old ones stay: cert.pem: No such file or directory (os error 2)"
    );
    let config = client(&server.folder, &[]);
    server.connect(config, "localhost").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_files_are_read_often() {
    let Server { folder, known, configs } = Server::new().await;
    let mut config = configs.subscribe();
    let (path, files) = (folder.path().to_owned(), known.unwrap());
    tokio::spawn(program::renew_often(path, files, configs));
    let other = crate::server::tls::folder();
    for name in program_files() {
        fs::copy(other.path().join(name), folder.path().join(name)).unwrap();
    }
    sleep(Duration::from_secs(check()) - Duration::from_millis(2)).await;
    assert!(!config.has_changed().unwrap());
    let changed = timeout(Duration::from_secs(1), config.changed()).await;
    changed.expect("the files have been read").unwrap();
}

#[tokio::test]
async fn each_name_has_its_certificate() {
    let server = Server::new().await;
    for (name, file) in [
        ("localhost", "cert.pem"),
        ("example.localhost", "example-cert.pem"),
        ("EXAMPLE.localhost", "example-cert.pem"),
        // An address is not sent.
        ("127.0.0.1", "cert.pem"),
    ] {
        let stream = server.connect(client(&server.folder, &[]), name).await.unwrap();
        let certs = stream.get_ref().1.peer_certificates().unwrap();
        let file = server.folder.path().join(file);
        assert_eq!(certs[0], CertificateDer::from_pem_file(file).unwrap(), "{name}");
    }
    // An unknown name gets the first certificate too: the client says what is wrong.
    let config = client(&server.folder, &[]);
    let error = server.connect(config, "other.localhost").await.unwrap_err();
    let error = error.to_string();
    let wrong = "invalid peer certificate: certificate not valid for name";
    assert!(error.starts_with(wrong) && error.contains("localhost"), "{error}");
}

#[tokio::test]
async fn wildcards_are_names_too() {
    let mut server = Server::new().await;
    let wild =
        rcgen::generate_simple_self_signed(["*.wild.localhost".to_owned()]).unwrap();
    let path = |name: &str| server.folder.path().join(name);
    fs::write(path("example-cert.pem"), wild.cert.pem()).unwrap();
    fs::write(path("example-key.pem"), wild.signing_key.serialize_pem()).unwrap();
    server.renew().await.unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(wild.cert.der().clone()).unwrap();
    let config =
        ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    server.connect(config, "a.wild.localhost").await.unwrap();
}

#[tokio::test]
async fn the_name_of_the_client_reaches_the_handler() {
    let server = Server::new().await;
    for version in ["h2", "http/1.1"] {
        let config = client_with(&server.folder, &[version], "client");
        let stream = server.connect(config.clone(), "localhost").await.unwrap();
        let (status, _, text) = ask(stream).await;
        assert_eq!((status, text.as_str()), (200, "Hello, alice!\n"), "{version}");
        // It is also known in the connections that resume the session.
        let stream = server.connect(config, "localhost").await.unwrap();
        let kind = stream.get_ref().1.handshake_kind();
        assert_eq!(kind, Some(HandshakeKind::Resumed));
        assert_eq!(ask(stream).await.2, "Hello, alice!\n");

        let config = client(&server.folder, &[version]);
        let stream = server.connect(config, "localhost").await.unwrap();
        assert_eq!(ask(stream).await.0, 403, "{version}");
    }
}

#[tokio::test]
async fn sessions_from_before_a_change_are_not_resumed() {
    let mut server = Server::new().await;
    let config = client_with(&server.folder, &["h2"], "client");
    let stream = server.connect(config.clone(), "localhost").await.unwrap();
    ask(stream).await;
    // Clients need another CA from now on.
    let other = folder();
    server.replace("ca.pem", &other);
    server.renew().await.unwrap();
    let (client, conn) = server.begin();
    in_time(connect(client, config, "localhost")).await.ok();
    // The two CAs have the same name: else this were `UnknownIssuer`.
    let refused = "invalid peer certificate: BadSignature";
    assert_eq!(in_time(conn).await.unwrap().unwrap_err(), refused);
}

#[tokio::test]
async fn wrong_certificates_of_clients_are_refused() {
    let server = Server::new().await;
    // One that nobody has signed but itself.
    let own = rcgen::generate_simple_self_signed(["alice".to_owned()]).unwrap();
    let stranger = ClientConfig::builder()
        .with_root_certificates(roots(&server.folder))
        .with_client_auth_cert(
            vec![own.cert.der().clone()],
            own.signing_key.serialize_der().try_into().unwrap(),
        )
        .unwrap();
    // The certificate of a server.
    let no_client = client_with(&server.folder, &[], "example");
    for (config, error) in [
        (stranger, "invalid peer certificate: UnknownIssuer"),
        (
            no_client,
            "invalid peer certificate: certificate does not allow extended key usage for client authentication",
        ),
    ] {
        let (client, conn) = server.begin();
        in_time(connect(client, config, "localhost")).await.ok();
        let refused = in_time(conn).await.unwrap().unwrap_err();
        assert!(refused.starts_with(error), "{refused}");
    }
}

#[tokio::test]
async fn an_expired_certificate_of_a_client_is_refused() {
    let mut server = Server::new().await;
    let roots = roots(&server.folder);
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca =
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    fs::write(server.folder.path().join("ca.pem"), ca.pem()).unwrap();
    server.renew().await.unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.not_after = rcgen::date_time_ymd(2000, 1, 1);
    let cert = params.signed_by(&key, &ca).unwrap();
    let config =
        ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(
            vec![cert.der().clone()],
            key.serialize_der().try_into().unwrap(),
        );
    let (client, conn) = server.begin();
    in_time(connect(client, config.unwrap(), "localhost")).await.ok();
    let refused = in_time(conn).await.unwrap().unwrap_err();
    let expired = "invalid peer certificate: certificate expired";
    assert!(refused.starts_with(expired), "{refused}");
}

/// What a verifier without `allow_unauthenticated` does.
#[tokio::test]
async fn a_certificate_can_be_required() {
    let folder = folder();
    let file = |name: &str| folder.path().join(name);
    let verifier = WebPkiClientVerifier::builder(roots(&folder).into()).build();
    let config = ServerConfig::builder()
        .with_client_cert_verifier(verifier.unwrap())
        .with_single_cert(
            vec![CertificateDer::from_pem_file(file("cert.pem")).unwrap()],
            PrivateKeyDer::from_pem_file(file("key.pem")).unwrap(),
        );
    let (io, server) = duplex(64 * 1024);
    let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
    let accepted = tokio::spawn(acceptor.accept(server));
    // With TLS 1.3 the client has ended its handshake before it is refused.
    let mut stream = connect(io, client(&folder, &[]), "localhost").await.unwrap();
    let error = in_time(accepted).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "peer sent no certificates");
    let error = in_time(stream.read(&mut [0; 8])).await.unwrap_err();
    assert_eq!(error.to_string(), "received fatal alert: CertificateRequired");
}

#[tokio::test(start_paused = true)]
async fn silent_clients_go_here_too() {
    let server = Server::new().await;
    let tls = page("server/tls");
    let (_client, conn) = server.begin();
    let limit = tls.number("a client has {} seconds for the handshake");
    assert_eq!(end(conn).await.0, limit);
    for (version, sentence) in [
        ("http/1.1", "An HTTP/1 client that falls silent is gone after {} seconds"),
        ("h2", "An HTTP/2 client has {} seconds for its first request"),
    ] {
        let (client, conn) = server.begin();
        let config = self::client(&server.folder, &[version]);
        let _client = connect(client, config, "localhost").await.unwrap();
        assert_eq!(end(conn).await.0, tls.number(sentence), "{version}");
    }
}

#[tokio::test]
async fn the_program_reads_the_folder_that_it_is_given() {
    let folder = folder();
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$2\" \"$1\""]);
    command.arg(harness::cargo::program("certificates")).arg(folder.path());
    let program = Program::listen(command);
    in_time(async {
        let stream = TcpStream::connect(program.address).await.unwrap();
        let config = client_with(&folder, &["h2"], "client");
        let stream = connect(stream, config, "localhost").await.unwrap();
        assert_eq!(ask(stream).await.2, "Hello, alice!\n");
    })
    .await;
}
