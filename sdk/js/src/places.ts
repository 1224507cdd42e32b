/** Where the lines of a bundle come from: the sources' names, and for each line of the bundle which one and which line of it. */
export interface Places {
  readonly sources: readonly string[];
  /** Index of the source, from 0; -1 is none that a handler's author wrote. */
  readonly source: readonly number[];
  readonly line: readonly number[];
}

/** `totals.ts:12` for a line of the bundle, from 1; null where it is not of the handler. */
export function locate(places: Places, line: number): string | null {
  const source = places.sources[places.source[line - 1] ?? -1];
  return source === undefined ? null : `${source}:${places.line[line - 1]}`;
}

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/** The places of a source map of version 3; `isOwn` tells which sources are the handler's. */
export function placesOf(map: { sources: string[]; mappings: string }, isOwn: (source: string) => boolean): Places {
  const source: number[] = [];
  const line: number[] = [];
  let [sourceAt, lineAt] = [0, 0];
  for (const generated of map.mappings.split(";")) {
    let first = true;
    for (const segment of generated === "" ? [] : generated.split(",")) {
      const [, bySource, byLine] = numbers(segment);
      if (bySource === undefined || byLine === undefined) continue;
      sourceAt += bySource;
      lineAt += byLine;
      if (first) {
        source.push(isOwn(map.sources[sourceAt] ?? "") ? sourceAt : -1);
        line.push(lineAt + 1);
        first = false;
      }
    }
    if (first) {
      source.push(-1);
      line.push(0);
    }
  }
  return { sources: map.sources.map((path) => path.split("/").pop() ?? path), source, line };
}

/** A segment of a source map: numbers in base 64, variable in length, the sign in the lowest bit. */
function numbers(segment: string): number[] {
  const found: number[] = [];
  let [value, shift] = [0, 0];
  for (const digit of segment) {
    const bits = DIGITS.indexOf(digit);
    value |= (bits & 31) << shift;
    shift += 5;
    if ((bits & 32) === 0) {
      found.push((value & 1) === 1 ? -(value >> 1) : value >> 1);
      [value, shift] = [0, 0];
    }
  }
  return found;
}
