// ANCHOR: program
//! A stack of layers from tower and tower-http, served by hyper.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::time::Duration;

use http_body_util::Full;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tower::limit::ConcurrencyLimitLayer;
use tower::load_shed::{LoadShedLayer, error::Overloaded};
use tower::util::BoxCloneService;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::request_id::{
    MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer,
};
use tower_http::timeout::TimeoutLayer;

// ANCHOR: limits
/// Requests at work at a time, in the whole process.
pub const WORK: usize = 20;
/// How long the work for one request may take.
pub const HANDLER: Duration = Duration::from_secs(2);
// ANCHOR_END: limits

// ANCHOR: types
pub type ResponseBody = UnsyncBoxBody<Bytes, BoxError>;
pub type Stack =
    BoxCloneService<Request<Incoming>, Response<ResponseBody>, Infallible>;
// ANCHOR_END: types

// ANCHOR: lower
pub fn stack<S, B>(service: S) -> Stack
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let limited = ServiceBuilder::new()
        .layer(LoadShedLayer::new())
        .layer(ConcurrencyLimitLayer::new(WORK))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            HANDLER,
        ))
        .layer(CatchPanicLayer::new())
        .service(service);
    // ANCHOR_END: lower

    // ANCHOR: upper
    ServiceBuilder::new()
        .boxed_clone()
        .map_response(|response: Response<_>| response.map(ResponseBody::new))
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(CompressionLayer::new())
        .service_fn(move |request| answer(limited.clone().oneshot(request)))
}
// ANCHOR_END: upper

// ANCHOR: answer
async fn answer<B: Default>(
    result: impl Future<Output = Result<Response<B>, BoxError>>,
) -> Result<Response<B>, Infallible> {
    Ok(result.await.unwrap_or_else(|error| {
        let mut response = Response::new(B::default());
        *response.status_mut() = if error.is::<Overloaded>() {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            eprintln!("request failed: {error}");
            StatusCode::INTERNAL_SERVER_ERROR
        };
        response
    }))
}
// ANCHOR_END: answer

async fn handle(
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let text = match request.uri().path() {
        "/" => "Hello, World!\n".to_owned(),
        "/long" => "Hello, World!\n".repeat(5),
        "/slow" => {
            sleep(Duration::from_secs(3600)).await;
            "that took an hour\n".to_owned()
        }
        "/panic" => panic!("a bug"),
        _ => {
            let mut response = Response::new(Full::from("no such page\n"));
            *response.status_mut() = StatusCode::NOT_FOUND;
            return Ok(response);
        }
    };
    Ok(Response::new(Full::from(text)))
}

// ANCHOR: serve
async fn serve(stream: TcpStream, service: Stack) {
    let io = TokioIo::new(stream);
    let conn = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(5))
        .serve_connection(io, TowerToHyperService::new(service));
    if let Err(error) = conn.await {
        eprintln!("connection failed: {error}");
    }
}
// ANCHOR_END: serve

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);

    // ANCHOR: accept
    let service = stack(service_fn(handle));
    loop {
        let (stream, _peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                eprintln!("accept failed: {error}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        tokio::spawn(serve(stream, service.clone()));
    }
    // ANCHOR_END: accept
}
// ANCHOR_END: program
