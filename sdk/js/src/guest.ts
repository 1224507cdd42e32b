// What a handler is built with: the contract's imports, and what handlers expect of their surroundings and the engine lacks.
// IMPORTANT: built in front of the handler's own module, which may use the latter while it is loaded.
import context from "keyrail:handler/context@0.1.0";
import emit from "keyrail:handler/emit@0.1.0";
import http from "keyrail:handler/http@0.1.0";
import log from "keyrail:handler/log@0.1.0";
import metrics from "keyrail:handler/metrics@0.1.0";
import state from "keyrail:handler/state@0.1.0";
import timers from "keyrail:handler/timers@0.1.0";
import { Guest, Handler } from "./handler.js";
import type { WireMessage, WireOutcome, WireSetup } from "./host.js";
import { TextDecoder, TextEncoder } from "./codec.js";
import { console } from "./log.js";
import { locate, type Places } from "./places.js";

Object.assign(globalThis, { console, TextDecoder, TextEncoder });

/** The contract's exports for a handler; `places` tells lines of the bundle from those of the sources. */
export function start(exported: unknown, places: () => Places): object {
  if (!(exported instanceof Handler)) {
    throw new TypeError("the module's default export is no handler: export default handler((message, ctx) => { ... })");
  }
  const guest = new Guest(exported, { context, emit, http, log, metrics, state, timers }, (_, line) => locate(places(), line));
  const chance = Math.random;
  // The engine's own numbers are fixed when the handler is built.
  Math.random = () => guest.context?.sequence().fraction() ?? chance();
  return {
    open(setup: WireSetup): void {
      const refused = guest.open(setup);
      if (refused !== null) throw refused;
    },
    process: (batch: WireMessage[]): WireOutcome[] => guest.process(batch),
  };
}
