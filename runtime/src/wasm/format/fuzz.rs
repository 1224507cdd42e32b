//! Files as anybody may put them into the folder of handlers. What wasmtime makes of them is its own concern.

use super::{Shape, look, to_component};

/// A file: it is refused, or a component is made of it.
pub(crate) fn module(input: &[u8]) {
    match look(input) {
        Ok(Shape::Module(module)) => {
            if let Ok(component) = to_component(input, &module) {
                assert!(matches!(look(&component), Ok(Shape::Component)), "it made no component");
            }
        }
        Ok(Shape::Component) => {}
        Err(kind) => assert!(!format!("{kind:?}").is_empty()),
    }
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id, content.len() as u8 | 0x80, (content.len() >> 7) as u8][..], content].concat()
}

fn name(text: &str) -> Vec<u8> {
    [&[text.len() as u8][..], text.as_bytes()].concat()
}

pub(crate) fn module_seeds() -> Vec<Vec<u8>> {
    let (core, component) = (b"\0asm\x01\0\0\0", b"\0asm\x0d\0\x01\0");
    let types = section(1, b"\x03\x60\0\0\x60\x03\x7f\x7f\x7f\x01\x7f\x60\x04\x7f\x7f\x7f\x7f\x01\x7f");
    let export = |text: &str, kind: u8, index: u8| [name(text), vec![kind, index]].concat();
    let imports = [&b"\x01"[..], &name("keyrail:handler/emit@0.1.0"), &name("send"), b"\0\0"].concat();
    let exports = |first: u8| {
        let open = export("keyrail:handler/guest@0.1.0#open", 0, first);
        let process = export("keyrail:handler/guest@0.1.0#process", 0, first + 1);
        let rest = [export("cabi_realloc", 0, first + 2), export("memory", 2, 0)].concat();
        section(7, &[vec![4], open, process, rest].concat())
    };
    let wasi = [&b"\x01"[..], &name("wasi_snapshot_preview1"), &name("fd_write"), b"\0\x02"].concat();
    let (functions, memory) = (section(3, b"\x03\x01\x01\x02"), section(5, b"\x01\0\x01"));
    let code = section(10, b"\x03\x04\0\x41\0\x0b\x04\0\x41\0\x0b\x04\0\x41\0\x0b");
    let typed = section(0, &[name("component-type:x"), component.to_vec()].concat());
    let whole = [&core[..], &types, &functions, &memory, &exports(0), &code].concat();
    vec![
        core.to_vec(),
        component.to_vec(),
        [&whole[..], &typed].concat(),
        [&core[..], &types, &section(2, &imports)].concat(),
        [&core[..], &types, &section(2, &wasi), &functions, &memory, &exports(1), &code].concat(),
        whole,
    ]
}
