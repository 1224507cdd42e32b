//! Handlers in AssemblyScript, by the builder of the SDK's npm package.

use super::{Built, own, ran, typescript};
use anyhow::bail;
use std::path::Path;

/// What a package.json names that builds a handler in it.
pub(super) const PACKAGE: &str = "\"@keyrail/assemblyscript\"";
const BUILDER: &str = "node_modules/@keyrail/assemblyscript/bin/keyrail-asc.js";
/// It compiles itself, so a handler is built only where it is.
const COMPILER: &str = "node_modules/assemblyscript/package.json";

pub(super) fn build(dir: &Path) -> anyhow::Result<Built> {
    let has = |name: &str| dir.join(name).is_file();
    if !has("handler.ts") {
        bail!("{} has no handler.ts", dir.display());
    }
    let file = own(dir)?.join("handler.wasm");
    let mut node = typescript::node(dir)?;
    if !has(BUILDER) || !has(COMPILER) {
        let shown = dir.display();
        bail!("what builds the handler is not here: `npm install` in {shown} fetches what package.json names");
    }
    if !ran(node.args([BUILDER, "handler.ts", "-o", "target/handler.wasm"]), typescript::CURE)? {
        bail!("the handler can't be built: keyrail-asc says why");
    }
    Ok(Built { file, name: None })
}
