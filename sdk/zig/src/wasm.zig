//! The border in WebAssembly: the contract's imports and exports in the component model's canonical ABI. The contract is
//! flat and frozen, so it is written by hand; the layouts are those of extern structs.

const std = @import("std");
const types = @import("types.zig");
const http = @import("http.zig");
const Allocator = std.mem.Allocator;
const HostError = types.HostError;

const context = struct {
    extern "keyrail:handler/context@0.1.0" fn id(slot: u32, result: *Bytes) void;
    extern "keyrail:handler/context@0.1.0" fn headers(slot: u32, result: *List(RawHeader)) void;
    extern "keyrail:handler/context@0.1.0" fn @"header-value"(slot: u32, name: [*]const u8, size: usize, result: *OptionBytes) void;
    extern "keyrail:handler/context@0.1.0" fn @"follows-dead-letter"(slot: u32) u32;
    extern "keyrail:handler/context@0.1.0" fn @"now-ms"() i64;
    extern "keyrail:handler/context@0.1.0" fn random(slot: u32) u64;
    extern "keyrail:handler/context@0.1.0" fn @"deadline-ms"() i64;
};

const emit = struct {
    // zig fmt: off
    extern "keyrail:handler/emit@0.1.0" fn send(
        slot: u32, to: [*]const u8, to_size: usize, has_key: u32, key: [*]const u8, key_size: usize,
        has_value: u32, value: [*]const u8, value_size: usize, headers: [*]const RawHeader, header_count: usize,
        forward_headers: u32, has_timestamp: u32, timestamp_ms: i64, has_delay: u32, delay_ms: u64, result: *Result(Nothing),
    ) void;
    // zig fmt: on
};

const state = struct {
    extern "keyrail:handler/state@0.1.0" fn get(slot: u32, name: [*]const u8, size: usize, result: *Result(OptionBytes)) void;
    extern "keyrail:handler/state@0.1.0" fn put(slot: u32, name: [*]const u8, size: usize, value: [*]const u8, value_size: usize, has_ttl: u32, ttl_ms: u64, result: *Result(Nothing)) void;
    extern "keyrail:handler/state@0.1.0" fn delete(slot: u32, name: [*]const u8, size: usize, result: *Result(Nothing)) void;
    extern "keyrail:handler/state@0.1.0" fn scan(slot: u32, prefix: [*]const u8, size: usize, has_after: u32, after: [*]const u8, after_size: usize, limit: u32, result: *Result(List(RawEntry))) void;
};

const timers = struct {
    extern "keyrail:handler/timers@0.1.0" fn set(slot: u32, name: [*]const u8, size: usize, at_ms: i64, payload: [*]const u8, payload_size: usize, result: *Result(Nothing)) void;
    extern "keyrail:handler/timers@0.1.0" fn cancel(slot: u32, name: [*]const u8, size: usize, result: *Result(Nothing)) void;
};

const log = struct {
    extern "keyrail:handler/log@0.1.0" fn threshold() u32;
    extern "keyrail:handler/log@0.1.0" fn write(level: u32, message: [*]const u8, size: usize, fields: [*]const RawPair, count: usize) void;
};

const metrics = struct {
    extern "keyrail:handler/metrics@0.1.0" fn register(name: [*]const u8, size: usize, kind: u32, labels: [*]const RawPair, count: usize) u32;
    extern "keyrail:handler/metrics@0.1.0" fn observe(metric: u32, value: f64) void;
};

const outside = struct {
    extern "keyrail:handler/http@0.1.0" fn @"fetch-all"(requests: [*]const RawRequest, count: usize, result: *List(RawAnswer)) void;
};

/// Where a slice lies. The host wants that inside of the memory, also where nothing is there: an empty slice may point
/// elsewhere.
fn at(slice: anytype) @TypeOf(slice.ptr) {
    return if (slice.len == 0) @ptrFromInt(8) else slice.ptr;
}

const Nothing = extern struct {};

