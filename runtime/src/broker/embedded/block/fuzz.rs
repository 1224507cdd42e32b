//! Blocks as a damaged folder or a stranger at the socket may give them.

use super::{CRC, Entry, HEADER, Packer, Parts, Unpacker, checksum};
use crate::record::{Record, RecordBuilder, TopicPartition};

const AT: TopicPartition = TopicPartition { topic: 0, partition: 0 };

/// One byte that says whether the check sum is put right, the base offset, and the block.
pub(crate) fn block(input: &[u8]) {
    let Some((mend, rest)) = input.split_first() else { return };
    let Some((base, bytes)) = rest.split_first_chunk::<8>() else { return };
    // No partition has an offset below 0.
    let base = i64::from_le_bytes(*base) & i64::MAX;
    let mut bytes = bytes.to_vec();
    if mend & 1 == 1 && bytes.len() >= HEADER {
        let crc = checksum(&bytes);
        bytes[CRC].copy_from_slice(&crc.to_le_bytes());
    }
    let Some(records) = unpacked(&bytes, base) else { return };
    let (mut packer, mut next) = (Packer::new(), base);
    let Ok(mut unpacker) = Unpacker::new(&*bytes, base) else { unreachable!("it was read before") };
    while let Ok(Some(entry)) = unpacker.next_kept() {
        packer.push_entry(gap(&entry, next), &entry);
        next = entry.offset + 1;
    }
    assert_eq!(unpacked(&packer.finish().bytes, base), Some(records), "packed again it is another");
}

fn gap(entry: &Entry<'_>, next: i64) -> u64 {
    assert!(entry.offset >= next, "{} comes before {next}", entry.offset);
    entry.offset.abs_diff(next)
}

fn unpacked(bytes: &[u8], base: i64) -> Option<Vec<Record>> {
    let mut unpacker = Unpacker::new(bytes, base).ok()?;
    let (mut records, mut builder) = (Vec::new(), RecordBuilder::default());
    while let Some(entry) = unpacker.next().ok()? {
        records.push(entry.record(AT, &mut builder));
    }
    Some(records)
}

/// Records made of the input: what is packed is unpacked.
pub(crate) fn block_write(input: &[u8]) {
    let (mut packer, mut records, mut next) = (Packer::new(), Vec::new(), 0_i64);
    let mut pieces = input.split(|byte| *byte == 0xff);
    while let (Some(head), false) = (pieces.next(), packer.is_full()) {
        let of = |n: usize| head.get(n).copied().unwrap_or(0);
        let mut piece = |there: bool| if there { pieces.next() } else { None };
        let (key, value) = (piece(of(0) & 1 == 1), piece(of(0) & 2 == 2));
        let headers: Vec<_> =
            (0..of(1) % 4).map(|n| (piece(true).unwrap_or_default(), piece(of(2) >> n & 1 == 1))).collect();
        let (gap, timestamp_ms) = (u64::from(of(3)) << (of(4) % 50), i64::from(of(5)) - 1);
        let Some(offset) = next.checked_add_unsigned(gap).filter(|offset| *offset < i64::MAX) else { break };
        packer.push(gap, &Parts { timestamp_ms, key, value }, headers.iter().copied());
        let mut builder = RecordBuilder::new(key, value);
        headers.iter().for_each(|(name, value)| builder.header(name, *value));
        records.push(builder.build(AT, offset, timestamp_ms));
        next = offset + 1;
    }
    let packed = packer.finish();
    assert_eq!(packed.newest_ms, records.iter().map(|record| record.timestamp_ms).max().unwrap_or(i64::MIN));
    assert_eq!(unpacked(&packed.bytes, 0), Some(records));
}

pub(crate) fn block_seeds() -> Vec<Vec<u8>> {
    let mut packer = Packer::new();
    let mut seeds = Vec::new();
    for n in 0..4_u8 {
        let key = (n > 0).then_some(&b"key"[..]);
        let headers = [(&b"name"[..], Some(&b"value"[..])), (b"", None)];
        let parts = Parts { timestamp_ms: i64::from(n) << 40, key, value: (n != 2).then_some(b"value") };
        packer.push(u64::from(n) * 100, &parts, headers.iter().take(n.into()).copied().collect::<Vec<_>>().into_iter());
        seeds.push([&[n & 1][..], &7_u64.to_le_bytes(), &packer.clone().finish().bytes].concat());
    }
    seeds
}

pub(crate) fn block_write_seeds() -> Vec<Vec<u8>> {
    [
        &b""[..],
        b"\x03\0\0\0\0\x05\xffkey\xffvalue",
        b"\x03\x02\x01\x01\x28\x05\xffk\xffv\xffname\xffvalue\xffname\xff\x02\0\0\0\0\x09\xfflast",
        b"\0\0\0\0\0\0\xff\x01\x01\0\0\0\0\xff\xff\xff\x03",
    ]
    .map(<[u8]>::to_vec)
    .into()
}
