package guest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"reflect"
	"testing"

	"github.com/keyrail/keyrail/sdk/go/internal/contract"
)

// A lowerer writes values as the host does: it asks for memory, and fills it.
type lowerer struct{ blocks }

func (l *lowerer) bytes(value []byte) []byte {
	address := l.allocate(uint32(len(value)), 1)
	if len(value) > 0 {
		copy(l.held[len(l.held)-1].bytes, value)
	}
	return words(address, uint32(len(value)))
}

func (l *lowerer) text(value string) []byte { return l.bytes([]byte(value)) }

func (l *lowerer) option(value []byte) []byte {
	if value == nil {
		return make([]byte, 12)
	}
	return append([]byte{1, 0, 0, 0}, l.bytes(value)...)
}

// list makes a list of these records; the host asks for its memory before that of what the records point to.
func (l *lowerer) list(count, size int, record func(i int) []byte) []byte {
	address := l.allocate(uint32(count*size), 4)
	at := len(l.held) - 1
	for i := range count {
		copy(l.held[at].bytes[i*size:(i+1)*size], record(i))
	}
	return words(address, uint32(count))
}

func words(values ...uint32) (out []byte) {
	for _, value := range values {
		out = binary.LittleEndian.AppendUint32(out, value)
	}
	return out
}

