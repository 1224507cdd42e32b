// The host's side of the canonical ABI, over the memory of a handler's module.

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();

export class Abi {
  /** The module's exports; set when it is there. */
  exports = null;

  /** Memory moves when it grows: look anew each time. */
  get #view() {
    return new DataView(this.exports.memory.buffer);
  }

  byte(at) {
    return this.#view.getUint8(at);
  }

  word(at) {
    return this.#view.getUint32(at, true);
  }

  long(at) {
    return this.#view.getBigUint64(at, true);
  }

  setByte(at, value) {
    this.#view.setUint8(at, value);
  }

  setShort(at, value) {
    this.#view.setUint16(at, value, true);
  }

  setWord(at, value) {
    this.#view.setUint32(at, value, true);
  }

  setLong(at, value) {
    this.#view.setBigInt64(at, BigInt(value), true);
  }

  bytes(at, size) {
    return new Uint8Array(this.exports.memory.buffer, at, size).slice();
  }

  text(at, size) {
    return decoder.decode(this.bytes(at, size));
  }

  /** Where pointer and length of it lie. */
  textAt(at) {
    return this.text(this.word(at), this.word(at + 4));
  }

  option(flag, at, size) {
    return flag === 0 ? null : this.bytes(at, size);
  }

  list(at, count, step, read) {
    return Array.from({ length: count }, (_, index) => read(at + index * step));
  }

  allocate(size, align = 8) {
    return this.exports.cabi_realloc(0, 0, align, size);
  }

  /** Writes pointer and length of bytes or text. */
  put(at, value) {
    const bytes = typeof value === "string" ? encoder.encode(value) : value;
    const copy = this.allocate(bytes.length, 1);
    if (bytes.length > 0) new Uint8Array(this.exports.memory.buffer).set(bytes, copy);
    this.setWord(at, copy);
    this.setWord(at + 4, bytes.length);
  }

  putOption(at, value) {
    this.setByte(at, value === null ? 0 : 1);
    if (value !== null) this.put(at + 4, value);
  }

  putList(at, items, step, write) {
    const list = this.allocate(items.length * step);
    items.forEach((item, index) => write(list + index * step, item));
    this.setWord(at, list);
    this.setWord(at + 4, items.length);
  }
}
