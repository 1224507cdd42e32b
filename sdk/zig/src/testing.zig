//! A host in memory, to test a handler on one's own machine.
//!
//! It keeps state, timers, sends and a clock that only the test moves, holds the limits of state, and undoes what a failed
//! message staged. It repeats nothing by a policy: each call runs what it is given, once. What it hands out stays until
//! `deinit`.

const std = @import("std");
const types = @import("types.zig");
const http = @import("http.zig");
const keyrail = @import("keyrail.zig");
const Allocator = std.mem.Allocator;

/// A message to run: by itself the next of partition 0 of the first topic, on its first run, at the host's time.
pub const Input = struct {
    key: ?[]const u8 = null,
    value: ?[]const u8 = null,
    /// It is this timer instead of a record.
    timer: ?[]const u8 = null,
    timestamp_ms: ?i64 = null,
    attempt: u32 = 1,
    headers: []const types.Header = &.{},
    follows_dead_letter: bool = false,
};

/// A record that was sent.
pub const Sent = struct {
    to: []const u8,
    key: ?[]const u8,
    value: ?[]const u8,
    /// All of them, the message's own, too, where they go along.
    headers: []const types.Header,
    timestamp_ms: i64,
    delay_ms: ?u64,
};

/// A request that was made.
pub const Requested = struct {
    method: []const u8,
    url: []const u8,
    /// With the host's `idempotency-key`.
    headers: []const types.Pair,
    body: ?[]const u8,
    timeout_ms: ?u64,
    /// Of the message in its batch.
    slot: u32,
    /// In which call of the host, from 0 in each run: requests of one call are made at the same time.
    call: u32,

    /// The value of the last header of that name, in any case.
    pub fn header(request: *const Requested, name: []const u8) ?[]const u8 {
        return (http.Response{ .status = 0, .headers = request.headers }).header(name);
    }
};

/// What became of a message.
pub const Run = struct {
    outcome: types.Outcome,
    /// What it sent, in order; nothing if it failed.
    sent: []const Sent,
    /// In order; also if the message failed, since nobody takes them back.
    requests: []const Requested,

    /// The failure's code; "" where it is settled.
    pub fn code(run: Run) []const u8 {
        return switch (run.outcome) {
            .done, .skip => "",
            .retry => |retry| retry.failure.code,
            .dead_letter => |failure| failure.code,
        };
    }
};

