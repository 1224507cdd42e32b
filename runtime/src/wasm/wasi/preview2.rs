//! WASI 0.2: each interface is linked under the very name by which a component imports it, so versions may be mixed.
//!
//! What has an answer is below. All else, also what later versions add, answers that it is refused, in the words of its own
//! errors, or traps if it has none.

use super::streams::{InputHandle, OutputHandle, STDERR, STDIN, STDOUT};
use super::{Store, World, exit, http, interface, random, streams, wait};
use crate::wasm::call::Ctx;
use wasmtime::component::types::{Component, ComponentFunc, ComponentInstance, ComponentItem, Type};
use wasmtime::component::{ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType, Val};
use wasmtime::{Engine, Result};

/// How WASI's errors name what is not allowed, from the most fitting on.
const REFUSALS: [&str; 6] =
    ["closed", "access-denied", "access", "not-supported", "unsupported", "HTTP-request-denied"];
/// Most random bytes that are given at once.
const RANDOM_BYTES: u64 = 64 << 10;

/// Any resource of which there is none.
struct Nothing;

#[derive(ComponentType, Lift, Lower)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

/// Links what a component imports of WASI.
pub(in crate::wasm) fn link(linker: &mut Linker<Ctx>, engine: &Engine, component: &Component) -> Result<()> {
    for (name, item) in component.imports(engine) {
        if let (Some(interface), ComponentItem::ComponentInstance(instance)) = (interface(name), item.ty) {
            provide(&mut linker.instance(name)?, engine, interface, &instance)?;
        }
    }
    Ok(())
}

