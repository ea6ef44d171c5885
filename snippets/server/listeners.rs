// ANCHOR: program
//! One service on TCP sockets and Unix sockets.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use socket2::{Domain, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixSocket, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How long a client may take to send a request head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long accepting pauses after an error.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long requests in flight may go on after the signal.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);
// ANCHOR: constants
/// How many clients may wait to be accepted.
pub const BACKLOG: u32 = 1024;
/// Who may connect to a Unix socket: its owner and its group.
pub const MODE: u32 = 0o660;
/// When to ask a silent client whether it is still there, how often, and how
/// many questions it may leave unanswered.
pub const ASK_AFTER: Duration = Duration::from_secs(60);
pub const ASK_EVERY: Duration = Duration::from_secs(10);
pub const ASK_TIMES: u32 = 3;
/// How long our data may wait for a client that does not acknowledge it, or does
/// not read. A shorter time would also cut the questions short.
pub const USER_TIMEOUT: Duration =
    ASK_AFTER.saturating_add(ASK_EVERY.saturating_mul(ASK_TIMES));
// ANCHOR_END: constants

// ANCHOR: handle
/// Who is at the other end of a connection.
#[derive(Clone, Copy)]
pub enum Peer {
    Address(SocketAddr),
    Process { user: u32, id: Option<i32> },
}

async fn handle(
    _request: Request<Incoming>,
    peer: Peer,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let text = match peer {
        Peer::Address(address) => {
            format!("you are {}\n", address.ip().to_canonical())
        }
        Peer::Process { user, id: Some(id) } => {
            format!("you are user {user}, process {id}\n")
        }
        Peer::Process { user, id: None } => format!("you are user {user}\n"),
    };
    Ok(Response::new(text.into()))
}
// ANCHOR_END: handle

// ANCHOR: serve
pub async fn serve<S>(stream: S, peer: Peer, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let conn = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(move |request| handle(request, peer)),
        );
    if let Err(error) = watcher.watch(conn).await {
        eprintln!("connection failed: {}", report(&error));
    }
}
// ANCHOR_END: serve

fn report(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", report(source)),
        None => error.to_string(),
    }
}

// ANCHOR: listener
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

impl Listener {
    /// Waits for the next connection, and starts a task for it.
    async fn accept(&self, graceful: &GracefulShutdown) -> io::Result<()> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                let peer = Peer::Address(address);
                tokio::spawn(serve(stream, peer, graceful.watcher()));
            }
            Listener::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let peer = stream.peer_cred()?;
                let peer = Peer::Process { user: peer.uid(), id: peer.pid() };
                tokio::spawn(serve(stream, peer, graceful.watcher()));
            }
        }
        Ok(())
    }
}
// ANCHOR_END: listener

impl Listener {
    // ANCHOR: open
    /// `127.0.0.1:3000`, `[::1]:3000`, `*:3000` for IPv4 and IPv6, `unix:PATH`.
    async fn open(address: &str) -> Result<Listener, Box<dyn Error>> {
        if let Some(path) = address.strip_prefix("unix:") {
            let (socket, file) = bind_unix(Path::new(path)).await?;
            return Ok(Listener::Unix(socket.listen(BACKLOG)?, file));
        }
        Ok(Listener::Tcp(match address.strip_prefix("*:") {
            Some(port) => {
                listen_tcp((Ipv6Addr::UNSPECIFIED, port.parse()?).into(), false)?
            }
            None => listen_tcp(address.parse()?, true)?,
        }))
    }
    // ANCHOR_END: open

    fn address(&self) -> io::Result<String> {
        Ok(match self {
            Listener::Tcp(listener) => format!("http://{}", listener.local_addr()?),
            Listener::Unix(_, file) => format!("unix:{}", file.path.display()),
        })
    }
}

