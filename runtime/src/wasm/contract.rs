//! The contract as types: what `handler.wit` says, in Rust.
//!
//! The export's types are generated. Those of the imports are written by hand, because they are read in place: a
//! string is compared and a value's size checked where they lie in the guest's memory, before anything is copied.

use super::call::Ctx;
use wasmtime::component::{ComponentType, Lift, Linker, Lower, WasmList, WasmStr};

/// The package that names the contract.
pub(super) const CONTRACT_PACKAGE: &str = "keyrail:handler";
/// The contract's version. Handlers built against the same 0.x load.
pub const CONTRACT_VERSION: &str = "0.1.0";
/// The interface that a handler exports.
pub(super) const EXPORT: &str = "keyrail:handler/guest@0.1.0";
/// The contract's text.
pub(super) const CONTRACT_WIT: &str = include_str!("../../../sdk/wit/handler.wit");

/// Types and calls of the export, generated from the contract.
mod generated {
    #![allow(missing_docs, unreachable_pub, reason = "generated; the contract documents it")]
    wasmtime::component::bindgen!({
        path: "../sdk/wit",
        // `anchor` is never linked: the generator gets types wrong that no function uses.
        inline: "package keyrail:host;
            interface anchors {
                use keyrail:handler/types@0.1.0.{header, error};
                anchor: func(header: header) -> result<_, error>;
            }
            world exports { import anchors; export keyrail:handler/guest@0.1.0; }",
        world: "keyrail:host/exports",
        ownership: Borrowing { duplicate_if_necessary: false },
    });
}

pub(super) use generated::exports::keyrail::handler::guest::{Guest, GuestIndices};
pub(super) use generated::keyrail::handler::types::{
    Failure as WireFailure, Message, Outcome as WireOutcome, Setup as WireSetup, Source,
};

/// Splits `keyrail:handler/NAME@VERSION` into name and version; `None` for what is of another package.
pub(super) fn interface(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(CONTRACT_PACKAGE)?.strip_prefix('/')?.split_once('@')
}

/// Whether a file built against that version of the contract fits this host: below 1.0, the same minor version.
pub(super) fn fits(version: &str) -> bool {
    let minor = CONTRACT_VERSION.rsplit_once('.').map_or(CONTRACT_VERSION, |(minor, _)| minor);
    match version.strip_prefix(minor) {
        Some("") => true,
        Some(patch) => patch.strip_prefix('.').is_some_and(|patch| {
            let leading_zero = patch.starts_with('0') && patch != "0";
            patch.parse::<u16>().is_ok() && patch.bytes().all(|b| b.is_ascii_digit()) && !leading_zero
        }),
        None => false,
    }
}

#[derive(ComponentType, Lower)]
#[component(record)]
pub(super) struct WireHeader {
    pub(super) name: String,
    pub(super) value: Option<Vec<u8>>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct WireHeaderIn {
    pub(super) name: WasmStr,
    pub(super) value: Option<WasmList<u8>>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct WireOutput {
    pub(super) to: WasmStr,
    pub(super) key: Option<WasmList<u8>>,
    pub(super) value: Option<WasmList<u8>>,
    pub(super) headers: Vec<WireHeaderIn>,
    #[component(name = "forward-headers")]
    pub(super) forward_headers: bool,
    #[component(name = "timestamp-ms")]
    pub(super) timestamp_ms: Option<i64>,
    #[component(name = "delay-ms")]
    pub(super) delay_ms: Option<u64>,
}

/// Why a call that stages or reads failed.
#[derive(ComponentType, Lower, Debug, PartialEq)]
#[component(variant)]
pub(super) enum WireError {
    #[component(name = "no-key")]
    #[allow(dead_code, reason = "state and timers answer it once they are there")]
    NoKey,
    #[component(name = "unknown-output")]
    UnknownOutput,
    #[component(name = "too-large")]
    #[allow(dead_code, reason = "state answers it once it is there")]
    TooLarge,
    #[component(name = "over-quota")]
    OverQuota,
    #[component(name = "other")]
    Other(String),
}

#[derive(ComponentType, Lift, Lower, Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
#[component(enum)]
#[repr(u8)]
pub(super) enum WireLevel {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
    #[component(name = "critical")]
    #[allow(dead_code, reason = "only guests make it")]
    Critical,
}

#[derive(ComponentType, Lift, Debug, Clone, Copy, PartialEq, Eq)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code, reason = "made by lifting alone")]
pub(super) enum WireKind {
    #[component(name = "counter")]
    Counter,
    #[component(name = "gauge")]
    Gauge,
    #[component(name = "histogram")]
    Histogram,
}

/// A list of pairs of strings, as `log` and `metrics` take them.
pub(super) type WirePairs = WasmList<(WasmStr, WasmStr)>;

/// Everything that a handler may import.
pub(super) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<Ctx>> {
    let mut linker = Linker::new(engine);
    // Types only, yet components import it by name.
    linker.instance("keyrail:handler/types@0.1.0")?;
    super::imports::link(&mut linker)?;
    super::logging::link(&mut linker)?;
    super::metrics::link(&mut linker)?;
    super::http::link(&mut linker)?;
    super::wasi::preview1::link(&mut linker)?;
    Ok(linker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_constants_say_what_the_file_says() {
        assert!(CONTRACT_WIT.contains(&format!("package {CONTRACT_PACKAGE}@{CONTRACT_VERSION};")));
        assert_eq!(EXPORT, format!("{CONTRACT_PACKAGE}/guest@{CONTRACT_VERSION}"));
    }

    #[test]
    fn versions_of_the_same_minor_fit() {
        for (version, fit) in [
            ("0.1.0", true),
            ("0.1.9", true),
            ("0.1", true),
            ("0.2.0", false),
            ("1.0.0", false),
            ("0.10.0", false),
            ("0.1.0-rc1", false),
            ("0.1.x", false),
            ("0.1.+1", false),
            ("0.1.01", false),
            ("0.1.", false),
            ("", false),
        ] {
            assert_eq!(fits(version), fit, "{version}");
        }
        assert_eq!(interface("keyrail:handler/emit@0.1.0"), Some(("emit", "0.1.0")));
        assert_eq!(interface("keyrail:handler-x/emit@0.1.0"), None);
        assert_eq!(interface("wasi:io/poll@0.2.0"), None);
    }
}
