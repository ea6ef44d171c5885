use hyper::header::HeaderName;

const REQUEST_ID: HeaderName = HeaderName::from_static("X-Request-Id");

fn main() {
    println!("{REQUEST_ID}");
}
