package keyrail

import (
	"math"
	"time"
)

// State returns the state of the message's order key, or of the whole partition with order.by = "partition".
func (c *Context) State() State { return State{c} }

// State is values by name. One key's messages run one at a time, in order, so a plain read, change and write is safe.
//
// A message sees what it wrote, and what earlier ones of its key wrote, in the same batch too. What it wrote counts only if
// it is settled; otherwise it is undone.
//
// Each call fails with [ErrNoKey] for a message without an order key, with [ErrTooLarge] for a name of more than 1 KiB or
// a key of more than 32 KiB, and in the host's words where the pipeline keeps no state.
type State struct{ ctx *Context }

// Get returns the value under this name, nil if there is none. An empty value is not nil.
func (s State) Get(name string) ([]byte, error) {
	if err := text("get", name); err != nil {
		return nil, err
	}
	value, why := s.ctx.host().Get(s.ctx.slot, name)
	return value, refused("get", name, why)
}

// Put writes a value of at most 512 KiB, else [ErrTooLarge]; nil is as good as an empty one. It counts against the
// manifest's limits.output-bytes together with what the message sends, else [ErrOverQuota].
func (s State) Put(name string, value []byte) error { return s.put(name, value, nil) }

// PutFor is [State.Put] of a value that goes away after this long, by the clock of the machine that the handler runs on.
func (s State) PutFor(name string, value []byte, ttl time.Duration) error {
	ttlMs := ms(ttl)
	return s.put(name, value, &ttlMs)
}

func (s State) put(name string, value []byte, ttlMs *uint64) error {
	if err := text("put", name); err != nil {
		return err
	}
	return refused("put", name, s.ctx.host().Put(s.ctx.slot, name, value, ttlMs))
}

// Delete removes a name. It is no error if there is none.
func (s State) Delete(name string) error {
	if err := text("delete", name); err != nil {
		return err
	}
	return refused("delete", name, s.ctx.host().Delete(s.ctx.slot, name))
}

// An Entry is a value of state with its name.
type Entry struct {
	Name  string
	Value []byte
}

// Scan returns at most limit names that begin with prefix, with their values, in byte order. A page has at most 1,000 names
// and 4 MiB of names and values, else [ErrTooLarge].
func (s State) Scan(prefix string, limit uint32) ([]Entry, error) { return s.scan(prefix, nil, limit) }

// ScanAfter is [State.Scan] of the names behind this one: a page's last, for the next page.
func (s State) ScanAfter(prefix, after string, limit uint32) ([]Entry, error) {
	if err := text("scan after", after); err != nil {
		return nil, err
	}
	return s.scan(prefix, &after, limit)
}

func (s State) scan(prefix string, after *string, limit uint32) ([]Entry, error) {
	if err := text("scan", prefix); err != nil {
		return nil, err
	}
	found, why := s.ctx.host().Scan(s.ctx.slot, prefix, after, limit)
	if err := refused("scan", prefix, why); err != nil {
		return nil, err
	}
	entries := make([]Entry, len(found))
	for i, entry := range found {
		entries[i] = Entry(entry)
	}
	return entries, nil
}

// Timers returns the timers of the message's order key.
func (c *Context) Timers() Timers { return Timers{c} }

// Timers are messages to the same key, later, in that key's order. Setting and cancelling count only if the message is
// settled.
//
// Each call fails with [ErrNoKey] for a message without an order key, and in the host's words where the pipeline keeps
// no timers.
type Timers struct{ ctx *Context }

// Set sets a timer for a time; it replaces one of the same key and name. Its payload arrives as the message's value.
func (t Timers) Set(name string, at time.Time, payload []byte) error {
	atMs := at.UnixMilli()
	if at.After(fromMs(atMs)) {
		atMs++ // Never early.
	}
	return t.set(name, atMs, payload)
}

// SetAfter sets a timer for this long from now.
func (t Timers) SetAfter(name string, wait time.Duration, payload []byte) error {
	nowMs, waitMs := t.ctx.host().NowMs(), int64(ms(wait))
	if nowMs > math.MaxInt64-waitMs {
		nowMs = math.MaxInt64 - waitMs
	}
	return t.set(name, nowMs+waitMs, payload)
}

func (t Timers) set(name string, atMs int64, payload []byte) error {
	if err := text("set timer", name); err != nil {
		return err
	}
	return refused("set timer", name, t.ctx.host().SetTimer(t.ctx.slot, name, atMs, payload))
}

// Cancel cancels a timer. It is no error if there is none.
func (t Timers) Cancel(name string) error {
	if err := text("cancel timer", name); err != nil {
		return err
	}
	return refused("cancel timer", name, t.ctx.host().CancelTimer(t.ctx.slot, name))
}