fn List(T: type) type {
    return extern struct {
        ptr: [*]const T,
        len: usize,

        fn slice(list: @This()) []const T {
            return if (list.len == 0) &.{} else list.ptr[0..list.len];
        }
        fn of(from: []const T) @This() {
            return .{ .ptr = at(from), .len = from.len };
        }
    };
}

const Bytes = List(u8);

const OptionBytes = extern struct {
    is: u8 = 0,
    bytes: Bytes = .of(""),

    fn get(option: OptionBytes) ?[]const u8 {
        return if (option.is == 0) null else option.bytes.slice();
    }
    fn of(from: ?[]const u8) OptionBytes {
        return if (from) |bytes| .{ .is = 1, .bytes = .of(bytes) } else .{};
    }
};

const RawHeader = extern struct { name: Bytes, value: OptionBytes };
const RawEntry = extern struct { name: Bytes, value: Bytes };
const RawPair = extern struct { name: Bytes, value: Bytes };

const RawRequest = extern struct {
    slot: u32,
    method: Bytes,
    url: Bytes,
    headers: List(RawPair),
    body: OptionBytes,
    has_timeout: u8,
    timeout_ms: u64,
};

const RawAnswer = extern struct {
    failed: u8,
    is: extern union {
        response: extern struct { status: u16, headers: List(RawPair), body: Bytes },
        err: extern struct { tag: u8, words: Bytes },
    },
};

const RawMessage = extern struct {
    source: extern struct { tag: u8, is: extern union { topic: u32, timer: Bytes } },
    partition: u32,
    offset: u64,
    timestamp_ms: i64,
    key: OptionBytes,
    value: OptionBytes,
    attempt: u32,
};

const RawOutcome = extern struct {
    tag: u8,
    code: Bytes align(8) = .of(""),
    detail: Bytes = .of(""),
    has_delay: u8 = 0,
    delay_ms: u64 = 0,
    outage: u8 = 0,
};

comptime {
    std.debug.assert(@sizeOf(RawHeader) == 20);
    std.debug.assert(@offsetOf(RawRequest, "timeout_ms") == 48 and @sizeOf(RawRequest) == 56);
    std.debug.assert(@sizeOf(RawAnswer) == 24);
    std.debug.assert(@sizeOf(RawMessage) == 64);
    std.debug.assert(@offsetOf(RawOutcome, "delay_ms") == 32 and @sizeOf(RawOutcome) == 48);
}

fn Result(T: type) type {
    return extern struct {
        failed: u8,
        is: extern union { ok: T, err: extern struct { tag: u8, words: Bytes } },

        fn get(result: *const @This(), words: *[]const u8) HostError!T {
            if (result.failed == 0) return result.is.ok;
            switch (result.is.err.tag) {
                0 => return error.NoKey,
                1 => return error.UnknownOutput,
                2 => return error.TooLarge,
                3 => return error.OverQuota,
                else => {
                    words.* = result.is.err.words.slice();
                    return error.Other;
                },
            }
        }
    };
}

/// Where the memory goes that the host asks for: the message's while a handler runs, else the call's.
var call_arena: std.heap.ArenaAllocator = .init(std.heap.wasm_allocator);
var message_arena: std.heap.ArenaAllocator = .init(std.heap.wasm_allocator);
var arena = &call_arena;

fn reallocate(old: ?[*]u8, old_size: usize, alignment: u32, size: usize) callconv(.c) [*]u8 {
    if (size == 0) return @ptrFromInt(alignment);
    const given = arena.allocator().rawAlloc(size, .fromByteUnits(alignment), @returnAddress()) orelse @panic("out of memory");
    if (old) |from| @memcpy(given[0..@min(old_size, size)], from[0..@min(old_size, size)]);
    return given;
}

pub fn id(slot: u32, _: Allocator) []const u8 {
    var result: Bytes = undefined;
    context.id(slot, &result);
    return result.slice();
}

pub fn headers(slot: u32, allocator: Allocator) Allocator.Error![]const types.Header {
    var result: List(RawHeader) = undefined;
    context.headers(slot, &result);
    const all = try allocator.alloc(types.Header, result.len);
    for (all, result.slice()) |*header, raw| header.* = .{ .name = raw.name.slice(), .value = raw.value.get() };
    return all;
}

