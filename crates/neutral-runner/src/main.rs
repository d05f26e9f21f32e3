//! neutral
fn main() {}
