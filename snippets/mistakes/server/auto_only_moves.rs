use hyper_util::rt::TokioExecutor;
use hyper_util::server::conn::auto;

fn main() {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1_only();
    builder.http1().keep_alive(false);
}