pub fn headerValue(slot: u32, name: []const u8) ?[]const u8 {
    var result: OptionBytes = undefined;
    context.@"header-value"(slot, at(name), name.len, &result);
    return result.get();
}

pub fn followsDeadLetter(slot: u32) bool {
    return context.@"follows-dead-letter"(slot) != 0;
}

pub fn nowMs() i64 {
    return context.@"now-ms"();
}

pub fn random(slot: u32) u64 {
    return context.random(slot);
}

pub fn deadlineMs() i64 {
    return context.@"deadline-ms"();
}

pub fn send(slot: u32, allocator: Allocator, own_key: ?[]const u8, record: *const types.Record, words: *[]const u8) (HostError || Allocator.Error)!void {
    const raw = try allocator.alloc(RawHeader, record.headers.len);
    for (raw, record.headers) |*to, from| to.* = .{ .name = .of(from.name), .value = .of(from.value) };
    const key: OptionBytes = .of(switch (record.key) {
        .own => own_key,
        .none => null,
        .bytes => |bytes| bytes,
    });
    const value: OptionBytes = .of(record.value);
    var result: Result(Nothing) = undefined;
    // zig fmt: off
    emit.send(
        slot, at(record.to), record.to.len, key.is, key.bytes.ptr, key.bytes.len,
        value.is, value.bytes.ptr, value.bytes.len, at(raw), raw.len, @intFromBool(record.forward_headers),
        @intFromBool(record.timestamp_ms != null), record.timestamp_ms orelse 0,
        @intFromBool(record.delay_ms != null), record.delay_ms orelse 0, &result,
    );
    // zig fmt: on
    _ = try result.get(words);
}

pub fn get(slot: u32, _: Allocator, name: []const u8, words: *[]const u8) HostError!?[]const u8 {
    var result: Result(OptionBytes) = undefined;
    state.get(slot, at(name), name.len, &result);
    return (try result.get(words)).get();
}

pub fn put(slot: u32, name: []const u8, value: []const u8, ttl_ms: ?u64, words: *[]const u8) HostError!void {
    var result: Result(Nothing) = undefined;
    state.put(slot, at(name), name.len, at(value), value.len, @intFromBool(ttl_ms != null), ttl_ms orelse 0, &result);
    _ = try result.get(words);
}

pub fn delete(slot: u32, name: []const u8, words: *[]const u8) HostError!void {
    var result: Result(Nothing) = undefined;
    state.delete(slot, at(name), name.len, &result);
    _ = try result.get(words);
}

pub fn scan(slot: u32, allocator: Allocator, prefix: []const u8, after: ?[]const u8, limit: u32, words: *[]const u8) (HostError || Allocator.Error)![]const types.Entry {
    const from: OptionBytes = .of(after);
    var result: Result(List(RawEntry)) = undefined;
    state.scan(slot, at(prefix), prefix.len, from.is, from.bytes.ptr, from.bytes.len, limit, &result);
    const found = (try result.get(words)).slice();
    const entries = try allocator.alloc(types.Entry, found.len);
    for (entries, found) |*entry, raw| entry.* = .{ .name = raw.name.slice(), .value = raw.value.slice() };
    return entries;
}

pub fn setTimer(slot: u32, name: []const u8, at_ms: i64, payload: []const u8, words: *[]const u8) HostError!void {
    var result: Result(Nothing) = undefined;
    timers.set(slot, at(name), name.len, at_ms, at(payload), payload.len, &result);
    _ = try result.get(words);
}

pub fn cancelTimer(slot: u32, name: []const u8, words: *[]const u8) HostError!void {
    var result: Result(Nothing) = undefined;
    timers.cancel(slot, at(name), name.len, &result);
    _ = try result.get(words);
}

