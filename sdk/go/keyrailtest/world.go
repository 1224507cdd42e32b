package keyrailtest

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math"
	"slices"
	"strings"

	keyrail "github.com/keyrail/keyrail/sdk/go"
	"github.com/keyrail/keyrail/sdk/go/internal/contract"
)

// What the real host takes, and how it counts.
const (
	startMs     = 1_700_000_000_000
	timeoutMs   = 5_000
	maxDelayMs  = 366 * 24 * 3_600_000
	nameBytes   = 1 << 10
	keyBytes    = 32 << 10
	valueBytes  = 512 << 10
	scanNames   = 1_000
	scanBytes   = 4 << 20
	maxOutputs  = 1_000
	outputBytes = 4 << 20
	headerBytes = 16
	changeBytes = 67
)

// A place is what state and timers are found by.
type place struct{ key, name string }

type kept struct {
	bytes []byte
	// untilMs is when it ends; nil: never.
	untilMs *int64
}

type timer struct {
	atMs      int64
	payload   []byte
	partition uint32
	offset    uint64
}

type metric struct {
	name   string
	kind   contract.Kind
	labels []contract.Pair
	total  float64
}

// A world is the contract's imports over maps. What the message that runs has staged lies beside them until it is
// settled; nil is a deletion there.
type world struct {
	nowMs   int64
	outputs []string
	state   map[place]*kept
	timers  map[place]*timer
	metrics []*metric
	lines   []LogLine

	input        Input
	message      contract.Message
	id           string
	random       uint64
	sent         []Sent
	stagedBytes  int
	stagedState  map[string]*kept
	stagedTimers map[string]*timer
	// changing counts the message's requests that may change something.
	changing int

	outside outside
}

var _ contract.Host = (*world)(nil)

func newWorld(outputs []string) *world {
	return &world{nowMs: startMs, outputs: outputs, state: map[place]*kept{}, timers: map[place]*timer{}}
}

func (w *world) begin(topic string, input Input, message contract.Message) {
	w.input, w.message = input, message
	w.id = fmt.Sprintf("%s/%d/%d", topic, message.Partition, message.Offset)
	if message.Timer {
		w.id += fmt.Sprintf("/timer/%s/%d", message.TimerName, message.TimestampMs)
	}
	seed := fnv.New64a()
	fmt.Fprintf(seed, "%s %d", w.id, message.Attempt)
	w.random = seed.Sum64()
	w.sent, w.stagedBytes, w.changing = nil, 0, 0
	w.stagedState, w.stagedTimers = map[string]*kept{}, map[string]*timer{}
}

// settle makes what was staged count.
func (w *world) settle() []Sent {
	apply(w.state, string(w.message.Key), w.stagedState)
	apply(w.timers, string(w.message.Key), w.stagedTimers)
	return w.sent
}

func apply[T any](to map[place]*T, key string, staged map[string]*T) {
	for name, value := range staged {
		if value == nil {
			delete(to, place{key, name})
		} else {
			to[place{key, name}] = value
		}
	}
}

func (w *world) lasts(value *kept) bool { return value.untilMs == nil || w.nowMs < *value.untilMs }

func (w *world) ID(uint32) string { return w.id }

func (w *world) Headers(uint32) []contract.Header {
	headers := make([]contract.Header, len(w.input.Headers))
	for i, header := range w.input.Headers {
		headers[i] = contract.Header(header)
	}
	return headers
}

func (w *world) HeaderValue(_ uint32, name string) []byte {
	return Sent{Headers: w.input.Headers}.Header(name)
}

func (w *world) FollowsDeadLetter(uint32) bool { return w.input.FollowsDeadLetter }

func (w *world) NowMs() int64 { return w.nowMs }

func (w *world) DeadlineMs() int64 { return w.nowMs + timeoutMs }

