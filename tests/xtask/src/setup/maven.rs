//! Libraries from Maven Central, with all that they stand on.

use super::system;
use crate::place::{make, read, remove, write};
use crate::run::quiet;
use crate::say::say;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const FETCH_LIMIT: Duration = Duration::from_secs(900);

/// A library by its group, name and version.
pub(super) type Artifact = (&'static str, &'static str, &'static str);

/// Fetches libraries into `home`/libs, unless all of them are there; `what` tells a person what they are.
pub(super) fn have(home: &Path, what: &str, artifacts: &[Artifact]) -> Result<(), String> {
    if is_whole(home) {
        return Ok(());
    }
    system::maven()?;
    say(&format!("fetching {what} through Maven"));
    remove(home)?;
    let libs = home.join("libs");
    let project = home.join("pom.xml");
    write(&project, &pom(artifacts))?;
    make(&libs)?;
    let mut maven = Command::new("mvn");
    maven
        .args(["--batch-mode", "--file"])
        .arg(&project)
        .args(["dependency:copy-dependencies", "-DincludeScope=runtime"]);
    maven.arg(format!("-DoutputDirectory={}", libs.display()));
    quiet("mvn", &mut maven, FETCH_LIMIT)?;
    let count = jars(&libs);
    for (_, name, version) in artifacts {
        let part = format!("{name}-{version}.jar");
        if !libs.join(&part).is_file() {
            return Err(format!("Maven succeeded, but {part} is not in {}", libs.display()));
        }
    }
    // IMPORTANT: last, because it says that all the rest is there.
    write(&home.join("complete"), &count.to_string())
}

fn is_whole(home: &Path) -> bool {
    let expected = read(&home.join("complete")).ok().and_then(|text| text.trim().parse().ok());
    expected.is_some_and(|count: usize| count > 0 && jars(&home.join("libs")) == count)
}

fn jars(libs: &Path) -> usize {
    let entries = std::fs::read_dir(libs).into_iter().flatten().flatten();
    entries.filter(|e| e.path().extension().is_some_and(|x| x == "jar")).count()
}

fn pom(artifacts: &[Artifact]) -> String {
    let mut all = String::new();
    for (group, name, version) in artifacts {
        all += &format!(
            "<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version></dependency>\n"
        );
    }
    format!(
        "<project>\n<modelVersion>4.0.0</modelVersion>\n<groupId>keyrail</groupId>\n<artifactId>fetched</artifactId>\n\
         <version>1</version>\n<packaging>pom</packaging>\n<dependencies>\n{all}</dependencies>\n</project>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::{is_whole, pom};
    use crate::place::{remove, write};

    #[test]
    fn a_project_asks_for_what_it_is_given() {
        let text = pom(&[("a.b", "c", "1.2"), ("d", "e-f", "3")]);
        let found: Vec<&str> = text.lines().filter(|line| line.starts_with("<dependency>")).collect();
        assert_eq!(found.len(), 2);
        assert!(found[0].contains("<groupId>a.b</groupId><artifactId>c</artifactId><version>1.2</version>"), "{text}");
    }

    #[test]
    fn a_folder_is_whole_when_it_says_so_and_no_jar_is_missing() {
        let home = std::env::temp_dir().join(format!("keyrail-xtask-maven-{}", std::process::id()));
        let lay = |name: &str, text: &str| write(&home.join(name), text);
        assert!(lay("libs/a.jar", "").is_ok() && lay("libs/b.jar", "").is_ok());
        assert!(!is_whole(&home), "it was left before its end");
        assert!(lay("complete", "2").is_ok() && is_whole(&home));
        assert!(lay("complete", "3").is_ok() && !is_whole(&home));
        assert!(remove(&home).is_ok() && !is_whole(&home));
    }
}
