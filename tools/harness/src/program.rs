//! A program of the book, started for a test; and connections to it.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

/// No step of a test waits longer: a promise that takes this long is broken.
pub const LIMIT: Duration = Duration::from_secs(20);

/// A server that a test plays by hand, for a client under test.
pub struct Server {
    listener: TcpListener,
    pub address: SocketAddr,
}

impl Server {
    /// Listens on a free port.
    pub fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        Server { listener, address }
    }

    /// The URL of a path here.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Waits for the next connection.
    pub fn accept(&self) -> Connection {
        let mut accepted = None;
        wait("a connection of the client", || {
            accepted = self.try_accept();
            accepted.is_some()
        });
        accepted.unwrap()
    }

    /// A connection that waits to be accepted, if there is one.
    pub fn try_accept(&self) -> Option<Connection> {
        match self.listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).unwrap();
                Some(Connection::new(stream))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }
}

/// A running program. It is killed when it is dropped.
pub struct Program {
    child: Child,
    lines: Receiver<String>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Program {
    /// Starts the bin `name` on a free port and waits until it listens.
    pub fn start(name: &str) -> Program {
        Program::listen(Command::new(crate::cargo::program(name)))
    }

    /// Like `start`, with room for so many file descriptors only.
    pub fn start_with_descriptors(name: &str, descriptors: u32) -> Program {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"")]);
        command.arg(crate::cargo::program(name));
        Program::listen(command)
    }

    /// Starts a command, with a free port as its argument, and waits until it listens.
    pub fn listen(mut command: Command) -> Program {
        command.arg("127.0.0.1:0");
        let (child, lines) = spawn(command);
        // The address is read from the first line.
        let address = ([127, 0, 0, 1], 0).into();
        let mut program = Program { child, lines, address };
        let line = program.line();
        let (_, address) = line
            .strip_prefix("listening on http")
            .and_then(|url| url.split_once("://"))
            .unwrap_or_else(|| {
                panic!("the first line says where the program listens, not: {line}")
            });
        program.address = address.parse().unwrap();
        program
    }

    /// Starts the bin `name` as a client, with these arguments. It has no address.
    pub fn client(name: &str, arguments: &[&str]) -> Program {
        let mut command = Command::new(crate::cargo::program(name));
        command.args(arguments).stdin(Stdio::null());
        let (child, lines) = spawn(command);
        Program { child, lines, address: ([127, 0, 0, 1], 0).into() }
    }

    /// Starts a server that others wrote, on the port that `command` is given, and waits until
    /// something listens there. For tests with `#[ignore]`: .ci/run installs these servers, and
    /// whoever runs `cargo test` need not have them.
    pub fn of_others(command: impl FnOnce(u16) -> Command) -> Program {
        let address = SocketAddr::from(([127, 0, 0, 1], port_of_others()));
        let (child, lines) = spawn(command(address.port()));
        let mut program = Program { child, lines, address };
        wait("a server that others wrote", || {
            assert!(!program.has_ended(), "it ends: {:?}", program.wait().1);
            TcpStream::connect(address).is_ok()
        });
        program
    }

    /// Starts nginx in this folder, like `of_others`. `http` stands between the braces of `http`: its
    /// paths are relative to the folder, and `PORT` is the free port. No access log is written but
    /// those that a `server` asks for.
    pub fn nginx(folder: &Path, http: &str) -> Program {
        Program::of_others(|port| {
            // One process: workers would outlive a master that is killed.
            let config = format!(
                "daemon off; master_process off; pid pid; error_log stderr; events {{}}
                 http {{
                     access_log off; client_body_temp_path body; proxy_temp_path proxy;
                     fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
                     {}
                 }}",
                http.replace("PORT", &port.to_string())
            );
            fs::write(folder.join("nginx.conf"), config).unwrap();
            // Debian has it in /usr/sbin, which is not in everybody's PATH.
            let path = env::var("PATH").unwrap_or_default() + ":/usr/sbin";
            let mut command = Command::new("nginx");
            command.env("PATH", path).arg("-p").arg(folder);
            command.args(["-c", "nginx.conf", "-e", "stderr"]);
            command
        })
    }

    /// The next line that the program prints, on standard output or error.
    pub fn line(&self) -> String {
        let line = self.lines.recv_timeout(LIMIT);
        line.unwrap_or_else(|error| {
            panic!("the program prints no further line: {error}")
        })
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether the program has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for the end of the program; the lines that it printed and nobody read.
    pub fn wait(&mut self) -> (ExitStatus, Vec<String>) {
        wait("the end of the program", || self.has_ended());
        (self.child.wait().unwrap(), self.lines.iter().collect())
    }

    /// Sends a signal, `INT` or `TERM`.
    pub fn signal(&self, signal: &str) {
        let (option, pid) = (format!("-{signal}"), self.child.id().to_string());
        let status = Command::new("kill").args([option, pid]).status().unwrap();
        assert!(status.success(), "the program is there to take SIG{signal}");
    }

    /// A new connection.
    pub fn connect(&self) -> Connection {
        Connection::new(TcpStream::connect(self.address).unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A port that is free now, below those that the system gives to whoever binds port 0: else
/// another test may be given it before the server has it.
fn port_of_others() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two runs at once begin at different ports.
    let first = std::process::id() as u16;
    let mut ports = (0..20_000).map(|_| {
        let number = first.wrapping_add(NEXT.fetch_add(1, Relaxed));
        10_000 + number % 20_000
    });
    let free = ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.expect("no port of 10000 to 29999 is free")
}

/// Waits until this is true.
///
/// # Panics
///
/// After [`LIMIT`], with what was waited for.
pub fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < deadline, "waited {LIMIT:?} in vain for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The resident memory of a process in KiB, where Linux tells it: `VmRSS` in proc_pid_status(5).
pub fn memory(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// An IPv4 socket, as Linux lists it in `/proc/net/tcp`: proc_net_tcp(5).
pub struct Socket {
    pub local_port: u16,
    pub remote_port: u16,
    /// 6 is TIME_WAIT, 8 is CLOSE_WAIT.
    pub state: u8,
    /// Bytes that the peer has not confirmed.
    pub unsent: u64,
    /// Bytes that the program has not read.
    pub unread: u64,
}

/// The sockets of this machine. One may be listed twice while others come and go.
///
/// # Panics
///
/// If the system is not Linux, or lists them in another way.
pub fn sockets() -> Vec<Socket> {
    let hex = |text: &str| {
        u64::from_str_radix(text, 16).expect("a number of /proc/net/tcp")
    };
    let port = |address: &str| hex(address.split_once(':').expect("a port").1) as u16;
    let table = fs::read_to_string("/proc/net/tcp").expect("Linux has /proc/net/tcp");
    let rows =
        table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    rows.map(|row| {
        let (unsent, unread) = row[4].split_once(':').expect("two queues");
        Socket {
            local_port: port(row[1]),
            remote_port: port(row[2]),
            state: hex(row[3]) as u8,
            unsent: hex(unsent),
            unread: hex(unread),
        }
    })
    .collect()
}

/// Asserts that each of these pieces was printed, in any order: tasks print at the same time, and an
/// error is written in pieces, so a line of another task can come between them.
pub fn assert_prints(printed: &[String], pieces: &[&str]) {
    let printed = printed.join("\n");
    for piece in pieces {
        assert!(printed.contains(piece), "no {piece:?} in {printed}");
    }
}

/// Starts a command; its output and its errors come as one sequence of lines.
pub fn spawn(mut command: Command) -> (Child, Receiver<String>) {
    let (reader, writer) = io::pipe().unwrap();
    command.stdout(writer.try_clone().unwrap()).stderr(writer);
    let child = command.spawn().unwrap();
    // The command holds writers of its own: without them the reader sees the end.
    drop(command);
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(reader).lines() {
            if sender.send(line.unwrap()).is_err() {
                break;
            }
        }
    });
    (child, lines)
}

/// An HTTP/1.1 connection that shows every byte, of either side.
pub struct Connection(BufReader<TcpStream>);

/// A response as it came.
#[derive(Debug)]
pub struct Answer {
    /// The status line and the headers, as sent.
    pub head: String,
    pub body: Vec<u8>,
}

impl Connection {
    pub fn new(stream: TcpStream) -> Connection {
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_nodelay(true).unwrap();
        Connection(BufReader::new(stream))
    }

    /// Sends these bytes.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// Sends a GET request.
    pub fn get(&mut self, path: &str) {
        self.try_get(path).unwrap();
    }

    /// Sends a GET request to a server that may have closed the connection.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn try_get(&mut self, path: &str) -> io::Result<()> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes())
    }

    /// Reads one response, whole.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` where the server closes the connection before the response is whole.
    pub fn response(&mut self) -> io::Result<Answer> {
        let head = self.head()?;
        let mut body = Vec::new();
        if let Some(length) = header(&head, "content-length") {
            body.resize(length.parse().unwrap(), 0);
            self.0.read_exact(&mut body)?;
        } else if header(&head, "transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk()? {
                body.extend(chunk);
            }
        }
        Ok(Answer { head, body })
    }

    /// Reads the head of a response, or of a request.
    pub fn head(&mut self) -> io::Result<String> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut head)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(head)
    }

    /// Reads one chunk of a chunked body, None at its end.
    pub fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut size = String::new();
        if self.0.read_line(&mut size)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        self.0.read_exact(&mut chunk)?;
        chunk.truncate(size);
        Ok((size > 0).then_some(chunk))
    }

    /// Reads so many bytes.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` where the server closes the connection before.
    pub fn bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Waits until the server closes the connection, and says what it sent before that.
    pub fn rest(&mut self) -> io::Result<String> {
        let mut rest = String::new();
        self.0.read_to_string(&mut rest)?;
        Ok(rest)
    }
}