// Random is splitmix64, as on the real host.
func (w *world) Random(uint32) uint64 {
	w.random += 0x9e3779b97f4a7c15
	z := w.random
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func refuse(code string) *contract.Refusal { return &contract.Refusal{Code: code} }

func (w *world) Send(_ uint32, output *contract.Output) *contract.Refusal {
	if !slices.Contains(w.outputs, output.To) {
		return refuse(contract.UnknownOutput)
	}
	if output.HasDelay && output.DelayMs > maxDelayMs {
		return &contract.Refusal{Code: contract.Other, Words: "a send is delayed by 366 days at most"}
	}
	sent := Sent{
		To:        output.To,
		Key:       bytes.Clone(output.Key),
		Value:     bytes.Clone(output.Value),
		Timestamp: toTime(w.message.TimestampMs),
	}
	if output.HasTimestamp {
		sent.Timestamp = toTime(output.TimestampMs)
	}
	if output.HasDelay {
		sent.Delay = toDuration(output.DelayMs)
	}
	for _, header := range w.input.Headers {
		if output.ForwardHeaders || header.Name == "traceparent" || header.Name == "tracestate" {
			sent.Headers = append(sent.Headers, header)
		}
	}
	size := len(output.Key) + len(output.Value)
	for _, header := range output.Headers {
		size += headerBytes + len(header.Name) + len(header.Value)
		sent.Headers = append(sent.Headers, keyrail.Header{Name: header.Name, Value: bytes.Clone(header.Value)})
	}
	if len(w.sent) == maxOutputs || w.stagedBytes+size > outputBytes {
		return refuse(contract.OverQuota)
	}
	w.stagedBytes += size
	w.sent = append(w.sent, sent)
	return nil
}

// fits says whether the message has a key that state and timers can be kept by, and whether the name is fit.
func (w *world) fits(name string) *contract.Refusal {
	switch {
	case w.message.Key == nil:
		return refuse(contract.NoKey)
	case len(w.message.Key) > keyBytes || len(name) > nameBytes:
		return refuse(contract.TooLarge)
	}
	return nil
}

// find looks for a value in what is staged, and then in what is kept.
func (w *world) find(name string) (*kept, bool) {
	value, ok := w.stagedState[name]
	if !ok {
		value = w.state[place{string(w.message.Key), name}]
	}
	return value, value != nil && w.lasts(value)
}

func (w *world) Get(_ uint32, name string) ([]byte, *contract.Refusal) {
	if why := w.fits(name); why != nil {
		return nil, why
	}
	if value, ok := w.find(name); ok {
		return bytes.Clone(value.bytes), nil
	}
	return nil, nil
}

func (w *world) change(name string, value *kept, size int) *contract.Refusal {
	if why := w.fits(name); why != nil {
		return why
	}
	if size > valueBytes {
		return refuse(contract.TooLarge)
	}
	size += len(name) + len(w.message.Key) + changeBytes
	if w.stagedBytes+size > outputBytes {
		return refuse(contract.OverQuota)
	}
	w.stagedBytes += size
	w.stagedState[name] = value
	return nil
}

func (w *world) Put(_ uint32, name string, value []byte, ttlMs *uint64) *contract.Refusal {
	written := &kept{bytes: append([]byte{}, value...)}
	if ttlMs != nil && *ttlMs < uint64(math.MaxInt64-w.nowMs) {
		untilMs := w.nowMs + int64(*ttlMs)
		written.untilMs = &untilMs
	}
	return w.change(name, written, len(value))
}

func (w *world) Delete(_ uint32, name string) *contract.Refusal { return w.change(name, nil, 0) }

// names gives all names that the message's key may have, in order.
func (w *world) names() []string {
	var names []string
	for at := range w.state {
		if at.key == string(w.message.Key) {
			names = append(names, at.name)
		}
	}
	for name := range w.stagedState {
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (w *world) Scan(_ uint32, prefix string, after *string, limit uint32) ([]contract.Entry, *contract.Refusal) {
	if why := w.fits(prefix); why != nil {
		return nil, why
	}
	if limit > scanNames || after != nil && len(*after) > nameBytes {
		return nil, refuse(contract.TooLarge)
	}
	var entries []contract.Entry
	size := 0
	for _, name := range w.names() {
		value, ok := w.find(name)
		if !ok || !strings.HasPrefix(name, prefix) || after != nil && name <= *after || len(entries) == int(limit) {
			continue
		}
		size += len(name) + len(value.bytes)
		entries = append(entries, contract.Entry{Name: name, Value: bytes.Clone(value.bytes)})
	}
	if size > scanBytes {
		return nil, refuse(contract.TooLarge)
	}
	return entries, nil
}

func (w *world) SetTimer(_ uint32, name string, atMs int64, payload []byte) *contract.Refusal {
	if why := w.fits(name); why != nil {
		return why
	}
	if len(payload) > valueBytes {
		return refuse(contract.TooLarge)
	}
	payload = append([]byte{}, payload...)
	w.stagedTimers[name] = &timer{atMs, payload, w.message.Partition, w.message.Offset}
	return nil
}

func (w *world) CancelTimer(_ uint32, name string) *contract.Refusal {
	if why := w.fits(name); why != nil {
		return why
	}
	w.stagedTimers[name] = nil
	return nil
}

func (w *world) Threshold() contract.Level { return contract.Trace }

func (w *world) Log(level contract.Level, message string, fields []contract.Pair) {
	// Levels of slog lie four apart.
	line := LogLine{Level: keyrail.LevelTrace + 4*slog.Level(level), Message: message, Fields: map[string]string{}}
	for _, field := range fields {
		line.Fields[field.Name] = field.Value
	}
	w.lines = append(w.lines, line)
}

func (w *world) Register(name string, kind contract.Kind, labels []contract.Pair) uint32 {
	for i, m := range w.metrics {
		if m.name == name && m.kind == kind && slices.Equal(m.labels, labels) {
			return uint32(i)
		}
	}
	w.metrics = append(w.metrics, &metric{name: name, kind: kind, labels: labels})
	return uint32(len(w.metrics) - 1)
}

func (w *world) Observe(handle uint32, value float64) {
	m := w.metrics[handle]
	if m.kind == contract.Gauge {
		m.total = 0
	}
	m.total += value
}
