//! Looks at a file before the compiler does, and makes a component of a core module.

use super::contract::{CONTRACT_PACKAGE, CONTRACT_VERSION, CONTRACT_WIT, EXPORT, fits, interface};
use super::error::LoadErrorKind;
use super::wasi::preview1;
use wasmparser::{Encoding, Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Largest file, in bytes.
pub(super) const FILE_BYTES: u64 = 64 << 20;
/// Most functions in a file: compiling takes time and memory by the function.
const FUNCTIONS: u64 = 200_000;
/// Largest function, in bytes: what compiling one takes grows faster than it does, and nothing stops a compiler on its way. The
/// largest of interpreters, their main loops, have some hundred thousand.
const FUNCTION_BYTES: u64 = 1 << 20;
/// Components and modules within each other: toolchains nest three or four deep, and who reads them nests calls.
const DEPTH: u64 = 32;

/// What a file is, as far as its outline tells.
#[derive(Debug)]
pub(super) enum Shape {
    Component,
    Module(Module),
}

/// The outline of a core module.
#[derive(Debug, Default)]
pub(super) struct Module {
    imports: Vec<String>,
    exports: Vec<String>,
    /// How it writes strings; UTF-8 unless a type embedded in it says otherwise.
    encoding: StringEncoding,
}

/// Custom sections in which toolchains say which component a module is a part of.
const TYPE_SECTIONS: &str = "component-type";

/// What the file is. Reads its outline only, a few milliseconds for a large one.
pub(super) fn look(bytes: &[u8]) -> Result<Shape, LoadErrorKind> {
    within(bytes.len() as u64, FILE_BYTES, "bytes")?;
    if !bytes.starts_with(b"\0asm") {
        return Err(LoadErrorKind::NotWasm { found: resembles(bytes) });
    }
    let damaged = |e: wasmparser::BinaryReaderError| LoadErrorKind::Damaged {
        detail: format!("{} at byte {} of {}", e.message(), e.offset(), bytes.len()),
    };
    let mut shape = None;
    let mut module = Module::default();
    let (mut functions, mut depth) = (0, 0);
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(damaged)? {
            Payload::Version { encoding, .. } => {
                shape = shape.or(Some(encoding));
                depth += 1;
                within(depth, DEPTH, "components and modules within each other")?;
            }
            Payload::End(_) => depth -= 1,
            Payload::CodeSectionStart { count, .. } => functions += u64::from(count),
            Payload::CodeSectionEntry(body) => {
                within(body.range().len() as u64, FUNCTION_BYTES, "bytes in one function")?;
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    module.imports.push(import.map_err(damaged)?.module.to_owned());
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    module.exports.push(export.map_err(damaged)?.name.to_owned());
                }
            }
            Payload::UnknownSection { id, range, .. } => {
                let detail = format!("section {id} at byte {} is of no known kind", range.start);
                return Err(LoadErrorKind::Damaged { detail });
            }
            Payload::CustomSection(section) if section.name().starts_with(TYPE_SECTIONS) => {
                module.encoding = encoding(section.data()).unwrap_or(module.encoding);
            }
            _ => {}
        }
    }
    within(functions, FUNCTIONS, "functions")?;
    match shape {
        Some(Encoding::Component) => Ok(Shape::Component),
        Some(Encoding::Module) => Ok(Shape::Module(module)),
        None => Err(LoadErrorKind::Damaged { detail: "it ends after its first bytes".to_owned() }),
    }
}

fn within(has: u64, limit: u64, what: &'static str) -> Result<(), LoadErrorKind> {
    if has > limit { Err(LoadErrorKind::TooLarge { what, has, limit }) } else { Ok(()) }
}

/// Whether a file asks for state, by the names of what it imports. One that can't be read asks for nothing; whoever loads it
/// says why.
pub(crate) fn uses_state(bytes: &[u8]) -> bool {
    imports(bytes, "state")
}

/// The same for timers.
pub(crate) fn uses_timers(bytes: &[u8]) -> bool {
    imports(bytes, "timers")
}

