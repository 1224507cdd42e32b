//! Fields with their lengths, as internal records have them.

use alloc::vec::Vec;

/// It ends too early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Torn;

/// Writes a field: its length, -1 where there is none, and the bytes.
pub(crate) fn put(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    // No record has more than 2 GiB.
    let length = bytes.map_or(-1, |bytes| i32::try_from(bytes.len()).unwrap_or(i32::MAX));
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes.unwrap_or_default());
}

/// A header's name and value.
pub type Header<'a> = (&'a [u8], Option<&'a [u8]>);

/// Writes headers: how many they are, and each name and value as a field.
pub(crate) fn put_headers(out: &mut Vec<u8>, headers: &[Header<'_>]) {
    out.extend_from_slice(&u32::try_from(headers.len()).unwrap_or(u32::MAX).to_le_bytes());
    for (name, value) in headers {
        put(out, Some(name));
        put(out, *value);
    }
}

/// What is left of a record.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], Torn> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Torn)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Torn> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Torn)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn field(&mut self) -> Result<Option<&'a [u8]>, Torn> {
        match i32::from_le_bytes(self.array()?) {
            -1 => Ok(None),
            length => self.take(usize::try_from(length).map_err(|_| Torn)?).map(Some),
        }
    }
    /// Headers as [`put_headers`] writes them.
    pub(crate) fn headers(&mut self) -> Result<Vec<Header<'a>>, Torn> {
        let count = u32::from_le_bytes(self.array()?);
        // Each has at least two lengths: more can't be there, whatever the count says.
        let mut headers = Vec::with_capacity((count as usize).min(self.0.len() / 8));
        for _ in 0..count {
            let name = self.field()?.ok_or(Torn)?;
            headers.push((name, self.field()?));
        }
        Ok(headers)
    }
}
