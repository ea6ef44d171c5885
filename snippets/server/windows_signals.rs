// ANCHOR: program
//! Waits for the console events that end a program on Windows.

use std::future::Future;
use std::io;

// ANCHOR: signal
/// Listens for the events that end a program, from the call on.
#[cfg(windows)]
fn shutdown_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown};
    let (mut interrupt, mut brk) = (ctrl_c()?, ctrl_break()?);
    let (mut close, mut shutdown) = (ctrl_close()?, ctrl_shutdown()?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = brk.recv() => {}
            _ = close.recv() => {}
            _ = shutdown.recv() => {}
        }
    })
}
// ANCHOR_END: signal

/// Other systems have signals instead.
#[cfg(not(windows))]
fn shutdown_signal() -> io::Result<impl Future<Output = ()>> {
    Err::<std::future::Ready<()>, _>(io::ErrorKind::Unsupported.into())
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let signal = shutdown_signal()?;
    println!("waiting for a console event");
    signal.await;
    println!("stopping");
    Ok(())
}
// ANCHOR_END: program
