//! The crate carries its own copy of the contract, so that it can be published alone.
#![allow(clippy::unwrap_used, reason = "a test")]

#[test]
fn the_copy_of_the_contract_is_the_contract() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../wit/handler.wit");
    let contract = std::fs::read_to_string(folder).unwrap();
    let copy = include_str!("../wit/handler.wit");
    assert!(contract == copy, "run: cp sdk/wit/handler.wit sdk/rust/wit/handler.wit");
}
