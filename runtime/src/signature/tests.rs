#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use std::fs;

const OURS: &str = "RWTmQBp4AWocVsISO4epq6Gn0U/Cpw1aAuRwe6cBApiYeasWgjITqEdV";
const THEIRS: &str = "RWQAp5kIX+I9W34K+YJu08S1XpfcLCoHDuyeNDM5xr3GGyFsA7pergD9";
/// What all of them sign.
const SIGNED: &[u8] = b"\0asm of a test";
/// By OURS, of the hash and of the file itself, and by THEIRS.
const BY_HASH: &str = include_str!("ours.minisig");
const LEGACY: &str = include_str!("legacy.minisig");
const BY_THEM: &str = include_str!("theirs.minisig");

fn trust(keys: &[&str], required: bool) -> Trust {
    Trust { keys: keys.iter().map(|key| Key::parse(key).unwrap()).collect(), required }
}

/// What is said of a file with this signature; empty where it may run.
fn told(test: &str, trust: &Trust, bytes: &[u8], signature: Option<&str>) -> String {
    let folder = std::env::temp_dir().join(format!("keyrail-signature-{test}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let handler = folder.join("p.wasm");
    assert_eq!(beside(&handler), folder.join("p.wasm.minisig"));
    if let Some(signature) = signature {
        fs::write(beside(&handler), signature).unwrap();
    }
    let told = trust.verify(&handler, bytes).map_or_else(|why| why.to_string(), |()| String::new());
    fs::remove_dir_all(&folder).unwrap();
    told.replace(&format!("{}/", folder.display()), "")
}

#[test]
fn a_file_with_the_signature_of_a_trusted_key_may_run_by_hash_or_as_it_is() {
    for keys in [&[OURS][..], &[THEIRS, OURS]] {
        for signature in [BY_HASH, LEGACY] {
            assert_eq!(told("fits", &trust(keys, true), SIGNED, Some(signature)), "");
        }
    }
    // Other line ends say the same.
    assert_eq!(told("fits", &trust(&[OURS], true), SIGNED, Some(&BY_HASH.replace('\n', "\r\n"))), "");
}

#[test]
fn what_is_not_signed_runs_unless_it_must_be_and_what_is_not_asked_for_is_not_looked_at() {
    assert_eq!(told("none", &trust(&[OURS], false), SIGNED, None), "");
    assert_eq!(told("none", &Trust::default(), SIGNED, Some("no signature")), "");
    assert_eq!(
        told("none", &trust(&[OURS], true), SIGNED, None),
        "is not signed, and plugins.require-signature asks for it: there is no p.wasm.minisig: sign it with \
         `minisign -Sm FILE`, and put the .minisig beside it"
    );
}

#[test]
fn a_signature_that_is_wrong_refuses_the_file_whether_it_is_required_or_not() {
    for required in [false, true] {
        let trust = trust(&[OURS], required);
        let told = |bytes: &[u8], signature: &str| told("wrong", &trust, bytes, Some(signature));
        for signature in [BY_HASH, LEGACY] {
            let other = told(b"\0asm of a tesT", signature);
            assert!(
                other.starts_with("is not what was signed: p.wasm.minisig, by a trusted key, is of other"),
                "{other}"
            );
        }
        let theirs = told(SIGNED, BY_THEM);
        assert!(theirs.starts_with("is signed by the key 5B3DE25F0899A700 (p.wasm.minisig), which is not"), "{theirs}");
        // One that says it is by our key, and one whose trusted comment is another.
        let line = |text: &str, n: usize| text.lines().nth(n).unwrap().to_owned();
        let forged = STANDARD.decode(line(BY_THEM, 1)).unwrap();
        let ours = STANDARD.decode(line(BY_HASH, 1)).unwrap();
        let forged = [&ours[..10], &forged[10..]].concat();
        for changed in [
            BY_THEM.replace(&line(BY_THEM, 1), &STANDARD.encode(forged)),
            BY_HASH.replace("file:p.wasm", "file:q.wasm"),
            BY_HASH.replace(&line(BY_HASH, 3), &line(LEGACY, 3)),
        ] {
            let told = told(SIGNED, &changed);
            assert!(told.starts_with("is not what was signed"), "{told}");
        }
    }
}

#[test]
fn no_part_of_a_signature_and_nothing_that_is_none_passes_or_panics() {
    let trust = trust(&[OURS], false);
    for cut in 0..BY_HASH.len() - 1 {
        let told = told("cut", &trust, SIGNED, Some(&BY_HASH[..cut]));
        assert!(told.contains("no signature of minisign, or only a part of one"), "{cut}: {told}");
    }
    for text in ["", "\n\n\n\n", "untrusted comment: x\n====\ntrusted comment: y\n====\n", &"x".repeat(100_000)] {
        assert!(told("cut", &trust, SIGNED, Some(text)).contains("no signature of minisign"));
    }
    let other = BY_HASH.replace("\nRU", "\nQQ");
    assert!(told("cut", &trust, SIGNED, Some(&other)).contains("no signature of minisign"));
    let folder = std::env::temp_dir().join(format!("keyrail-signature-folder-{}", std::process::id()));
    fs::create_dir_all(folder.join("p.wasm.minisig")).unwrap();
    let why = trust.verify(&folder.join("p.wasm"), SIGNED).unwrap_err().to_string();
    assert!(why.contains("can't be read"), "{why}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn keys_are_those_of_minisign_and_nothing_else() {
    assert_eq!(Key::parse(OURS).unwrap().as_str(), OURS);
    let cut = &OURS[..OURS.len() - 1];
    let secret = format!("RWRTY0Iy{}", "A".repeat(204));
    for none in ["", "RW", cut, &format!("{OURS}="), &OURS.replace("RW", "QQ"), &OURS.replace("RW", "RU"), &secret] {
        assert_eq!(Key::parse(none), Err("not a public key of minisign".to_owned()), "{none}");
    }
}
