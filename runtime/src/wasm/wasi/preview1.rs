//! The adapter that stands between a module of preview 1 and the host: `preview1.wat`, which says what it does.

use super::{Stream, exit, seed, write};
use crate::wasm::call::Ctx;
use wasmtime::component::{Instance, Linker, TypedFunc, WasmList};
use wasmtime::{Result, Store, StoreContextMut};
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The module that it stands in for.
pub(in crate::wasm) const MODULE: &str = "wasi_snapshot_preview1";
/// What only it imports.
pub(in crate::wasm) const HOST: &str = "keyrail:adapter/host@0.1.0";
const CALL: &str = "keyrail:adapter/call@0.1.0";
/// `preview1.wat`, assembled.
pub(in crate::wasm) const CODE: &[u8] = include_bytes!("preview1.wasm");
const WIT: &str = include_str!("adapter.wit");

/// The adapter as wit-component wants it: with its types.
pub(in crate::wasm) fn module() -> anyhow::Result<Vec<u8>> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("adapter.wit", WIT)?;
    let world = resolve.select_world(&[package], Some("adapter"))?;
    let mut bytes = CODE.to_vec();
    embed_component_metadata(&mut bytes, &resolve, world, StringEncoding::UTF8)?;
    Ok(bytes)
}

/// What the adapter asks of the host.
pub(in crate::wasm) fn link(linker: &mut Linker<Ctx>) -> Result<()> {
    let mut host = linker.instance(HOST)?;
    host.func_wrap("write", |mut store: StoreContextMut<'_, Ctx>, (stream, bytes): (u32, WasmList<u8>)| {
        let stream = if stream == 2 { Stream::Error } else { Stream::Output };
        write(&mut store, stream, &bytes)
    })?;
    host.func_wrap("now-ms", |mut store: StoreContextMut<'_, Ctx>, (): ()| {
        let call = &mut store.data_mut().call;
        call.charge()?;
        Ok((call.now_ms,))
    })?;
    host.func_wrap("exit", |mut store: StoreContextMut<'_, Ctx>, (code,): (u32,)| -> Result<()> {
        Err(exit(&mut store, code))
    })
}

/// The adapter of an instance, if it has one.
pub(in crate::wasm) struct Adapter(Option<TypedFunc<(i64, u64), ()>>);

impl Adapter {
    pub(in crate::wasm) fn of(instance: &Instance, store: &mut Store<Ctx>) -> Result<Self> {
        let call = instance.get_export_index(&mut *store, None, CALL);
        let begin = call.and_then(|call| instance.get_export_index(&mut *store, Some(&call), "begin"));
        Ok(Self(begin.map(|begin| instance.get_typed_func(store, begin)).transpose()?))
    }

    /// Tells it the time and the chance of the call that begins.
    pub(in crate::wasm) fn begin(&self, store: &mut Store<Ctx>) -> Result<()> {
        let Some(begin) = &self.0 else { return Ok(()) };
        let ctx = store.data();
        let told = (ctx.call.now_ms, seed(&ctx.call, &ctx.setup)?);
        begin.call(store, told)
    }
}
