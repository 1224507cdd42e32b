//! Who signed a handler: detached signatures in the format of minisign, `HANDLER.minisig` beside the handler.

use crate::pipeline::Unfit;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minisign_verify::{Error, PublicKey, Signature};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// How a signature's file ends, behind the handler's whole name.
pub const ENDING: &str = ".minisig";

/// minisign's own comments are no longer than 8 KiB.
const LARGEST: u64 = 16 << 10;
/// How a public key for Ed25519 begins.
const KEY_START: &str = "RW";
/// Where the id stands in keys and signatures, behind the name of the algorithm.
const ID: std::ops::Range<usize> = 2..10;

/// A key that signatures are verified with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    text: String,
    key: PublicKey,
}

impl Key {
    /// Reads one: the second line of what `minisign -G` writes to `minisign.pub`.
    ///
    /// # Errors
    /// It is none, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let key = PublicKey::from_base64(text).ok().filter(|_| text.starts_with(KEY_START));
        let key = key.ok_or("not a public key of minisign")?;
        Ok(Self { text: text.to_owned(), key })
    }

    /// It as it was read.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Whose handlers may run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trust {
    /// Who may sign. Without any, signatures are not looked at.
    pub keys: Vec<Key>,
    /// A handler without a signature is refused, too.
    pub required: bool,
}

/// A handler's signature, there or not.
#[must_use]
pub fn beside(handler: &Path) -> PathBuf {
    let mut name = handler.as_os_str().to_owned();
    name.push(ENDING);
    name.into()
}

impl Trust {
    /// Whether a handler whose file holds these bytes may run.
    ///
    /// # Errors
    /// It is not signed and must be, or its signature is not that of a trusted key for these bytes.
    pub fn verify(&self, handler: &Path, bytes: &[u8]) -> Result<(), Unfit> {
        if self.keys.is_empty() && !self.required {
            return Ok(());
        }
        let file = beside(handler);
        let shown = file.display();
        let unfit = |problem: String, cure: &str| Unfit { problem, cure: cure.to_owned() };
        let text = match read(&file) {
            Ok(text) => text,
            Err(why) if why.kind() == io::ErrorKind::NotFound && !self.required => return Ok(()),
            Err(why) if why.kind() == io::ErrorKind::NotFound => {
                let problem = format!("is not signed, and plugins.require-signature asks for it: there is no {shown}");
                return Err(unfit(problem, "sign it with `minisign -Sm FILE`, and put the .minisig beside it"));
            }
            Err(why) => {
                return Err(unfit(format!("its signature {shown} can't be read: {why}"), "put it there anew"));
            }
        };
        let damaged =
            || unfit(format!("{shown} is no signature of minisign, or only a part of one"), "put it there anew");
        let signature = Signature::decode(&text).map_err(|_| damaged())?;
        let mut own = false;
        for key in &self.keys {
            // Signatures of minisign before 0.10 are of the file itself instead of its hash, and as good.
            match key.key.verify(bytes, &signature, true) {
                Ok(()) => return Ok(()),
                Err(Error::UnexpectedKeyId) => {}
                Err(_) => own = true,
            }
        }
        if own {
            let problem = format!("is not what was signed: {shown}, by a trusted key, is of other bytes");
            return Err(unfit(problem, "put the file there that was signed and its own signature, or sign this one"));
        }
        let problem = match id(&text) {
            Some(id) => format!("is signed by the key {id} ({shown}), which is not trusted"),
            None => format!("is signed by a key that is not trusted ({shown})"),
        };
        Err(unfit(problem, "sign it with a key of plugins.trusted-keys, or add the public key of this one there"))
    }
}

fn read(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    // What is larger is cut here, and no signature then.
    File::open(file)?.take(LARGEST).read_to_string(&mut text)?;
    Ok(text)
}

/// The id of the key that signed, as minisign shows it.
fn id(signature: &str) -> Option<String> {
    let bytes = STANDARD.decode(signature.lines().nth(1)?).ok()?;
    let id = bytes.get(ID)?.iter().rev();
    Some(id.map(|byte| format!("{byte:02X}")).collect())
}

#[cfg(test)]
mod tests;
