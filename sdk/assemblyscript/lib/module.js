// As much of WebAssembly's binary format as it takes to read what a module imports, and to rename what it exports.

const HEADER_BYTES = 8;
const IMPORTS = 2;
const EXPORTS = 7;

class Reader {
  constructor(bytes, at = 0) {
    this.bytes = bytes;
    this.at = at;
  }

  number() {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.bytes[this.at++];
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
  }

  name() {
    const size = this.number();
    this.at += size;
    return new TextDecoder().decode(this.bytes.subarray(this.at - size, this.at));
  }
}

function number(value) {
  const bytes = [];
  for (; value > 0x7f; value = Math.floor(value / 128)) bytes.push((value & 0x7f) | 0x80);
  return [...bytes, value];
}

function sections(module) {
  const found = [];
  for (const reader = new Reader(module, HEADER_BYTES); reader.at < module.length; ) {
    const start = reader.at;
    const kind = module[reader.at++];
    const size = reader.number();
    found.push({ kind, start, body: reader.at, end: reader.at + size });
    reader.at += size;
  }
  return found;
}

/** `module.name` of all functions that it imports. */
export function imports(module) {
  const section = sections(module).find(({ kind }) => kind === IMPORTS);
  if (section === undefined) return [];
  const reader = new Reader(module, section.body);
  return Array.from({ length: reader.number() }, () => {
    const name = `${reader.name()}.${reader.name()}`;
    if (reader.bytes[reader.at++] !== 0) throw new Error(`${name} is no function`);
    reader.number();
    return name;
  });
}

/** The module with other names for its exports. */
export function withExports(module, names) {
  const section = sections(module).find(({ kind }) => kind === EXPORTS);
  const reader = new Reader(module, section.body);
  const count = reader.number();
  const body = number(count);
  for (let left = count; left > 0; left--) {
    const name = reader.name();
    const renamed = new TextEncoder().encode(Object.hasOwn(names, name) ? names[name] : name);
    const [kind, ...index] = [reader.bytes[reader.at++], ...number(reader.number())];
    body.push(...number(renamed.length), ...renamed, kind, ...index);
  }
  const parts = [module.subarray(0, section.start), [EXPORTS, ...number(body.length), ...body], module.subarray(section.end)];
  return Uint8Array.from(Buffer.concat(parts.map((part) => Buffer.from(part))));
}
