//! WASI with nothing behind it, for languages that can't do without.
//!
//! What is written to the standard streams becomes lines of the log, the clock is the call's time, chance follows from the
//! call's first message. There are no files, no sockets, no environment, and nothing waits: a sleep moves the handler's
//! clock on. Only requests, which a manifest may grant, reach outside ([`http`]), and a handler waits for their answers ([`wait`]). Preview 1 comes in through an adapter ([`preview1`]), 0.2 is linked by the names of a component's imports
//! ([`preview2`]).

mod console;
mod http;
pub(super) mod preview1;
mod preview2;
mod streams;
mod wait;

pub(super) use console::{Console, Stream};
pub(super) use preview2::link;

use super::call::{Call, Ctx, Fnv, GOLDEN, mix, seeded, write_id};
use super::message::Setup;
use wasmtime::{Result, StoreContextMut};

/// The only version of WASI's interfaces that is given, whatever its last number.
const VERSION: &str = "0.2";
/// WASI's own packages. What else calls itself `wasi` is a proposal.
const PACKAGES: [&str; 7] = ["cli", "clocks", "filesystem", "http", "io", "random", "sockets"];
/// The longest that one sleep moves a clock on, in nanoseconds: 36 years.
const LONGEST_SLEEP_NS: u64 = 1 << 60;
/// A host call that writes counts once more for each of these.
const WRITE_BYTES: usize = 16 << 10;
/// Sets these numbers apart from those of `context.random`.
const SALT: u64 = 0x7761_7369_7072_6e67;

/// `PACKAGE/INTERFACE` of `wasi:PACKAGE/INTERFACE@0.2.x`; `None` for what is not given.
pub(super) fn interface(name: &str) -> Option<&str> {
    let (interface, version) = name.strip_prefix("wasi:")?.split_once('@')?;
    let patch = version.strip_prefix(VERSION)?.strip_prefix('.')?;
    let given = !patch.is_empty() && patch.bytes().all(|b| b.is_ascii_digit());
    let (package, _) = interface.split_once('/')?;
    (given && PACKAGES.contains(&package)).then_some(interface)
}

/// Clocks and chance of an instance, as WASI 0.2 shows them.
#[derive(Debug, Default)]
pub(super) struct World {
    /// Nanoseconds since the Unix epoch. Sleeping moves it on.
    wall_ns: u64,
    /// The same, and never back.
    steady_ns: u64,
    /// What the next random number follows from, once one was asked for in this call.
    chance: Option<u64>,
    /// What each of the guest's pollables stands for, by its number.
    pollables: Vec<Option<wait::Wait>>,
    /// What its handles of `wasi:http` stand for.
    http: http::Table,
}

impl World {
    pub(super) fn begin(&mut self, now_ms: i64) {
        self.wall_ns = u64::try_from(now_ms).unwrap_or(0).saturating_mul(1_000_000);
        self.steady_ns = self.steady_ns.max(self.wall_ns);
        self.chance = None;
    }

    /// The call is over.
    pub(super) fn end(&mut self) {
        self.http.end();
    }

    /// Lets time pass up to that moment of the steady clock.
    fn sleep_until(&mut self, due_ns: u64) {
        let slept = due_ns.saturating_sub(self.steady_ns).min(LONGEST_SLEEP_NS);
        self.steady_ns = self.steady_ns.saturating_add(slept);
        self.wall_ns = self.wall_ns.saturating_add(slept);
    }
}

type Store<'a> = StoreContextMut<'a, Ctx>;

/// Counts the call into the host and makes it.
fn call<R>(mut store: Store<'_>, make: impl FnOnce(&mut Ctx) -> Result<R>) -> Result<(R,)> {
    let ctx = store.data_mut();
    ctx.call.charge()?;
    Ok((make(ctx)?,))
}

/// What chance follows from in this call: its first message. Outside of a batch it is the same for all.
pub(super) fn seed(call: &Call, setup: &Setup) -> Result<u64> {
    let Some(first) = call.batch.first() else { return Ok(0) };
    let mut hash = Fnv::new();
    write_id(&mut hash, first, setup)?;
    Ok(seeded(hash.0 ^ SALT, first.attempt))
}

/// The next random number of the call.
fn random(ctx: &mut Ctx) -> Result<u64> {
    let state = match ctx.wasi.chance {
        Some(state) => state,
        None => seed(&ctx.call, &ctx.setup)?,
    };
    let state = state.wrapping_add(GOLDEN);
    ctx.wasi.chance = Some(state);
    Ok(mix(state))
}

/// The handler wants to end. It is one of many that the host runs, so the call ends, and the instance.
fn exit(store: &mut Store<'_>, code: u32) -> wasmtime::Error {
    match store.data_mut().call.charge() {
        Ok(()) => wasmtime::format_err!("the handler ended itself with exit code {code}"),
        Err(e) => e,
    }
}

/// Bytes for a standard stream.
fn write(store: &mut Store<'_>, stream: Stream, bytes: &wasmtime::component::WasmList<u8>) -> Result<()> {
    // Copied piece by piece: the store lends the guest's bytes, and the lines belong to it as well.
    let mut piece = Vec::with_capacity(bytes.len().min(WRITE_BYTES));
    let mut from = 0;
    loop {
        store.data_mut().call.charge()?;
        let all = bytes.as_le_slice(&*store);
        let to = (from + WRITE_BYTES).min(all.len());
        piece.clear();
        piece.extend_from_slice(&all[from..to]);
        let end = to == all.len();
        store.data_mut().print(stream, &piece);
        if end {
            return Ok(());
        }
        from = to;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_0_2_of_wasi_s_own_packages_is_given() {
        for (name, given) in [
            ("wasi:io/poll@0.2.0", Some("io/poll")),
            ("wasi:cli/stdout@0.2.12", Some("cli/stdout")),
            ("wasi:http/types@0.2.9", Some("http/types")),
            ("wasi:io/poll@0.2", None),
            ("wasi:io/poll@0.2.", None),
            ("wasi:io/poll@0.20.1", None),
            ("wasi:io/poll@0.3.0", None),
            ("wasi:io/poll@0.2.0-rc-2023-11-10", None),
            ("wasi:io/poll", None),
            ("wasi:nn/tensor@0.2.0", None),
            ("keyrail:handler/emit@0.1.0", None),
        ] {
            assert_eq!(interface(name), given, "{name}");
        }
    }

    #[test]
    fn a_sleep_moves_both_clocks_and_the_steady_one_never_goes_back() {
        let mut world = World::default();
        world.begin(1000);
        world.sleep_until(3_000_000_000);
        assert_eq!((world.wall_ns, world.steady_ns), (3_000_000_000, 3_000_000_000));
        world.begin(2000);
        assert_eq!((world.wall_ns, world.steady_ns), (2_000_000_000, 3_000_000_000));
        world.sleep_until(u64::MAX);
        assert_eq!(world.steady_ns, 3_000_000_000 + LONGEST_SLEEP_NS);
        world.begin(-5);
        assert_eq!(world.wall_ns, 0);
    }
}
