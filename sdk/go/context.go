package keyrail

import (
	"context"
	"log/slog"
	"time"
	"unicode/utf8"

	"github.com/keyrail/keyrail/sdk/go/internal/contract"
)

// A Context is one message's side of the host. What is staged through it (sends, state, timers) takes effect only if the
// message is settled, together with the commit of its offset.
//
// It is a [context.Context] that is never done: the host stops a call at its deadline by ending the instance. It counts
// until its handler returns; a method that is called later panics. It may be used by several goroutines, which take turns:
// a handler has one thread.
type Context struct {
	setup   *Setup
	message *Message
	slot    uint32
	answers []Answer
	over    bool
}

var _ context.Context = (*Context)(nil)

func (c *Context) host() contract.Host {
	if c.over {
		panic("keyrail: a Context was used after its handler had returned")
	}
	return c.setup.host
}

// Setup returns the pipeline as its manifest describes it.
func (c *Context) Setup() *Setup { return c.setup }

// ID returns the message's identity, the same over retries, parking, redrive and replay: the idempotency key for
// effects outside Keyrail.
func (c *Context) ID() string { return c.host().ID(c.slot) }

// Headers returns all headers, in order.
func (c *Context) Headers() []Header {
	given := c.host().Headers(c.slot)
	headers := make([]Header, len(given))
	for i, header := range given {
		headers[i] = Header(header)
	}
	return headers
}

// Header returns the value of the last header of that name. It is nil for Kafka's null, and where there is none.
func (c *Context) Header(name string) []byte {
	if !utf8.ValidString(name) {
		return nil // No header has such a name.
	}
	return c.host().HeaderValue(c.slot, name)
}

// FollowsDeadLetter reports whether an earlier message of this key was dead-lettered or discarded.
func (c *Context) FollowsDeadLetter() bool { return c.host().FollowsDeadLetter(c.slot) }

// Now returns the time, fixed within a call, in whole milliseconds. time.Now says the same, but for what was slept: a
// sleep is over at once, and moves that clock on.
func (c *Context) Now() time.Time { return fromMs(c.host().NowMs()) }

// Random returns the next number of a sequence seeded by the message's id and attempt, so that a run can be repeated.
func (c *Context) Random() uint64 { return c.host().Random(c.slot) }

// Log returns a logger to the host's log, which adds the message's partition and offset.
func (c *Context) Log() *slog.Logger {
	return slog.New(&logHandler{host: c.host(), fields: c.place()})
}

// Deadline returns when the host will stop this call. There always is such a time.
func (c *Context) Deadline() (deadline time.Time, ok bool) {
	return fromMs(c.host().DeadlineMs()), true
}

// Done returns nil.
func (c *Context) Done() <-chan struct{} { return nil }

// Err returns nil.
func (c *Context) Err() error { return nil }

// contextKey is what a Context is found by, also in one that is derived from it.
type contextKey struct{}

// Value returns nil for all keys but this package's own.
func (c *Context) Value(key any) any {
	if key == (contextKey{}) {
		return c
	}
	return nil
}

// A Record is a record to send. But for To and Value, what is not set is the message's own, or none.
type Record struct {
	// To is the name of an output in the manifest, never a topic.
	To string
	// Value is the record's; nil is a tombstone.
	Value []byte
	// Key is another key than the message's; nil is the message's own.
	Key []byte
	// Keyless sends Kafka's null as key.
	Keyless bool
	// Headers are added behind those that go along: traceparent and tracestate always do.
	Headers []Header
	// ForwardHeaders also copies the message's own headers.
	ForwardHeaders bool
	// Timestamp is another than the message's. The zero Time is the message's own.
	Timestamp time.Time
	// Delay delivers the record no earlier than this long after the message is settled, which needs limits.delay in the
	// manifest; 0 is at once.
	Delay time.Duration
}

// Send stages a record with the message's own key and timestamp: it is sent when the message is settled, and forgotten
// if the message fails. A nil value is a tombstone.
//
// It fails with [ErrUnknownOutput], [ErrTooLarge] or [ErrOverQuota], or in the host's words.
func (c *Context) Send(to string, value []byte) error {
	return c.SendRecord(Record{To: to, Value: value})
}

// SendRecord is [Context.Send] with all that can be said of a record.
func (c *Context) SendRecord(record Record) error {
	output := contract.Output{
		To:             record.To,
		Key:            record.Key,
		Value:          record.Value,
		ForwardHeaders: record.ForwardHeaders,
		HasDelay:       record.Delay > 0,
		DelayMs:        ms(record.Delay),
	}
	if record.Key == nil && !record.Keyless {
		output.Key = c.message.Key
	}
	if !record.Timestamp.IsZero() {
		output.HasTimestamp, output.TimestampMs = true, record.Timestamp.UnixMilli()
	}
	if err := text("send to", record.To); err != nil {
		return err
	}
	for _, header := range record.Headers {
		if err := text("send the header", header.Name); err != nil {
			return err
		}
		output.Headers = append(output.Headers, contract.Header(header))
	}
	return refused("send to", record.To, c.host().Send(c.slot, &output))
}
