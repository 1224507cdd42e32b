//! Sums up the amounts of each customer, the order key: sends the new total to the output `totals`, and keeps it in the
//! key's state. An amount that is no number is a dead letter.

const std = @import("std");
const keyrail = @import("keyrail");

pub const panic = keyrail.panic;

comptime {
    keyrail.handler(@This());
}

pub fn handle(ctx: *keyrail.Context, message: *const keyrail.Message) !keyrail.Outcome {
    const amount = std.fmt.parseInt(i64, message.value orelse "", 10) catch |err|
        return ctx.deadLetter("no-number", "the amount is no number: {t}", .{err});
    const before = try ctx.state().get("total") orelse "0";
    const total = std.fmt.parseInt(i64, before, 10) catch |err|
        return ctx.deadLetter("state", "the total: {t}", .{err});
    const sum = std.math.add(i64, total, amount) catch
        return ctx.deadLetter("overflow", "{d} and {d} are too large together", .{ total, amount });
    var buffer: [20]u8 = undefined;
    const text = try std.fmt.bufPrint(&buffer, "{d}", .{sum});
    try ctx.state().put("total", text);
    try ctx.send("totals", text);
    return .done;
}

const testing = std.testing;

test "each customer has a total" {
    var host: keyrail.testing.Host = .init(testing.allocator, .{ .outputs = &.{"totals"} });
    defer host.deinit();
    for ([_][3][]const u8{ .{ "ann", "7", "7" }, .{ "bob", "1", "1" }, .{ "ann", "-2", "5" } }) |step| {
        const customer, const amount, const total = step;
        const run = try host.say(@This(), customer, amount);
        try testing.expectEqual(.done, run.outcome);
        try testing.expectEqual(1, run.sent.len);
        try testing.expectEqualStrings(customer, run.sent[0].key.?);
        try testing.expectEqualStrings(total, run.sent[0].value.?);
    }
}

test "what is no amount is a dead letter and changes nothing" {
    var host: keyrail.testing.Host = .init(testing.allocator, .{ .outputs = &.{"totals"} });
    defer host.deinit();
    _ = try host.say(@This(), "ann", "5");
    for ([_][2][]const u8{ .{ "many", "no-number" }, .{ "9223372036854775807", "overflow" } }) |step| {
        const run = try host.say(@This(), "ann", step[0]);
        try testing.expect(run.outcome == .dead_letter);
        try testing.expectEqualStrings(step[1], run.code());
        try testing.expectEqual(0, run.sent.len);
    }
    try testing.expectEqualStrings("5", host.state("ann", "total").?);
}
