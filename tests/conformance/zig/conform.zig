//! The handler of tests/conformance/README.md.

const std = @import("std");
const keyrail = @import("keyrail");
const Context = keyrail.Context;
const Outcome = keyrail.Outcome;

pub const panic = keyrail.panic;

comptime {
    keyrail.handler(@This());
}

/// The configuration: it stays as long as the instance.
var setup: *const keyrail.Setup = undefined;

pub fn open(given: *const keyrail.Setup) ?[]const u8 {
    setup = given;
    const refuse = given.get("refuse") orelse return null;
    return if (refuse.len > 0) refuse else null;
}

/// The requests of the header `ask`.
pub fn prepare(ctx: *Context, _: *const keyrail.Message) ![]const keyrail.Request {
    var requests: std.ArrayList(keyrail.Request) = .empty;
    var lines = std.mem.splitScalar(u8, ctx.headerValue("ask") orelse "", '\n');
    while (lines.next()) |line| {
        if (line.len == 0) continue;
        var words: Words = .{ .rest = line };
        if (std.mem.startsWith(u8, line, "dead ")) {
            _ = words.next();
            return ctx.end(ctx.deadLetter(words.next(), "{s}", .{words.rest}));
        }
        try requests.append(ctx.allocator, words.request());
    }
    return requests.items;
}

/// What a message asks over HTTP: what `ask` named, and the answers to the first step's.
const Outside = struct {
    asked: std.ArrayList(keyrail.Request) = .empty,
    answers: []const keyrail.Answer,
};

pub fn handle(ctx: *Context, message: *const keyrail.Message, answers: []const keyrail.Answer) !Outcome {
    var outside: Outside = .{ .answers = answers };
    const do = ctx.headerValue("do") orelse {
        try describe(ctx, message);
        return .done;
    };
    var lines = std.mem.splitScalar(u8, do, '\n');
    while (lines.next()) |line| {
        if (line.len == 0) continue;
        var words: Words = .{ .rest = line };
        const name = std.meta.stringToEnum(Command, words.next()) orelse
            return ctx.deadLetter("unknown-command", "{s}", .{line});
        if (try run(ctx, message, name, &words, &outside)) |outcome| return outcome;
    }
    return .done;
}

/// Words are parted by one space; what is left may be taken whole.
const Words = struct {
    rest: []const u8,

    fn next(words: *Words) []const u8 {
        const at = std.mem.indexOfScalar(u8, words.rest, ' ') orelse words.rest.len;
        defer words.rest = words.rest[@min(at + 1, words.rest.len)..];
        return words.rest[0..at];
    }

    fn number(words: *Words, T: type) !T {
        return std.fmt.parseInt(T, words.next(), 10);
    }

    /// `METHOD URL [TEXT]`.
    fn request(words: *Words) keyrail.Request {
        const method = words.next();
        const url = words.next();
        return .{
            .url = url,
            .method = if (std.mem.eql(u8, method, "-")) null else method,
            .body = if (words.rest.len > 0) words.rest else null,
        };
    }
};

// zig fmt: off
const Command = enum {
    describe, send, caught, record, tombstone, keyless, later,
    put, @"put-for", delete, get, scan, timer, cancel,
    header, now, deadline, random, config, log, count,
    ask, @"ask-header", @"ask-timeout", fetch, ok, answers,
    until, skip, retry, after, outage, dead, raise,
};
// zig fmt: on

/// Runs a command; null goes on with the next.
fn run(ctx: *Context, message: *const keyrail.Message, command: Command, words: *Words, outside: *Outside) !?Outcome {
    switch (command) {
        .describe => try describe(ctx, message),
        .send => try ctx.send(words.next(), words.rest),
        .caught => try caught(ctx, words.rest),
        .record => try ctx.sendRecord(.{
            .to = "out",
            .key = .{ .bytes = "k2" },
            .value = "v2",
            .headers = &.{ .{ .name = "a", .value = "1" }, .{ .name = "b" }, .{ .name = "a", .value = "2" } },
            .forward_headers = true,
            .timestamp_ms = 1234567890123,
        }),
        .tombstone => try ctx.send("out", null),
        .keyless => try ctx.sendRecord(.{ .to = "out", .value = "", .key = .none }),
        .later => {
            const delay_ms = try words.number(u64);
            try ctx.sendRecord(.{ .to = "out", .value = words.rest, .delay_ms = delay_ms });
        },
        .put => try ctx.state().put(words.next(), words.rest),
        .@"put-for" => {
            const ttl_ms = try words.number(u64);
            try ctx.state().putFor(words.next(), words.rest, ttl_ms);
        },
        .delete => try ctx.state().delete(words.rest),
        .get => try say(ctx, "get {s} {s}", .{ words.rest, try ctx.state().get(words.rest) orelse "null" }),
        .scan => try scan(ctx, words),
        .timer => {
            const name = words.next();
            const wait_ms = try words.number(u64);
            try ctx.timers().setAfter(name, wait_ms, words.rest);
        },
        .cancel => try ctx.timers().cancel(words.rest),
        .header => try say(ctx, "header {s} {s}", .{ words.rest, ctx.headerValue(words.rest) orelse "null" }),
        .now => try say(ctx, "now {d}", .{ctx.nowMs()}),
        .deadline => try say(ctx, "deadline {d}", .{ctx.deadlineMs() - ctx.nowMs()}),
        .random => {
            const first = ctx.random();
            try say(ctx, "random {d} {d}", .{ first, ctx.random() });
        },
        .config => try say(ctx, "config {s} {s}", .{ words.rest, setup.get(words.rest) orelse "null" }),
        .log => {
            const level = words.next();
            const to: keyrail.Level = if (std.mem.eql(u8, level, "error")) .err else std.meta.stringToEnum(keyrail.Level, level) orelse return error.UnknownLevel;
            ctx.log(to, "{s}", .{words.rest});
        },
        .count => keyrail.Metric.counter(words.rest).observe(1),
        .ask => try outside.asked.append(ctx.allocator, words.request()),
        .@"ask-header", .@"ask-timeout" => if (outside.asked.items.len > 0) try change(ctx, &outside.asked.items[outside.asked.items.len - 1], command, words),
        .fetch => {
            try tell(ctx, try ctx.fetchAll(outside.asked.items));
            outside.asked = .empty;
        },
        .ok => try tell(ctx, &.{.{ .response = try (try ctx.fetch(words.request())).orRetry(ctx) }}),
        .answers => try tell(ctx, outside.answers),
        else => return ending(ctx, message, command, words),
    }
    return null;
}

