use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

fn main() {
    let client = Client::builder(TokioExecutor::new()).build_http();
}
