// UTF-8, for an engine that has no TextEncoder and TextDecoder. Where there are some, they are taken.

const CHUNK = 4096;
const REPLACEMENT = 0xfffd;
const ASCII = /^[\0-\x7f]*$/;

/**
 * An encoder of text as UTF-8, by what the engine has: halves of surrogate pairs become U+FFFD. A loop over the text takes longer, for the
 * engine interprets it; these functions are its own.
 */
export function encoder(fromBase64: (base64: string) => Uint8Array): (text: string) => Uint8Array {
  return (text) => fromBase64(btoa(ASCII.test(text) ? text : unescape(encodeURIComponent(text.toWellFormed()))));
}

/** UTF-8 as text. What is none becomes U+FFFD, by the Encoding Standard's rules, or throws. */
export function decode(bytes: Uint8Array, fatal = false): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += CHUNK) {
    // The engine takes any list of numbers here; the types ask for an array.
    const units = bytes.subarray(at, at + CHUNK) as unknown as number[];
    text += String.fromCharCode.apply(null, units);
  }
  if (ASCII.test(text)) return text;
  try {
    return decodeURIComponent(escape(text));
  } catch {
    return decodeAll(bytes, fatal);
  }
}

function decodeAll(bytes: Uint8Array, fatal: boolean): string {
  let text = "";
  let points: number[] = [];
  for (let at = 0; at < bytes.length; ) {
    const { point, size } = pointAt(bytes, at);
    if (point < 0 && fatal) throw new TypeError(`not UTF-8 at byte ${at}`);
    points.push(point < 0 ? REPLACEMENT : point);
    at += size;
    if (points.length === CHUNK) {
      text += String.fromCodePoint(...points);
      points = [];
    }
  }
  return text + String.fromCodePoint(...points);
}

/** The code point that begins there and its bytes; -1 with as many bytes as could have begun one. */
function pointAt(bytes: Uint8Array, at: number): { point: number; size: number } {
  const first = bytes[at] as number;
  if (first < 0x80) return { point: first, size: 1 };
  const size = first >= 0xc2 && first <= 0xdf ? 2 : (first & 0xf0) === 0xe0 ? 3 : first >= 0xf0 && first <= 0xf4 ? 4 : 0;
  if (size === 0) return { point: -1, size: 1 };
  // Overlong forms, surrogates and what is past U+10FFFF show in the second byte.
  let least = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80;
  let most = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf;
  let point = first & (0x7f >> size);
  for (let more = 1; more < size; more++) {
    const next = bytes[at + more];
    if (next === undefined || next < least || next > most) return { point: -1, size: more };
    point = (point << 6) | (next & 0x3f);
    least = 0x80;
    most = 0xbf;
  }
  return { point, size };
}

const native =
  typeof TextDecoder === "undefined"
    ? null
    : { encoder: new TextEncoder(), decoder: new TextDecoder("utf-8", { ignoreBOM: true }) };

/** Newer than what the types of the language know. */
const { fromBase64 } = Uint8Array as unknown as { fromBase64: (base64: string) => Uint8Array };

/** Text as UTF-8 bytes. */
export const bytes: (text: string) => Uint8Array = native === null ? encoder(fromBase64) : (text) => native.encoder.encode(text);

/** UTF-8 bytes as text; null stays null. What is no UTF-8 becomes U+FFFD: a `TextDecoder` that is `fatal` tells instead. */
export function text(bytes: Uint8Array): string;
export function text(bytes: Uint8Array | null): string | null;
export function text(bytes: Uint8Array | null): string | null {
  if (bytes === null) return null;
  return native === null ? decode(bytes) : native.decoder.decode(bytes);
}
