// The part of the Encoding Standard that handlers and their libraries use.
import { bytes, decode } from "./text.js";

const BOM = "\ufeff";
const UTF8 = ["utf-8", "utf8", "unicode-1-1-utf-8"];

export class TextEncoder {
  readonly encoding = "utf-8";

  encode(input = ""): Uint8Array {
    return bytes(String(input));
  }

  encodeInto(source: string, target: Uint8Array): { read: number; written: number } {
    let read = 0;
    let written = 0;
    for (const char of source) {
      const part = bytes(char);
      if (written + part.length > target.length) break;
      target.set(part, written);
      written += part.length;
      read += char.length;
    }
    return { read, written };
  }
}

/** UTF-8, whole: not piece by piece. */
export class TextDecoder {
  readonly encoding = "utf-8";
  readonly fatal: boolean;
  readonly ignoreBOM: boolean;

  constructor(label = "utf-8", options: { fatal?: boolean; ignoreBOM?: boolean } = {}) {
    if (!UTF8.includes(label.trim().toLowerCase())) throw new RangeError(`no text encoding here but utf-8: ${label}`);
    this.fatal = options.fatal ?? false;
    this.ignoreBOM = options.ignoreBOM ?? false;
  }

  decode(input?: ArrayBuffer | ArrayBufferView, options: { stream?: boolean } = {}): string {
    if (options.stream === true) throw new TypeError("this TextDecoder does not decode piece by piece");
    if (input === undefined) return "";
    const view = ArrayBuffer.isView(input)
      ? new Uint8Array(input.buffer, input.byteOffset, input.byteLength)
      : new Uint8Array(input);
    const text = decode(view, this.fatal);
    return !this.ignoreBOM && text.startsWith(BOM) ? text.slice(1) : text;
  }
}
