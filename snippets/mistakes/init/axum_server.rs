// src/init/choosing.md: axum 0.6 had a `Server`.

fn main() {
    axum::Server::bind(&([127, 0, 0, 1], 3000).into());
}
