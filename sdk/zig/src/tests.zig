//! What the SDK does, with the host in memory.

const std = @import("std");
const keyrail = @import("keyrail.zig");
const Context = keyrail.Context;
const Message = keyrail.Message;
const Outcome = keyrail.Outcome;
const expect = std.testing.expect;
const expectEqual = std.testing.expectEqual;
const expectEqualStrings = std.testing.expectEqualStrings;

const long: [2000]u8 = @splat('x');

fn newHost() keyrail.testing.Host {
    return .init(std.testing.allocator, .{ .outputs = &.{"out"} });
}

/// Does what the value says.
const Does = struct {
    pub fn handle(ctx: *Context, message: *const Message) !Outcome {
        try ctx.send("out", "staged");
        const Word = enum { skip, retry, after, outage, dead, ended, raised, bytes, unknown, large, other, name };
        return switch (std.meta.stringToEnum(Word, message.value.?).?) {
            .skip => .skip,
            .retry => ctx.retry("later", "{d} of {d}", .{ 1, 2 }),
            .after => ctx.retry("later", "", .{}).after(1500),
            .outage => ctx.retry("down", "no answer", .{}).outage(),
            .dead => ctx.deadLetter("bad", "why", .{}),
            .ended => deep(ctx),
            .raised => error.SomethingElse,
            .bytes => ctx.deadLetter("bad\xff", "{s}", .{"a\xffb"}),
            .unknown => done(ctx.send("nowhere", null)),
            .large => done(ctx.state().put(&long, "")),
            .other => done(ctx.sendRecord(.{ .to = "out", .value = null, .delay_ms = std.math.maxInt(u64) })),
            .name => done(ctx.state().put("\xff", "")),
        };
    }

    fn done(result: keyrail.Error!void) !Outcome {
        try result;
        return .done;
    }

    fn deep(ctx: *Context) error{Ended} {
        return ctx.end(ctx.deadLetter("deep", "within", .{}));
    }
};

test "outcomes carry what was said, and a failure undoes what was staged" {
    var host = newHost();
    defer host.deinit();
    const skipped = try host.say(Does, "k", "skip");
    try expectEqual(.skip, skipped.outcome);
    try expectEqual(1, skipped.sent.len);
    const Case = struct { []const u8, std.meta.Tag(Outcome), []const u8, []const u8 };
    for ([_]Case{
        .{ "retry", .retry, "later", "1 of 2" },
        .{ "dead", .dead_letter, "bad", "why" },
        .{ "ended", .dead_letter, "deep", "within" },
        .{ "raised", .retry, "error", "SomethingElse" },
        .{ "bytes", .dead_letter, "bad\u{FFFD}", "a\u{FFFD}b" },
        .{ "unknown", .dead_letter, "unknown-output", "the manifest has no such output" },
        .{ "large", .dead_letter, "too-large", "a name, a key or a value is too large" },
        .{ "other", .retry, "error", "a send is delayed by 366 days at most" },
        .{ "name", .retry, "error", "a name is not UTF-8" },
    }) |case| {
        const value, const fate, const code, const detail = case;
        const run = try host.say(Does, "k", value);
        try expectEqual(fate, std.meta.activeTag(run.outcome));
        try expectEqualStrings(code, run.code());
        try expectEqualStrings(detail, switch (run.outcome) {
            .retry => |retry| retry.failure.detail,
            .dead_letter => |failure| failure.detail,
            else => unreachable,
        });
        try expectEqual(0, run.sent.len);
    }
    const after = (try host.say(Does, "k", "after")).outcome.retry;
    try expect(after.delay_ms == 1500 and !after.outage);
    const outage = (try host.say(Does, "k", "outage")).outcome.retry;
    try expect(outage.delay_ms == null and outage.outage);
}

const Echoes = struct {
    pub fn handle(ctx: *Context, message: *const Message) !Outcome {
        try ctx.send("out", message.value);
        return .done;
    }
};

