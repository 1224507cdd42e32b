//! Which deployment an admin server belongs to, so that `keyrail check` beside it can tell that from a stranger's port.

use sha2::{Digest as _, Sha256};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// The header in which each answer names its deployment.
pub(super) const HEADER: &str = "keyrail-deployment";
/// How long somebody who may be no Keyrail is listened to.
const WAIT: Duration = Duration::from_secs(1);
/// An answer's headers are shorter.
const LONGEST: usize = 4096;

/// A `keyrail.toml` of one machine, whichever way its path is written. It does not tell the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment(String);

impl Deployment {
    /// The deployment that runs by this file.
    #[must_use]
    pub fn of(file: &Path) -> Self {
        let path = file.canonicalize().or_else(|_| std::path::absolute(file)).unwrap_or_else(|_| file.to_owned());
        let mut hash = Sha256::new();
        hash.update(path.as_os_str().as_encoded_bytes());
        // Another container may have the same path. Of the folder, since an editor that saves the file makes it anew.
        hash.update(path.parent().map_or([0; 16], place));
        let digest: [u8; 32] = hash.finalize().into();
        Self(digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the admin server of a process of this deployment listens there. Whatever else does, or nothing in time:
    /// `false`.
    #[must_use]
    pub fn answers_at(&self, listen: SocketAddr) -> bool {
        let head = ask(reachable(listen)).unwrap_or_default();
        let value = head.lines().skip(1).find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(HEADER).then_some(value.trim())
        });
        value == Some(self.as_str())
    }
}

/// Device and number of a folder.
#[cfg(unix)]
fn place(folder: &Path) -> [u8; 16] {
    use std::os::unix::fs::MetadataExt as _;
    let place = std::fs::metadata(folder).map_or((0, 0), |about| (about.dev(), about.ino()));
    (u128::from(place.0) << 64 | u128::from(place.1)).to_be_bytes()
}

#[cfg(not(unix))]
fn place(_: &Path) -> [u8; 16] {
    [0; 16]
}

/// Who listens on every address is asked on this machine's own.
#[must_use]
pub fn reachable(mut listen: SocketAddr) -> SocketAddr {
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => listen.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => listen.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    listen
}

/// The status line and headers of an answer, as far as they come in time.
fn ask(address: SocketAddr) -> std::io::Result<String> {
    let until = Instant::now() + WAIT;
    let mut stream = TcpStream::connect_timeout(&address, WAIT)?;
    stream.set_write_timeout(Some(WAIT))?;
    stream.write_all(format!("GET /livez HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut part = [0; 512];
    while answer.len() < LONGEST && !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part)? {
            0 => break,
            read => answer.extend_from_slice(&part[..read]),
        }
    }
    let text = String::from_utf8_lossy(&answer);
    // A page may say anything, below the headers.
    Ok(text.split_once("\r\n\r\n").map(|(head, _)| head.to_owned()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use std::net::TcpListener;

    /// Says this to whoever asks, once, and keeps the connection open for a while.
    fn stranger(says: String) -> (SocketAddr, std::thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(says.as_bytes()).unwrap();
            // Until the other end is closed.
            while stream.read(&mut [0; 512]).is_ok_and(|read| read > 0) {}
        });
        (address, thread)
    }

    #[test]
    fn a_file_is_the_same_by_every_path_and_another_one_is_not() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let one = Deployment::of(&here.join("Cargo.toml"));
        assert_eq!(one, Deployment::of(&here.join("src/../Cargo.toml")));
        assert_ne!(one, Deployment::of(&here.join("README.md")));
        assert!(one.as_str().len() == 32 && !one.as_str().contains('/'), "{one:?}");
        // One that is gone has a name all the same.
        assert_eq!(Deployment::of(Path::new("gone.toml")), Deployment::of(Path::new("./gone.toml")));
    }

    #[test]
    fn strangers_are_told_from_ones_own() {
        let own = Deployment::of(Path::new("keyrail.toml"));
        let answer = |more: &str| format!("HTTP/1.1 200 OK\r\nx: y\r\n{more}\r\n\r\nbody");
        let named = answer(&format!("Keyrail-Deployment: {}", own.as_str()));
        let began = Instant::now();
        for (says, expected) in [
            (named, true),
            (answer(&format!("{HEADER}: 00")), false),
            (answer(""), false),
            // In the page, and not in the headers.
            (format!("HTTP/1.1 200 OK\r\n\r\n{HEADER}: {}\r\n\r\n", own.as_str()), false),
            // Headers without an end, and no word at all.
            ("x".repeat(2 * LONGEST), false),
            (String::new(), false),
        ] {
            let (address, thread) = stranger(says.clone());
            assert_eq!(own.answers_at(address), expected, "{says}");
            thread.join().unwrap();
        }
        assert!(began.elapsed() < 5 * WAIT);
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(!own.answers_at(free), "nobody listens");
        assert_eq!(reachable("0.0.0.0:80".parse().unwrap()), "127.0.0.1:80".parse().unwrap());
        assert_eq!(reachable("[::]:80".parse().unwrap()), "[::1]:80".parse().unwrap());
    }
}
