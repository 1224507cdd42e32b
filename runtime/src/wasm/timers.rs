//! The import `timers`. A timer is staged as state is, under a key of its own kind.

use super::call::Ctx;
use super::contract::WireError;
use super::state::{Answer, Store, enter, owner, refused, stage};
use keyrail_engine::state::{MAX_VALUE, Write};
use keyrail_engine::timers::{self, FIXED_BYTES, Header, Timer};
use wasmtime::Result;
use wasmtime::component::{Linker, WasmList, WasmStr};

/// Headers that follow a message wherever it goes (W3C Trace Context).
pub(crate) const TRACE: [&[u8]; 2] = [b"traceparent", b"tracestate"];

pub(super) fn link(linker: &mut Linker<Ctx>) -> Result<()> {
    let mut timers = linker.instance("keyrail:handler/timers@0.1.0")?;
    type Set = (u32, WasmStr, i64, WasmList<u8>);
    timers.func_wrap("set", |mut store: Store<'_>, (slot, name, at_ms, payload): Set| -> Answer<()> {
        let index = enter(&mut store, slot)?;
        let name = name.to_str(&store)?.into_owned();
        if payload.len() > MAX_VALUE - FIXED_BYTES {
            return Ok((Err(WireError::TooLarge),));
        }
        let payload = payload.as_le_slice(&store).to_vec();
        Ok((change(&mut store, index, &name, Some((at_ms, &payload)))?,))
    })?;
    timers.func_wrap("cancel", |mut store: Store<'_>, (slot, name): (u32, WasmStr)| -> Answer<()> {
        let index = enter(&mut store, slot)?;
        let name = name.to_str(&store)?.into_owned();
        Ok((change(&mut store, index, &name, None)?,))
    })
}

fn change(
    store: &mut Store<'_>,
    index: usize,
    name: &str,
    set: Option<(i64, &[u8])>,
) -> Result<std::result::Result<(), WireError>> {
    let ctx = store.data();
    let (task, state) = match owner(ctx, index) {
        Ok(owner) => owner,
        Err(error) => return Ok(Err(error)),
    };
    if !ctx.setup.timers {
        return Ok(Err(none()));
    }
    let value = set.map(|(at_ms, payload)| {
        let delivery = &ctx.call.batch[index];
        let record = &delivery.record;
        let headers: Vec<Header<'_>> = record.headers().filter(|(name, _)| TRACE.contains(name)).collect();
        // One that a timer sets goes on from it.
        let hops = delivery.timer.as_ref().map_or(0, |timer| timer.hops.saturating_add(1));
        Timer { at_ms, offset: record.offset, hops, key: record.key(), headers, payload }.encode()
    });
    if value.as_ref().is_some_and(|value| value.len() > MAX_VALUE) {
        return Ok(Err(refused(keyrail_engine::state::Refused::TooLarge)));
    }
    let write = value.as_ref().map_or(Write::Delete, |value| Write::Put(value, None));
    stage(store, index, (task, timers::owner(&state)), name, write)
}

fn none() -> WireError {
    let cure = "set those, or don't call timers";
    WireError::Other(format!(
        "there are no timers here: they need guarantee = \"exactly-once\" and order.scope = \"topic\"; {cure}"
    ))
}
