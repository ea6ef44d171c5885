use hyper::header::ContentType;

fn main() {}
