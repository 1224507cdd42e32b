//! Handlers in TypeScript or JavaScript, by the builder of the SDK's npm package.

use super::{Built, asked, own, ran, version};
use anyhow::bail;
use std::path::Path;
use std::process::Command;

const OLDEST: u32 = 20;
pub(super) const CURE: &str = "get Node.js 20 or later with npm: https://nodejs.org, or Debian: `apt-get install nodejs npm`, Fedora: `dnf install \
    nodejs npm`, macOS: `brew install node`";
const BUILDER: &str = "node_modules/@keyrail/sdk/dist/src/build.js";
const COMPILER: &str = "node_modules/typescript/bin/tsc";

pub(super) fn build(dir: &Path) -> anyhow::Result<Built> {
    let has = |name: &str| dir.join(name).is_file();
    let Some(source) = ["handler.ts", "handler.js"].into_iter().find(|name| has(name)) else {
        bail!("{} has no handler.ts and no handler.js", dir.display());
    };
    let file = own(dir)?.join("handler.wasm");
    let mut checker = node(dir)?;
    if !has(BUILDER) {
        let shown = dir.display();
        bail!(
            "what builds the handler is not here: `npm install` in {shown} fetches what package.json names, and compiles the SDK"
        );
    }
    // The builder drops types unchecked.
    if has("tsconfig.json") && has(COMPILER) && !ran(checker.args([COMPILER, "--noEmit"]), CURE)? {
        bail!("the handler can't be built: tsc says why");
    }
    if !ran(node(dir)?.args([BUILDER, source, "-o", "target/handler.wasm"]), CURE)? {
        bail!("the handler can't be built: keyrail-build says why");
    }
    Ok(Built { file, name: None })
}

/// Node.js in the project, if it is new enough.
pub(super) fn node(dir: &Path) -> anyhow::Result<Command> {
    let said = asked(Command::new("node").current_dir(dir).arg("--version"), CURE)?;
    if let Some((major, _)) = version(said.trim_start_matches('v'))
        && major < OLDEST
    {
        bail!("node here is {major}: {CURE}");
    }
    let mut node = Command::new("node");
    node.current_dir(dir);
    Ok(node)
}
