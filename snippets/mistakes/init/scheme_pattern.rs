use hyper::Uri;
use hyper::http::uri::Scheme;

fn is_plain(uri: &Uri) -> bool {
    match uri.scheme() {
        Some(&Scheme::HTTP) => true,
        _ => false,
    }
}

fn main() {
    println!("{}", is_plain(&Uri::from_static("http://example.com/")));
}
