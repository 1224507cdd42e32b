// Memory between host and handler. What the host hands over it has asked `cabi_realloc` for; it is copied into objects of the
// language, and given back.
import { decode, utf8 } from "./text";

/** Results of imports that do not fit one number, of which the largest has 16 bytes. */
export const OUT: usize = memory.data(16, 8);

/** Pointers to give back. They lie outside of the collector's reach: the host may ask for memory at any time. */
let held: usize = 0;
let heldCount: usize = 0;
let heldRoom: usize = 0;

/** Keeps memory until it is released. */
export function hold(pointer: usize): usize {
  if (heldCount == heldRoom) {
    heldRoom = heldRoom * 2 + 64;
    held = held == 0 ? heap.alloc(heldRoom * sizeof<usize>()) : heap.realloc(held, heldRoom * sizeof<usize>());
  }
  store<usize>(held + heldCount * sizeof<usize>(), pointer);
  heldCount++;
  return pointer;
}

/** How much is held. */
export function mark(): usize {
  return heldCount;
}

/** Gives back what has been held since. */
export function release(since: usize): void {
  while (heldCount > since) {
    heldCount--;
    heap.free(load<usize>(held + heldCount * sizeof<usize>()));
  }
}

/** What the host calls for memory; it never makes an allocation smaller or larger. */
export function cabi_realloc(old: usize, oldSize: usize, align: usize, size: usize): usize {
  if (size == 0) return align;
  const pointer = hold(heap.alloc(size));
  if (old != 0) memory.copy(pointer, old, min(oldSize, size));
  return pointer;
}

/** A copy of bytes that pointer and length stand for. */
export function takeBytes(at: usize): Uint8Array {
  const size = <i32>load<u32>(at, 4);
  const bytes = new Uint8Array(size);
  memory.copy(bytes.dataStart, load<u32>(at), size);
  return bytes;
}

/** The same behind a flag. */
export function takeOption(at: usize): Uint8Array | null {
  return load<u8>(at) == 0 ? null : takeBytes(at + 4);
}

export function takeText(at: usize): string {
  return decode(load<u32>(at), load<u32>(at, 4));
}

/** Writes pointer and length of a copy of the text. */
export function putText(at: usize, text: string): void {
  const encoded = utf8(text);
  const size = encoded.byteLength;
  const copy = hold(heap.alloc(max(size, 1)));
  memory.copy(copy, changetype<usize>(encoded), size);
  store<u32>(at, <u32>copy);
  store<u32>(at, <u32>size, 4);
}

/** Pairs of texts, held. */
export function putPairs(names: string[], values: string[]): usize {
  const pairs = hold(heap.alloc(max(names.length, 1) * 16));
  for (let i = 0; i < names.length; i++) {
    putText(pairs + i * 16, names[i]);
    putText(pairs + i * 16 + 8, values[i]);
  }
  return pairs;
}
