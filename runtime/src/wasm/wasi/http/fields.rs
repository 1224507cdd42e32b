//! `fields`: headers.

use super::request::CONTENT_LENGTH;
use super::table::Held;
use super::wire::HeaderError;
use super::{Store, call, room};
use crate::http::{HeaderFault, check_header};
use crate::wasm::call::Ctx;
use wasmtime::Result;
use wasmtime::component::{LinkerInstance, Resource};

/// Names as the guest wrote them, and values.
pub(super) type List = Vec<(String, Vec<u8>)>;
pub(super) type FieldsHandle = Resource<Fields>;
type Checked<T = ()> = std::result::Result<T, HeaderError>;

/// What a header costs beside its bytes.
const ENTRY_BYTES: usize = 64;

#[derive(Debug, Clone, Default)]
pub(in crate::wasm::wasi) struct Fields {
    list: List,
    bytes: usize,
    /// It is what another resource has: it can be looked at.
    frozen: bool,
}

impl Held for Fields {
    fn bytes(&self) -> usize {
        self.bytes
    }
}

fn cost(name: &str, value: &[u8]) -> usize {
    name.len() + value.len() + ENTRY_BYTES
}

/// Whether the guest may set it. A body's length is the client's to send, but a guest may say it and is held to it.
fn check(name: &str, value: &[u8]) -> Checked {
    match check_header(name, value) {
        Err(HeaderFault::Clients) if name.eq_ignore_ascii_case(CONTENT_LENGTH) => Ok(()),
        checked => checked.map_err(HeaderError::from),
    }
}

impl Fields {
    /// Those of a request or an answer.
    pub(super) fn frozen(list: List) -> Self {
        let bytes = list.iter().map(|(name, value)| cost(name, value)).sum();
        Self { list, bytes, frozen: true }
    }

    fn from_list(list: List) -> Checked<Self> {
        list.iter().try_for_each(|(name, value)| check(name, value))?;
        Ok(Self { frozen: false, ..Self::frozen(list) })
    }

    pub(super) fn into_list(self) -> List {
        self.list
    }

    pub(super) fn list(&self) -> &List {
        &self.list
    }

    pub(super) fn get(&self, name: &str) -> Vec<Vec<u8>> {
        self.list.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone()).collect()
    }

    fn has(&self, name: &str) -> bool {
        self.list.iter().any(|(own, _)| own.eq_ignore_ascii_case(name))
    }

    fn check(&self, name: &str, values: &[Vec<u8>]) -> Checked {
        if self.frozen {
            return Err(HeaderError::Immutable);
        }
        check(name, b"")?;
        values.iter().try_for_each(|value| check(name, value))
    }

    fn set(&mut self, name: &str, values: Vec<Vec<u8>>) -> Checked {
        self.check(name, &values)?;
        self.take_out(name);
        for value in values {
            self.push(name.to_owned(), value);
        }
        Ok(())
    }

    fn delete(&mut self, name: &str) -> Checked {
        self.check(name, &[])?;
        self.take_out(name);
        Ok(())
    }

    fn append(&mut self, name: String, value: Vec<u8>) -> Checked {
        let values = [value];
        self.check(&name, &values)?;
        let [value] = values;
        self.push(name, value);
        Ok(())
    }

    fn push(&mut self, name: String, value: Vec<u8>) {
        self.bytes += cost(&name, &value);
        self.list.push((name, value));
    }

    /// As [`Fields::delete`], whoever may.
    pub(super) fn take_out(&mut self, name: &str) {
        self.list.retain(|(own, _)| !own.eq_ignore_ascii_case(name));
        self.bytes = self.list.iter().map(|(name, value)| cost(name, value)).sum();
    }
}

/// Puts fields into the table, if they have room.
pub(super) fn keep(ctx: &mut Ctx, fields: Fields) -> Result<FieldsHandle> {
    room(ctx, fields.bytes())?;
    ctx.call.charge_bytes(fields.bytes())?;
    Ok(Resource::new_own(ctx.wasi.http.fields.insert(fields)?))
}

pub(super) fn link(linker: &mut LinkerInstance<'_, Ctx>, name: &str) -> Result<bool> {
    match name {
        "[constructor]fields" => {
            linker.func_wrap(name, |store: Store<'_>, (): ()| call(store, |ctx| keep(ctx, Fields::default())))
        }
        "[static]fields.from-list" => linker.func_wrap(name, |store: Store<'_>, (list,): (List,)| {
            call(store, |ctx| {
                Ok(match Fields::from_list(list) {
                    Ok(fields) => Checked::Ok(keep(ctx, fields)?),
                    Err(error) => Err(error),
                })
            })
        }),
        "[method]fields.get" => linker.func_wrap(name, |store: Store<'_>, (this, key): (FieldsHandle, String)| {
            call(store, |ctx| {
                let values = ctx.wasi.http.fields.get(this.rep())?.get(&key);
                ctx.call.charge_bytes(values.iter().map(Vec::len).sum())?;
                Ok(values)
            })
        }),
        "[method]fields.has" => linker.func_wrap(name, |store: Store<'_>, (this, key): (FieldsHandle, String)| {
            call(store, |ctx| Ok(ctx.wasi.http.fields.get(this.rep())?.has(&key)))
        }),
        "[method]fields.set" => {
            type Set = (FieldsHandle, String, Vec<Vec<u8>>);
            linker.func_wrap(name, |store: Store<'_>, (this, key, values): Set| {
                call(store, |ctx| {
                    room(ctx, values.iter().map(|value| cost(&key, value)).sum())?;
                    ctx.wasi.http.fields.edit(this.rep(), |fields| fields.set(&key, values))
                })
            })
        }
        "[method]fields.delete" => linker.func_wrap(name, |store: Store<'_>, (this, key): (FieldsHandle, String)| {
            call(store, |ctx| ctx.wasi.http.fields.edit(this.rep(), |fields| fields.delete(&key)))
        }),
        "[method]fields.append" => {
            type Append = (FieldsHandle, String, Vec<u8>);
            linker.func_wrap(name, |store: Store<'_>, (this, key, value): Append| {
                call(store, |ctx| {
                    room(ctx, cost(&key, &value))?;
                    ctx.wasi.http.fields.edit(this.rep(), |fields| fields.append(key, value))
                })
            })
        }
        "[method]fields.entries" => linker.func_wrap(name, |store: Store<'_>, (this,): (FieldsHandle,)| {
            call(store, |ctx| {
                let fields = ctx.wasi.http.fields.get(this.rep())?;
                ctx.call.charge_bytes(fields.bytes())?;
                Ok(fields.list().clone())
            })
        }),
        "[method]fields.clone" => linker.func_wrap(name, |store: Store<'_>, (this,): (FieldsHandle,)| {
            call(store, |ctx| {
                let copy = ctx.wasi.http.fields.get(this.rep())?.clone();
                keep(ctx, Fields { frozen: false, ..copy })
            })
        }),
        _ => return Ok(false),
    }?;
    Ok(true)
}