/// A host with one handler. Only one can run at a time in a thread.
pub const Host = struct {
    arena: std.heap.ArenaAllocator,
    setup: types.Setup,
    is_open: bool = false,
    now_ms: i64 = 1_700_000_000_000,
    offset: u64 = 0,
    kept: std.ArrayList(Kept) = .empty,
    metrics: std.ArrayList(Observed) = .empty,
    logged: []const u8 = "",
    answers: std.ArrayList(struct { method: []const u8, url: []const u8, answer: http.Answer }) = .empty,
    /// Answers all requests that `answer` has given none to; null: they are denied.
    server: ?*const fn (request: *const Requested) http.Answer = null,
    // Of the message that runs.
    input: Input = .{},
    id: []const u8 = "",
    chance: u64 = 0,
    sent: std.ArrayList(Sent) = .empty,
    requests: std.ArrayList(Requested) = .empty,
    calls: u32 = 0,

    /// A value of state or a timer. None is changed, so that a copy of the list is as good as a copy of all.
    const Kept = struct {
        is_timer: bool,
        key: []const u8,
        name: []const u8,
        value: []const u8,
        /// When it ends, or is due.
        at_ms: i64,
    };

    const Observed = struct { name: []const u8, kind: types.Kind, total: f64 = 0 };

    pub fn init(allocator: Allocator, setup: types.Setup) Host {
        return .{ .arena = .init(allocator), .setup = setup };
    }

    pub fn deinit(host_: *Host) void {
        host_.arena.deinit();
    }

    /// Opens a handler; null, or why it refuses. Running a message does it if need be.
    pub fn open(self: *Host, comptime Handler: type) ?[]const u8 {
        current = self;
        defer current = null;
        const words = keyrail.Program(Handler).open(&self.setup);
        self.is_open = words == null;
        return words;
    }

    /// Runs a message.
    pub fn run(self: *Host, comptime Handler: type, input: Input) error{ Refused, OutOfMemory }!Run {
        if (!self.is_open and self.open(Handler) != null) return error.Refused;
        const allocator = self.arena.allocator();
        const message: types.Message = .{
            .source = if (input.timer) |name| .{ .timer = name } else .{ .topic = self.setup.topics[0] },
            .partition = 0,
            .offset = self.offset,
            .timestamp_ms = input.timestamp_ms orelse self.now_ms,
            .key = input.key,
            .value = input.value,
            .attempt = input.attempt,
        };
        self.offset += 1;
        self.input = input;
        self.input.timestamp_ms = message.timestamp_ms;
        self.id = try std.fmt.allocPrint(allocator, "{s}/0/{d}", .{ self.setup.topics[0], message.offset });
        self.chance = std.hash.Fnv1a_64.hash(self.id) ^ input.attempt;
        self.sent = .empty;
        self.requests = .empty;
        self.calls = 0;
        const before = try self.kept.clone(allocator);
        current = self;
        defer current = null;
        const outcome = try self.process(keyrail.Program(Handler), message);
        const settled = outcome == .done or outcome == .skip;
        if (!settled) self.kept = before;
        return .{ .outcome = outcome, .sent = if (settled) self.sent.items else &.{}, .requests = self.requests.items };
    }

    fn process(self: *Host, Program: type, message: types.Message) Allocator.Error!types.Outcome {
        const allocator = self.arena.allocator();
        if (!Program.has_steps) return Program.process(&self.setup, 0, &message, &.{}, allocator);
        const prepared = try Program.prepare(&self.setup, &.{message}, allocator);
        return switch (prepared[0]) {
            .ended => |outcome| outcome,
            .answers => |answers| Program.process(&self.setup, 0, &message, answers, allocator),
        };
    }

    /// Answers requests of this method to this URL, both to the letter; a later answer takes an earlier one's place. A request without
    /// an answer is denied. What it is given must stay.
    pub fn answer(self: *Host, method: []const u8, url: []const u8, given: http.Answer) Allocator.Error!void {
        try self.answers.append(self.arena.allocator(), .{ .method = method, .url = url, .answer = given });
    }

    fn answerTo(self: *const Host, request: *const Requested) http.Answer {
        var at = self.answers.items.len;
        while (at > 0) : (at -= 1) {
            const known = self.answers.items[at - 1];
            if (eql(known.method, request.method) and eql(known.url, request.url)) return known.answer;
        }
        if (self.server) |server| return server(request);
        const cure = "the test gives it no answer: say Host.answer, or set Host.server for all";
        return .{ .failed = .{ .err = error.HttpDenied, .words = cure } };
    }

    /// The same with a key and a value alone.
    pub fn say(self: *Host, comptime Handler: type, key: []const u8, value: []const u8) error{ Refused, OutOfMemory }!Run {
        return self.run(Handler, .{ .key = key, .value = value });
    }

    /// The message's id, and a number behind it from the second request on that may change something.
    fn idempotencyKey(self: *Host, request: *const Requested) Allocator.Error![]const u8 {
        var number: usize = 1;
        for (self.requests.items) |made| {
            if (made.slot == request.slot and !host.isSafe(made.method)) number += 1;
        }
        if (number == 1 or host.isSafe(request.method)) return self.id;
        return std.fmt.allocPrint(self.arena.allocator(), "{s}-{d}", .{ self.id, number });
    }

    /// What a key keeps under a name.
    pub fn state(self: *const Host, key: []const u8, name: []const u8) ?[]const u8 {
        return self.kept.items[self.find(false, key, name) orelse return null].value;
    }

    /// When a key's timer is due, in milliseconds since the Unix epoch.
    pub fn timer(self: *const Host, key: []const u8, name: []const u8) ?i64 {
        return self.kept.items[self.find(true, key, name) orelse return null].at_ms;
    }

    /// The sum of what was observed under a metric's name, or a gauge's last value.
    pub fn metric(self: *const Host, name: []const u8) f64 {
        for (self.metrics.items) |observed| if (eql(observed.name, name)) return observed.total;
        return 0;
    }

    fn find(self: *const Host, is_timer: bool, key: []const u8, name: []const u8) ?usize {
        for (self.kept.items, 0..) |entry, at| {
            const ended = !is_timer and entry.at_ms <= self.now_ms;
            if (entry.is_timer == is_timer and !ended and eql(entry.key, key) and eql(entry.name, name)) return at;
        }
        return null;
    }

    fn forget(self: *Host, is_timer: bool, name: []const u8) void {
        if (self.find(is_timer, self.input.key.?, name)) |at| _ = self.kept.swapRemove(at);
    }

    fn keep(self: *Host, is_timer: bool, name: []const u8, value: []const u8, at_ms: i64) void {
        self.forget(is_timer, name);
        self.kept.append(self.arena.allocator(), .{
            .is_timer = is_timer,
            .key = self.copy(self.input.key.?),
            .name = self.copy(name),
            .value = self.copy(value),
            .at_ms = at_ms,
        }) catch @panic("out of memory");
    }

    fn copy(self: *Host, bytes: []const u8) []const u8 {
        return self.arena.allocator().dupe(u8, bytes) catch @panic("out of memory");
    }
};

