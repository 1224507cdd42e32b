//! Keyrail handlers in Zig.
//!
//! A handler is a struct, most often a file, with a function `handle` from a message to what becomes of it, and
//! `comptime { keyrail.handler(@This()); }` in it. README.md says how to build it; `testing` runs it without a host.
//!
//! Memory: what a call hands out, and what `Context.allocator` gives, stays until the handler returns. Nothing of it is to
//! be freed.

const std = @import("std");
const builtin = @import("builtin");
const types = @import("types.zig");
const http = @import("http.zig");
const Allocator = std.mem.Allocator;

const is_wasm = builtin.target.cpu.arch.isWasm();
const host = if (is_wasm) @import("wasm.zig") else @import("testing.zig").host;

/// A host in memory, to test handlers on one's own machine.
pub const testing = @import("testing.zig");

pub const Answer = http.Answer;
pub const Entry = types.Entry;
pub const Failure = types.Failure;
pub const Header = types.Header;
pub const HostError = types.HostError;
pub const HttpError = http.HttpError;
pub const Level = types.Level;
pub const Message = types.Message;
pub const Outcome = types.Outcome;
pub const Pair = types.Pair;
pub const Record = types.Record;
pub const Request = http.Request;
pub const Response = http.Response;
pub const Setup = types.Setup;

/// What a call that stages or reads may return. Whatever error leaves `handle`, the message is not lost: the first four
/// of `HostError` become dead letters with the codes `no-key`, `unknown-output`, `too-large` and `over-quota`, since they would
/// be refused again; `Ended` is what `Context.end` was given; of `HttpError` some become dead letters with the codes `http-denied`,
/// `http-invalid` and `http-too-large`, the others are retried under the codes `http-timeout` and `http-unreachable`; all others are
/// retried under the code `error`.
pub const Error = HostError || Allocator.Error;

/// Makes this struct the program's handler. It has
///
/// - `pub fn handle(ctx: *Context, message: *const Message) !Outcome`, for each message; one key's come in order;
/// - and may have `pub fn open(setup: *const Setup) ?[]const u8`, once before the first message: null is ready, words refuse
///   this version of the handler. What `setup` holds stays as long as the instance.
///
/// A handler in two steps has `pub fn prepare(ctx: *Context, message: *const Message) ![]const Request`, and
/// `pub fn handle(ctx: *Context, message: *const Message, answers: []const Answer) !Outcome`. All messages of a call are
/// prepared, the host makes the requests of all of them at the same time, then each is handled. An error of the first step is what
/// becomes of the message: its requests are not made. What it allocates stays until the call is over. Where the manifest grants hosts a
/// call has one message of a key at most, so that a service sees one key's requests in order.
///
/// On one's own machine it checks that they are there.
pub fn handler(comptime Handler: type) void {
    const fits: *const fn (*const Setup, u32, *const Message, []const Answer, Allocator) Outcome = Program(Handler).process;
    _ = fits;
    if (is_wasm) host.exportProgram(Program(Handler));
}

/// A handler as the host runs it.
pub fn Program(comptime Handler: type) type {
    return struct {
        pub fn open(setup: *const Setup) ?[]const u8 {
            return if (@hasDecl(Handler, "open")) Handler.open(setup) else null;
        }

        /// Whether it has two steps.
        pub const has_steps = @hasDecl(Handler, "prepare");

        /// The first, for all messages of a call.
        pub fn prepare(setup: *const Setup, messages: []const Message, allocator: Allocator) Allocator.Error![]const http.Prepared {
            const all = try allocator.alloc(http.Prepared, messages.len);
            const counts = try allocator.alloc(usize, messages.len);
            var asked: std.ArrayList(http.Asked) = .empty;
            for (all, counts, messages, 0..) |*one, *count, *message, at| {
                const slot: u32 = @intCast(at);
                var ctx: Context = .{ .setup = setup, .message = message, .slot = slot, .allocator = allocator };
                one.*, count.* = .{ .{ .answers = &.{} }, 0 };
                const requests: []const Request = Handler.prepare(&ctx, message) catch |err| {
                    one.* = .{ .ended = ctx.valid(ctx.failed(err)) };
                    continue;
                };
                count.* = requests.len;
                for (requests) |request| try asked.append(allocator, .{ .slot = slot, .request = request });
            }
            var left = try http.fetchAll(allocator, asked.items);
            for (all, counts) |*one, count| {
                if (one.* == .answers) one.* = .{ .answers = left[0..count] };
                left = left[count..];
            }
            return all;
        }

        pub fn process(setup: *const Setup, slot: u32, message: *const Message, answers: []const Answer, allocator: Allocator) Outcome {
            var ctx: Context = .{ .setup = setup, .message = message, .slot = slot, .allocator = allocator };
            const args = if (has_steps) .{ &ctx, message, answers } else .{ &ctx, message };
            const outcome = @call(.auto, Handler.handle, args) catch |err| ctx.failed(err);
            return ctx.valid(outcome);
        }
    };
}

