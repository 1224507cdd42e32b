//! What [`keyrail::line`] has, and bytes that arguments give.

use super::WrongUse;

pub(super) use keyrail::line::{Line, Wrong, blob, from_base64, headers, parse, print, text, to_base64, told};

/// Bytes as an argument gives them: as text, or in base64.
pub(super) fn argument(written: &str, base64: bool) -> Result<Vec<u8>, WrongUse> {
    if !base64 {
        return Ok(written.as_bytes().to_vec());
    }
    from_base64(written).map_err(|why| WrongUse(format!("{written:?} is {why}")))
}
