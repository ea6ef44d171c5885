use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};

async fn file(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let text = std::fs::read("index.html")?;
    Ok(Response::new(Full::from(text)))
}

fn main() {
    let _ = file;
}