test "null and empty stay apart" {
    var host = newHost();
    defer host.deinit();
    for ([_]?[]const u8{ null, "", "a\x00b" }) |bytes| {
        const sent = (try host.run(Echoes, .{ .key = bytes, .value = bytes })).sent[0];
        try std.testing.expectEqualDeep(bytes, sent.key);
        try std.testing.expectEqualDeep(bytes, sent.value);
    }
}

const NeedsKey = struct {
    pub fn handle(ctx: *Context, message: *const Message) !Outcome {
        const Word = enum { get, put, delete, scan, set, cancel };
        switch (std.meta.stringToEnum(Word, message.value.?).?) {
            .get => _ = try ctx.state().get("a"),
            .put => try ctx.state().put("a", ""),
            .delete => try ctx.state().delete("a"),
            .scan => _ = try ctx.state().scan("", null, 1),
            .set => try ctx.timers().set("a", 0, ""),
            .cancel => try ctx.timers().cancel("a"),
        }
        return .done;
    }
};

test "state and timers need a key" {
    var host = newHost();
    defer host.deinit();
    for ([_][]const u8{ "get", "put", "delete", "scan", "set", "cancel" }) |value| {
        try expectEqualStrings("no-key", (try host.run(NeedsKey, .{ .value = value })).code());
        try expectEqual(.done, (try host.say(NeedsKey, "k", value)).outcome);
    }
}

const Keeps = struct {
    pub fn handle(ctx: *Context, message: *const Message) !Outcome {
        const state = ctx.state();
        if (message.timer()) |name| {
            try ctx.send("out", name);
            return .done;
        }
        for ([_][]const u8{ "b", "a", "ab", "c" }) |name| try state.put(name, name);
        try state.delete("c");
        try state.putFor("brief", "x", 1000);
        try expectEqualStrings("ab", (try state.get("ab")).?);
        try expectEqual(null, try state.get("c"));
        const page = try state.scan("a", null, 10);
        try expect(page.len == 2 and std.mem.eql(u8, page[0].name, "a") and std.mem.eql(u8, page[1].value, "ab"));
        const next = try state.scan("", "ab", 1);
        try expect(next.len == 1 and std.mem.eql(u8, next[0].name, "b"));
        try ctx.timers().setAfter("remind", 1000, "pay");
        try ctx.timers().setAfter("never", std.math.maxInt(u64), "");
        try ctx.timers().set("gone", 5, "");
        try ctx.timers().cancel("gone");
        return if (std.mem.eql(u8, message.value.?, "fail")) error.Asked else .done;
    }
};

test "state and timers are kept, and undone with a message that fails" {
    var host = newHost();
    defer host.deinit();
    const failed = try host.say(Keeps, "k", "fail");
    try expectEqualStrings("error", failed.code());
    try expectEqualStrings("Asked", failed.outcome.retry.failure.detail);
    try expect(host.state("k", "a") == null and host.timer("k", "remind") == null);
    try expectEqual(.done, (try host.say(Keeps, "k", "")).outcome);
    try expectEqualStrings("x", host.state("k", "brief").?);
    try expect(host.state("k", "c") == null and host.state("other", "a") == null);
    try expectEqual(1_700_000_001_000, host.timer("k", "remind").?);
    try expectEqual(std.math.maxInt(i64), host.timer("k", "never").?);
    try expectEqual(null, host.timer("k", "gone"));
    host.now_ms += 1000;
    try expectEqual(null, host.state("k", "brief"));
    const run = try host.run(Keeps, .{ .key = "k", .timer = "remind" });
    try expectEqualStrings("remind", run.sent[0].value.?);
}

