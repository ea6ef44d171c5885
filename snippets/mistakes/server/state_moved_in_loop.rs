use std::sync::Arc;

async fn serve(_: Arc<String>) {}

fn main() {
    let state = Arc::new(String::new());
    loop {
        tokio::spawn(async move { serve(state).await });
    }
}
