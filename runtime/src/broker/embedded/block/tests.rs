#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use super::*;

type Header<'a> = (&'a [u8], Option<&'a [u8]>);

fn pack(records: &[(u64, Parts<'_>, &[Header<'_>])]) -> Packed {
    let mut packer = Packer::new();
    for (gap, parts, headers) in records {
        packer.push(*gap, parts, headers.iter().copied());
    }
    packer.finish()
}

fn unpack(bytes: &[u8], base: i64) -> Result<Vec<Record>, Damaged> {
    let mut unpacker = Unpacker::new(bytes, base)?;
    let (mut records, mut builder) = (Vec::new(), RecordBuilder::default());
    while let Some(entry) = unpacker.next()? {
        records.push(entry.record(TopicPartition { topic: 0, partition: 0 }, &mut builder));
    }
    Ok(records)
}

/// Chance without a library: the same on every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.next(most)).map(|_| self.next(256) as u8).collect()
    }

    fn maybe(&mut self, most: usize) -> Option<Vec<u8>> {
        if self.next(4) == 0 { None } else { Some(self.bytes(most)) }
    }
}

#[test]
fn records_come_out_as_they_went_in() {
    let mut chance = Chance(1);
    for _ in 0..300 {
        let mut packer = Packer::new();
        let mut expected = Vec::new();
        let base = chance.next(1000) as i64;
        let mut next = base;
        for _ in 0..chance.next(20) {
            let (key, value) = (chance.maybe(300), chance.maybe(20_000));
            let headers: Vec<_> = (0..chance.next(4)).map(|_| (chance.bytes(200), chance.maybe(200))).collect();
            let gap = chance.next(3) * chance.next(100_000);
            let timestamp_ms = chance.next(1 << 30) as i64 - (1 << 29);
            let parts = Parts { timestamp_ms, key: key.as_deref(), value: value.as_deref() };
            packer.push(gap as u64, &parts, headers.iter().map(|(n, v)| (n.as_slice(), v.as_deref())));
            next += gap as i64;
            expected.push((next, timestamp_ms, key, value, headers));
            next += 1;
        }
        let packed = packer.finish();
        assert_eq!(packed.records as usize, expected.len());
        assert_eq!(packed.newest_ms, expected.iter().map(|e| e.1).max().unwrap_or(i64::MIN));
        let records = unpack(&packed.bytes, base).unwrap();
        assert_eq!(records.len(), expected.len());
        for (record, (offset, timestamp_ms, key, value, headers)) in records.iter().zip(&expected) {
            assert_eq!((record.offset, record.timestamp_ms), (*offset, *timestamp_ms));
            assert_eq!((record.key(), record.value()), (key.as_deref(), value.as_deref()));
            let theirs: Vec<_> = headers.iter().map(|(n, v)| (n.as_slice(), v.as_deref())).collect();
            assert_eq!(record.headers().collect::<Vec<_>>(), theirs);
        }
    }
}

#[test]
fn an_entry_goes_into_another_block_as_it_is() {
    let headers: [Header<'_>; 2] = [(b"h", None), (b"h", Some(b"\xff"))];
    let parts = Parts { timestamp_ms: 5, key: Some(b"k"), value: None };
    let packed = pack(&[(3, parts, &headers)]);
    let mut unpacker = Unpacker::new(packed.bytes.as_slice(), 10).unwrap();
    let entry = unpacker.next().unwrap().unwrap();
    assert_eq!((entry.offset, entry.headers().collect::<Vec<_>>()), (13, headers.to_vec()));
    let mut again = Packer::new();
    again.push_entry(3, &entry);
    assert_eq!(again.finish(), packed);
}

#[test]
fn whatever_is_no_block_is_an_error_and_never_a_panic() {
    let mut chance = Chance(7);
    for _ in 0..20_000 {
        // As bytes of chance, and with a header and a checksum that are right, so that what follows is looked at.
        let mut bytes = chance.bytes(80);
        drop(unpack(&bytes, 0));
        if bytes.len() >= HEADER {
            bytes[0] = VERSION;
            bytes[2..6].copy_from_slice(&(chance.next(6) as u32).to_le_bytes());
            let crc = checksum(&bytes);
            bytes[CRC].copy_from_slice(&crc.to_le_bytes());
            let base = if chance.next(2) == 0 { 0 } else { i64::MAX - 1 };
            drop(unpack(&bytes, base));
        }
    }
}

#[test]
fn no_single_flip_and_no_cut_goes_unnoticed() {
    let headers: [Header<'_>; 1] = [(b"name", Some(b"value"))];
    let one = Parts { timestamp_ms: 1, key: Some(b"key"), value: Some(b"value") };
    let packed = pack(&[(0, one, &headers), (0, Parts { key: None, value: None, ..one }, &[])]);
    for at in 0..packed.bytes.len() {
        for bit in 0..8 {
            let mut bytes = packed.bytes.clone();
            bytes[at] ^= 1 << bit;
            // The second byte means nothing yet, but the checksum covers it.
            assert!(unpack(&bytes, 0).is_err(), "byte {at}, bit {bit}");
        }
        assert!(unpack(&packed.bytes[..at], 0).is_err(), "cut after {at} bytes");
    }
    let mut longer = packed.bytes.clone();
    longer.push(0);
    assert!(unpack(&longer, 0).is_err());
}

#[test]
fn numbers_have_one_length_limit() {
    for n in [0, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
        let mut bytes = Vec::new();
        number(&mut bytes, n);
        let mut rest = Rest(&bytes);
        assert_eq!((rest.number(), rest.0.len()), (Ok(n), 0));
    }
    assert!(Rest(&[0xff; 11]).number().is_err());
    assert!(Rest(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]).number().is_err());
    assert!(Rest(&[0x80]).number().is_err());
}
