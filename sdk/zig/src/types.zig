//! What crosses the border between a handler and its host.

/// A header of a record. Without a value it is Kafka's null, which differs from an empty one.
pub const Header = struct { name: []const u8, value: ?[]const u8 = null };

/// A value of state with its name.
pub const Entry = struct { name: []const u8, value: []const u8 };

/// A name with a value: of the configuration, of a log line's fields, of a metric's labels.
pub const Pair = struct { name: []const u8, value: []const u8 };

/// The pipeline as its manifest describes it.
pub const Setup = struct {
    handler: []const u8 = "test",
    topics: []const []const u8 = &.{"in"},
    outputs: []const []const u8 = &.{},
    config: []const Pair = &.{},
    max_batch: u32 = 256,

    /// A value of the manifest's `[config]`.
    pub fn get(setup: *const Setup, name: []const u8) ?[]const u8 {
        for (setup.config) |pair| if (eql(pair.name, name)) return pair.value;
        return null;
    }
};

/// One delivery: a record of an input topic, or a timer that fell due.
pub const Message = struct {
    source: union(enum) {
        /// The input topic.
        topic: []const u8,
        /// The timer's name.
        timer: []const u8,
    },
    /// Partition and offset where the record was first read, also after parking and redrive; a timer's are those of the
    /// message that set it.
    partition: u32,
    offset: u64,
    /// Milliseconds since the Unix epoch; a timer's is the time it was set for.
    timestamp_ms: i64,
    /// null is Kafka's null.
    key: ?[]const u8,
    /// A timer's payload is its value; null is a tombstone.
    value: ?[]const u8,
    /// 1 on the first run.
    attempt: u32,

    /// The timer's name, if a timer made this delivery happen.
    pub fn timer(message: *const Message) ?[]const u8 {
        return switch (message.source) {
            .timer => |name| name,
            .topic => null,
        };
    }
};

/// Why a call that stages or reads failed.
pub const HostError = error{
    /// The message has no order key, and state and timers belong to one.
    NoKey,
    /// The manifest has no output of that name.
    UnknownOutput,
    /// A record, a name, a key, a value or a page of a scan.
    TooLarge,
    /// More than the manifest's `[limits]` allow for one message.
    OverQuota,
    /// Anything else: `Context.words` has the host's words, or says that a name is not UTF-8.
    Other,
};

/// A record to send.
pub const Record = struct {
    /// An output's name in the manifest, never a topic.
    to: []const u8,
    /// null is a tombstone.
    value: ?[]const u8,
    key: Key = .own,
    /// They stand behind those that go along: `traceparent` and `tracestate` always do.
    headers: []const Header = &.{},
    /// Also copies the message's own headers.
    forward_headers: bool = false,
    /// Milliseconds since the Unix epoch; null is the message's own.
    timestamp_ms: ?i64 = null,
    /// Not before this long after the message is settled. See limits.delay of the manifest.
    delay_ms: ?u64 = null,

    pub const Key = union(enum) {
        /// The message's own.
        own,
        /// Kafka's null.
        none,
        bytes: []const u8,
    };
};

/// Why a message failed.
pub const Failure = struct {
    /// Short and stable: it becomes a header, a metric's label and a group in lists.
    code: []const u8,
    /// What happened, for people.
    detail: []const u8,
};

/// What becomes of a message. `Context` has functions that make failures.
pub const Outcome = union(enum) {
    /// Settled.
    done,
    /// Settled, and counted apart: filtered out on purpose.
    skip,
    /// Runs again by the manifest's retry policy, its key's later messages behind it.
    retry: Retry,
    /// Goes to the dead letters.
    dead_letter: Failure,

    pub const Retry = struct { failure: Failure, delay_ms: ?u64 = null, outage: bool = false };

    /// A retry not before this long.
    pub fn after(outcome: Outcome, delay_ms: u64) Outcome {
        var changed = outcome;
        changed.retry.delay_ms = delay_ms;
        return changed;
    }

    /// A retry at no attempt's cost: its cause lies outside the message, such as a service that is down.
    pub fn outage(outcome: Outcome) Outcome {
        var changed = outcome;
        changed.retry.outage = true;
        return changed;
    }
};

/// Levels of the log.
pub const Level = enum(u32) { trace, debug, info, warn, err, critical };

/// What a metric does with what it observes.
pub const Kind = enum(u32) {
    /// Adds up.
    counter,
    /// The last value stands.
    gauge,
    /// Counts values by their size.
    histogram,
};

fn eql(a: []const u8, b: []const u8) bool {
    return @import("std").mem.eql(u8, a, b);
}
