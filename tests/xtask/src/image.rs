//! `cargo xtask container`: the image by the `Containerfile`, the compile included, with whichever builder is there.

use crate::jobs::hand_over;
use crate::manifest;
use crate::place::{Place, read};
use crate::run::{ask, line_of};
use crate::say::say;
use std::process::{Command, ExitCode};

/// They take the same words. Docker comes with a client where no daemon answers, hence `info`.
const BUILDERS: [&str; 3] = ["docker", "podman", "buildah"];

/// Builds `keyrail:VERSION` and `keyrail:latest`; `args` go to the builder.
pub(crate) fn build(place: &Place, args: &[String]) -> Result<ExitCode, String> {
    let builder = BUILDERS.into_iter().find(|name| ask(name, &["info"]).is_some()).ok_or_else(|| {
        format!(
            "no builder of images answers: install one of {} (Debian: apt-get install buildah)",
            BUILDERS.join(", ")
        )
    })?;
    let manifest = read(&place.root.join("Cargo.toml"))?;
    let version = manifest::value(&manifest, "workspace.package", "version").ok_or("Cargo.toml names no version")?;
    let root = place.root.to_string_lossy().into_owned();
    let revision = ask("git", &["-C", &root, "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]);
    let mut command = Command::new(builder);
    command.args(arguments(&version, revision.as_deref().unwrap_or("unknown"))).args(args).arg(".");
    // IMPORTANT for versions of Docker that still build without it by default.
    command.current_dir(&place.root).env("DOCKER_BUILDKIT", "1");
    say(&format!("building the image, in release (ten minutes and more): {}", line_of(&command)));
    hand_over(&mut command)
}

fn arguments(version: &str, revision: &str) -> Vec<String> {
    let (version_argument, revision_argument) = (format!("VERSION={version}"), format!("REVISION={revision}"));
    let tag = format!("keyrail:{version}");
    ["build", "--file", "Containerfile", "--tag", &tag, "--tag", "keyrail:latest"]
        .into_iter()
        .chain(["--build-arg", &version_argument, "--build-arg", &revision_argument])
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::arguments;

    #[test]
    fn an_image_is_named_by_version_and_says_its_revision() {
        let words = arguments("0.1.0", "abc-dirty").join(" ");
        assert!(words.starts_with("build --file Containerfile --tag keyrail:0.1.0 "), "{words}");
        assert!(words.ends_with("--build-arg VERSION=0.1.0 --build-arg REVISION=abc-dirty"), "{words}");
    }
}