func concat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestAMessageIsReadAsTheHostWritesIt(t *testing.T) {
	var l lowerer
	place := concat(words(7), binary.LittleEndian.AppendUint64(nil, 1<<40), binary.LittleEndian.AppendUint64(nil, ^uint64(0)))
	given := l.list(2, messageSize, func(i int) []byte {
		if i == 0 {
			return concat(words(0, 3, 0), place, l.option([]byte("key")), l.option(nil), words(1))
		}
		return concat(words(1), l.text("remind"), place, l.option(nil), l.option([]byte{}), words(9))
	})
	var got []contract.Message
	for _, record := range (reader{&l.blocks, given}).records(0, messageSize) {
		got = append(got, record.message())
	}
	want := []contract.Message{
		{TopicIndex: 3, Partition: 7, Offset: 1 << 40, TimestampMs: -1, Key: []byte("key"), Attempt: 1},
		{Timer: true, TimerName: "remind", Partition: 7, Offset: 1 << 40, TimestampMs: -1, Value: []byte{}, Attempt: 9},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestASetupIsRead(t *testing.T) {
	var l lowerer
	topics := []string{"a", "", "c"}
	given := concat(l.text("payments"),
		l.list(3, textSize, func(i int) []byte { return l.text(topics[i]) }),
		l.list(0, textSize, nil),
		l.list(1, pairSize, func(int) []byte { return concat(l.text("limit"), l.text("5")) }),
		words(256))
	got := reader{&l.blocks, given}.setup()
	want := contract.Setup{Handler: "payments", Topics: topics, Outputs: []string{},
		Config: []contract.Pair{{Name: "limit", Value: "5"}}, MaxBatch: 256}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestResultsAreRead(t *testing.T) {
	var l lowerer
	headers := l.list(2, headerSize, func(i int) []byte {
		return concat(l.text(fmt.Sprint("h", i)), l.option([][]byte{nil, []byte("v")}[i]))
	})
	if got := (reader{&l.blocks, headers}).headers(0); !reflect.DeepEqual(got, []contract.Header{{Name: "h0"}, {Name: "h1", Value: []byte("v")}}) {
		t.Errorf("headers %+v", got)
	}
	entries := concat(words(0), l.list(1, entrySize, func(int) []byte { return concat(l.text("a"), l.bytes([]byte{})) }))
	if got := (reader{&l.blocks, entries}).entries(4); !reflect.DeepEqual(got, []contract.Entry{{Name: "a", Value: []byte{}}}) {
		t.Errorf("entries %+v", got)
	}
	for code, want := range codes {
		refused := concat(words(1, uint32(code)), l.text("why"))
		got := reader{&l.blocks, refused}.refusal()
		if got.Code != want || (got.Words == "why") != (want == contract.Other) {
			t.Errorf("%d is %+v", code, got)
		}
	}
	if got := (reader{&l.blocks, make([]byte, 16)}).refusal(); got != nil {
		t.Errorf("no error is %+v", got)
	}
}

// pointed is what an address and a size in the writer's own memory stand for.
func (w *writer) pointed(at int) string {
	from := binary.LittleEndian.Uint32(w.bytes[at:]) - addressOf(w.bytes)
	return string(w.bytes[from : from+binary.LittleEndian.Uint32(w.bytes[at+4:])])
}

func TestOutcomesAreWritten(t *testing.T) {
	w := writeOutcomes([]contract.Outcome{
		{Fate: contract.Skip},
		{Fate: contract.Retry, Code: "busy", Detail: "bad \xff byte", HasDelay: true, DelayMs: 1500, Outage: true},
		{Fate: contract.DeadLetter, Code: "bad", Detail: ""},
	})
	if w.bytes[0] != 1 || !bytes.Equal(w.bytes[1:outcomeSize], make([]byte, outcomeSize-1)) {
		t.Errorf("a skip is % x", w.bytes[:outcomeSize])
	}
	retry := w.bytes[outcomeSize:]
	if retry[0] != 2 || w.pointed(outcomeSize+8) != "busy" || w.pointed(outcomeSize+16) != "bad \uFFFD byte" {
		t.Errorf("a retry is % x", retry[:outcomeSize])
	}
	if retry[24] != 1 || binary.LittleEndian.Uint64(retry[32:]) != 1500 || retry[40] != 1 {
		t.Errorf("its delay and its outage are % x", retry[24:outcomeSize])
	}
	if w.bytes[2*outcomeSize] != 3 || w.pointed(2*outcomeSize+8) != "bad" || w.pointed(2*outcomeSize+16) != "" {
		t.Errorf("a dead letter is % x", w.bytes[2*outcomeSize:3*outcomeSize])
	}
}

func TestHeadersAndPairsAreWritten(t *testing.T) {
	w := writeHeaders([]contract.Header{{Name: "a", Value: []byte("12")}, {Name: "b"}, {Name: "c", Value: []byte{}}})
	for i, want := range []struct {
		name, value string
		is          byte
	}{{"a", "12", 1}, {"b", "", 0}, {"c", "", 1}} {
		at := i * headerSize
		if w.pointed(at) != want.name || w.bytes[at+8] != want.is || want.is == 1 && w.pointed(at+12) != want.value {
			t.Errorf("header %d is % x", i, w.bytes[at:at+headerSize])
		}
	}
	w = writePairs([]contract.Pair{{Name: "n\xff", Value: "v"}})
	if w.pointed(0) != "n\uFFFD" || w.pointed(8) != "v" {
		t.Errorf("a pair is %q, %q", w.pointed(0), w.pointed(8))
	}
}

func TestMemoryIsGivenAwayOnce(t *testing.T) {
	var b blocks
	if b.allocate(0, 8) != 8 || string(b.take(8, 0)) != "" {
		t.Error("nothing is where its alignment says")
	}
	first, second := b.allocate(3, 1), b.allocate(16, 8)
	if second%8 != 0 {
		t.Errorf("%#x is not aligned", second)
	}
	copy(b.held[0].bytes, "abc")
	grown := b.reallocate(first, 3, 1, 5)
	if got := b.take(grown, 5); string(got) != "abc\x00\x00" {
		t.Errorf("it grew to %q", got)
	}
	if got := b.take(second, 16); len(got) != 16 || cap(got) != 16 {
		t.Errorf("%d of %d bytes", len(got), cap(got))
	}
	defer func() {
		if recover() == nil {
			t.Error("it was given away twice")
		}
	}()
	b.take(second, 16)
}
