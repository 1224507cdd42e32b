//! Requests over HTTP, with the host in memory.

const std = @import("std");
const keyrail = @import("keyrail.zig");
const Answer = keyrail.Answer;
const Context = keyrail.Context;
const Message = keyrail.Message;
const Outcome = keyrail.Outcome;
const expect = std.testing.expect;
const expectEqual = std.testing.expectEqual;
const expectEqualStrings = std.testing.expectEqualStrings;

const url = "https://api.example.com/v1";

fn newHost() keyrail.testing.Host {
    return .init(std.testing.allocator, .{ .outputs = &.{"out"} });
}

fn detail(run: keyrail.testing.Run) []const u8 {
    return switch (run.outcome) {
        .retry => |retry| retry.failure.detail,
        .dead_letter => |failure| failure.detail,
        else => "",
    };
}

const Many = struct {
    pub fn handle(ctx: *Context, _: *const Message) !Outcome {
        const answers = try ctx.fetchAll(&.{
            .{ .url = url ++ "/a" },
            .{ .url = url ++ "/b", .body = "x", .headers = &.{.{ .name = "Content-Type", .value = "text/plain" }}, .timeout_ms = 250 },
            .{ .url = url ++ "/c\xff" },
            .{ .url = url ++ "/none?secret", .method = "PUT" },
        });
        const first = try answers[0].get(ctx);
        try expect(first.status == 201 and first.ok());
        try expectEqualStrings("of a", first.body);
        try expectEqualStrings("2", first.header("X-Twice").?);
        try expectEqual(null, first.header("none"));
        const second = try answers[1].get(ctx);
        try expect(second.status == 404 and !second.ok() and second.body.len == 0);
        try std.testing.expectError(error.HttpInvalid, answers[2].get(ctx));
        try std.testing.expectError(error.HttpDenied, answers[3].get(ctx));
        const words = "PUT " ++ url ++ "/none: the test gives it no answer: say Host.answer, or set Host.server for all";
        try expectEqualStrings(words, ctx.words);
        try expectEqual(0, (try ctx.fetchAll(&.{})).len);
        return .done;
    }
};

test "requests are made at the same time and answered in order" {
    var host = newHost();
    defer host.deinit();
    try host.answer("GET", url ++ "/a", .{ .response = .{ .status = 200 } });
    const twice: []const keyrail.Pair = &.{ .{ .name = "x-twice", .value = "1" }, .{ .name = "x-twice", .value = "2" } };
    try host.answer("GET", url ++ "/a", .{ .response = .{ .status = 201, .headers = twice, .body = "of a" } });
    try host.answer("POST", url ++ "/b", .{ .response = .{ .status = 404 } });
    const run = try host.say(Many, "k", "");
    try expectEqual(.done, run.outcome);
    try expectEqual(3, run.requests.len);
    const first, const second, const third = run.requests[0..3].*;
    try expect(first.body == null and first.timeout_ms == null and first.headers.len == 1);
    try expectEqualStrings("POST", second.method);
    try expectEqualStrings(url ++ "/b", second.url);
    try expectEqualStrings("x", second.body.?);
    try expectEqualStrings("text/plain", second.header("content-type").?);
    try expectEqual(250, second.timeout_ms);
    for ([_]keyrail.testing.Requested{ first, second, third }, [_][]const u8{ "in/0/0", "in/0/0", "in/0/0-2" }) |made, key| {
        try expect(made.call == 0 and made.slot == 0);
        try expectEqualStrings(key, made.header("idempotency-key").?);
    }
}

const One = struct {
    pub fn handle(ctx: *Context, _: *const Message) !Outcome {
        try ctx.state().put("staged", "x");
        const found = try (try ctx.fetch(.{ .url = url ++ "?token=t" })).orRetry(ctx);
        try ctx.send("out", found.body);
        return .done;
    }
};

fn one(host: *keyrail.testing.Host, answer: Answer) !keyrail.testing.Run {
    try host.answer("GET", url ++ "?token=t", answer);
    const run = try host.say(One, "k", "");
    try expectEqual(1, run.requests.len);
    return run;
}

