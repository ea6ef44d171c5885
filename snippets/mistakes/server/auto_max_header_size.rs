use hyper_util::rt::TokioExecutor;
use hyper_util::server::conn::auto;

fn main() {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().max_header_size(8 * 1024);
}