pub fn fetchAll(allocator: Allocator, all: []const http.Asked) Allocator.Error![]const http.Answer {
    const raw = try allocator.alloc(RawRequest, all.len);
    for (raw, all) |*to, *from| {
        const request = &from.request;
        const fields = try allocator.alloc(RawPair, request.headers.len);
        for (fields, request.headers) |*field, header| field.* = .{ .name = .of(header.name), .value = .of(header.value) };
        to.* = .{
            .slot = from.slot,
            .method = .of(request.verb()),
            .url = .of(request.url),
            .headers = .of(fields),
            .body = .of(request.body),
            .has_timeout = @intFromBool(request.timeout_ms != null),
            .timeout_ms = request.timeout_ms orelse 0,
        };
    }
    var result: List(RawAnswer) = undefined;
    outside.@"fetch-all"(at(raw), raw.len, &result);
    const answers = try allocator.alloc(http.Answer, result.len);
    for (answers, result.slice()) |*answer, *from| answer.* = try answered(allocator, from);
    return answers;
}

fn answered(allocator: Allocator, raw: *const RawAnswer) Allocator.Error!http.Answer {
    if (raw.failed != 0) return .{ .failed = switch (raw.is.err.tag) {
        0 => .{ .err = error.HttpDenied, .words = raw.is.err.words.slice() },
        1 => .{ .err = error.HttpInvalid, .words = raw.is.err.words.slice() },
        2 => .{ .err = error.HttpTimeout },
        3 => .{ .err = error.HttpUnreachable, .words = raw.is.err.words.slice() },
        else => .{ .err = error.HttpTooLarge },
    } };
    const response = &raw.is.response;
    const fields = try allocator.alloc(types.Pair, response.headers.len);
    for (fields, response.headers.slice()) |*to, from| to.* = .{ .name = from.name.slice(), .value = from.value.slice() };
    return .{ .response = .{ .status = response.status, .headers = fields, .body = response.body.slice() } };
}

pub fn threshold() types.Level {
    return @fromBackingInt(@intCast(log.threshold()));
}

/// Has room for the fields that `Context.log` writes.
pub fn write(level: types.Level, message: []const u8, fields: []const types.Pair) void {
    var raw: [2]RawPair = undefined;
    for (raw[0..fields.len], fields) |*to, from| to.* = .{ .name = .of(from.name), .value = .of(from.value) };
    log.write(@backingInt(level), at(message), message.len, &raw, fields.len);
}

pub fn register(name: []const u8, kind: types.Kind) u32 {
    const labels: []const RawPair = &.{};
    return metrics.register(at(name), name.len, @backingInt(kind), at(labels), labels.len);
}

pub fn observe(metric: u32, value: f64) void {
    metrics.observe(metric, value);
}

/// Writes to standard error.
pub fn complain(words: []const u8) void {
    const parts = [_]std.os.wasi.ciovec_t{ .{ .base = "panic: ", .len = 7 }, .{ .base = words.ptr, .len = words.len }, .{ .base = "\n", .len = 1 } };
    var written: usize = undefined;
    // Nobody can be told of a failure: the trap follows.
    _ = std.os.wasi.fd_write(2, &parts, parts.len, &written);
}

