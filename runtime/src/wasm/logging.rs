//! The import `log`: a guest's lines go to `tracing`, target `keyrail::handler`.

use super::call::Ctx;
use super::contract::{WireLevel, WirePairs};
use super::text::clean;
use crate::admin::logging::HandlerFields;
use tracing::Level;
use wasmtime::component::{Linker, WasmStr};
use wasmtime::{Result, StoreContextMut};

const TARGET: &str = "keyrail::handler";
/// Longest message of a line, in bytes.
const MESSAGE_BYTES: usize = 8192;
/// Of a line at error level this much is kept, for the dead letter should the call trap.
const ERROR_BYTES: usize = 1024;
/// Most fields of a line.
const FIELDS: usize = 16;
/// Longest name and longest value of a field, in bytes.
const FIELD_NAME_BYTES: usize = 64;
const FIELD_VALUE_BYTES: usize = 1024;

/// Counts the lines of a call.
#[derive(Debug, Default)]
pub(super) struct LogQuota {
    lines: u32,
    dropped: u64,
}

impl LogQuota {
    /// The call is over: tells how many lines were dropped, and starts anew.
    pub(super) fn end(&mut self, pipeline: &str) {
        if self.dropped > 0 {
            let (dropped, kept) = (self.dropped, self.lines);
            tracing::warn!(
                target: TARGET,
                pipeline,
                "{dropped} more lines of the handler's log were dropped: a call may log {kept}"
            );
        }
        *self = Self::default();
    }

    fn take(&mut self, limit: u32) -> bool {
        if self.lines < limit {
            self.lines += 1;
            return true;
        }
        self.dropped += 1;
        false
    }
}

pub(super) fn link(linker: &mut Linker<Ctx>) -> Result<()> {
    let mut log = linker.instance("keyrail:handler/log@0.1.0")?;
    log.func_wrap("threshold", |mut store: StoreContextMut<'_, Ctx>, (): ()| {
        store.data_mut().call.charge()?;
        Ok((threshold(),))
    })?;
    type Line = (WireLevel, WasmStr, WirePairs);
    log.func_wrap("write", |mut store: StoreContextMut<'_, Ctx>, (level, message, fields): Line| {
        store.data_mut().call.charge()?;
        if level < threshold() {
            return Ok(());
        }
        if level == WireLevel::Error {
            let words = clean(&message.to_str(&store)?, ERROR_BYTES).into_owned();
            store.data_mut().call.last_error = Some(words);
        }
        let ctx = store.data_mut();
        if !ctx.log.take(ctx.limits.log_lines) {
            return Ok(());
        }
        let fields = fields_of(&mut store, &fields)?;
        let message = message.to_str(&store)?;
        emit(level, &store.data().setup.handler, &clean(&message, MESSAGE_BYTES), fields.as_ref());
        Ok(())
    })
}

/// The least level that anybody listens to. With logging off it is the highest, since the contract knows no higher.
fn threshold() -> WireLevel {
    if tracing::enabled!(target: TARGET, Level::TRACE) {
        WireLevel::Trace
    } else if tracing::enabled!(target: TARGET, Level::DEBUG) {
        WireLevel::Debug
    } else if tracing::enabled!(target: TARGET, Level::INFO) {
        WireLevel::Info
    } else if tracing::enabled!(target: TARGET, Level::WARN) {
        WireLevel::Warn
    } else if tracing::enabled!(target: TARGET, Level::ERROR) {
        WireLevel::Error
    } else {
        WireLevel::Critical
    }
}

/// What the handler gave beside the words; `None`: nothing.
fn fields_of(store: &mut StoreContextMut<'_, Ctx>, fields: &WirePairs) -> Result<Option<HandlerFields>> {
    if fields.len() == 0 {
        return Ok(None);
    }
    let pairs = fields.iter(&mut *store)?.take(FIELDS).collect::<Result<Vec<_>>>()?;
    let mut out = Vec::with_capacity(pairs.len() + 1);
    for (name, value) in &pairs {
        let (name, value) = (name.to_str(&*store)?, value.to_str(&*store)?);
        out.push((clean(&name, FIELD_NAME_BYTES).into_owned(), clean(&value, FIELD_VALUE_BYTES).into_owned()));
    }
    if fields.len() > FIELDS {
        out.push(("fields-left-out".to_owned(), (fields.len() - FIELDS).to_string()));
    }
    Ok(Some(HandlerFields(out)))
}

fn emit(level: WireLevel, pipeline: &str, message: &str, fields: Option<&HandlerFields>) {
    // Named by `HANDLER_FIELDS`; a macro takes no constant.
    let fields = fields.map(tracing::field::debug);
    match level {
        WireLevel::Trace => tracing::trace!(target: TARGET, pipeline, fields, "{message}"),
        WireLevel::Debug => tracing::debug!(target: TARGET, pipeline, fields, "{message}"),
        WireLevel::Info => tracing::info!(target: TARGET, pipeline, fields, "{message}"),
        WireLevel::Warn => tracing::warn!(target: TARGET, pipeline, fields, "{message}"),
        WireLevel::Error => tracing::error!(target: TARGET, pipeline, fields, "{message}"),
        WireLevel::Critical => tracing::error!(target: TARGET, pipeline, critical = true, fields, "{message}"),
    }
}
