//! What src/server/proxy.md promises.

use std::net::SocketAddr;
use std::process::Command;

use harness::{Program, cargo};

#[path = "../../../tools/bench/src/smuggling.rs"]
mod smuggling;

use smuggling::{Backend, HTTP1, HTTP2};

/// The proxy, in front of these backends.
fn start(backends: &[SocketAddr]) -> Program {
    let backends: Vec<_> = backends.iter().map(ToString::to_string).collect();
    // The address comes first.
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$2\" $1"]);
    command.arg(cargo::program("proxy")).arg(backends.join(" "));
    Program::listen(command)
}

#[test]
fn no_request_is_forwarded_with_two_meanings() {
    let backend = Backend::start();
    let proxy = start(&[backend.address]);
    for vector in HTTP1 {
        let t=std::time::Instant::now();println!("{:50} {} {:?}", vector.what, smuggling::http1(proxy.address, &backend, &vector.bytes()),t.elapsed());
    }
    for vector in HTTP2 {
        let t=std::time::Instant::now();println!("{:50} {} {:?}", vector.what, smuggling::http2(proxy.address, &backend, vector),t.elapsed());
    }
    panic!();
}
