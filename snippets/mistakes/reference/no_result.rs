use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::{HttpService, service_fn};
use hyper::{Request, Response};

async fn handle(_: Request<Incoming>) -> Response<Full<Bytes>> {
    Response::new(Full::from("hello"))
}

fn serve(_: impl HttpService<Incoming>) {}

fn main() {
    serve(service_fn(handle));
}
