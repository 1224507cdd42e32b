/** The replacement character, and a mark: those bytes are no text. */
const NONE: u32 = (0xfffd << 4) | 8;

/** Text as UTF-8. Halves of surrogate pairs become U+FFFD. */
export function bytes(text: string): Uint8Array {
  return Uint8Array.wrap(utf8(text));
}

/** UTF-8 as text. What is none becomes U+FFFD, by the rules of the Encoding Standard. */
export function text(bytes: Uint8Array): string {
  return decode(bytes.dataStart, bytes.length);
}

/** Whether it is this text, to the letter. Kafka's null is none. */
export function isText(bytes: Uint8Array | null, text: string): bool {
  if (bytes === null) return false;
  const other = utf8(text);
  return bytes.length == other.byteLength && memory.compare(bytes.dataStart, changetype<usize>(other), bytes.length) == 0;
}

export function utf8(text: string): ArrayBuffer {
  return String.UTF8.encode(text, false, String.UTF8.ErrorMode.REPLACE);
}

/** Each byte gives at most one unit of UTF-16. */
export function decode(from: usize, size: usize): string {
  const units = heap.alloc(max<usize>(size << 1, 1));
  let to = units;
  for (let at: usize = 0; at < size; ) {
    const first = <u32>load<u8>(from + at);
    if (first < 0x80) {
      store<u16>(to, <u16>first);
      to += 2;
      at++;
      continue;
    }
    const taken = sequence(from + at, size - at);
    at += <usize>(taken & 7);
    const point = taken >> 4;
    if (point > 0xffff) {
      store<u16>(to, <u16>(0xd7c0 + (point >> 10)));
      store<u16>(to, <u16>(0xdc00 | (point & 0x3ff)), 2);
      to += 4;
    } else {
      store<u16>(to, <u16>point);
      to += 2;
    }
  }
  const found = String.UTF16.decodeUnsafe(units, to - units);
  heap.free(units);
  return found;
}

/** The first bytes as text, without a character that is cut in two at their end; empty if they are none. */
export function head(bytes: Uint8Array, most: i32): string {
  const start = bytes.dataStart;
  const size = <usize>min(bytes.length, most);
  let at: usize = 0;
  while (at < size) {
    const first = load<u8>(start + at);
    const taken = first < 0x80 ? 1 : sequence(start + at, size - at);
    const length = <usize>(taken & 7);
    if ((taken & ~7) == NONE) {
      if (at + length < size || first < 0xc2 || first > 0xf4) return "";
      break;
    }
    at += length;
  }
  return decode(start, at);
}

/** The code point of more than one byte that begins there, times 16, plus its bytes; or `NONE` and how many bytes begin none. */
function sequence(from: usize, left: usize): u32 {
  const first = <u32>load<u8>(from);
  let size: u32 = 0;
  if (first >= 0xc2 && first <= 0xdf) size = 2;
  else if ((first & 0xf0) == 0xe0) size = 3;
  else if (first >= 0xf0 && first <= 0xf4) size = 4;
  if (size == 0) return NONE | 1;
  // Overlong forms, surrogates and what is past U+10FFFF show in the second byte.
  let least: u32 = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
  let most: u32 = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
  let point = first & (<u32>0x7f >> size);
  for (let more: u32 = 1; more < size; more++) {
    const next = <usize>more < left ? <u32>load<u8>(from + <usize>more) : 0;
    if (next < least || next > most) return NONE | more;
    point = (point << 6) | (next & 0x3f);
    least = 0x80;
    most = 0xbf;
  }
  return (point << 4) | size;
}
