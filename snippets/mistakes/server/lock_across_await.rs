use std::sync::{Arc, Mutex};

async fn save(_count: u64) {}

fn main() {
    let count = Arc::new(Mutex::new(0));
    tokio::spawn(async move {
        let mut guard = count.lock().unwrap();
        *guard += 1;
        let now = *guard;
        drop(guard);
        save(now).await;
    });
}
