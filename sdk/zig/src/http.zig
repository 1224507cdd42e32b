//! Requests over HTTP: `Context.fetch`, `Context.fetchAll`, and handlers in two steps (`keyrail.handler` says how).

const std = @import("std");
const builtin = @import("builtin");
const types = @import("types.zig");
const Context = @import("keyrail.zig").Context;
const Allocator = std.mem.Allocator;

const host = if (builtin.target.cpu.arch.isWasm()) @import("wasm.zig") else @import("testing.zig").host;

/// Of an answer whose status is no success, so much of the body is told.
const told_bytes = 200;
/// The longest wait that a `retry-after` gets.
const most_wait_s = 3_600;

/// Why a request has no answer: `Context.words` and `Failed.words` tell more.
pub const HttpError = error{
    /// The manifest does not grant it; nothing was sent.
    HttpDenied,
    /// No such request can be sent; nothing was.
    HttpInvalid,
    /// No answer in time: it may have been done all the same.
    HttpTimeout,
    /// No connection, or one that broke: it may have been done all the same.
    HttpUnreachable,
    /// The answer's body is larger than `limits.response-bytes` of the manifest.
    HttpTooLarge,
};

/// A request.
pub const Request = struct {
    /// The whole of it: `https://HOST/PATH`.
    url: []const u8,
    /// null: `GET`, or `POST` if there is a body.
    method: ?[]const u8 = null,
    /// Names in any case. The host adds `idempotency-key`, the same when the message runs again, and `traceparent` and
    /// `tracestate`, unless they are here.
    headers: []const types.Pair = &.{},
    body: ?[]const u8 = null,
    /// Until the answer's last byte has come; null, and at most: `limits.timeout` of the manifest.
    timeout_ms: ?u64 = null,

    /// The method that is sent.
    pub fn verb(request: *const Request) []const u8 {
        return request.method orelse if (request.body == null) "GET" else "POST";
    }

    /// The host takes text in UTF-8 alone, and traps where it is not.
    fn isText(request: *const Request) bool {
        for (request.headers) |header| if (!std.unicode.utf8ValidateSlice(header.name)) return false;
        return std.unicode.utf8ValidateSlice(request.url) and std.unicode.utf8ValidateSlice(request.verb());
    }

    /// For people. What follows `?` or `#` may be secret.
    fn name(request: *const Request, allocator: Allocator) Allocator.Error![]const u8 {
        const end = std.mem.indexOfAny(u8, request.url, "?#") orelse request.url.len;
        return std.fmt.allocPrint(allocator, "{s} {s}", .{ request.verb(), request.url[0..end] });
    }
};

/// An answer, whatever its status.
pub const Response = struct {
    /// As in HTTP: 200.
    status: u16,
    /// Names in lower case.
    headers: []const types.Pair = &.{},
    body: []const u8 = "",
    /// METHOD URL of the request, without what follows `?` or `#`.
    asked: []const u8 = "",

    /// Whether the status is from 200 to 299.
    pub fn ok(response: *const Response) bool {
        return response.status >= 200 and response.status <= 299;
    }

    /// The value of the last header of that name, in any case.
    pub fn header(response: *const Response, name: []const u8) ?[]const u8 {
        var at = response.headers.len;
        while (at > 0) : (at -= 1) {
            const one = response.headers[at - 1];
            if (std.ascii.eqlIgnoreCase(one.name, name)) return one.value;
        }
        return null;
    }

    /// The body as JSON of that type; members that it does not have are passed over.
    pub fn json(response: *const Response, T: type, ctx: *Context) std.json.ParseError(std.json.Scanner)!T {
        return std.json.parseFromSliceLeaky(T, ctx.allocator, response.body, .{ .ignore_unknown_fields = true });
    }

    /// The same response if its status is 2xx. Else the error ends the message: as a retry after 408, 425, 429 and 5xx, with
    /// 429 and 503 in as many seconds as `retry-after` says, at most an hour; as a dead letter after any other status. Both
    /// have the code `http-STATUS`.
    pub fn orRetry(response: Response, ctx: *Context) error{Ended}!Response {
        if (response.ok()) return response;
        const code = std.fmt.allocPrint(ctx.allocator, "http-{d}", .{response.status}) catch @panic("out of memory");
        const text = head(response.body);
        const args = .{ response.asked, response.status, if (text.len > 0) " " else "", text };
        switch (response.status) {
            408, 425, 429, 500...599 => {},
            else => return ctx.end(ctx.deadLetter(code, "{s}: {d}{s}{s}", args)),
        }
        const again = ctx.retry(code, "{s}: {d}{s}{s}", args);
        return ctx.end(if (response.wait()) |seconds| again.after(seconds * 1000) else again);
    }

    /// The seconds of `retry-after`, where it counts.
    fn wait(response: *const Response) ?u64 {
        if (response.status != 429 and response.status != 503) return null;
        const asked = std.mem.trim(u8, response.header("retry-after") orelse return null, &std.ascii.whitespace);
        if (asked.len == 0) return null;
        for (asked) |digit| if (!std.ascii.isDigit(digit)) return null;
        // More digits than a number has are more than an hour.
        const seconds = @min(std.fmt.parseInt(u64, asked, 10) catch most_wait_s, most_wait_s);
        return if (seconds > 0) seconds else null;
    }
};

