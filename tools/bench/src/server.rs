//! The servers: started, stopped, and replaced.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

/// How a server comes by its listening socket, and whether another takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It binds a free port; nobody takes over.
    Alone,
    /// It and its successor bind the same port, with SO_REUSEPORT.
    SharedPort,
    /// It and its successor inherit one listening socket.
    Inherited,
}

/// A running server.
pub struct Server {
    name: &'static str,
    child: Child,
    successor: Option<Child>,
    /// The socket that instances inherit.
    socket: Option<TcpListener>,
    /// nginx works for a server behind it, which goes on.
    behind: Option<Child>,
    pub address: SocketAddr,
}

/// Whether a server can be started here. Go and nginx may be missing.
pub fn is_installed(name: &str) -> bool {
    let needed = match name {
        "go" => "go",
        "nginx" => "nginx",
        _ => return true,
    };
    let found = env::split_paths(&env::var_os("PATH").unwrap_or_default())
        .any(|folder| folder.join(needed).exists());
    if !found {
        eprintln!("{needed} is not installed: its row is left out");
    }
    found
}

impl Server {
    /// Starts a server and waits until it listens.
    pub fn start(name: &'static str, start: Start) -> Server {
        let address = "127.0.0.1:0";
        let mut server = Server {
            name,
            child: Command::new("true").spawn().unwrap(),
            successor: None,
            socket: None,
            behind: None,
            address: address.parse().unwrap(),
        };
        if start == Start::Inherited {
            server.socket = Some(TcpListener::bind(address).unwrap());
        }
        (server.child, server.address) = match name {
            "go" => listen(Command::new(built_with_go("server")).arg(address)),
            "nginx" => {
                let (behind, address) =
                    listen(Command::new(program("kill")).arg(address));
                server.behind = Some(behind);
                nginx_before(address)
            }
            _ => server.instance(address),
        };
        server
    }

    fn instance(&self, address: &str) -> (Child, SocketAddr) {
        let path = program(self.name);
        match &self.socket {
            None => listen(Command::new(path).arg(address)),
            Some(socket) => {
                let socket: OwnedFd = socket.try_clone().unwrap().into();
                let script =
                    "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\"";
                listen(
                    Command::new("sh").args(["-c", script]).arg(path).stdin(socket),
                )
            }
        }
    }

    /// Starts a second instance at the same address.
    pub fn start_successor(&mut self) {
        let (child, address) = self.instance(&self.address.to_string());
        assert_eq!(address, self.address);
        self.successor = Some(child);
    }

    /// Tells the (first) server to stop: how long it took to exit. One that does not exit within a
    /// minute is killed.
    pub fn stop(&mut self) -> Duration {
        let signal = if self.name == "nginx" { "-QUIT" } else { "-TERM" };
        let start = Instant::now();
        kill(signal, &self.child);
        while self.child.try_wait().unwrap().is_none() {
            if start.elapsed() > Duration::from_secs(60) {
                kill("-KILL", &self.child);
            }
            thread::sleep(Duration::from_millis(5));
        }
        start.elapsed()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for child in [&mut self.successor, &mut self.behind].into_iter().flatten() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

pub fn kill(signal: &str, child: &Child) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
}

/// A program of this package, which cargo has built beside this one.
pub fn program(name: &str) -> PathBuf {
    let path = env::current_exe().unwrap().with_file_name(name);
    assert!(
        path.exists(),
        "{} is missing: run `cargo build --release --bins`",
        path.display()
    );
    path
}

/// Starts a server that prints where it listens.
pub fn listen(command: &mut Command) -> (Child, SocketAddr) {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next().expect("a server says where it listens").unwrap();
    let (_, address) = line.split_once("://").unwrap();
    let address = address.parse().unwrap();
    // Whatever else it prints must not fill the pipe.
    thread::spawn(move || lines.for_each(drop));
    (child, address)
}

/// Builds peers/NAME.go, once.
pub fn built_with_go(name: &str) -> PathBuf {
    let path = program("bench").with_file_name(format!("go-{name}"));
    if !path.exists() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("peers")
            .join(name)
            .with_extension("go");
        let status = Command::new("go")
            .args(["build", "-o"])
            .args([&path, &source])
            .status()
            .unwrap();
        assert!(status.success());
    }
    path
}

/// Starts nginx in front of the server at `behind`.
fn nginx_before(behind: SocketAddr) -> (Child, SocketAddr) {
    nginx(&format!(
        "upstream behind {{ server {behind}; keepalive 128; }}
    server {{
        listen ADDRESS;
        location / {{ proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Connection \"\"; }}
    }}"
    ))
}

/// Starts nginx with this configuration of its servers, on a free port in place of `ADDRESS`.
pub fn nginx(servers: &str) -> (Child, SocketAddr) {
    nginx_with(2, servers)
}

/// The same with as many workers.
pub fn nginx_with(workers: usize, servers: &str) -> (Child, SocketAddr) {
    // nginx cannot choose a free port.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = env::temp_dir().join(format!("bench-nginx-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let configuration = format!(
        "daemon off; worker_processes {workers}; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    {servers}
}}\n",
        folder = folder.display(),
        servers = servers.replace("ADDRESS", &address.to_string()),
    );
    let file = folder.join(format!("{}.conf", address.port()));
    fs::write(&file, configuration).unwrap();
    let child = Command::new("nginx")
        .arg("-c")
        .arg(&file)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while std::net::TcpStream::connect(address).is_err() {
        thread::sleep(Duration::from_millis(10));
    }
    (child, address)
}
