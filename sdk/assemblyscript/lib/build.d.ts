/**
 * Compiles a handler, a file that exports `handle` and maybe `open`, to a module that Keyrail takes.
 *
 * @param options of asc, such as `["--noAssert"]`.
 * @throws Error with the compiler's words.
 */
export function build(handler: string, options?: readonly string[]): Promise<Uint8Array>;
