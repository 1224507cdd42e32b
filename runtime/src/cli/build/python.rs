//! Handlers in Python, by the SDK's own builder and componentize-py.

use super::{Built, asked, own, ran, version};
use anyhow::{Context as _, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

const OLDEST: (u32, u32) = (3, 10);
/// Other versions make other programs, and the SDK is tested with this one.
const BUILDER: &str = "0.25.1";
/// Says which Python it is, and which builder that has.
const PROBE: &str = "import sys\nprint('%d.%d' % sys.version_info[:2])\ntry:\n    from importlib.metadata import version\n    \
    print(version('componentize-py'))\nexcept ImportError:\n    pass\n";
const CURE: &str = "get Python 3.10 or later. Debian: `apt-get install python3 python3-venv`, Fedora: `dnf install python3`, macOS: \
    `brew install python`";

pub(super) fn build(dir: &Path) -> anyhow::Result<Built> {
    if !dir.join("handler.py").is_file() {
        bail!("{} has no handler.py, which is to have the function with `@keyrail.handler`", dir.display());
    }
    let file = own(dir)?.join("handler.wasm");
    let whole = dir.canonicalize().with_context(|| format!("can't find {}", dir.display()))?;
    let own_python = whole.join(".venv/bin/python");
    let program = if own_python.is_file() { own_python } else { PathBuf::from("python3") };
    let path = path(&whole)?;
    let python = || {
        let mut python = Command::new(&program);
        python.current_dir(dir).env("PYTHONPATH", &path).env("PYTHONDONTWRITEBYTECODE", "1");
        python
    };
    fits(&asked(python().args(["-c", PROBE]), CURE)?, &program.display().to_string(), dir)?;
    if !ran(python().args(["-m", "keyrail", "build", "handler.py", "--output", "target/handler.wasm"]), CURE)? {
        bail!("the handler can't be built: {} says why", program.display());
    }
    Ok(Built { file, name: None })
}

/// By what the probe said.
fn fits(said: &str, program: &str, dir: &Path) -> anyhow::Result<()> {
    let mut lines = said.lines();
    match lines.next().and_then(version) {
        Some(there) if there >= OLDEST => {}
        Some((major, minor)) => bail!("{program} is Python {major}.{minor}: {CURE}"),
        None => bail!("{program} doesn't say which Python it is: {CURE}"),
    }
    let there = lines.next();
    if there == Some(BUILDER) {
        return Ok(());
    }
    let why = there.map_or("is not here".to_owned(), |there| format!("is here as {there}"));
    let dir = dir.display();
    bail!(
        "componentize-py {why}: `pip install componentize-py=={BUILDER}`, or for this project alone in {dir}: \
         `python3 -m venv .venv && .venv/bin/pip install componentize-py=={BUILDER}`"
    )
}

/// The project's SDK goes before what else is named.
fn path(dir: &Path) -> anyhow::Result<OsString> {
    let more = std::env::var_os("PYTHONPATH").filter(|more| !more.is_empty()).unwrap_or_default();
    let more = std::env::split_paths(&more).filter(|folder| !folder.as_os_str().is_empty());
    let all = std::iter::once(dir.join("sdk/src")).chain(more);
    std::env::join_paths(all).with_context(|| format!("Python can't look for modules below {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_python_lacks_is_said() {
        let why =
            |said: &str| fits(said, "python3", Path::new("x")).err().map(|why| why.to_string()).unwrap_or_default();
        assert_eq!(why("3.11\n0.25.1\n"), "");
        assert!(why("3.9\n").starts_with("python3 is Python 3.9: get Python 3.10 or later"));
        assert!(why("").contains("doesn't say"));
        assert!(why("3.10\n").starts_with("componentize-py is not here: `pip install componentize-py==0.25.1`"));
        assert!(why("3.14\n0.17.0\n").starts_with("componentize-py is here as 0.17.0: `pip install"));
    }
}
