// ANCHOR: program
//! hyper 0.14 and hyper 1 in one program: a request and a response that cross
//! from the one to the other.

use futures_util::TryStreamExt;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Bytes, Frame};
use hyper::{Request, Response, Version};
use hyper_014 as old;

// ANCHOR: request
type BoxError = Box<dyn std::error::Error + Send + Sync>;

fn to_014<B>(
    request: Request<B>,
) -> Result<old::Request<old::Body>, BoxError>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>
        + Send
        + 'static,
{
    let (head, body) = request.into_parts();
    let mut request = old::Request::builder()
        .method(head.method.as_str())
        .uri(head.uri.to_string());
    for (name, value) in &head.headers {
        let name = name.as_str();
        request = request.header(name, value.as_bytes());
    }
    let body = Box::pin(body).into_data_stream();
    Ok(request.body(old::Body::wrap_stream(body))?)
}
// ANCHOR_END: request

// ANCHOR: response
fn to_1(
    response: old::Response<old::Body>,
) -> Result<
    Response<impl Body<Data = Bytes, Error = old::Error>>,
    BoxError,
> {
    let (head, body) = response.into_parts();
    let mut response =
        Response::builder().status(head.status.as_u16());
    for (name, value) in &head.headers {
        let name = name.as_str();
        response = response.header(name, value.as_bytes());
    }
    let body = StreamBody::new(body.map_ok(Frame::data));
    Ok(response.body(body)?)
}
// ANCHOR_END: response

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let request = Request::post("http://example.com/a?b")
        .header("x-name", "value")
        .version(Version::HTTP_10)
        .body(Full::<Bytes>::from("hello"))?;
    let request = to_014(request)?;
    assert_eq!(request.method(), "POST");
    assert_eq!(request.uri(), "http://example.com/a?b");
    assert_eq!(request.headers()["x-name"], "value");
    // The version does not cross.
    assert_eq!(request.version(), old::Version::HTTP_11);

    let response = old::Response::builder()
        .status(404)
        .header("x-name", "value")
        .body(request.into_body())?;
    let response = to_1(response)?;
    assert_eq!(response.status(), 404);
    assert_eq!(response.headers()["x-name"], "value");
    let body = response.collect().await?.to_bytes();
    assert_eq!(body, "hello");
    Ok(())
}
// ANCHOR_END: program
