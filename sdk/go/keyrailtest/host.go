// Package keyrailtest is a host in memory, to run handlers in ordinary tests, on any platform.
//
// It keeps state, timers, sends and a clock that only the test moves, holds the manifest's default limits and those of
// state, and undoes what a failed message staged. It repeats nothing by a policy: each call runs what it is given, once. A
// handler that panics does so in the test.
package keyrailtest

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	keyrail "github.com/keyrail/keyrail/sdk/go"
	"github.com/keyrail/keyrail/sdk/go/internal/contract"
)

// A Host runs the messages of one handler. It is for one goroutine.
type Host struct {
	t       testing.TB
	world   *world
	program contract.Program
	topics  []string
	offset  uint64
}

// New returns a host that has opened the handler. Where setup does not say otherwise, the pipeline is named test, reads
// the topic in, and has no outputs and no configuration. The test fails if the handler refuses.
func New(t testing.TB, handler keyrail.Handler, setup keyrail.Setup) *Host {
	t.Helper()
	host, err := Open(handler, setup)
	if err != nil {
		t.Fatalf("the handler refuses to open: %v", err)
	}
	host.t = t
	return host
}

// Open is [New] for a test of what the handler refuses: the error has its words. What is [testing.TB.Fatalf] of a host by
// New is a panic of this one.
func Open(handler keyrail.Handler, setup keyrail.Setup) (*Host, error) {
	given := contract.Setup{
		Handler:  setup.Handler,
		Topics:   setup.Topics,
		Outputs:  setup.Outputs,
		MaxBatch: uint32(setup.MaxBatch),
	}
	if given.Handler == "" {
		given.Handler = "test"
	}
	if given.Topics == nil {
		given.Topics = []string{"in"}
	}
	if given.MaxBatch == 0 {
		given.MaxBatch = 256
	}
	for _, name := range slices.Sorted(maps.Keys(setup.Config)) {
		given.Config = append(given.Config, contract.Pair{Name: name, Value: setup.Config[name]})
	}
	world := newWorld(given.Outputs)
	host := &Host{world: world, program: contract.NewProgram(handler, world), topics: given.Topics}
	if words := host.program.Open(given); words != "" {
		return nil, refusal(words)
	}
	return host, nil
}

// A refusal is why a handler does not open.
type refusal string

func (r refusal) Error() string { return string(r) }

// An Input is a message to run. What is not set is as of the next record of partition 0 of the first topic, on its
// first run.
type Input struct {
	// Key and Value are nil for Kafka's null.
	Key, Value []byte
	// Topic is one of the setup's.
	Topic     string
	Partition uint32
	Timestamp time.Time
	Attempt   uint32
	Headers   []keyrail.Header
	// FollowsDeadLetter says that an earlier message of this key was dead-lettered.
	FollowsDeadLetter bool
}

// A Fate is what becomes of a message.
type Fate uint8

// The fates, as in the contract.
const (
	Done       = Fate(contract.Done)
	Skip       = Fate(contract.Skip)
	Retry      = Fate(contract.Retry)
	DeadLetter = Fate(contract.DeadLetter)
)

// String returns done, skip, retry or dead-letter.
func (f Fate) String() string { return [...]string{"done", "skip", "retry", "dead-letter"}[f] }

// A Run is what became of a message.
type Run struct {
	Fate Fate
	// Code and Detail are those of a failure.
	Code, Detail string
	// Delay is what a retry asked for, if HasDelay.
	Delay    time.Duration
	HasDelay bool
	Outage   bool
	// Sent is what it sent, in order; nothing if it failed.
	Sent []Sent
}

// A Sent is a record that was sent.
type Sent struct {
	// To is the output's name.
	To string
	// Key and Value are nil for Kafka's null.
	Key, Value []byte
	// Headers are all of them, the message's own, too, where they go along.
	Headers   []keyrail.Header
	Timestamp time.Time
	// Delay is how long after settling it is delivered at the earliest.
	Delay time.Duration
}

// Header returns the value of the last header of that name.
func (s Sent) Header(name string) []byte {
	for _, header := range slices.Backward(s.Headers) {
		if header.Name == name {
			return header.Value
		}
	}
	return nil
}

func (h *Host) fatalf(format string, args ...any) {
	if h.t == nil {
		panic(fmt.Sprintf(format, args...))
	}
	h.t.Helper()
	h.t.Fatalf(format, args...)
}

