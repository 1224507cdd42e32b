/** A whole number that the engine passes on as it is. */
export function whole(value: number, what: string, least = Number.MIN_SAFE_INTEGER, most = Number.MAX_SAFE_INTEGER): number {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new RangeError(`${what} is a whole number from ${least} to ${most}, not ${String(value)}`);
  }
  return value;
}