fn ending(ctx: *Context, message: *const keyrail.Message, command: Command, words: *Words) !?Outcome {
    switch (command) {
        .until => {
            const most = try words.number(u32);
            if (message.attempt > most) return null;
            return ctx.retry(words.rest, "attempt {d}", .{message.attempt});
        },
        .skip => return .skip,
        .retry => return ctx.retry(words.next(), "{s}", .{words.rest}),
        .after => {
            const delay_ms = try words.number(u64);
            return ctx.retry(words.next(), "{s}", .{words.rest}).after(delay_ms);
        },
        .outage => return ctx.retry(words.next(), "{s}", .{words.rest}).outage(),
        .dead => return ctx.deadLetter(words.next(), "{s}", .{words.rest}),
        // An error of Zig has no words of its own.
        .raise => return ctx.end(ctx.retry("error", "{s}", .{words.rest})),
        else => unreachable,
    }
}

fn change(ctx: *Context, request: *keyrail.Request, command: Command, words: *Words) !void {
    if (command == .@"ask-timeout") {
        request.timeout_ms = try words.number(u64);
        return;
    }
    const headers = try ctx.allocator.alloc(keyrail.Pair, request.headers.len + 1);
    @memcpy(headers[0..request.headers.len], request.headers);
    headers[request.headers.len] = .{ .name = words.next(), .value = words.rest };
    request.headers = headers;
}

/// What came of requests, a line each.
fn tell(ctx: *Context, answers: []const keyrail.Answer) !void {
    var text: std.ArrayList(u8) = .empty;
    for (answers, 0..) |answer, at| {
        if (at > 0) try text.append(ctx.allocator, '\n');
        switch (answer) {
            .response => |response| try text.print(ctx.allocator, "{d} {s}", .{ response.status, response.body }),
            .failed => |failed| try text.print(ctx.allocator, "error {s}", .{switch (failed.err) {
                error.HttpDenied => "denied",
                error.HttpInvalid => "invalid",
                error.HttpTimeout => "timeout",
                error.HttpUnreachable => "unreachable",
                error.HttpTooLarge => "too-large",
            }}),
        }
    }
    try ctx.send("out", text.items);
}

fn caught(ctx: *Context, to: []const u8) !void {
    const code = if (ctx.send(to, "x")) "nothing" else |err| switch (err) {
        error.NoKey => "no-key",
        error.UnknownOutput => "unknown-output",
        error.TooLarge => "too-large",
        error.OverQuota => "over-quota",
        error.Other => "other",
        error.OutOfMemory => return err,
    };
    try say(ctx, "caught {s}", .{code});
}

fn scan(ctx: *Context, words: *Words) !void {
    const prefix = words.next();
    const limit = try words.number(u32);
    const after = if (words.rest.len > 0) words.rest else null;
    const found = try ctx.state().scan(if (std.mem.eql(u8, prefix, "-")) "" else prefix, after, limit);
    var text: std.ArrayList(u8) = .empty;
    for (found, 0..) |entry, at| {
        if (at > 0) try text.append(ctx.allocator, ',');
        try text.print(ctx.allocator, "{s}={s}", .{ entry.name, entry.value });
    }
    try say(ctx, "scan {s}", .{text.items});
}

fn describe(ctx: *Context, message: *const keyrail.Message) !void {
    var text: std.ArrayList(u8) = .empty;
    switch (message.source) {
        .topic => |name| try text.print(ctx.allocator, "from topic {s}\n", .{name}),
        .timer => |name| try text.print(ctx.allocator, "from timer {s}\n", .{name}),
    }
    const follows = if (ctx.followsDeadLetter()) "yes" else "no";
    try text.print(ctx.allocator, "at {d}/{d} {d}\n", .{ message.partition, message.offset, message.timestamp_ms });
    try text.print(ctx.allocator, "attempt {d}\nid {s}\nfollows {s}\n", .{ message.attempt, ctx.id(), follows });
    try text.print(ctx.allocator, "key {s}\n", .{try shape(ctx, message.key)});
    try text.print(ctx.allocator, "value {s}\n", .{try shape(ctx, message.value)});
    const headers = try ctx.headers();
    try text.print(ctx.allocator, "headers {d}", .{headers.len});
    for (headers[0..@min(3, headers.len)]) |header| {
        try text.print(ctx.allocator, "\nheader {s} {s}", .{ header.name, try shape(ctx, header.value) });
    }
    try ctx.send("out", text.items);
}

/// A size and a hash.
fn shape(ctx: *Context, bytes: ?[]const u8) ![]const u8 {
    const there = bytes orelse return "null";
    return std.fmt.allocPrint(ctx.allocator, "{d} {x:0>8}", .{ there.len, std.hash.Fnv1a_32.hash(there) });
}

fn say(ctx: *Context, comptime format: []const u8, args: anytype) !void {
    try ctx.send("out", try std.fmt.allocPrint(ctx.allocator, format, args));
}
