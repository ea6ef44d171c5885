use std::sync::{Arc, Mutex};

async fn save(_count: u64) {}

fn main() {
    let count = Arc::new(Mutex::new(0));
    tokio::spawn(async move {
        let mut count = count.lock().unwrap();
        *count += 1;
        save(*count).await;
    });
}
