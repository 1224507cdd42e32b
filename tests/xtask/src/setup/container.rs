//! What the container is built from and run with in the tests: Buildah, runc, and an image of this machine's own Debian
//! release, since the keyrail that the tests built is linked against its libraries.

use super::system;
use crate::place::{Place, make, read, remove, write};
use crate::run::{ask, quiet};
use crate::say::say;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The name of the base in Buildah's storage; the tests know it too.
const BASE: &str = "localhost/keyrail-test-base";
/// Reading a Debian release and unpacking it.
const BASE_LIMIT: Duration = Duration::from_secs(600);
const IMPORT_LIMIT: Duration = Duration::from_secs(300);
/// What Debian's own slim image leaves out, and what was only fetched.
const NOT_NEEDED: [&str; 6] =
    ["usr/share/doc", "usr/share/info", "usr/share/locale", "usr/share/man", "var/cache/apt", "var/lib/apt/lists"];

/// The folder of Buildah's storage with the base in it, made if it is not there.
pub(crate) fn storage(place: &Place) -> Result<PathBuf, String> {
    if !cfg!(target_os = "linux") {
        return Err("containers are built and run on Linux alone".to_owned());
    }
    system::containers()?;
    let release = release()?;
    let folder = place.target.join("containers");
    let marker = folder.join("complete");
    if !read(&marker).is_ok_and(|there| there == release) {
        remove(&folder)?;
        make(&folder)?;
        import(&folder, &release)?;
        // IMPORTANT: last, because it says that all the rest is there.
        write(&marker, &release)?;
    }
    say(&format!("Buildah with a base of Debian {release}"));
    Ok(folder)
}

fn import(folder: &Path, release: &str) -> Result<(), String> {
    say(&format!("unpacking Debian {release} as the base of the container (debootstrap, 60 MB)"));
    let base = folder.join("base");
    // In a mount namespace of its own: what it mounts below the folder ends with it, however it ends.
    let mut debootstrap = Command::new("unshare");
    debootstrap.args(["--mount", "debootstrap", "--variant=minbase", release]).arg(&base);
    quiet("debootstrap", &mut debootstrap, BASE_LIMIT)?;
    for part in NOT_NEEDED {
        remove(&base.join(part))?;
    }
    write(&folder.join("Containerfile"), "FROM scratch\nCOPY base /\nCMD [\"bash\"]\n")?;
    let mut build = Command::new("buildah");
    build.args(["--storage-driver", "vfs", "--root"]).arg(folder.join("storage"));
    build.arg("--runroot").arg(folder.join("run"));
    build.args(["build", "--isolation", "chroot", "--quiet", "--tag", BASE]).arg(folder);
    quiet("buildah", &mut build, IMPORT_LIMIT)?;
    remove(&base)
}

/// The code name of this machine's Debian release.
fn release() -> Result<String, String> {
    let about = read(Path::new("/etc/os-release"))?;
    let value = |key: &str| about.lines().find_map(|l| l.strip_prefix(key)).map(|v| v.trim_matches('"').to_owned());
    match (value("ID="), value("VERSION_CODENAME=")) {
        (Some(id), Some(name)) if id == "debian" => Ok(name),
        (id, _) => Err(format!(
            "the container's tests take the keyrail built here into an image of this machine's Debian release, and this is {}",
            id.as_deref().unwrap_or("no Debian")
        )),
    }
}

/// Whether this process may do what a container needs: a mount namespace of its own.
pub(super) fn may_contain() -> bool {
    ask("unshare", &["--mount", "--pid", "--fork", "true"]).is_some()
}