fn provide(
    linker: &mut LinkerInstance<'_, Ctx>,
    engine: &Engine,
    interface: &str,
    instance: &ComponentInstance,
) -> Result<()> {
    for (name, item) in instance.exports(engine) {
        match item.ty {
            ComponentItem::Resource(_) => resource(linker, name)?,
            ComponentItem::ComponentFunc(function) => {
                let (package, _) = interface.split_once('/').unwrap_or((interface, ""));
                let given = match package {
                    "cli" => cli(linker, interface, name)?,
                    "io" => streams::link(linker, name)? || wait::link(linker, name)?,
                    "http" => http::link(linker, interface, name)?,
                    "clocks" => clocks(linker, interface, name)?,
                    "random" => chance(linker, name)?,
                    _ => others(linker, name)?,
                };
                if !given {
                    refuse(linker, interface, name, &function)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn resource(linker: &mut LinkerInstance<'_, Ctx>, name: &str) -> Result<()> {
    if streams::resource(linker, name)? || wait::resource(linker, name)? || http::resource(linker, name)? {
        return Ok(());
    }
    linker.resource(name, ResourceType::host::<Nothing>(), |_, _| Ok(()))
}

/// The environment is empty; the standard streams are there; ending is a trap.
fn cli(linker: &mut LinkerInstance<'_, Ctx>, interface: &str, name: &str) -> Result<bool> {
    match (interface, name) {
        (_, "get-environment") => {
            linker.func_wrap(name, |store, (): ()| answer(store, |_| Vec::<(String, String)>::new()))
        }
        (_, "get-arguments") => linker.func_wrap(name, |store, (): ()| answer(store, |_| Vec::<String>::new())),
        (_, "initial-cwd") => linker.func_wrap(name, |store, (): ()| answer(store, |_| None::<String>)),
        (_, "get-stdin") => linker.func_wrap(name, |store, (): ()| answer(store, |_| InputHandle::new_own(STDIN))),
        (_, "get-stdout") => linker.func_wrap(name, |store, (): ()| answer(store, |_| OutputHandle::new_own(STDOUT))),
        (_, "get-stderr") => linker.func_wrap(name, |store, (): ()| answer(store, |_| OutputHandle::new_own(STDERR))),
        (_, "get-terminal-stdin" | "get-terminal-stdout" | "get-terminal-stderr") => {
            linker.func_wrap(name, |store, (): ()| answer(store, |_| None::<Resource<Nothing>>))
        }
        ("cli/exit", "exit") => {
            type Status = std::result::Result<(), ()>;
            linker.func_wrap(name, |mut store: Store<'_>, (status,): (Status,)| -> Result<()> {
                Err(exit(&mut store, u32::from(status.is_err())))
            })
        }
        ("cli/exit", "exit-with-code") => linker
            .func_wrap(name, |mut store: Store<'_>, (code,): (u8,)| -> Result<()> {
                Err(exit(&mut store, u32::from(code)))
            }),
        _ => return Ok(false),
    }?;
    Ok(true)
}

/// Counts the call and answers it.
fn answer<R>(mut store: Store<'_>, tell: impl FnOnce(&mut World) -> R) -> Result<(R,)> {
    let ctx = store.data_mut();
    ctx.call.charge()?;
    Ok((tell(&mut ctx.wasi),))
}

fn clocks(linker: &mut LinkerInstance<'_, Ctx>, interface: &str, name: &str) -> Result<bool> {
    let datetime = |ns: u64| Datetime { seconds: ns / 1_000_000_000, nanoseconds: (ns % 1_000_000_000) as u32 };
    match (interface, name) {
        ("clocks/wall-clock", "now") => {
            linker.func_wrap(name, move |store, (): ()| answer(store, |world| datetime(world.wall_ns)))
        }
        ("clocks/wall-clock", "resolution") => {
            linker.func_wrap(name, move |store, (): ()| answer(store, |_| datetime(1_000_000)))
        }
        ("clocks/monotonic-clock", "now") => {
            linker.func_wrap(name, |store, (): ()| answer(store, |world| world.steady_ns))
        }
        ("clocks/monotonic-clock", "resolution") => {
            linker.func_wrap(name, |store, (): ()| answer(store, |_| 1_000_000_u64))
        }
        ("clocks/monotonic-clock", "subscribe-instant") => {
            linker.func_wrap(name, |store, (when,): (u64,)| answer(store, |world| world.subscribe_until(when)))
        }
        ("clocks/monotonic-clock", "subscribe-duration") => linker.func_wrap(name, |store, (span,): (u64,)| {
            answer(store, |world| world.subscribe_until(world.steady_ns.saturating_add(span)))
        }),
        _ => return Ok(false),
    }?;
    Ok(true)
}

fn chance(linker: &mut LinkerInstance<'_, Ctx>, name: &str) -> Result<bool> {
    match name {
        "get-random-bytes" | "get-insecure-random-bytes" => {
            linker.func_wrap(name, |mut store: Store<'_>, (len,): (u64,)| Ok((random_bytes(store.data_mut(), len)?,)))
        }
        "get-random-u64" | "get-insecure-random-u64" => {
            linker.func_wrap(name, |mut store: Store<'_>, (): ()| Ok((number(store.data_mut())?,)))
        }
        "insecure-seed" => linker.func_wrap(name, |mut store: Store<'_>, (): ()| {
            let ctx = store.data_mut();
            Ok(((number(ctx)?, number(ctx)?),))
        }),
        _ => return Ok(false),
    }?;
    Ok(true)
}

fn number(ctx: &mut Ctx) -> Result<u64> {
    ctx.call.charge()?;
    random(ctx)
}

/// As the adapter of preview 1 gives them: the lowest byte of a number first.
fn random_bytes(ctx: &mut Ctx, len: u64) -> Result<Vec<u8>> {
    ctx.call.charge()?;
    if len > RANDOM_BYTES {
        return Err(wasmtime::format_err!("{len} random bytes at once: at most {RANDOM_BYTES} are given"));
    }
    let mut bytes = Vec::with_capacity(len as usize + 8);
    while (bytes.len() as u64) < len {
        bytes.extend(random(ctx)?.to_le_bytes());
    }
    bytes.truncate(len as usize);
    Ok(bytes)
}

/// Files and sockets: there is nothing to begin with.
fn others(linker: &mut LinkerInstance<'_, Ctx>, name: &str) -> Result<bool> {
    match name {
        "get-directories" => {
            linker.func_wrap(name, |store, (): ()| answer(store, |_| Vec::<(Resource<Nothing>, String)>::new()))
        }
        "instance-network" => {
            linker.func_wrap(name, |store, (): ()| answer(store, |_| Resource::<Nothing>::new_own(0)))
        }
        _ => return Ok(false),
    }?;
    Ok(true)
}

/// All that has nothing behind it.
fn refuse(linker: &mut LinkerInstance<'_, Ctx>, interface: &str, name: &str, function: &ComponentFunc) -> Result<()> {
    let refusal = refusal(function);
    let place = format!("wasi:{interface}#{name}");
    linker.func_new(name, move |mut store: Store<'_>, _, params, results| {
        store.data_mut().call.charge()?;
        params.iter().try_for_each(|param| let_go(&mut store, param))?;
        match (&refusal, results) {
            (Some(refusal), [result]) => {
                *result = Val::Result(Err(Some(Box::new(refusal.clone()))));
                Ok(())
            }
            _ => Err(wasmtime::format_err!("{place} was called, and there is nothing behind it for a handler")),
        }
    })
}

/// Gives back the resources that a call came with, and drops those that it handed over.
fn let_go(store: &mut Store<'_>, value: &Val) -> Result<()> {
    match value {
        Val::Resource(resource) => resource.resource_drop(store),
        Val::List(all) | Val::Tuple(all) => all.iter().try_for_each(|one| let_go(store, one)),
        Val::Record(fields) => fields.iter().try_for_each(|(_, one)| let_go(store, one)),
        Val::Option(Some(one)) | Val::Variant(_, Some(one)) => let_go(store, one),
        Val::Result(Ok(Some(one)) | Err(Some(one))) => let_go(store, one),
        _ => Ok(()),
    }
}

/// The error by which the function says that it may not.
fn refusal(function: &ComponentFunc) -> Option<Val> {
    let mut results = function.results();
    let (Some(Type::Result(result)), None) = (results.next(), results.next()) else { return None };
    let find = |names: &[String]| REFUSALS.iter().find(|refusal| names.iter().any(|name| name == *refusal));
    match result.err()? {
        Type::Enum(error) => {
            let names: Vec<_> = error.names().map(str::to_owned).collect();
            find(&names).map(|name| Val::Enum((*name).to_owned()))
        }
        Type::Variant(error) => {
            let names: Vec<_> = error.cases().filter(|c| c.ty.is_none()).map(|c| c.name.to_owned()).collect();
            find(&names).map(|name| Val::Variant((*name).to_owned(), None))
        }
        _ => None,
    }
}