fn imports(bytes: &[u8], wanted: &str) -> bool {
    let is_wanted = |name: &str| interface(plain(name)).is_some_and(|(interface, _)| interface == wanted);
    let mut depth = 0;
    let mut outermost = None;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload {
            Ok(Payload::Version { encoding, .. }) => {
                depth += 1;
                outermost.get_or_insert(encoding);
            }
            Ok(Payload::End(_)) => depth -= 1,
            Ok(Payload::ComponentImportSection(section)) if depth == 1 => {
                if section.into_iter().filter_map(Result::ok).any(|import| is_wanted(import.name.name)) {
                    return true;
                }
            }
            Ok(Payload::ImportSection(section)) if outermost == Some(Encoding::Module) => {
                if section.into_imports().filter_map(Result::ok).any(|import| is_wanted(import.module)) {
                    return true;
                }
            }
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    false
}

/// Puts what is no WebAssembly into words.
fn resembles(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "the file is empty (0 bytes)".to_owned();
    }
    if bytes.starts_with(b"\x7fELF") {
        return "an ELF file, that is native or already compiled code, which is never loaded".to_owned();
    }
    if bytes.starts_with(b"\x1f\x8b") || bytes.starts_with(b"\x28\xb5\x2f\xfd") || bytes.starts_with(b"PK") {
        return "a compressed file: unpack it".to_owned();
    }
    if b"\0asm".starts_with(bytes) {
        return format!("the file ends after {} bytes", bytes.len());
    }
    let head = &bytes[..bytes.len().min(64)];
    let text = str::from_utf8(head).or_else(|e| str::from_utf8(&head[..e.valid_up_to()]));
    match text {
        Ok(text) if text.trim_start().starts_with("(module") || text.trim_start().starts_with("(component") => {
            "WebAssembly text: assemble it first (wasm-tools parse)".to_owned()
        }
        Ok(text) if text.len() > 3 && !text.chars().any(|c| c.is_control() && !c.is_whitespace()) => {
            format!("text that starts with {:?}", text.chars().take(24).collect::<String>())
        }
        _ => format!("bytes that start with {}", hex(&bytes[..bytes.len().min(4)])),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ")
}

/// The string encoding that an embedded type asks for. Nothing else in it is read: see [`to_component`].
fn encoding(component_type: &[u8]) -> Option<StringEncoding> {
    for payload in Parser::new(0).parse_all(component_type) {
        if let Ok(Payload::CustomSection(section)) = &payload
            && section.name() == "wit-component-encoding"
        {
            return match section.data() {
                [_, 0] => Some(StringEncoding::UTF8),
                [_, 1] => Some(StringEncoding::UTF16),
                [_, 2] => Some(StringEncoding::CompactUTF16),
                _ => None,
            };
        }
        payload.ok()?;
    }
    None
}

/// Makes a component of a core module, by the names of its imports and exports and the contract's types.
///
/// A type embedded in the module is put aside: the contract says it all, and reading a forged one (packages that need
/// each other) would exhaust the host's stack.
pub(super) fn to_component(bytes: &[u8], module: &Module) -> Result<Vec<u8>, LoadErrorKind> {
    check_imports(module)?;
    let version = check_exports(module)?;
    let mut bytes = without_types(bytes)?;
    embed(&mut bytes, version, module.encoding)
        .map_err(|e| LoadErrorKind::Host { detail: format!("its own contract: {e:#}") })?;
    let adapter = if module.imports.iter().any(|import| import == preview1::MODULE) {
        let adapter = preview1::module();
        Some(adapter.map_err(|e| LoadErrorKind::Host { detail: format!("its own adapter: {e:#}") })?)
    } else {
        None
    };
    let encoded = ComponentEncoder::default().validate(true).module(&bytes).and_then(|encoder| match &adapter {
        Some(adapter) => encoder.adapter(preview1::MODULE, adapter)?.encode(),
        None => { encoder }.encode(),
    });
    encoded.map_err(|e| LoadErrorKind::WrongContract {
        missing: format!("no component can be made of this core module: {e:#}"),
        found: module.exports.clone(),
    })
}

/// Imports are checked by their interface here, and by their types when the component is linked.
fn check_imports(module: &Module) -> Result<(), LoadErrorKind> {
    for import in module.imports.iter().filter(|import| *import != preview1::MODULE) {
        let name = plain(import);
        match interface(name) {
            Some((_, version)) if fits(version) => {}
            Some(_) => return Err(LoadErrorKind::WrongVersion { has: name.to_owned(), needs: CONTRACT_VERSION }),
            None => return Err(LoadErrorKind::ForbiddenImport { name: import.clone() }),
        }
    }
    Ok(())
}

/// Both functions of the contract must be there by name. Gives the version that they name.
fn check_exports(module: &Module) -> Result<&str, LoadErrorKind> {
    let mut functions = Vec::new();
    let mut other_version = None;
    for name in module.exports.iter().map(|name| plain(name)) {
        // `keyrail:handler/guest@0.1.0#process`, or with `|` in the newer naming.
        let Some((export, function)) = name.split_once(['#', '|']) else { continue };
        match interface(export) {
            Some(("guest", version)) if fits(version) => functions.push((function, version)),
            Some(("guest", _)) => other_version = Some(export.to_owned()),
            _ => {}
        }
    }
    let has = |wanted: &&str| functions.iter().any(|(function, _)| function == wanted);
    let missing: Vec<_> = ["open", "process"].into_iter().filter(|f| !has(f)).collect();
    if let ([], [(_, version), ..]) = (&*missing, &*functions) {
        return Ok(version);
    }
    if let Some(has) = other_version {
        return Err(LoadErrorKind::WrongVersion { has, needs: CONTRACT_VERSION });
    }
    let missing = missing.iter().map(|f| format!("{EXPORT}#{f}")).collect::<Vec<_>>().join(" and ");
    let program = module.exports.iter().any(|name| name == "_start");
    let hint = if program { ", and it is a program with a main: build a library (a reactor)" } else { "" };
    Err(LoadErrorKind::WrongContract {
        missing: format!("a core module must export {missing}{hint}"),
        found: module.exports.clone(),
    })
}

/// A name without the marks that toolchains put before it.
fn plain(name: &str) -> &str {
    let name = name.strip_prefix("cabi_post_").unwrap_or(name);
    name.strip_prefix("cm32p2|").unwrap_or(name)
}

/// The module without the types embedded in it.
fn without_types(bytes: &[u8]) -> Result<Vec<u8>, LoadErrorKind> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut copied = 0;
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(|e| LoadErrorKind::Damaged { detail: e.to_string() })?;
        let end = match &payload {
            Payload::Version { range, .. } => range.end,
            _ => match payload.as_section() {
                Some((_, range)) => range.end,
                None => continue,
            },
        };
        // A section's header lies between the end of the one before and its own start.
        match &payload {
            Payload::CustomSection(section) if section.name().starts_with(TYPE_SECTIONS) => {}
            _ => out.extend_from_slice(&bytes[copied..end]),
        }
        copied = end;
    }
    Ok(out)
}

/// Embeds the contract's types, named by the version that the module names: any that fits has the same types.
pub(super) fn embed(bytes: &mut Vec<u8>, version: &str, encoding: StringEncoding) -> anyhow::Result<()> {
    let mut resolve = Resolve::default();
    let mut contract = CONTRACT_WIT.to_owned();
    if version.matches('.').count() == 2 {
        let package = |version: &str| format!("package {CONTRACT_PACKAGE}@{version};");
        contract = contract.replace(&package(CONTRACT_VERSION), &package(version));
    }
    let package = resolve.push_str("handler.wit", &contract)?;
    let world = resolve.select_world(&[package], Some("handler"))?;
    embed_component_metadata(bytes, &resolve, world, encoding)
}

#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
