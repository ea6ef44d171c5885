use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

fn main() {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::get("http://a.test/").body(()).unwrap();
    let response = client.request(request);
}
