//! Where a test program crashed, from its core file, where there is a debugger.

use crate::place::remove_file;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

/// Lines of the debugger's that are kept: the thread that crashed comes first.
const LINES: usize = 60;

/// The program, so that a crash of it leaves a core file in its folder if there is a debugger to read it with.
pub(super) fn leaving_a_core(program: &Path) -> Command {
    if !has_debugger() {
        return Command::new(program);
    }
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -c unlimited 2>/dev/null; exec \"$0\" \"$@\""]).arg(program);
    command
}

/// Its stack, and those of its other threads, if a signal ended it and left a core file.
pub(super) fn told(status: ExitStatus, program: &Path, folder: &Path) -> String {
    let mut text = String::new();
    if status.code().is_none()
        && let Some(core) = cores(folder).first()
    {
        let mut gdb = Command::new("gdb");
        gdb.args(["-batch", "-nx", "-ex", "set pagination off", "-ex", "bt 30", "-ex", "thread apply all bt 10"]);
        gdb.arg(program).arg(core);
        match gdb.output() {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stdout);
                let frames = said.lines().filter(|line| line.starts_with(['#', 'T']) || line.contains("signal"));
                for line in frames.take(LINES) {
                    text.push_str("\n    | ");
                    text.extend(line.chars().take(220));
                }
            }
            Err(e) => text = format!("\n    | gdb did not run: {e}"),
        }
    }
    text
}

/// Core files go: of the program, and of what it started and killed on purpose.
pub(super) fn clear(folder: &Path) -> Result<(), String> {
    cores(folder).iter().try_for_each(|core| remove_file(core))
}

fn has_debugger() -> bool {
    cfg!(target_os = "linux") && Command::new("gdb").arg("--version").output().is_ok_and(|out| out.status.success())
}

/// `core`, or `core` with the number of the process: what Linux names them where nothing else is set.
fn cores(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_core = |name: &str| name == "core" || name.strip_prefix("core.").is_some_and(|n| n.parse::<u32>().is_ok());
    entries
        .map(|entry| entry.path())
        .filter(|path| path.file_name().and_then(|n| n.to_str()).is_some_and(is_core))
        .collect()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::{clear, has_debugger, leaving_a_core, told};
    use std::path::Path;

    #[test]
    fn a_crash_is_told_with_its_stack_and_its_core_goes() -> Result<(), Box<dyn std::error::Error>> {
        let folder = std::env::temp_dir().join(format!("xtask-crash-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let shell = Path::new("/bin/sh");
        let status = leaving_a_core(shell).args(["-c", "kill -SEGV $$"]).current_dir(&folder).status()?;
        assert_eq!(status.code(), None);
        let text = told(status, shell, &folder);
        // Where the kernel is told to put cores elsewhere, there is none to read.
        assert!(!has_debugger() || text.is_empty() || text.contains("#0"), "{text}");
        clear(&folder)?;
        assert_eq!(std::fs::read_dir(&folder)?.count(), 0);
        std::fs::remove_dir_all(&folder)?;
        Ok(())
    }
}