// ANCHOR: listen_tcp
pub fn listen_tcp(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    socket.set_reuse_address(true)?; // despite old connections in TIME_WAIT
    // ANCHOR: options
    // Linux gives these to each connection that is accepted.
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(ASK_AFTER)
        .with_interval(ASK_EVERY)
        .with_retries(ASK_TIMES);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    // ANCHOR_END: options
    socket.bind(&address.into())?;
    socket.listen(BACKLOG as i32)?;
    TcpListener::from_std(socket.into())
}
// ANCHOR_END: listen_tcp

// ANCHOR: socket_file
/// The file of a Unix socket. It is removed with this value.
pub struct SocketFile {
    path: PathBuf,
    /// Which file it is. Another program may put its own in the same place.
    id: (u64, u64),
    /// Freed by the system when the process ends, however it ends.
    _lock: File,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if file_id(&self.path).is_ok_and(|id| id == self.id)
            && let Err(error) = fs::remove_file(&self.path)
        {
            eprintln!("cannot remove {}: {error}", self.path.display());
        }
    }
}

fn file_id(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}
// ANCHOR_END: socket_file

// ANCHOR: bind_unix
/// A socket that has its file, and does not listen yet: nobody can connect.
pub async fn bind_unix(path: &Path) -> io::Result<(UnixSocket, SocketFile)> {
    let lock = claim(path).await?;
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?; // fails if there is a file
    let id = file_id(path)?;
    let file = SocketFile { path: path.to_owned(), id, _lock: lock };
    fs::set_permissions(path, Permissions::from_mode(MODE))?;
    Ok((socket, file))
}
// ANCHOR_END: bind_unix

// ANCHOR: claim
/// Locks the path, and removes what a crash has left there.
async fn claim(path: &Path) -> io::Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    // Whoever can open this file can lock it.
    let mut options = File::options();
    options.append(true).create(true).mode(0o600);
    let lock = options.open(&name).map_err(|error| {
        io::Error::new(error.kind(), format!("{}: {error}", name.display()))
    })?;
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::ErrorKind::AddrInUse.into(),
        TryLockError::Error(error) => error,
    })?;
    let file = fs::symlink_metadata(path);
    if file.is_ok_and(|file| file.file_type().is_socket()) && is_stale(path).await {
        fs::remove_file(path)?;
    }
    Ok(lock)
}
// ANCHOR_END: claim

// ANCHOR: is_stale
/// Whether nobody listens on this socket any more.
async fn is_stale(path: &Path) -> bool {
    let connected = UnixStream::connect(path).await;
    connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}
// ANCHOR_END: is_stale

// ANCHOR: accept
async fn accept(listener: Listener, graceful: Arc<GracefulShutdown>) {
    loop {
        if let Err(error) = listener.accept(&graceful).await {
            eprintln!("accept failed: {error}");
            sleep(ACCEPT_PAUSE).await;
        }
    }
}
// ANCHOR_END: accept

// ANCHOR: main
#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut addresses: Vec<_> = env::args().skip(1).collect();
    if addresses.is_empty() {
        addresses.push("127.0.0.1:3000".to_owned());
    }

    let mut listeners = Vec::new();
    for address in addresses {
        let listener = Listener::open(&address).await;
        listeners.push(listener.map_err(|error| format!("{address}: {error}"))?);
    }
    let graceful = Arc::new(GracefulShutdown::new());
    let mut accepting = JoinSet::new();
    for listener in listeners {
        println!("listening on {}", listener.address()?);
        accepting.spawn(accept(listener, graceful.clone()));
    }
    // ANCHOR_END: main

    // ANCHOR: stop
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        Some(Err(panic)) = accepting.join_next() => return Err(panic.into()),
    }
    accepting.shutdown().await; // closes the sockets, and removes their files
    if let Some(graceful) = Arc::into_inner(graceful) {
        timeout(DRAIN_DEADLINE, graceful.shutdown())
            .await
            .map_err(|_| "some connections were cut off at the deadline")?;
    }
    Ok(())
    // ANCHOR_END: stop
}
// ANCHOR_END: program
