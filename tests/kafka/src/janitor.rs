//! Cleans up when the test process is gone, however it went: statics are never dropped, and kill -9 drops nothing.

use anyhow::{Context, Result};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A shell that waits for its input to close, which the kernel does when this process ends, and then kills every
/// process whose id stands in `FOLDER/*.pid` and removes the folder.
#[derive(Debug)]
pub(crate) struct Janitor(Child);

const SCRIPT: &str = r#"
cat > /dev/null
for f in "$1"/*.pid; do [ -f "$f" ] && kill -9 "$(cat "$f")" 2> /dev/null; done
rm -rf "$1"
"#;

impl Janitor {
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let mut shell = Command::new("sh");
        shell.args(["-c", SCRIPT, "janitor"]).arg(folder);
        // A terminal's Ctrl-C goes to the whole process group; the janitor must outlive the test it cleans up after.
        std::os::unix::process::CommandExt::process_group(&mut shell, 0);
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(shell.spawn().context("starting sh")?))
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It ends by itself; waiting only leaves no zombie.
        drop(self.0.wait());
    }
}