test "an error that is handed on is the message's outcome" {
    var host = newHost();
    defer host.deinit();
    const Case = struct { keyrail.HttpError, std.meta.Tag(Outcome), []const u8, []const u8 };
    for ([_]Case{
        .{ error.HttpDenied, .dead_letter, "http-denied", "why" },
        .{ error.HttpInvalid, .dead_letter, "http-invalid", "why" },
        .{ error.HttpTimeout, .retry, "http-timeout", "no answer in time" },
        .{ error.HttpUnreachable, .retry, "http-unreachable", "why" },
        .{ error.HttpTooLarge, .dead_letter, "http-too-large", "the answer is larger than limits.response-bytes allows" },
    }) |case| {
        const err, const fate, const code, const words = case;
        const run = try one(&host, .{ .failed = .{ .err = err, .words = "why" } });
        try expectEqual(fate, std.meta.activeTag(run.outcome));
        try expectEqualStrings(code, run.code());
        try expectEqualStrings("GET " ++ url ++ ": ", detail(run)[0 .. url.len + 6]);
        try expectEqualStrings(words, detail(run)[url.len + 6 ..]);
        try expectEqual(null, host.state("k", "staged"));
    }
}

test "a status that is no success is retried or given up" {
    var host = newHost();
    defer host.deinit();
    for ([_]u16{ 408, 425, 429, 500, 503, 599 }) |status| {
        const run = try one(&host, .{ .response = .{ .status = status } });
        try expect(run.outcome == .retry and run.outcome.retry.delay_ms == null and !run.outcome.retry.outage);
    }
    for ([_]u16{ 199, 300, 304, 400, 404, 428, 600 }) |status| {
        const headers: []const keyrail.Pair = &.{.{ .name = "retry-after", .value = "5" }};
        try expect((try one(&host, .{ .response = .{ .status = status, .headers = headers } })).outcome == .dead_letter);
    }
    const run = try one(&host, .{ .response = .{ .status = 404, .body = "no such thing" } });
    try expectEqualStrings("http-404", run.code());
    try expectEqualStrings("GET " ++ url ++ ": 404 no such thing", detail(run));
    const well = try one(&host, .{ .response = .{ .status = 299, .body = "well" } });
    try expectEqualStrings("well", well.sent[0].value.?);
}

test "an answer may say when to come again" {
    var host = newHost();
    defer host.deinit();
    const Case = struct { u16, []const u8, ?u64 };
    for ([_]Case{
        .{ 429, "2", 2_000 },  .{ 503, " 30 ", 30_000 },  .{ 503, "99999999999999999999999", 3_600_000 },
        .{ 500, "2", null },   .{ 503, "0", null },       .{ 429, "", null },
        .{ 429, "-1", null },  .{ 429, "+1", null },      .{ 429, "1_0", null },
        .{ 429, "1.5", null }, .{ 429, "Fri, 13", null },
    }) |case| {
        const status, const after, const delay_ms = case;
        const headers: []const keyrail.Pair = &.{.{ .name = "retry-after", .value = after }};
        const run = try one(&host, .{ .response = .{ .status = status, .headers = headers } });
        try expectEqual(delay_ms, run.outcome.retry.delay_ms);
    }
}

fn times(comptime text: []const u8, comptime count: usize) *const [text.len * count]u8 {
    const parts: [count][text.len]u8 = @splat(text[0..text.len].*);
    return @ptrCast(&parts);
}

test "a detail has the first 200 bytes of text" {
    var host = newHost();
    defer host.deinit();
    const start = "GET " ++ url ++ ": 500";
    for ([_]struct { []const u8, []const u8 }{
        comptime .{ times("ä", 151), " " ++ times("ä", 100) },
        comptime .{ "a" ++ times("ä", 150), " a" ++ times("ä", 99) },
        .{ "😀 \xf0\x9f\x98", " 😀 " },
        .{ "\xed\x9f\xbf\xf4\x8f\xbf", " \xed\x9f\xbf" },
        .{ "a\xff", "" },
        .{ "\xc0\x80", "" },
        .{ "\xed\xa0\x80", "" },
        .{ "a\xed\xa0", "" },
        .{ "\xf4\x90\x80\x80", "" },
        .{ "\xe0\x80", "" },
        .{ "a\x80", "" },
    }) |case| {
        const body, const told = case;
        const run = try one(&host, .{ .response = .{ .status = 500, .body = body } });
        try expectEqualStrings(start, detail(run)[0..start.len]);
        try expectEqualStrings(told, detail(run)[start.len..]);
    }
}