/// One message's side of the host. What is staged through it (sends, state, timers) takes effect only if the message is
/// done or skipped, together with the commit of its offset. The handler's own memory is not undone.
pub const Context = struct {
    setup: *const Setup,
    message: *const Message,
    slot: u32,
    /// What it gives is freed when the handler returns.
    allocator: Allocator,
    /// The words of the last call that failed with `Other` or an `HttpError`.
    words: []const u8 = "",
    ended: ?Outcome = null,

    /// Runs the message again by the manifest's retry policy; see also `Outcome.after` and `Outcome.outage`. The code is short and
    /// stable; what varies belongs into the detail.
    pub fn retry(ctx: *Context, code: []const u8, comptime format: []const u8, args: anytype) Outcome {
        return .{ .retry = .{ .failure = ctx.failure(code, format, args) } };
    }

    /// Sends the message to the dead letters: no other run can succeed. The code is as in `retry`.
    pub fn deadLetter(ctx: *Context, code: []const u8, comptime format: []const u8, args: anytype) Outcome {
        return .{ .dead_letter = ctx.failure(code, format, args) };
    }

    /// Ends the message from deep within: `return ctx.end(ctx.retry(..))`.
    pub fn end(ctx: *Context, outcome: Outcome) error{Ended} {
        ctx.ended = outcome;
        return error.Ended;
    }

    fn failure(ctx: *Context, code: []const u8, comptime format: []const u8, args: anytype) Failure {
        const detail = std.fmt.allocPrint(ctx.allocator, format, args) catch @panic("out of memory");
        return .{ .code = code, .detail = detail };
    }

    /// What becomes of a message whose handler returned this error.
    fn failed(ctx: *Context, err: anyerror) Outcome {
        return switch (err) {
            error.NoKey => ctx.deadLetter("no-key", "the message has no order key", .{}),
            error.UnknownOutput => ctx.deadLetter("unknown-output", "the manifest has no such output", .{}),
            error.TooLarge => ctx.deadLetter("too-large", "a name, a key or a value is too large", .{}),
            error.OverQuota => ctx.deadLetter("over-quota", "more than the manifest's limits allow for one message", .{}),
            error.Other => ctx.retry("error", "{s}", .{ctx.words}),
            error.HttpDenied => ctx.deadLetter("http-denied", "{s}", .{ctx.words}),
            error.HttpInvalid => ctx.deadLetter("http-invalid", "{s}", .{ctx.words}),
            error.HttpTooLarge => ctx.deadLetter("http-too-large", "{s}", .{ctx.words}),
            error.HttpTimeout => ctx.retry("http-timeout", "{s}", .{ctx.words}),
            error.HttpUnreachable => ctx.retry("http-unreachable", "{s}", .{ctx.words}),
            error.Ended => ctx.ended orelse ctx.retry("error", "Ended", .{}),
            else => ctx.retry("error", "{s}", .{@errorName(err)}),
        };
    }

    /// The host takes text in UTF-8 alone, and traps where it is not.
    fn valid(ctx: *Context, outcome: Outcome) Outcome {
        var checked = outcome;
        const checks = switch (checked) {
            .done, .skip => return outcome,
            .retry => |*again| &again.failure,
            .dead_letter => |*dead| dead,
        };
        checks.* = .{ .code = ctx.text(checks.code), .detail = ctx.text(checks.detail) };
        return checked;
    }

    fn text(ctx: *Context, bytes: []const u8) []const u8 {
        if (std.unicode.utf8ValidateSlice(bytes)) return bytes;
        return std.fmt.allocPrint(ctx.allocator, "{f}", .{std.unicode.fmtUtf8(bytes)}) catch @panic("out of memory");
    }

    /// Changed, a name would be another one.
    fn check(ctx: *Context, name: []const u8) HostError!void {
        if (std.unicode.utf8ValidateSlice(name)) return;
        ctx.words = "a name is not UTF-8";
        return error.Other;
    }

    /// Sends a record with the message's own key when the message is settled. null is a tombstone.
    pub fn send(ctx: *Context, to: []const u8, value: ?[]const u8) Error!void {
        return ctx.sendRecord(.{ .to = to, .value = value });
    }

    /// The same with all that can be said of a record.
    pub fn sendRecord(ctx: *Context, record: Record) Error!void {
        try ctx.check(record.to);
        for (record.headers) |header| try ctx.check(header.name);
        return host.send(ctx.slot, ctx.allocator, ctx.message.key, &record, &ctx.words);
    }

    /// Makes a request to a host that the manifest grants under `capabilities.http`, and waits for its answer. Any status is one;
    /// redirects are not followed. It is no part of the message's commit: a message that runs again asks again.
    pub fn fetch(ctx: *Context, request: Request) (HttpError || Allocator.Error)!Response {
        const answers = try ctx.fetchAll(&.{request});
        return answers[0].get(ctx);
    }

    /// Makes all of them at the same time, and waits for the last: an answer for each, in their order.
    pub fn fetchAll(ctx: *Context, requests: []const Request) Allocator.Error![]const Answer {
        const all = try ctx.allocator.alloc(http.Asked, requests.len);
        for (all, requests) |*asked, request| asked.* = .{ .slot = ctx.slot, .request = request };
        return http.fetchAll(ctx.allocator, all);
    }

    /// A value as JSON, such as a request's body.
    pub fn json(ctx: *Context, value: anytype) Allocator.Error![]const u8 {
        return std.json.Stringify.valueAlloc(ctx.allocator, value, .{});
    }

    /// State of the message's order key.
    pub fn state(ctx: *Context) State {
        return .{ .ctx = ctx };
    }

    /// Timers of the message's order key.
    pub fn timers(ctx: *Context) Timers {
        return .{ .ctx = ctx };
    }

    /// The same over retries, parking, redrive and replay: the idempotency key for effects outside Keyrail.
    pub fn id(ctx: *Context) []const u8 {
        return host.id(ctx.slot, ctx.allocator);
    }

    /// The value of the last header of that name; null if there is none, and for Kafka's null.
    pub fn headerValue(ctx: *Context, name: []const u8) ?[]const u8 {
        // No header has such a name.
        if (!std.unicode.utf8ValidateSlice(name)) return null;
        return host.headerValue(ctx.slot, name);
    }

    /// All headers, in order.
    pub fn headers(ctx: *Context) Allocator.Error![]const Header {
        return host.headers(ctx.slot, ctx.allocator);
    }

    /// Whether an earlier message of this key was dead-lettered or discarded.
    pub fn followsDeadLetter(ctx: *Context) bool {
        return host.followsDeadLetter(ctx.slot);
    }

    /// Milliseconds since the Unix epoch, fixed within a call.
    pub fn nowMs(_: *Context) i64 {
        return host.nowMs();
    }

    /// The next number of a sequence seeded by the message's id and attempt, so that a run can be repeated.
    pub fn random(ctx: *Context) u64 {
        return host.random(ctx.slot);
    }

    /// When the host will stop this call, in milliseconds since the Unix epoch.
    pub fn deadlineMs(_: *Context) i64 {
        return host.deadlineMs();
    }

    /// A line of the log, with the message's partition and offset. `std.log` writes there as well with
    /// `pub const std_options: std.Options = .{ .logFn = keyrail.logFn };`, without them.
    pub fn log(ctx: *Context, level: Level, comptime format: []const u8, args: anytype) void {
        if (@backingInt(level) < @backingInt(host.threshold())) return;
        const line = std.fmt.allocPrint(ctx.allocator, format, args) catch return host.write(level, format, &.{});
        var partition: [10]u8 = undefined;
        var offset: [20]u8 = undefined;
        host.write(level, ctx.text(line), &.{
            .{ .name = "partition", .value = std.fmt.bufPrint(&partition, "{d}", .{ctx.message.partition}) catch unreachable },
            .{ .name = "offset", .value = std.fmt.bufPrint(&offset, "{d}", .{ctx.message.offset}) catch unreachable },
        });
    }
};