/// The first bytes of a body, as far as they are whole text; nothing if they are none.
fn head(body: []const u8) []const u8 {
    const bytes = body[0..@min(body.len, told_bytes)];
    for (0..@min(4, bytes.len + 1)) |tail| {
        const text, const cut = .{ bytes[0 .. bytes.len - tail], bytes[bytes.len - tail ..] };
        if (std.unicode.utf8ValidateSlice(text)) return if (tail == 0 or isCut(cut)) text else "";
    }
    return "";
}

/// Whether it is the beginning of a character.
fn isCut(bytes: []const u8) bool {
    const size = std.unicode.utf8ByteSequenceLength(bytes[0]) catch return false;
    for ([_]u8{ 0x80, 0xbf }) |fill| {
        var whole: [4]u8 = @splat(fill);
        @memcpy(whole[0..bytes.len], bytes);
        if (size > bytes.len and std.unicode.utf8ValidateSlice(whole[0..size])) return true;
    }
    return false;
}

/// Why a request has no answer.
pub const Failed = struct {
    err: HttpError,
    /// `METHOD URL: WHY`.
    words: []const u8 = "",
};

/// What came of a request.
pub const Answer = union(enum) {
    response: Response,
    failed: Failed,

    /// The response. An error that leaves `handle` is what becomes of the message: see `keyrail.Error`.
    pub fn get(answer: Answer, ctx: *Context) HttpError!Response {
        switch (answer) {
            .response => |response| return response,
            .failed => |failed| {
                ctx.words = failed.words;
                return failed.err;
            },
        }
    }
};

/// A request, and on behalf of which message.
pub const Asked = struct { slot: u32, request: Request };

/// Makes them at the same time, in one call of the host: an answer for each, in their order.
pub fn fetchAll(allocator: Allocator, all: []const Asked) Allocator.Error![]const Answer {
    const answers = try allocator.alloc(Answer, all.len);
    var sent: std.ArrayList(Asked) = try .initCapacity(allocator, all.len);
    for (all) |asked| if (asked.request.isText()) sent.appendAssumeCapacity(asked);
    var left: []const Answer = if (sent.items.len == 0) &.{} else try host.fetchAll(allocator, sent.items);
    std.debug.assert(left.len == sent.items.len);
    for (answers, all) |*answer, asked| {
        if (!asked.request.isText()) {
            answer.* = .{ .failed = .{ .err = error.HttpInvalid, .words = "method, URL and names of headers are to be UTF-8" } };
            continue;
        }
        const name = try asked.request.name(allocator);
        answer.* = left[0];
        left = left[1..];
        switch (answer.*) {
            .response => |*response| response.asked = name,
            .failed => |*failed| failed.words = try std.fmt.allocPrint(allocator, "{s}: {s}", .{ name, why(failed) }),
        }
    }
    return answers;
}

fn why(failed: *const Failed) []const u8 {
    return switch (failed.err) {
        error.HttpTimeout => "no answer in time",
        error.HttpTooLarge => "the answer is larger than limits.response-bytes allows",
        else => failed.words,
    };
}

/// What the first step made of a message.
pub const Prepared = union(enum) { ended: types.Outcome, answers: []const Answer };