/// Exports what the host calls.
pub fn exportProgram(Program: type) void {
    const exports = struct {
        var setup: types.Setup = .{};
        var refused: extern struct { failed: u8, words: Bytes } = undefined;
        var outcomes: List(RawOutcome) = undefined;

        // Its arguments stay as long as the instance, and so does the arena: the call's is another one afterwards.
        fn open(handler: Bytes, topics: List(Bytes), outputs: List(Bytes), config: List(RawPair), max_batch: u32) Allocator.Error!?[]const u8 {
            const allocator = call_arena.allocator();
            const pairs = try allocator.alloc(types.Pair, config.len);
            for (pairs, config.slice()) |*to, from| to.* = .{ .name = from.name.slice(), .value = from.value.slice() };
            setup = .{
                .handler = handler.slice(),
                .topics = try slices(allocator, topics),
                .outputs = try slices(allocator, outputs),
                .config = pairs,
                .max_batch = max_batch,
            };
            const words = Program.open(&setup);
            call_arena = .init(std.heap.wasm_allocator);
            return words;
        }

        fn slices(allocator: Allocator, list: List(Bytes)) Allocator.Error![]const []const u8 {
            const all = try allocator.alloc([]const u8, list.len);
            for (all, list.slice()) |*to, from| to.* = from.slice();
            return all;
        }

        // zig fmt: off
        fn rawOpen(
            handler: [*]const u8, handler_size: usize, topics: [*]const Bytes, topic_count: usize,
            outputs: [*]const Bytes, output_count: usize, config: [*]const RawPair, config_count: usize, max_batch: u32,
        ) callconv(.c) *const anyopaque {
            // zig fmt: on
            const words = open(
                .{ .ptr = handler, .len = handler_size },
                .{ .ptr = topics, .len = topic_count },
                .{ .ptr = outputs, .len = output_count },
                .{ .ptr = config, .len = config_count },
                max_batch,
            ) catch @panic("out of memory");
            refused = .{ .failed = @intFromBool(words != null), .words = .of(words orelse "") };
            return &refused;
        }

        fn process(batch: [*]const RawMessage, count: usize) callconv(.c) *const anyopaque {
            const allocator = call_arena.allocator();
            const all = allocator.alloc(RawOutcome, count) catch @panic("out of memory");
            const prepared = if (Program.has_steps) prepare(batch[0..count], allocator) catch @panic("out of memory");
            arena = &message_arena;
            for (all, 0..) |*raw, slot| {
                const message = given(&batch[slot]);
                const outcome = if (Program.has_steps) switch (prepared[slot]) {
                    .ended => |outcome| outcome,
                    .answers => |answers| Program.process(&setup, @intCast(slot), &message, answers, message_arena.allocator()),
                } else Program.process(&setup, @intCast(slot), &message, &.{}, message_arena.allocator());
                raw.* = told(outcome, allocator) catch @panic("out of memory");
                _ = message_arena.reset(.{ .retain_with_limit = 1 << 20 });
            }
            arena = &call_arena;
            outcomes = .of(all);
            return &outcomes;
        }

        /// What it is handed out stays until the call is over.
        fn prepare(batch: []const RawMessage, allocator: Allocator) Allocator.Error![]const http.Prepared {
            const messages = try allocator.alloc(types.Message, batch.len);
            for (messages, batch) |*to, *from| to.* = given(from);
            return Program.prepare(&setup, messages, allocator);
        }

        fn given(raw: *const RawMessage) types.Message {
            return .{
                .source = if (raw.source.tag == 0) .{ .topic = setup.topics[raw.source.is.topic] } else .{ .timer = raw.source.is.timer.slice() },
                .partition = raw.partition,
                .offset = raw.offset,
                .timestamp_ms = raw.timestamp_ms,
                .key = raw.key.get(),
                .value = raw.value.get(),
                .attempt = raw.attempt,
            };
        }

        fn told(outcome: types.Outcome, allocator: Allocator) Allocator.Error!RawOutcome {
            const failure = switch (outcome) {
                .done, .skip => return .{ .tag = @backingInt(outcome) },
                .retry => |retry| retry.failure,
                .dead_letter => |failure| failure,
            };
            var raw: RawOutcome = .{
                .tag = @backingInt(outcome),
                .code = .of(try allocator.dupe(u8, failure.code)),
                .detail = .of(try allocator.dupe(u8, failure.detail)),
            };
            if (outcome == .retry) {
                raw.has_delay = @intFromBool(outcome.retry.delay_ms != null);
                raw.delay_ms = outcome.retry.delay_ms orelse 0;
                raw.outage = @intFromBool(outcome.retry.outage);
            }
            return raw;
        }

        /// The host has read the outcomes.
        fn processed(_: *const anyopaque) callconv(.c) void {
            _ = call_arena.reset(.{ .retain_with_limit = 4 << 20 });
        }
    };
    @export(&reallocate, .{ .name = "cabi_realloc" });
    @export(&exports.rawOpen, .{ .name = "keyrail:handler/guest@0.1.0#open" });
    @export(&exports.process, .{ .name = "keyrail:handler/guest@0.1.0#process" });
    @export(&exports.processed, .{ .name = "cabi_post_keyrail:handler/guest@0.1.0#process" });
}