impl Answer {
    /// The status line.
    pub fn status(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Clients that ask for `/` again and again, and what has come of their requests.
#[derive(Default)]
pub struct Load {
    /// Requests that were answered whole.
    pub answered: AtomicUsize,
    /// Requests that were sent, and not answered whole.
    pub lost: AtomicUsize,
    /// Connects that were refused.
    pub refused: AtomicUsize,
    /// Set it to end the load.
    pub over: AtomicBool,
}

impl Load {
    /// Starts clients that keep their connection, and clients that connect for each request. They
    /// go on until the load is over, or until they are refused.
    pub fn start<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
        address: SocketAddr,
        keeping: usize,
        fresh: usize,
    ) {
        for client in 0..keeping + fresh {
            scope.spawn(move || self.client(address, client < keeping));
        }
    }

    fn client(&self, address: SocketAddr, keeping: bool) {
        while !self.over.load(Relaxed) {
            let Ok(stream) = TcpStream::connect(address) else {
                self.refused.fetch_add(1, Relaxed);
                return;
            };
            let mut connection = Connection::new(stream);
            while !self.over.load(Relaxed) {
                let answer =
                    connection.try_get("/").and_then(|()| connection.response());
                let Ok(answer) = answer else {
                    self.lost.fetch_add(1, Relaxed);
                    break;
                };
                self.answered.fetch_add(1, Relaxed);
                if !keeping || answer.header("connection") == Some("close") {
                    break;
                }
            }
        }
    }

    /// Waits until so many requests were answered.
    pub fn wait_for_answers(&self, count: usize) {
        wait(&format!("{count} answers"), || self.answered.load(Relaxed) >= count);
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}
