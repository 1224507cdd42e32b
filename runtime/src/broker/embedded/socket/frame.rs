//! Frames: `head length u32 | body length u32 | head | body`, little-endian.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, Read, Write};

/// A head that is larger is no question of ours.
const HEAD: u32 = 4 << 20;
/// The largest record and its headers fit twice.
const BODY: u32 = 80 << 20;

fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

pub(super) fn write(to: &mut impl Write, head: &impl Serialize, body: &[u8]) -> io::Result<()> {
    let head = serde_json::to_vec(head).map_err(|e| invalid(e.to_string()))?;
    let length = |bytes: &[u8], most: u32| {
        let fits = u32::try_from(bytes.len()).ok().filter(|n| *n <= most);
        fits.ok_or_else(|| invalid(format!("{} bytes are too many for one frame", bytes.len())))
    };
    let mut frame = Vec::with_capacity(8 + head.len());
    frame.extend_from_slice(&length(&head, HEAD)?.to_le_bytes());
    frame.extend_from_slice(&length(body, BODY)?.to_le_bytes());
    frame.extend_from_slice(&head);
    to.write_all(&frame)?;
    to.write_all(body)?;
    to.flush()
}

/// `None`: the other end closed the connection between two frames.
pub(super) fn read<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<(T, Vec<u8>)>> {
    let mut lengths = [0; 8];
    let first = loop {
        match from.read(&mut lengths) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    if first == 0 {
        return Ok(None);
    }
    from.read_exact(&mut lengths[first..])?;
    let [a, b, c, d, e, f, g, h] = lengths;
    let (head, body) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
    if head > HEAD || body > BODY {
        return Err(invalid(format!("a frame of {head} and {body} bytes: it comes from another program")));
    }
    let head: T = serde_json::from_slice(&bytes(from, head)?).map_err(|e| invalid(format!("a frame's head: {e}")))?;
    Ok(Some((head, bytes(from, body)?)))
}

/// Grows with what comes, not with what was promised.
fn bytes(from: &mut impl Read, length: u32) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity((length as usize).min(1 << 20));
    from.take(u64::from(length)).read_to_end(&mut bytes)?;
    if bytes.len() == length as usize { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_out_as_it_went_in_and_what_is_none_is_an_error() {
        let mut wire = Vec::new();
        write(&mut wire, &("topics", 7), b"body").unwrap();
        write(&mut wire, &("x", 0), b"").unwrap();
        let from = &mut wire.as_slice();
        assert_eq!(read::<(String, i32)>(from).unwrap(), Some((("topics".to_owned(), 7), b"body".to_vec())));
        assert_eq!(read::<(String, i32)>(from).unwrap(), Some((("x".to_owned(), 0), Vec::new())));
        assert_eq!(read::<(String, i32)>(from).unwrap(), None);
        for cut in 1..wire.len() - 1 {
            let mut from = &wire[..cut];
            let whole =
                std::iter::from_fn(|| read::<(String, i32)>(&mut from).transpose()).collect::<io::Result<Vec<_>>>();
            assert_eq!(whole.is_ok(), cut == 8 + 12 + 4, "cut after {cut} bytes");
        }
        assert_eq!(read::<String>(&mut &b"GET / HTTP/1.1\r\n\r\n"[..]).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
