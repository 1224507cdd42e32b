//! keyrail
fn main() {}
