//! The image, built once a run by the `Containerfile`, with the keyrail of this build in place of the compile.

use crate::{given, repository, sandbox};
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What set-up put into Buildah's storage.
const BASE: &str = "localhost/keyrail-test-base";
const IMAGE: &str = "localhost/keyrail-test";

#[derive(Debug)]
pub(crate) struct Image {
    /// The image's own configuration: user, entry point and so on.
    pub(crate) config: Value,
    /// Its files, for containers that can't write to them.
    pub(crate) rootfs: PathBuf,
    /// A folder for what belongs to single containers.
    pub(crate) folder: PathBuf,
    /// One run at a time: they share the storage.
    _lock: File,
}

/// Built by the first test that asks. `None`: this machine can't, and the skip is told.
pub(crate) fn image(test: &str) -> Option<&'static Image> {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    let (containers, keyrail) = (given(test, "KEYRAIL_CONTAINERS")?, given(test, "KEYRAIL_BIN")?);
    Some(IMAGE.get_or_init(|| build(&containers, &keyrail)))
}

fn build(containers: &Path, keyrail: &Path) -> Image {
    let lock = File::create(containers.join("lock")).unwrap();
    lock.lock().unwrap();
    // What an earlier run left: containers that it had no time to end, its root file system, its image without a name.
    for left in std::fs::read_dir(containers.join("runc")).into_iter().flatten().flatten() {
        drop(sandbox::runc(&containers.join("runc")).args(["delete", "--force"]).arg(left.file_name()).output());
    }
    buildah(containers, &["rm", "--all"]);
    let binary = containers.join("binary");
    std::fs::create_dir_all(&binary).unwrap();
    std::fs::copy(keyrail, binary.join("keyrail")).unwrap();
    let file = repository("Containerfile");
    buildah(
        containers,
        &[
            "build",
            "--isolation=chroot",
            &format!("--tag={IMAGE}"),
            &format!("--build-arg=RUN_BASE={BASE}"),
            "--build-arg=VERSION=0.0.0-test",
            "--build-arg=REVISION=0123abc",
            &format!("--build-context=build={}", binary.display()),
            &format!("--file={}", file.display()),
            &file.parent().unwrap().display().to_string(),
        ],
    );
    buildah(containers, &["rmi", "--prune"]);
    let config: Value = serde_json::from_str(&buildah(containers, &["inspect", "--type", "image", IMAGE])).unwrap();
    let container = buildah(containers, &["from", "--pull-never", IMAGE]);
    let rootfs = buildah(containers, &["mount", container.trim()]);
    Image {
        config: config["OCIv1"]["config"].clone(),
        rootfs: PathBuf::from(rootfs.trim()),
        folder: containers.to_owned(),
        _lock: lock,
    }
}

fn buildah(containers: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("buildah");
    command.args(["--storage-driver", "vfs", "--root"]).arg(containers.join("storage"));
    let out = command.arg("--runroot").arg(containers.join("run")).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "buildah {arguments:?}: {}{errors}", String::from_utf8_lossy(&out.stdout));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn the_image_says_how_it_is_run() {
    let Some(image) = image("the_image_says_how_it_is_run") else { return };
    let config = &image.config;
    assert_eq!(config["User"], "65532:65532", "by number, for Kubernetes' runAsNonRoot");
    assert_eq!(config["Entrypoint"], serde_json::json!(["/usr/local/bin/keyrail"]));
    assert_eq!(config["Cmd"], serde_json::json!(["run", "-c", "/etc/keyrail/keyrail.toml"]));
    assert_eq!(config["StopSignal"], "SIGTERM");
    assert_eq!(config["Volumes"], serde_json::json!({"/var/lib/keyrail": {}}));
    assert_eq!(config["WorkingDir"], "/var/lib/keyrail");
    assert_eq!(config["ExposedPorts"], serde_json::json!({"8080/tcp": {}}));
    for (label, value) in
        [("base.name", BASE), ("version", "0.0.0-test"), ("revision", "0123abc"), ("licenses", "Apache-2.0")]
    {
        assert_eq!(config["Labels"][format!("org.opencontainers.image.{label}")], value);
    }
}

#[test]
fn the_bases_are_arguments_pinned_by_digest() {
    let text = std::fs::read_to_string(repository("Containerfile")).unwrap();
    for argument in ["ARG BUILD_BASE=", "ARG RUN_BASE="] {
        let value = text.lines().find_map(|l| l.strip_prefix(argument)).unwrap();
        assert!(is_pinned(value), "{argument}{value}");
    }
    let bases: Vec<_> = text.lines().filter_map(|l| l.strip_prefix("FROM ")).collect();
    assert_eq!(bases, ["${BUILD_BASE} AS build", "${RUN_BASE} AS runtime"]);
    // Tag and workspace say the same: an older compiler refuses the build, a newer one was not tested.
    let manifest = std::fs::read_to_string(repository("Cargo.toml")).unwrap();
    let version = manifest.lines().find_map(|l| l.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    assert!(text.contains(&format!("/rust:{version}-")), "{version}");
}

/// `NAME:TAG@sha256:DIGEST`
pub(crate) fn is_pinned(name: &str) -> bool {
    let (tagged, digest) = name.split_once("@sha256:").unwrap_or((name, ""));
    let tag = tagged.rsplit('/').next().is_some_and(|last| last.contains(':'));
    tag && digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit())
}
