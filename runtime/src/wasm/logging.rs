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
        emit(level, &store.data().setup.handler, &clean(&message, MESSAGE_BYTES), &fields);
        Ok(())
    })
}

/// The least level that anybody listens to. To errors the host itself does, for what becomes of the message should the call
/// trap: with logging off a panic has the same words.
fn threshold() -> WireLevel {
    if tracing::enabled!(target: TARGET, Level::TRACE) {
        WireLevel::Trace
    } else if tracing::enabled!(target: TARGET, Level::DEBUG) {
        WireLevel::Debug
    } else if tracing::enabled!(target: TARGET, Level::INFO) {
        WireLevel::Info
    } else if tracing::enabled!(target: TARGET, Level::WARN) {
        WireLevel::Warn
    } else {
        WireLevel::Error
    }
}

/// What the handler gave beside the words.
#[derive(Debug, Default)]
struct Fields {
    /// The message that is handled, and the handler's module: the SDK puts them before what the handler gives. They stand
    /// where the host's own lines have them, as what they are.
    partition: Option<i64>,
    offset: Option<i64>,
    module: Option<String>,
    own: Option<HandlerFields>,
}

impl Fields {
    fn of(pairs: Vec<(String, String)>) -> Self {
        let mut fields = Self::default();
        let mut pairs = pairs.into_iter().peekable();
        while let Some((name, value)) = pairs.next_if(|(name, value)| fields.lacks(name, value)) {
            match name.as_str() {
                "partition" => fields.partition = value.parse().ok(),
                "offset" => fields.offset = value.parse().ok(),
                _ => fields.module = Some(value),
            }
        }
        let own: Vec<_> = pairs.collect();
        fields.own = (!own.is_empty()).then_some(HandlerFields(own));
        fields
    }

    /// Whether it is one of those that the SDK gives, for the first time and as the SDK writes it.
    fn lacks(&self, name: &str, value: &str) -> bool {
        let number = value.parse::<i64>().is_ok();
        match name {
            "partition" => self.partition.is_none() && number,
            "offset" => self.offset.is_none() && number,
            "target" => self.module.is_none(),
            _ => false,
        }
    }
}

/// A line without fields, which the handler wrote in another way than by the import.
pub(super) fn line(ctx: &mut Ctx, level: WireLevel, message: &str) {
    if level >= threshold() && ctx.log.take(ctx.limits.log_lines) {
        emit(level, &ctx.setup.handler, &clean(message, MESSAGE_BYTES), &Fields::default());
    }
}

fn fields_of(store: &mut StoreContextMut<'_, Ctx>, fields: &WirePairs) -> Result<Fields> {
    if fields.len() == 0 {
        return Ok(Fields::default());
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
    Ok(Fields::of(out))
}

fn emit(level: WireLevel, pipeline: &str, message: &str, fields: &Fields) {
    let Fields { partition, offset, module, own } = fields;
    // `fields` is `HANDLER_FIELDS`; a macro takes no constant.
    let (partition, offset, module) = (*partition, *offset, module.as_deref());
    let fields = own.as_ref().map(tracing::field::debug);
    macro_rules! line {
        ($level:ident $(, $more:ident = $is:expr)?) => {
            tracing::$level!(target: TARGET, pipeline, partition, offset, module, $($more = $is,)? fields, "{message}")
        };
    }
    match level {
        WireLevel::Trace => line!(trace),
        WireLevel::Debug => line!(debug),
        WireLevel::Info => line!(info),
        WireLevel::Warn => line!(warn),
        WireLevel::Error => line!(error),
        WireLevel::Critical => line!(error, critical = true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> (Option<i64>, Option<i64>, Option<String>, String) {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let Fields { partition, offset, module, own } = Fields::of(pairs);
        (partition, offset, module, own.map_or_else(String::new, |own| format!("{own:?}")))
    }

    #[test]
    fn what_the_sdk_adds_stands_apart_from_what_the_handler_gives() {
        let module = Some("barista".to_owned());
        let sdk = [("partition", "7"), ("offset", "12"), ("target", "barista")];
        assert_eq!(fields(&sdk), (Some(7), Some(12), module.clone(), String::new()));
        let own = [("cups", "1"), ("offset", "mine"), ("target", "me")];
        let told = (Some(7), Some(12), module.clone(), "cups=1 offset=mine target=me".to_owned());
        assert_eq!(fields(&[&sdk[..], &own].concat()), told);
        assert_eq!(fields(&own), (None, None, None, "cups=1 offset=mine target=me".to_owned()));
        // Outside of any message, as in `open`.
        assert_eq!(fields(&[("target", "barista"), ("x", "")]), (None, None, module, "x=\"\"".to_owned()));
        assert_eq!(fields(&[("offset", "many"), ("offset", "1")]).3, "offset=many offset=1");
        assert_eq!(fields(&[("offset", "1"), ("offset", "2")]), (None, Some(1), None, "offset=2".to_owned()));
        assert_eq!(fields(&[]), (None, None, None, String::new()));
    }
}