// Say runs a message with a key and a value of text.
func (h *Host) Say(key, value string) Run {
	return h.Run(Input{Key: []byte(key), Value: []byte(value)})
}

// Run runs a message.
func (h *Host) Run(input Input) Run {
	message := contract.Message{
		Partition:   input.Partition,
		Offset:      h.offset,
		TimestampMs: h.world.nowMs,
		Key:         input.Key,
		Value:       input.Value,
		Attempt:     max(input.Attempt, 1),
	}
	h.offset++
	if !input.Timestamp.IsZero() {
		message.TimestampMs = input.Timestamp.UnixMilli()
	}
	if input.Topic != "" {
		index := slices.Index(h.topics, input.Topic)
		if index < 0 {
			h.fatalf("no topic %q among %q", input.Topic, h.topics)
		}
		message.TopicIndex = uint32(index)
	}
	return h.run(input, message)
}

func (h *Host) run(input Input, message contract.Message) Run {
	h.world.begin(h.topics[message.TopicIndex], input, message)
	outcome := h.program.Process([]contract.Message{message})[0]
	run := Run{
		Fate:     Fate(outcome.Fate),
		Code:     outcome.Code,
		Detail:   outcome.Detail,
		Delay:    toDuration(outcome.DelayMs),
		HasDelay: outcome.HasDelay,
		Outage:   outcome.Outage,
	}
	if run.Fate == Done || run.Fate == Skip {
		run.Sent = h.world.settle()
	}
	return run
}

// A Timer is one that is set.
type Timer struct {
	At      time.Time
	Payload []byte
}

// Timer returns a key's timer of that name, and whether there is one.
func (h *Host) Timer(key, name string) (timer Timer, ok bool) {
	set, ok := h.world.timers[place{key, name}]
	if !ok {
		return Timer{}, false
	}
	return Timer{At: toTime(set.atMs), Payload: slices.Clone(set.payload)}, true
}

// Fire runs a timer that is set, at the time it is due or now, whichever is later. If it is settled, the timer is gone,
// unless it was set again meanwhile. The test fails if there is none.
func (h *Host) Fire(key, name string) Run {
	at := place{key, name}
	set, ok := h.world.timers[at]
	if !ok {
		h.fatalf("the key %q has no timer %q", key, name)
	}
	h.world.nowMs = max(h.world.nowMs, set.atMs)
	run := h.run(Input{}, contract.Message{
		Timer:       true,
		TimerName:   name,
		Partition:   set.partition,
		Offset:      set.offset,
		TimestampMs: set.atMs,
		Key:         []byte(key),
		Value:       slices.Clone(set.payload),
		Attempt:     1,
	})
	if (run.Fate == Done || run.Fate == Skip) && h.world.timers[at] == set {
		delete(h.world.timers, at)
	}
	return run
}

// State returns what a key keeps under a name; nil if nothing.
func (h *Host) State(key, name string) []byte {
	if value, ok := h.world.state[place{key, name}]; ok && h.world.lasts(value) {
		return slices.Clone(value.bytes)
	}
	return nil
}

// SetState puts a value under a key's name, as if an earlier message had.
func (h *Host) SetState(key, name string, value []byte) {
	h.world.state[place{key, name}] = &kept{bytes: append([]byte{}, value...)}
}

// Metric returns the sum of what was added to or observed by the metrics of that name, or a gauge's last value. What
// failed messages did counts as well.
func (h *Host) Metric(name string) float64 {
	total := 0.0
	for _, m := range h.world.metrics {
		if m.name == name {
			total += m.total
		}
	}
	return total
}

// A LogLine is a line of the host's log.
type LogLine struct {
	Level   slog.Level
	Message string
	Fields  map[string]string
}

// Log returns what was written to the host's log, by failed messages, too.
func (h *Host) Log() []LogLine { return slices.Clone(h.world.lines) }

// Now returns the host's time: at first 2023-11-14 22:13:20 UTC.
func (h *Host) Now() time.Time { return toTime(h.world.nowMs) }

// Advance moves the clock on. No timer runs by itself.
func (h *Host) Advance(by time.Duration) { h.world.nowMs += by.Milliseconds() }

func toTime(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

func toDuration(ms uint64) time.Duration { return time.Duration(ms) * time.Millisecond }
