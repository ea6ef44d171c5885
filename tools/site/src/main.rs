//! What mdBook runs after its own renderer. It hands over the book as JSON.

use std::io;

use anyhow::Result;
use mdbook_renderer::{RenderContext, Renderer};

fn main() -> Result<()> {
    site::Site.render(&RenderContext::from_json(io::stdin().lock())?)
}
