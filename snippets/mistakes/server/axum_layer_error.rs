use axum::Router;
use axum::routing::get;
use tower::load_shed::LoadShedLayer;

fn router() -> Router {
    Router::new().route("/", get("Hello, World!\n")).layer(LoadShedLayer::new())
}

fn main() {}