/// State of a message's order key. One key's messages run one at a time, in order, so a plain read, change and write is
/// safe. A message sees what it wrote, and what earlier ones of its key wrote.
pub const State = struct {
    ctx: *Context,

    /// null if there is nothing of that name.
    pub fn get(s: State, name: []const u8) Error!?[]const u8 {
        try s.ctx.check(name);
        return host.get(s.ctx.slot, s.ctx.allocator, name, &s.ctx.words);
    }

    pub fn put(s: State, name: []const u8, value: []const u8) Error!void {
        try s.ctx.check(name);
        return host.put(s.ctx.slot, name, value, null, &s.ctx.words);
    }

    /// The value goes away after this long.
    pub fn putFor(s: State, name: []const u8, value: []const u8, ttl_ms: u64) Error!void {
        try s.ctx.check(name);
        return host.put(s.ctx.slot, name, value, ttl_ms, &s.ctx.words);
    }

    /// No error if there is none.
    pub fn delete(s: State, name: []const u8) Error!void {
        try s.ctx.check(name);
        return host.delete(s.ctx.slot, name, &s.ctx.words);
    }

    /// At most `limit` names that begin with `prefix`, in byte order, those after `after`; null: from the first.
    pub fn scan(s: State, prefix: []const u8, after: ?[]const u8, limit: u32) Error![]const Entry {
        try s.ctx.check(prefix);
        try s.ctx.check(after orelse "");
        return host.scan(s.ctx.slot, s.ctx.allocator, prefix, after, limit, &s.ctx.words);
    }
};

