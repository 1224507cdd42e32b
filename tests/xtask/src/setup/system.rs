//! Programs and headers that come with the operating system.

use super::container::may_contain;
use super::packages::{Package, install, is_root};
use crate::run::ask;
use crate::say::say;
use std::path::{Path, PathBuf};

/// What Kafka 4 asks for.
const JAVA_AT_LEAST: u32 = 17;

const JAVA: Package = Package {
    what: "a Java runtime, 17 or later",
    debian: "default-jre-headless",
    fedora: "java-latest-openjdk-headless",
    macos: "brew install openjdk",
};

const JDK: Package = Package {
    what: "a Java compiler, 17 or later",
    debian: "default-jdk-headless",
    fedora: "java-latest-openjdk-devel",
    macos: "brew install openjdk",
};

type Probe = fn() -> bool;

const BUILD: [(Probe, Package); 5] = [
    (
        || ask("cc", &["--version"]).is_some() && ask("c++", &["--version"]).is_some(),
        Package {
            what: "a C and C++ compiler",
            debian: "gcc g++ libc6-dev",
            fedora: "gcc gcc-c++",
            macos: "xcode-select --install",
        },
    ),
    (
        || ask("make", &["--version"]).is_some(),
        Package { what: "make", debian: "make", fedora: "make", macos: "xcode-select --install" },
    ),
    (
        || ask("pkg-config", &["--version"]).is_some(),
        Package {
            what: "pkg-config",
            debian: "pkg-config",
            fedora: "pkgconf-pkg-config",
            macos: "brew install pkgconf",
        },
    ),
    (
        || header("openssl", "openssl/ssl.h"),
        Package {
            what: "OpenSSL's headers",
            debian: "libssl-dev",
            fedora: "openssl-devel",
            macos: "brew install openssl@3",
        },
    ),
    (
        || header("zlib", "zlib.h"),
        Package { what: "zlib's headers", debian: "zlib1g-dev", fedora: "zlib-devel", macos: "xcode-select --install" },
    ),
];

/// A compiler and the headers that the build needs.
pub(crate) fn build_tools() -> Result<(), String> {
    have(&BUILD)
}

/// The compiler alone, which is there on most machines: then no package is installed, and nobody need be root.
pub(crate) fn compiler() -> Result<(), String> {
    have(&BUILD[..1])
}

fn have(all: &[(Probe, Package)]) -> Result<(), String> {
    let missing = || all.iter().filter(|(there, _)| !there()).map(|(_, package)| *package).collect::<Vec<_>>();
    install(&missing())?;
    let still: Vec<_> = missing().iter().map(|p| p.what).collect();
    if still.is_empty() { Ok(()) } else { Err(format!("still not found after installing it: {}", still.join(", "))) }
}

/// A Java runtime new enough for Kafka: named by `KEYRAIL_JAVA` or `JAVA_HOME`, in the path, or in a usual place.
pub(crate) fn java() -> Result<PathBuf, String> {
    if let Some(found) = find_java() {
        return Ok(found);
    }
    install(&[JAVA])?;
    find_java().ok_or_else(|| {
        format!(
            "no Java {JAVA_AT_LEAST} or later found after installing {}; name one with KEYRAIL_JAVA=/path/to/bin/java",
            JAVA.debian
        )
    })
}

/// The Java compiler beside this Java runtime, or in the path.
pub(crate) fn javac(java: &Path) -> Result<PathBuf, String> {
    let find = || {
        // `/usr/bin/java` is a link to where the rest lies too.
        let java = std::fs::canonicalize(java).unwrap_or_else(|_| java.to_owned());
        let all = [java.with_file_name("javac"), PathBuf::from("javac")];
        all.into_iter().find(|javac| javac.to_str().is_some_and(|javac| ask(javac, &["-version"]).is_some()))
    };
    if let Some(found) = find() {
        return Ok(found);
    }
    install(&[JDK])?;
    find().ok_or_else(|| format!("no javac beside {} after installing {}", java.display(), JDK.debian))
}

/// Maven, which knows how to fetch a program with all it stands on.
pub(crate) fn maven() -> Result<(), String> {
    if ask("mvn", &["-v"]).is_some() {
        return Ok(());
    }
    install(&[Package { what: "Maven", debian: "maven", fedora: "maven", macos: "brew install maven" }])
}

/// Python with pip, for the tools that are shipped as wheels.
pub(crate) fn pip() -> Result<(), String> {
    if ask("python3", &["-m", "pip", "--version"]).is_some() {
        return Ok(());
    }
    install(&[Package {
        what: "Python's pip",
        debian: "python3 python3-pip",
        fedora: "python3-pip",
        macos: "brew install python",
    }])
}

/// What builds images, what runs them, and what makes a base of Debian's packages.
pub(crate) fn containers() -> Result<(), String> {
    if !is_root() || !may_contain() {
        return Err("containers need root and the right to mount (`unshare --mount true` as root)".to_owned());
    }
    let need = [("buildah", "Buildah"), ("runc", "runc"), ("debootstrap", "debootstrap")];
    let missing: Vec<_> = need
        .into_iter()
        .filter(|(name, _)| ask(name, &["--version"]).is_none())
        .map(|(name, what)| Package { what, debian: name, fedora: name, macos: "(only on Linux)" })
        .collect();
    install(&missing)
}

fn find_java() -> Option<PathBuf> {
    let named = std::env::var_os("KEYRAIL_JAVA").map(PathBuf::from);
    let home = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|folder| folder.join("java"));
    let usual = ["/usr/lib/jvm", "/opt/homebrew/opt/openjdk", "/Library/Java/JavaVirtualMachines"];
    let installed = usual.iter().flat_map(|folder| java_below(Path::new(folder)));
    let candidates = named.into_iter().chain(home).chain(in_path).chain(installed).filter(|p| p.is_file());
    candidates.into_iter().find(|path| match version_of(path) {
        Some(version) if version >= JAVA_AT_LEAST => true,
        Some(version) => {
            say(&format!("{} is Java {version}, too old for Kafka", path.display()));
            false
        }
        None => false,
    })
}

fn java_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.join("bin/java")];
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        found.push(entry.path().join("bin/java"));
        found.push(entry.path().join("Contents/Home/bin/java"));
    }
    found.sort();
    found
}

fn version_of(java: &Path) -> Option<u32> {
    java_version(&ask(java.to_str()?, &["-version"])?)
}

/// The major version in the words of `java -version`; Java 8 calls itself 1.8.
fn java_version(text: &str) -> Option<u32> {
    let version = text.split_once("version \"")?.1.split('"').next()?;
    let mut parts = version.split(['.', '-', '_']).map(str::parse::<u32>);
    match parts.next()?.ok()? {
        1 => parts.next()?.ok(),
        major => Some(major),
    }
}

fn header(library: &str, file: &str) -> bool {
    let usual = ["/usr/include", "/usr/local/include", "/opt/homebrew/include", "/opt/homebrew/opt/openssl@3/include"];
    ask("pkg-config", &["--exists", library]).is_some()
        || usual.iter().any(|folder| Path::new(folder).join(file).is_file())
}

#[cfg(test)]
mod tests {
    use super::java_version;

    #[test]
    fn java_s_version_is_read_from_what_it_says() {
        assert_eq!(java_version("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime"), Some(17));
        assert_eq!(java_version("java version \"1.8.0_412\""), Some(8));
        assert_eq!(java_version("openjdk version \"25-ea\" 2025-09-16"), Some(25));
        assert_eq!(java_version("no java here"), None);
    }
}
