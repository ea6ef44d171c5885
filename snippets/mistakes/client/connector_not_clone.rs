use http_body_util::Empty;
use hyper::Uri;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::Connect;

fn ask(client: &Client<impl Connect, Empty<Bytes>>) {
    client.get(Uri::from_static("http://127.0.0.1:3000/"));
}

fn main() {}