const Scores = struct {
    const Score = struct { name: []const u8, points: u32 };

    pub fn handle(ctx: *Context, message: *const Message) !Outcome {
        const body = try ctx.json(.{ .name = message.value.? });
        const answer = try ctx.fetch(.{ .url = url, .body = body });
        const score = try answer.json(Score, ctx);
        try ctx.send("out", try std.fmt.allocPrint(ctx.allocator, "{s} {d}", .{ score.name, score.points }));
        return .done;
    }
};

test "bodies may be JSON" {
    var host = newHost();
    defer host.deinit();
    try host.answer("POST", url, .{ .response = .{ .status = 200, .body = "{\"name\":\"a\",\"points\":7,\"more\":[1]}" } });
    const run = try host.say(Scores, "k", "\"");
    try expectEqualStrings("a 7", run.sent[0].value.?);
    try expectEqualStrings("{\"name\":\"\\\"\"}", run.requests[0].body.?);
    try host.answer("POST", url, .{ .response = .{ .status = 200, .body = "{" } });
    try expectEqualStrings("error", (try host.say(Scores, "k", "")).code());
}

const Steps = struct {
    pub fn prepare(ctx: *Context, message: *const Message) ![]const keyrail.Request {
        try ctx.state().put("prepared", "x");
        const what = message.value orelse return &.{};
        if (std.mem.eql(u8, what, "fail")) return ctx.end(ctx.deadLetter("unasked", "no request", .{}));
        const requests = try ctx.allocator.alloc(keyrail.Request, 2);
        for (requests, 0..) |*request, at| {
            request.* = .{ .url = try std.fmt.allocPrint(ctx.allocator, "{s}/{s}/{d}", .{ url, message.key.?, at }), .body = what };
        }
        return requests;
    }

    pub fn handle(ctx: *Context, _: *const Message, answers: []const Answer) !Outcome {
        for (answers) |answer| try ctx.send("out", (try (try answer.get(ctx)).orRetry(ctx)).body);
        return .done;
    }

    fn echo(request: *const keyrail.testing.Requested) Answer {
        if (std.mem.indexOf(u8, request.url, "/down/") != null) return .{ .failed = .{ .err = error.HttpUnreachable, .words = "no route" } };
        return .{ .response = .{ .status = 200, .body = request.url } };
    }
};

test "what a message asks for in the first step is there in the second" {
    var host = newHost();
    defer host.deinit();
    host.server = Steps.echo;
    var run = try host.say(Steps, "k", "ask");
    try expect(run.outcome == .done and run.sent.len == 2 and run.requests.len == 2);
    try expectEqualStrings(url ++ "/k/0", run.sent[0].value.?);
    try expectEqualStrings(url ++ "/k/1", run.sent[1].value.?);
    try expect(run.requests[0].call == 0 and run.requests[1].call == 0);
    run = try host.say(Steps, "down", "ask");
    try expectEqualStrings("http-unreachable", run.code());
    try expectEqual(null, host.state("down", "prepared"));
    run = try host.say(Steps, "other", "fail");
    try expectEqualStrings("unasked", run.code());
    try expect(run.requests.len == 0 and host.state("other", "prepared") == null);
    try expectEqual(.done, (try host.run(Steps, .{ .key = "k" })).outcome);
}

/// Does the first step of a batch within a host.
const Batch = struct {
    pub fn handle(ctx: *Context, message: *const Message) !Outcome {
        var batch: [4]Message = @splat(message.*);
        for (&batch, [_]?[]const u8{ "ask", "fail", null, "ask" }, [_][]const u8{ "a", "b", "c", "down" }) |*own, value, key| {
            own.value = value;
            own.key = key;
        }
        const all = try keyrail.Program(Steps).prepare(ctx.setup, &batch, ctx.allocator);
        try expect(all[0].answers.len == 2 and all[2].answers.len == 0 and all[3].answers.len == 2);
        try expectEqualStrings("unasked", all[1].ended.dead_letter.code);
        try expectEqualStrings(url ++ "/a/1", all[0].answers[1].response.body);
        try expectEqual(error.HttpUnreachable, all[3].answers[0].failed.err);
        return .done;
    }
};

test "requests of a batch are made in one call, but for those of messages that are decided" {
    var host = newHost();
    defer host.deinit();
    host.server = Steps.echo;
    const run = try host.say(Batch, "k", "");
    try expectEqual(.done, run.outcome);
    try expectEqual(4, run.requests.len);
    for (run.requests, [_]u32{ 0, 0, 3, 3 }) |made, slot| try expect(made.slot == slot and made.call == 0);
}