/// Timers of a message's order key: messages to the same key, later, in that key's order.
pub const Timers = struct {
    ctx: *Context,

    /// At a time in milliseconds since the Unix epoch; replaces one of the same name.
    pub fn set(t: Timers, name: []const u8, at_ms: i64, payload: []const u8) Error!void {
        try t.ctx.check(name);
        return host.setTimer(t.ctx.slot, name, at_ms, payload, &t.ctx.words);
    }

    pub fn setAfter(t: Timers, name: []const u8, wait_ms: u64, payload: []const u8) Error!void {
        const wait = std.math.cast(i64, wait_ms) orelse std.math.maxInt(i64);
        return t.set(name, t.ctx.nowMs() +| wait, payload);
    }

    /// No error if there is none.
    pub fn cancel(t: Timers, name: []const u8) Error!void {
        try t.ctx.check(name);
        return host.cancelTimer(t.ctx.slot, name, &t.ctx.words);
    }
};

/// A metric. It is not undone if the message fails.
pub const Metric = struct {
    handle: u32,

    /// Registers a counter: observed values are added. A name is of letters, digits and `_`.
    pub fn counter(name: []const u8) Metric {
        return .{ .handle = host.register(name, .counter) };
    }

    /// Registers a gauge: the last observed value stands.
    pub fn gauge(name: []const u8) Metric {
        return .{ .handle = host.register(name, .gauge) };
    }

    /// Registers a histogram: observed values are counted by their size.
    pub fn histogram(name: []const u8) Metric {
        return .{ .handle = host.register(name, .histogram) };
    }

    pub fn observe(metric: Metric, value: f64) void {
        host.observe(metric.handle, value);
    }
};

/// For `std_options`: what `std.log` is told goes to the host's log, up to 1 KiB a line.
pub fn logFn(
    comptime level: std.log.Level,
    comptime scope: @EnumLiteral(),
    comptime format: []const u8,
    args: anytype,
) void {
    const to: Level = switch (level) {
        .err => .err,
        .warn => .warn,
        .info => .info,
        .debug => .debug,
    };
    if (@backingInt(to) < @backingInt(host.threshold())) return;
    const prefix = if (scope == .default) "" else "(" ++ @tagName(scope) ++ ") ";
    var buffer: [1 << 10]u8 = undefined;
    const line = std.fmt.bufPrint(&buffer, prefix ++ format, args) catch buffer[0..];
    host.write(to, if (std.unicode.utf8ValidateSlice(line)) line else format, &.{});
}

/// For `pub const panic = keyrail.panic;` in the handler's file: the words of a panic go to standard error, and so into the
/// failure's detail, without what makes a file ten times as large.
pub const panic = std.debug.FullPanic(panicked);

fn panicked(words: []const u8, _: ?usize) noreturn {
    @branchHint(.cold);
    if (!is_wasm) std.debug.defaultPanic(words, @returnAddress());
    host.complain(words);
    @trap();
}

test {
    _ = @import("tests.zig");
    _ = @import("http_tests.zig");
}
