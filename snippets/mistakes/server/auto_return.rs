use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto;

fn builder() -> auto::Builder<TokioExecutor> {
    auto::Builder::new(TokioExecutor::new()).http1().timer(TokioTimer::new())
}

fn main() {}
