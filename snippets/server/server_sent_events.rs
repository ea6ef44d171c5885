// ANCHOR: program
fn main() {}
// ANCHOR_END: program
