use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto;

fn main() {
    let builder = auto::Builder::new(TokioExecutor::new())
        .http1()
        .timer(TokioTimer::new());
    builder.keep_alive(false);
}
