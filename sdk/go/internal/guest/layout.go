package guest

import (
	"strings"

	"github.com/keyrail/keyrail/sdk/go/internal/contract"
)

// How the contract's types lie in memory: sizes in bytes, and below the places of their parts.
const (
	textSize    = 8
	pairSize    = 16
	headerSize  = 20
	entrySize   = 16
	messageSize = 64
	outcomeSize = 48
)

func (r reader) message() contract.Message {
	m := contract.Message{
		Partition:   r.u32(12),
		Offset:      r.u64(16),
		TimestampMs: int64(r.u64(24)),
		Key:         r.option(32),
		Value:       r.option(44),
		Attempt:     r.u32(56),
	}
	if r.u8(0) == 1 {
		m.Timer, m.TimerName = true, r.text(4)
	} else {
		m.TopicIndex = r.u32(4)
	}
	return m
}

func (r reader) headers(at int) []contract.Header {
	records := r.records(at, headerSize)
	headers := make([]contract.Header, len(records))
	for i, record := range records {
		headers[i] = contract.Header{Name: record.text(0), Value: record.option(8)}
	}
	return headers
}

func (r reader) entries(at int) []contract.Entry {
	records := r.records(at, entrySize)
	entries := make([]contract.Entry, len(records))
	for i, record := range records {
		entries[i] = contract.Entry{Name: record.text(0), Value: record.list(8)}
	}
	return entries
}

func (r reader) texts(at int) []string {
	records := r.records(at, textSize)
	texts := make([]string, len(records))
	for i, record := range records {
		texts[i] = record.text(0)
	}
	return texts
}

func (r reader) pairs(at int) []contract.Pair {
	records := r.records(at, pairSize)
	pairs := make([]contract.Pair, len(records))
	for i, record := range records {
		pairs[i] = contract.Pair{Name: record.text(0), Value: record.text(8)}
	}
	return pairs
}

// setup reads the one argument of open, whose parts come one by one: four times address and count.
func (r reader) setup() contract.Setup {
	return contract.Setup{
		Handler:  r.text(0),
		Topics:   r.texts(8),
		Outputs:  r.texts(16),
		Config:   r.pairs(24),
		MaxBatch: r.u32(32),
	}
}

var codes = [...]string{contract.NoKey, contract.UnknownOutput, contract.TooLarge, contract.OverQuota, contract.Other}

// refusal reads the error of a result; nil if it is none.
func (r reader) refusal() *contract.Refusal {
	if r.u8(0) == 0 {
		return nil
	}
	why := &contract.Refusal{Code: codes[r.u8(4)]}
	if why.Code == contract.Other {
		why.Words = r.text(8)
	}
	return why
}

// The host takes text in UTF-8 alone, and traps where it is not.
func valid(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

func writeHeaders(headers []contract.Header) *writer {
	behind := 0
	for i := range headers {
		behind += len(headers[i].Name) + len(headers[i].Value)
	}
	w := newWriter(len(headers), headerSize, behind)
	for i := range headers {
		w.text(i*headerSize, headers[i].Name)
		w.option(i*headerSize+8, headers[i].Value)
	}
	return w
}

func writePairs(given []contract.Pair) *writer {
	pairs, behind := make([]contract.Pair, len(given)), 0
	for i := range given {
		pairs[i] = contract.Pair{Name: valid(given[i].Name), Value: valid(given[i].Value)}
		behind += len(pairs[i].Name) + len(pairs[i].Value)
	}
	w := newWriter(len(pairs), pairSize, behind)
	for i := range pairs {
		w.text(i*pairSize, pairs[i].Name)
		w.text(i*pairSize+8, pairs[i].Value)
	}
	return w
}

func writeOutcomes(outcomes []contract.Outcome) *writer {
	behind := 0
	for i := range outcomes {
		o := &outcomes[i]
		o.Code, o.Detail = valid(o.Code), valid(o.Detail)
		behind += len(o.Code) + len(o.Detail)
	}
	w := newWriter(len(outcomes), outcomeSize, behind)
	for i := range outcomes {
		w.outcome(i*outcomeSize, &outcomes[i])
	}
	return w
}

func (w *writer) outcome(at int, o *contract.Outcome) {
	w.u8(at, uint8(o.Fate))
	if o.Fate != contract.Retry && o.Fate != contract.DeadLetter {
		return
	}
	w.text(at+8, o.Code)
	w.text(at+16, o.Detail)
	if o.Fate == contract.Retry {
		w.u8(at+24, bit(o.HasDelay))
		w.u64(at+32, o.DelayMs)
		w.u8(at+40, bit(o.Outage))
	}
}

func bit(is bool) uint8 {
	if is {
		return 1
	}
	return 0
}
