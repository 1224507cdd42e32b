//! Folders on the host for one container: what an operator would mount.

use crate::image::Image;
use crate::sandbox::{Mount, Spec};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The user of the image.
pub(crate) const USER: u32 = 65532;

/// A folder that is removed when the test is over.
#[derive(Debug)]
pub(crate) struct Stage(PathBuf);

impl Stage {
    pub(crate) fn new(image: &Image) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = image.folder.join("stages").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    /// A volume as Docker makes it: it has the owner and the rights of the folder in the image.
    pub(crate) fn volume(&self) -> Mount {
        self.state(USER, 0o700)
    }

    /// A volume as Kubernetes makes it: root's, and open to the group `fsGroup`.
    pub(crate) fn empty_dir(&self) -> Mount {
        self.state(0, 0o2777)
    }

    fn state(&self, owner: u32, mode: u32) -> Mount {
        let folder = self.0.join("state");
        std::fs::create_dir(&folder).unwrap();
        chown(&folder, Some(owner), Some(USER)).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode)).unwrap();
        Mount { from: folder, to: "/var/lib/keyrail", writable: true }
    }

    /// `keyrail.toml`, readable by all.
    pub(crate) fn configuration(&self, text: &str) -> Mount {
        let file = self.0.join("keyrail.toml");
        std::fs::write(&file, text).unwrap();
        Mount { from: file, to: "/etc/keyrail/keyrail.toml", writable: false }
    }

    /// A handler and its manifest, laid out as Kubernetes lays out a ConfigMap: each name is a link into a folder that a
    /// hidden link names, so that all of them change at once.
    pub(crate) fn plugins(&self, name: &str, wasm: &Path, manifest: &str) -> Mount {
        let folder = self.0.join("plugins");
        std::fs::create_dir(&folder).unwrap();
        self.change_plugins(name, wasm, manifest);
        for file in [format!("{name}.wasm"), format!("{name}.toml")] {
            symlink(Path::new("..data").join(&file), folder.join(file)).unwrap();
        }
        Mount { from: folder, to: "/etc/keyrail/plugins", writable: false }
    }

    /// A new version of them, as Kubernetes brings it: the hidden link is swapped, then the old folder is removed.
    pub(crate) fn change_plugins(&self, name: &str, wasm: &Path, manifest: &str) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let (folder, link) = (self.0.join("plugins"), self.0.join("plugins/..data"));
        let version = format!("..2026_01_31_12_00_00.{}", NEXT.fetch_add(1, Ordering::Relaxed));
        std::fs::create_dir(folder.join(&version)).unwrap();
        std::fs::copy(wasm, folder.join(&version).join(format!("{name}.wasm"))).unwrap();
        std::fs::write(folder.join(&version).join(format!("{name}.toml")), manifest).unwrap();
        let old = std::fs::read_link(&link).ok();
        symlink(version, folder.join("..data_tmp")).unwrap();
        std::fs::rename(folder.join("..data_tmp"), link).unwrap();
        if let Some(old) = old {
            std::fs::remove_dir_all(folder.join(old)).unwrap();
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A container with these mounts and nothing else.
pub(crate) fn spec(mounts: [Mount; 3], env: &[&str]) -> Spec {
    Spec { mounts: mounts.to_vec(), env: env.iter().map(|e| (*e).to_owned()).collect() }
}
