fn main() {
    axum::Server::bind(&([127, 0, 0, 1], 3000).into());
}
