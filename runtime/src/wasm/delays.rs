//! A send with a delay: staged as state is, under a key of its own kind, until the host sends it.

use super::call::{Call, Ctx, Fnv, write_id};
use super::contract::{WireError, WireOutput};
use super::state::{Store, stage};
use super::timers::TRACE;
use crate::record::Record;
use keyrail_engine::delays::{self, Delayed, FIELD_BYTES, FIXED_BYTES, MAX_DELAY_MS};
use keyrail_engine::message::Partition;
use keyrail_engine::state::{MAX_VALUE, Write};
use std::fmt::Write as _;
use wasmtime::Result;
use wasmtime::component::WasmList;

/// Headers that an output takes along from its message's record: all, or those of its trace, unless it has them itself.
pub(crate) fn inherited(
    record: &Record,
    all: bool,
    own: impl Fn(&[u8]) -> bool,
) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    record.headers().filter(move |(name, _)| {
        let trace = TRACE.contains(name);
        (all || trace) && !(trace && own(name))
    })
}

/// Stages a record for the output of this name; its headers' names were read.
pub(super) fn send(
    store: &mut Store<'_>,
    index: usize,
    to: &str,
    output: &WireOutput,
    headers: &[(String, Option<&WasmList<u8>>)],
) -> Result<std::result::Result<(), WireError>> {
    let delay_ms = output.delay_ms.unwrap_or(0);
    let Some(longest_ms) = store.data().setup.longest_delay_ms else { return Ok(Err(none())) };
    if delay_ms > longest_ms {
        let cure = if longest_ms < MAX_DELAY_MS { "that is limits.delay in the manifest" } else { "that is 366 days" };
        return Ok(Err(WireError::Other(format!("a delay of {delay_ms} ms: {longest_ms} ms are the most, {cure}"))));
    }
    let lent = |list: Option<&WasmList<u8>>| list.map(|list| list.as_le_slice(&*store));
    let (key, value) = (lent(output.key.as_ref()), lent(output.value.as_ref()));
    let ctx = store.data();
    let record = &ctx.call.batch[index].record;
    let own = headers.iter().map(|(name, value)| (name.as_bytes(), lent(*value)));
    let has_own = |name: &[u8]| headers.iter().any(|(own, _)| own.as_bytes() == name);
    let headers: Vec<_> = own.chain(inherited(record, output.forward_headers, has_own)).collect();
    // What is refused is refused before it is copied.
    let length = |field: Option<&[u8]>| FIELD_BYTES + field.map_or(0, <[u8]>::len);
    let of_headers: usize = headers.iter().map(|(name, value)| length(Some(name)) + length(*value)).sum();
    if FIXED_BYTES + FIELD_BYTES + to.len() + length(key) + length(value) + of_headers > MAX_VALUE {
        return Ok(Err(WireError::TooLarge));
    }
    let message_ms = Some(record.timestamp_ms).filter(|timestamp_ms| *timestamp_ms >= 0);
    let delayed = Delayed {
        at_ms: i64::try_from(delay_ms).unwrap_or(i64::MAX),
        offset: record.offset,
        output: to,
        key,
        value,
        headers,
        timestamp_ms: output.timestamp_ms.or(message_ms),
    };
    let value = delayed.encode();
    let task = ctx.setup.order.task(Partition { topic: record.at.topic, number: record.at.partition });
    let Some(name) = name(store.data_mut(), index)? else { return Ok(Err(none())) };
    let staged = stage(store, index, (task, delays::owner()), &name, Write::Put(&value, None))?;
    if staged.is_ok() {
        store.data_mut().call.effects.count_delayed(index);
    }
    Ok(staged)
}

/// It follows from the message and the place among what it sends.
fn name(ctx: &mut Ctx, index: usize) -> Result<Option<String>> {
    let Call { batch, effects, state, now_ms, .. } = &mut ctx.call;
    let mut id = Fnv::new();
    write_id(&mut id, &batch[index], &ctx.setup)?;
    write!(&mut id, "/{}", effects.delayed(index))?;
    Ok(state.as_mut().map(|state| delays::name(state.call.next_rank(*now_ms), id.0)))
}

fn none() -> WireError {
    WireError::Other(
        "there are no delayed sends here: set limits.delay in the manifest, which needs guarantee = \"exactly-once\" and \
         order.scope = \"topic\", or send without a delay"
            .to_owned(),
    )
}