const Tells = struct {
    pub fn handle(ctx: *Context, message: *const Message) !Outcome {
        const headers = try ctx.headers();
        try expect(headers.len == 4 and headers[2].value == null);
        try expect(ctx.headerValue("n") == null and ctx.headerValue("none") == null and ctx.headerValue("\xff") == null);
        try expect(ctx.random() != ctx.random());
        const text = try std.fmt.allocPrint(ctx.allocator, "{s} {s} {d} {s} {} {d} {d}", .{
            ctx.id(),                message.source.topic, message.attempt,                headers[1].value.?,
            ctx.followsDeadLetter(), message.timestamp_ms, ctx.deadlineMs() - ctx.nowMs(),
        });
        ctx.log(.info, "told of {d}", .{message.offset});
        try ctx.sendRecord(.{
            .to = "out",
            .value = text,
            .key = .{ .bytes = "other" },
            .headers = &.{.{ .name = "seen" }},
            .timestamp_ms = -1,
            .delay_ms = 9,
        });
        try ctx.sendRecord(.{ .to = "out", .value = ctx.headerValue("h"), .key = .none, .forward_headers = true });
        return .done;
    }
};

test "the context tells of the message, and a record has what is said" {
    var host = newHost();
    defer host.deinit();
    const given: []const keyrail.Header = &.{
        .{ .name = "traceparent", .value = "t" }, .{ .name = "h", .value = "first" },
        .{ .name = "n" },                         .{ .name = "h", .value = "last" },
    };
    const run = try host.run(Tells, .{ .attempt = 2, .headers = given, .follows_dead_letter = true, .timestamp_ms = 7 });
    try expectEqual(.done, run.outcome);
    const first, const second = run.sent[0..2].*;
    try expectEqualStrings("in/0/0 in 2 first true 7 5000", first.value.?);
    try expectEqualStrings("other", first.key.?);
    try expect(first.timestamp_ms == -1 and first.delay_ms == 9 and first.headers.len == 2);
    try expectEqualStrings("traceparent", first.headers[0].name);
    try expectEqualStrings("last", second.value.?);
    try expect(second.key == null and second.timestamp_ms == 7 and second.delay_ms == null and second.headers.len == 4);
    try expectEqualStrings("told of 0", host.logged);
}

const Limited = struct {
    var seen: keyrail.Metric = undefined;
    var size: keyrail.Metric = undefined;

    pub fn open(setup: *const keyrail.Setup) ?[]const u8 {
        seen = .counter("seen");
        size = .gauge("size");
        return if (setup.get("limit") == null) "config.limit is not set" else null;
    }

    pub fn handle(ctx: *Context, message: *const Message) !Outcome {
        seen.observe(1);
        size.observe(@floatFromInt(message.value.?.len));
        return if (message.value.?.len > 3) ctx.deadLetter("too-long", "", .{}) else .done;
    }
};

test "open may refuse, and metrics are not undone" {
    var refusing = newHost();
    defer refusing.deinit();
    try expectEqualStrings("config.limit is not set", refusing.open(Limited).?);
    try std.testing.expectError(error.Refused, refusing.say(Limited, "k", "v"));
    var host: keyrail.testing.Host = .init(std.testing.allocator, .{ .config = &.{.{ .name = "limit", .value = "3" }} });
    defer host.deinit();
    try expectEqual(.done, (try host.say(Limited, "k", "abc")).outcome);
    try expectEqualStrings("too-long", (try host.say(Limited, "k", "abcde")).code());
    try expect(host.metric("seen") == 2 and host.metric("size") == 5 and host.metric("none") == 0);
}

test "what std.log is told goes to the host's log" {
    const Logs = struct {
        pub fn handle(_: *Context, message: *const Message) !Outcome {
            keyrail.logFn(.warn, .shop, "{s} is gone", .{message.value.?});
            return .done;
        }
    };
    var host = newHost();
    defer host.deinit();
    _ = try host.say(Logs, "k", "it");
    try expectEqualStrings("(shop) it is gone", host.logged);
    _ = try host.say(Logs, "k", &long);
    try expectEqual(1024, host.logged.len);
}