threadlocal var current: ?*Host = null;

fn eql(a: []const u8, b: []const u8) bool {
    return std.mem.eql(u8, a, b);
}

/// The contract's imports, over the host that runs.
pub const host = struct {
    const name_bytes = 1 << 10;
    const key_bytes = 32 << 10;
    const value_bytes = 512 << 10;
    const scan_names = 1_000;
    const scan_bytes = 4 << 20;
    const timeout_ms = 5_000;
    const max_delay_ms = 366 * 24 * 3_600_000;

    fn it() *Host {
        return current orelse @panic("a call of Keyrail outside of a handler");
    }

    pub fn id(_: u32, _: Allocator) []const u8 {
        return it().id;
    }

    pub fn headers(_: u32, _: Allocator) Allocator.Error![]const types.Header {
        return it().input.headers;
    }

    pub fn headerValue(_: u32, name: []const u8) ?[]const u8 {
        var at = it().input.headers.len;
        while (at > 0) : (at -= 1) {
            const header = it().input.headers[at - 1];
            if (eql(header.name, name)) return header.value;
        }
        return null;
    }

    pub fn followsDeadLetter(_: u32) bool {
        return it().input.follows_dead_letter;
    }

    pub fn nowMs() i64 {
        return it().now_ms;
    }

    pub fn deadlineMs() i64 {
        return it().now_ms + timeout_ms;
    }

    /// splitmix64, as on the real host.
    pub fn random(_: u32) u64 {
        it().chance +%= 0x9e3779b97f4a7c15;
        var z = it().chance;
        z = (z ^ (z >> 30)) *% 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) *% 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }

    pub fn send(_: u32, allocator: Allocator, own_key: ?[]const u8, record: *const types.Record, words: *[]const u8) keyrail.Error!void {
        const self = it();
        for (self.setup.outputs) |known| {
            if (eql(known, record.to)) break;
        } else return error.UnknownOutput;
        if (record.delay_ms orelse 0 > max_delay_ms) {
            words.* = "a send is delayed by 366 days at most";
            return error.Other;
        }
        var all: std.ArrayList(types.Header) = .empty;
        for (self.input.headers) |header| {
            const always = eql(header.name, "traceparent") or eql(header.name, "tracestate");
            if (record.forward_headers or always) try all.append(allocator, header);
        }
        for (record.headers) |header| {
            const value = if (header.value) |bytes| self.copy(bytes) else null;
            try all.append(allocator, .{ .name = self.copy(header.name), .value = value });
        }
        const key = switch (record.key) {
            .own => own_key,
            .none => null,
            .bytes => |bytes| self.copy(bytes),
        };
        try self.sent.append(allocator, .{
            .to = self.copy(record.to),
            .key = key,
            .value = if (record.value) |bytes| self.copy(bytes) else null,
            .headers = all.items,
            .timestamp_ms = record.timestamp_ms orelse self.input.timestamp_ms.?,
            .delay_ms = record.delay_ms,
        });
    }

    /// Whether the message has a key that state and timers can be kept by, and name and value are fit.
    fn fits(name: []const u8, value: []const u8) types.HostError!*Host {
        const key = it().input.key orelse return error.NoKey;
        if (key.len > key_bytes or name.len > name_bytes or value.len > value_bytes) return error.TooLarge;
        return it();
    }

    pub fn get(_: u32, _: Allocator, name: []const u8, _: *[]const u8) types.HostError!?[]const u8 {
        const self = try fits(name, "");
        return self.state(self.input.key.?, name);
    }

    pub fn put(_: u32, name: []const u8, value: []const u8, ttl_ms: ?u64, _: *[]const u8) types.HostError!void {
        const self = try fits(name, value);
        const ttl = std.math.cast(i64, ttl_ms orelse std.math.maxInt(i64)) orelse std.math.maxInt(i64);
        self.keep(false, name, value, self.now_ms +| ttl);
    }

    pub fn delete(_: u32, name: []const u8, _: *[]const u8) types.HostError!void {
        (try fits(name, "")).forget(false, name);
    }

    fn byName(_: void, a: types.Entry, b: types.Entry) bool {
        return std.mem.lessThan(u8, a.name, b.name);
    }

    pub fn scan(_: u32, allocator: Allocator, prefix: []const u8, after: ?[]const u8, limit: u32, _: *[]const u8) keyrail.Error![]const types.Entry {
        const self = try fits(prefix, "");
        if (limit > scan_names) return error.TooLarge;
        var all: std.ArrayList(types.Entry) = .empty;
        for (self.kept.items) |entry| {
            const here = !entry.is_timer and entry.at_ms > self.now_ms and eql(entry.key, self.input.key.?);
            const behind = if (after) |name| std.mem.lessThan(u8, name, entry.name) else true;
            if (!here or !behind or !std.mem.startsWith(u8, entry.name, prefix)) continue;
            try all.append(allocator, .{ .name = entry.name, .value = entry.value });
        }
        std.mem.sort(types.Entry, all.items, {}, byName);
        const page = all.items[0..@min(limit, all.items.len)];
        var bytes: usize = 0;
        for (page) |entry| bytes += entry.name.len + entry.value.len;
        return if (bytes > scan_bytes) error.TooLarge else page;
    }

    pub fn setTimer(_: u32, name: []const u8, at_ms: i64, payload: []const u8, _: *[]const u8) types.HostError!void {
        (try fits(name, payload)).keep(true, name, payload, at_ms);
    }

    pub fn cancelTimer(_: u32, name: []const u8, _: *[]const u8) types.HostError!void {
        (try fits(name, "")).forget(true, name);
    }

    pub fn fetchAll(allocator: Allocator, all: []const http.Asked) Allocator.Error![]const http.Answer {
        const answers = try allocator.alloc(http.Answer, all.len);
        for (answers, all) |*answer, *asked| {
            const made = try noted(it(), asked);
            answer.* = it().answerTo(made);
        }
        it().calls += 1;
        return answers;
    }

    fn isSafe(method: []const u8) bool {
        for ([_][]const u8{ "GET", "HEAD", "OPTIONS", "TRACE" }) |safe| if (eql(safe, method)) return true;
        return false;
    }

    /// Writes down what is asked.
    fn noted(self: *Host, asked: *const http.Asked) Allocator.Error!*const Requested {
        const allocator = self.arena.allocator();
        const request = &asked.request;
        var made: Requested = .{
            .method = self.copy(request.verb()),
            .url = self.copy(request.url),
            .headers = &.{},
            .body = if (request.body) |body| self.copy(body) else null,
            .timeout_ms = request.timeout_ms,
            .slot = asked.slot,
            .call = self.calls,
        };
        var fields: std.ArrayList(types.Pair) = .empty;
        for (request.headers) |own| try fields.append(allocator, .{ .name = self.copy(own.name), .value = self.copy(own.value) });
        made.headers = fields.items;
        if (made.header("idempotency-key") == null) {
            try fields.append(allocator, .{ .name = "idempotency-key", .value = try self.idempotencyKey(&made) });
            made.headers = fields.items;
        }
        try self.requests.append(allocator, made);
        return &self.requests.items[self.requests.items.len - 1];
    }

    pub fn threshold() types.Level {
        return .trace;
    }

    pub fn write(_: types.Level, message: []const u8, _: []const types.Pair) void {
        it().logged = it().copy(message);
    }

    pub fn register(name: []const u8, kind: types.Kind) u32 {
        const self = it();
        for (self.metrics.items, 0..) |known, at| if (eql(known.name, name) and known.kind == kind) return @intCast(at);
        self.metrics.append(self.arena.allocator(), .{ .name = self.copy(name), .kind = kind }) catch @panic("out of memory");
        return @intCast(self.metrics.items.len - 1);
    }

    pub fn observe(metric: u32, value: f64) void {
        const known = &it().metrics.items[metric];
        known.total = if (known.kind == .gauge) value else known.total + value;
    }
};
