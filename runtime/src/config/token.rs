//! `admin.token` and `admin.token-file`: who may change what runs.

use super::files::{NoText, read_text};
use super::host::starting;
use super::reader::Reader;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::path::{Path, PathBuf};

/// Shorter ones can be guessed.
const SHORTEST: usize = 16;
/// A file that is longer holds something else. Of a request's headers it is a part.
const LARGEST: u64 = 4096;

/// Where the token comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum Token {
    /// It stands in keyrail.toml, or in a variable that is named there.
    Given(Secret),
    /// In this file, which is read by whoever needs it.
    File(PathBuf),
}

impl Token {
    /// The token itself.
    ///
    /// # Errors
    /// Its file can't be read or holds no token, in words with the cure.
    pub fn read(&self) -> Result<Secret, String> {
        let path = match self {
            Self::Given(secret) => return Ok(secret.clone()),
            Self::File(path) => path,
        };
        let told = |why: String| format!("[admin] token-file = {:?}: {why}", path.display().to_string());
        let text = read_text(path, LARGEST).map_err(|why| match why {
            NoText::Unread(error) => {
                told(format!("it can't be read: {error}; put a token there, or name another file"))
            }
            NoText::TooLarge => {
                told(format!("it is larger than {LARGEST} bytes; put the token there, and nothing else"))
            }
            NoText::Utf8 { .. } => told("it is no text; put the token there, and nothing else".to_owned()),
        })?;
        let token = text.trim_end_matches(['\n', '\r']);
        Secret::new(token).map_err(|(problem, cure)| told(format!("what is in it is {problem}; {cure}")))
    }
}

/// A token, which is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// # Errors
    /// It is none: what is wrong, and the cure. It is not repeated.
    fn new(text: &str) -> Result<Self, (&'static str, &'static str)> {
        const CURE: &str = "write at least 16 letters, digits and signs, as `openssl rand -hex 32` prints them";
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(("not a token: it has spaces, or signs beyond ASCII", CURE));
        }
        if text.len() < SHORTEST {
            return Err(("too short for a token", CURE));
        }
        if text.len() as u64 > LARGEST {
            return Err(("too long for a token", "write at most 4096 of them"));
        }
        Ok(Self(text.to_owned()))
    }

    /// Whether this is it. How long that takes tells nothing of where they differ.
    #[must_use]
    pub fn is(&self, given: &[u8]) -> bool {
        let (own, other) = (Sha256::digest(self.0.as_bytes()), Sha256::digest(given));
        let differ = own.iter().zip(other).fold(0, |differ, (a, b)| differ | (a ^ b));
        std::hint::black_box(differ) == 0
    }

    /// As it is sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("***"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

pub(super) fn read(reader: &mut Reader<'_, '_>, dir: &Path) -> Option<Token> {
    let (given, file) = (reader.text("admin.token", "${NAME}"), reader.text("admin.token-file", "admin-token"));
    if reader.has("admin.token") && reader.has("admin.token-file") {
        reader.fault("admin.token-file", "there is a token beside it", "keep token or token-file");
    }
    let given = given.map(|text| Secret::new(&text.text));
    if let Some(Err((problem, cure))) = given {
        // Not repeated: it is a secret.
        reader.fault("admin.token", problem, cure);
    }
    match file {
        Some(file) => Some(Token::File(starting(&file, dir))),
        None => given?.ok().map(Token::Given),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_file_holds_one_token_and_nothing_else() {
        let path = std::env::temp_dir().join(format!("keyrail-token-{}", std::process::id()));
        let token = Token::File(path.clone());
        assert!(token.read().unwrap_err().contains("it can't be read: "));
        for (text, wrong) in [
            ("0123456789abcdef\n", ""),
            ("0123456789abcdef\r\n", ""),
            ("0123456789abcde\n", "too short"),
            ("", "too short"),
            ("0123456789abcdef 0123456789abcdef", "has spaces"),
            ("0123456789abcdef\n0123456789abcdef\n", "has spaces"),
            ("0123456789abcdeü0123456789", "beyond ASCII"),
        ] {
            std::fs::write(&path, text).unwrap();
            match token.read() {
                Ok(secret) => assert!(wrong.is_empty() && secret.as_str() == "0123456789abcdef", "{text:?}"),
                Err(why) => {
                    assert!(!wrong.is_empty() && why.contains(wrong), "{text:?}: {why}");
                    assert!(!why.contains("0123456789"), "it is not repeated: {why}");
                }
            }
        }
        std::fs::write(&path, "x".repeat(5000)).unwrap();
        assert!(token.read().unwrap_err().contains("larger than 4096 bytes"));
        std::fs::write(&path, b"\xff0123456789abcdef").unwrap();
        assert!(token.read().unwrap_err().contains("no text"));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_token_is_compared_whole_and_never_shown() {
        let secret = Secret::new("0123456789abcdef").unwrap();
        assert!(secret.is(b"0123456789abcdef"));
        for other in [&b""[..], b"0123456789abcde", b"0123456789abcdef0", b"0123456789abcdeF"] {
            assert!(!secret.is(other));
        }
        assert_eq!(format!("{secret:?} {:?}", Token::Given(secret.clone())), "*** ***");
    }
}
