//! The import `state`.

use super::call::{Ctx, Quota};
use super::contract::WireError;
use keyrail_engine::message::Partition;
use keyrail_engine::order::order_key;
use keyrail_engine::policy::OrderBy;
use keyrail_engine::state::{MAX_VALUE, Owner, Refused, Write};
use wasmtime::component::{Linker, WasmList, WasmStr};
use wasmtime::{Result, StoreContextMut};

pub(super) type Store<'a> = StoreContextMut<'a, Ctx>;
/// What a function gives, or an error.
pub(super) type Answer<T> = Result<(std::result::Result<T, WireError>,)>;

/// What a change counts beside its name and value, since the host keeps that much for it.
const CHANGE_BYTES: u64 = 64;

pub(super) fn link(linker: &mut Linker<Ctx>) -> Result<()> {
    let mut state = linker.instance("keyrail:handler/state@0.1.0")?;
    state.func_wrap("get", |mut store: Store<'_>, (slot, name): (u32, WasmStr)| -> Answer<Option<Vec<u8>>> {
        let index = enter(&mut store, slot)?;
        let name = name.to_str(&store)?.into_owned();
        Ok((get(&mut store, index, &name)?,))
    })?;
    type Put = (u32, WasmStr, WasmList<u8>, Option<u64>);
    state.func_wrap("put", |mut store: Store<'_>, (slot, name, value, ttl_ms): Put| -> Answer<()> {
        let index = enter(&mut store, slot)?;
        let name = name.to_str(&store)?.into_owned();
        if value.len() > MAX_VALUE {
            return Ok((Err(WireError::TooLarge),));
        }
        let value = value.as_le_slice(&store).to_vec();
        let now_ms = store.data().call.now_ms;
        let expires_ms = ttl_ms.map(|ttl| now_ms.saturating_add_unsigned(ttl));
        Ok((write(&mut store, index, &name, Write::Put(&value, expires_ms))?,))
    })?;
    state.func_wrap("delete", |mut store: Store<'_>, (slot, name): (u32, WasmStr)| -> Answer<()> {
        let index = enter(&mut store, slot)?;
        let name = name.to_str(&store)?.into_owned();
        Ok((write(&mut store, index, &name, Write::Delete)?,))
    })?;
    type Scan = (u32, WasmStr, Option<WasmStr>, u32);
    state.func_wrap("scan", |mut store: Store<'_>, (slot, prefix, after, limit): Scan| {
        let index = enter(&mut store, slot)?;
        let prefix = prefix.to_str(&store)?.into_owned();
        let after = after.map(|after| after.to_str(&store).map(std::borrow::Cow::into_owned)).transpose()?;
        Ok((scan(&mut store, index, (&prefix, after.as_deref(), limit))?,))
    })
}

/// Counts a call on behalf of a slot. Where the order key is a header, it is looked for each time.
pub(super) fn enter(store: &mut Store<'_>, slot: u32) -> Result<usize> {
    let ctx = store.data_mut();
    if matches!(ctx.setup.order.by, OrderBy::Header(_)) { ctx.call.walk(slot) } else { ctx.call.enter(slot) }
}

/// Whose state the slot's is, and of which task.
pub(super) fn owner(ctx: &Ctx, index: usize) -> std::result::Result<(Partition, Owner), WireError> {
    let record = &ctx.call.batch[index].record;
    let owner = Owner::of(order_key(&ctx.setup.order, record)).map_err(refused)?;
    let partition = Partition { topic: record.at.topic, number: record.at.partition };
    Ok((ctx.setup.order.task(partition), owner))
}

pub(super) fn refused(refused: Refused) -> WireError {
    match refused {
        Refused::NoKey => WireError::NoKey,
        Refused::TooLarge => WireError::TooLarge,
    }
}

fn none() -> WireError {
    WireError::Other("there is no state here: the handler runs without".to_owned())
}

type Found<T> = Result<std::result::Result<T, WireError>>;

fn get(store: &mut Store<'_>, index: usize, name: &str) -> Found<Option<Vec<u8>>> {
    let ctx = store.data_mut();
    let (partition, owner) = match owner(ctx, index) {
        Ok(owner) => owner,
        Err(error) => return Ok(Err(error)),
    };
    let Some(state) = &ctx.call.state else { return Ok(Err(none())) };
    let found = state.call.get(index as u32, (partition, &owner), name, ctx.call.now_ms, state.kept.as_ref());
    let found = match found {
        Ok(found) => found,
        Err(error) => return Ok(Err(refused(error))),
    };
    if let Some(reads) = ctx.call.reads.get_mut(index) {
        reads.note_get(index as u32, (partition, &owner), name, found.as_ref(), (ctx.call.now_ms, state));
    }
    ctx.call.charge_bytes(found.as_ref().map_or(0, |value| value.len()))?;
    Ok(Ok(found.map(|value| value.to_vec())))
}

fn write(store: &mut Store<'_>, index: usize, name: &str, write: Write<'_>) -> Found<()> {
    match owner(store.data(), index) {
        Ok(owner) => stage(store, index, owner, name, write),
        Err(error) => Ok(Err(error)),
    }
}

/// Stages a change of what this owner has under a name.
pub(super) fn stage(
    store: &mut Store<'_>,
    index: usize,
    owner: (Partition, Owner),
    name: &str,
    write: Write<'_>,
) -> Found<()> {
    let ctx = store.data_mut();
    let call = &mut ctx.call;
    let Some(state) = &mut call.state else { return Ok(Err(none())) };
    let value = if let Write::Put(value, _) = write { value.len() } else { 0 };
    let bytes = (name.len() + value + owner.1.prefix().len()) as u64 + CHANGE_BYTES;
    if call.effects.staged_bytes(index as u32) + bytes > ctx.limits.output_bytes {
        call.effects.note_over_quota(index);
        return Ok(Err(WireError::OverQuota));
    }
    let limit = ctx.limits.effective_call_output_bytes();
    if call.staged_bytes + bytes > limit {
        return Err(wasmtime::Error::new(Quota::Staged(limit)));
    }
    if let Err(error) = state.call.write(index as u32, owner, name, write) {
        return Ok(Err(refused(error)));
    }
    call.staged_bytes += bytes;
    call.effects.count_bytes(index, bytes);
    Ok(Ok(()))
}

/// Names and values.
type Page = Vec<(String, Vec<u8>)>;

fn scan(store: &mut Store<'_>, index: usize, page: (&str, Option<&str>, u32)) -> Found<Page> {
    let ctx = store.data_mut();
    let (partition, owner) = match owner(ctx, index) {
        Ok(owner) => owner,
        Err(error) => return Ok(Err(error)),
    };
    let Some(state) = &ctx.call.state else { return Ok(Err(none())) };
    let found = state.call.scan(index as u32, (partition, &owner), page, ctx.call.now_ms, state.kept.as_ref());
    let found: Page = match found {
        Ok(found) => found.into_iter().map(|(name, value)| (name, value.to_vec())).collect(),
        Err(error) => return Ok(Err(refused(error))),
    };
    if let Some(reads) = ctx.call.reads.get_mut(index) {
        reads.note_scan(index as u32, (partition, &owner), page, (ctx.call.now_ms, state));
    }
    ctx.call.charge_bytes(found.iter().map(|(name, value)| name.len() + value.len()).sum())?;
    Ok(Ok(found))
}
