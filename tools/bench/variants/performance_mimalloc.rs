//! The server of Performance, with another allocator.

#[path = "performance.rs"]
mod performance;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    performance::main()
}
