//! The imports `context` and `emit`.

use super::call::{Ctx, Quota, write_id};
use super::contract::{WireError, WireHeader, WireOutput};
use super::effects::Staged;
use super::text::clean;
use wasmtime::component::{Linker, WasmList, WasmStr};
use wasmtime::{Result, StoreContextMut};

type Store<'a> = StoreContextMut<'a, Ctx>;

/// What is staged counts this much for each header beside its bytes, since the host keeps that much for it.
const HEADER_BYTES: u64 = 16;
/// So much is kept of the name of an output that is none.
const OUTPUT_NAME_BYTES: usize = 256;

pub(super) fn link(linker: &mut Linker<Ctx>) -> Result<()> {
    context(linker)?;
    let mut emit = linker.instance("keyrail:handler/emit@0.1.0")?;
    emit.func_wrap("send", |mut store: Store<'_>, (slot, output): (u32, WireOutput)| {
        let index = store.data_mut().call.enter(slot)?;
        Ok((send(&mut store, index, output)?,))
    })?;
    super::state::link(linker)?;
    super::timers::link(linker)
}

fn context(linker: &mut Linker<Ctx>) -> Result<()> {
    let mut context = linker.instance("keyrail:handler/context@0.1.0")?;
    context.func_wrap("id", |mut store: Store<'_>, (slot,): (u32,)| {
        let ctx = store.data_mut();
        let index = ctx.call.enter(slot)?;
        let mut id = String::new();
        write_id(&mut id, &ctx.call.batch[index], &ctx.setup)?;
        Ok((id,))
    })?;
    context.func_wrap("headers", |mut store: Store<'_>, (slot,): (u32,)| {
        let call = &mut store.data_mut().call;
        let index = call.walk(slot)?;
        let headers = call.batch[index].record.headers();
        let headers = headers.map(|(name, value)| WireHeader {
            name: String::from_utf8_lossy(name).into_owned(),
            value: value.map(<[u8]>::to_vec),
        });
        Ok((headers.collect::<Vec<_>>(),))
    })?;
    context.func_wrap("header-value", |mut store: Store<'_>, (slot, name): (u32, WasmStr)| {
        let index = store.data_mut().call.walk(slot)?;
        let name = name.to_str(&store)?;
        let value = store.data().call.batch[index].record.header(name.as_bytes()).flatten();
        Ok((value.map(<[u8]>::to_vec),))
    })?;
    context.func_wrap("follows-dead-letter", |mut store: Store<'_>, (slot,): (u32,)| {
        let call = &mut store.data_mut().call;
        let index = call.enter(slot)?;
        Ok((call.batch[index].follows_dead_letter,))
    })?;
    context.func_wrap("now-ms", |mut store: Store<'_>, (): ()| {
        let call = &mut store.data_mut().call;
        call.charge()?;
        Ok((call.now_ms,))
    })?;
    context.func_wrap("random", |mut store: Store<'_>, (slot,): (u32,)| {
        let ctx = store.data_mut();
        let index = ctx.call.enter(slot)?;
        Ok((ctx.call.random(index, &ctx.setup)?,))
    })?;
    context.func_wrap("deadline-ms", |mut store: Store<'_>, (): ()| {
        let call = &mut store.data_mut().call;
        call.charge()?;
        Ok((call.deadline_ms,))
    })
}

/// Stages a record. What is refused is refused before it is copied.
fn send(store: &mut Store<'_>, index: usize, output: WireOutput) -> Result<std::result::Result<(), WireError>> {
    let asked = output.to.to_str(&*store)?;
    let Some(to) = store.data().setup.outputs.iter().position(|name| **name == *asked) else {
        let asked = clean(&asked, OUTPUT_NAME_BYTES).into_owned();
        store.data_mut().call.unknown_outputs.insert(index, asked);
        return Ok(Err(WireError::UnknownOutput));
    };
    let mut bytes = size(output.key.as_ref()) + size(output.value.as_ref());
    let mut headers = Vec::with_capacity(output.headers.len());
    for header in &output.headers {
        let name = header.name.to_str(&*store)?.into_owned();
        bytes += HEADER_BYTES + name.len() as u64 + size(header.value.as_ref());
        headers.push((name, header.value.as_ref()));
    }
    let ctx = store.data();
    let effects = &ctx.call.effects;
    let staged = effects.staged_bytes(index as u32) + bytes;
    if effects.count(index as u32) + effects.delayed(index) >= ctx.limits.outputs || staged > ctx.limits.output_bytes {
        store.data_mut().call.effects.note_over_quota(index);
        return Ok(Err(WireError::OverQuota));
    }
    if output.delay_ms.is_some_and(|delay| delay > 0) {
        let to = ctx.setup.outputs[to].clone();
        return super::delays::send(store, index, &to, &output, &headers);
    }
    let limit = ctx.limits.effective_call_output_bytes();
    if ctx.call.staged_bytes + bytes > limit {
        return Err(wasmtime::Error::new(Quota::Staged(limit)));
    }
    // Out of the store, which lends the guest's bytes meanwhile.
    let mut effects = std::mem::take(&mut store.data_mut().call.effects);
    let lent = |list: Option<&WasmList<u8>>| list.map(|list| list.as_le_slice(&*store));
    // The list of outputs comes from a manifest; it is far from 2^32 long.
    let (output_index, forward_headers, timestamp_ms) = (to as u32, output.forward_headers, output.timestamp_ms);
    let (key, value) = (lent(output.key.as_ref()), lent(output.value.as_ref()));
    let send = Staged { output: output_index, key, value, forward_headers, timestamp_ms };
    let headers = headers.iter().map(|(name, value)| (name.as_bytes(), lent(*value)));
    effects.push(index, &send, headers, bytes);
    let call = &mut store.data_mut().call;
    call.effects = effects;
    call.staged_bytes += bytes;
    Ok(Ok(()))
}

fn size(list: Option<&WasmList<u8>>) -> u64 {
    list.map_or(0, |list| list.len() as u64)
}
