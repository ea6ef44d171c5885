use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;

// Another crate of the program still uses `http` 0.2.
async fn get(mut sender: SendRequest<Empty<Bytes>>, request: http_02::Request<Empty<Bytes>>) {
    let response = sender.send_request(request).await;
    println!("{response:?}");
}

fn main() {}
