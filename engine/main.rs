//! The command `brillm`.
fn main() {}
