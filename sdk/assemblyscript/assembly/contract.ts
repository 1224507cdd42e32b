// The contract's imports in the canonical ABI: see ../../wit/handler.wit. Texts and lists are a pointer and a length; an option is a
// flag before its value; what does not fit one number is written to the last pointer.

// @ts-ignore: decorator
@external("keyrail:handler/context@0.1.0", "id")
export declare function contextId(slot: u32, out: usize): void;
// @ts-ignore: decorator
@external("keyrail:handler/context@0.1.0", "headers")
export declare function contextHeaders(slot: u32, out: usize): void;
// @ts-ignore: decorator
@external("keyrail:handler/context@0.1.0", "header-value")
export declare function contextHeaderValue(slot: u32, name: usize, nameSize: usize, out: usize): void;
// @ts-ignore: decorator
@external("keyrail:handler/context@0.1.0", "follows-dead-letter")
export declare function contextFollowsDeadLetter(slot: u32): i32;
// @ts-ignore: decorator
@external("keyrail:handler/context@0.1.0", "now-ms")
export declare function contextNowMs(): i64;
// @ts-ignore: decorator
@external("keyrail:handler/context@0.1.0", "random")
export declare function contextRandom(slot: u32): u64;
// @ts-ignore: decorator
@external("keyrail:handler/context@0.1.0", "deadline-ms")
export declare function contextDeadlineMs(): i64;

// @ts-ignore: decorator
@external("keyrail:handler/emit@0.1.0", "send")
export declare function emitSend(
  slot: u32, to: usize, toSize: usize, hasKey: i32, key: usize, keySize: usize, hasValue: i32, value: usize, valueSize: usize,
  headers: usize, headerCount: usize, forwardHeaders: i32, hasTimestamp: i32, timestampMs: i64, hasDelay: i32, delayMs: u64, out: usize,
): void;

// @ts-ignore: decorator
@external("keyrail:handler/state@0.1.0", "get")
export declare function stateGet(slot: u32, name: usize, nameSize: usize, out: usize): void;
// @ts-ignore: decorator
@external("keyrail:handler/state@0.1.0", "put")
export declare function statePut(
  slot: u32, name: usize, nameSize: usize, value: usize, valueSize: usize, hasTtl: i32, ttlMs: u64, out: usize,
): void;
// @ts-ignore: decorator
@external("keyrail:handler/state@0.1.0", "delete")
export declare function stateDelete(slot: u32, name: usize, nameSize: usize, out: usize): void;
// @ts-ignore: decorator
@external("keyrail:handler/state@0.1.0", "scan")
export declare function stateScan(
  slot: u32, prefix: usize, prefixSize: usize, hasAfter: i32, after: usize, afterSize: usize, limit: u32, out: usize,
): void;

// @ts-ignore: decorator
@external("keyrail:handler/timers@0.1.0", "set")
export declare function timersSet(
  slot: u32, name: usize, nameSize: usize, atMs: i64, payload: usize, payloadSize: usize, out: usize,
): void;
// @ts-ignore: decorator
@external("keyrail:handler/timers@0.1.0", "cancel")
export declare function timersCancel(slot: u32, name: usize, nameSize: usize, out: usize): void;

// @ts-ignore: decorator
@external("keyrail:handler/http@0.1.0", "fetch-all")
export declare function httpFetchAll(requests: usize, count: usize, out: usize): void;

// @ts-ignore: decorator
@external("keyrail:handler/log@0.1.0", "threshold")
export declare function logThreshold(): i32;
// @ts-ignore: decorator
@external("keyrail:handler/log@0.1.0", "write")
export declare function logWrite(level: i32, message: usize, messageSize: usize, fields: usize, fieldCount: usize): void;

// @ts-ignore: decorator
@external("keyrail:handler/metrics@0.1.0", "register")
export declare function metricsRegister(name: usize, nameSize: usize, kind: i32, labels: usize, labelCount: usize): u32;
// @ts-ignore: decorator
@external("keyrail:handler/metrics@0.1.0", "observe")
export declare function metricsObserve(metric: u32, value: f64): void;
