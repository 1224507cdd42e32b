package keyrail_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	keyrail "github.com/keyrail/keyrail/sdk/go"
	"github.com/keyrail/keyrail/sdk/go/keyrailtest"
)

type handle = func(ctx *keyrail.Context, msg *keyrail.Message) error

func newHost(t *testing.T, f handle) *keyrailtest.Host {
	t.Helper()
	return keyrailtest.New(t, keyrail.HandlerFunc(f), keyrail.Setup{Outputs: []string{"out"}})
}

func TestWhatAHandlerReturnsIsWhatBecomesOfTheMessage(t *testing.T) {
	service := fmt.Errorf("no answer: %w", io.ErrUnexpectedEOF)
	for name, test := range map[string]struct {
		err  error
		want keyrailtest.Run
	}{
		"done":          {nil, keyrailtest.Run{Fate: keyrailtest.Done}},
		"skip":          {keyrail.Skip, keyrailtest.Run{Fate: keyrailtest.Skip}},
		"skip, wrapped": {fmt.Errorf("a test: %w", keyrail.Skip), keyrailtest.Run{Fate: keyrailtest.Skip}},
		"retry":         {keyrail.Retry("busy", "%d of %d", 1, 2), keyrailtest.Run{Fate: keyrailtest.Retry, Code: "busy", Detail: "1 of 2"}},
		"no detail":     {keyrail.Retry("busy", ""), keyrailtest.Run{Fate: keyrailtest.Retry, Code: "busy"}},
		"after":         {keyrail.Retry("busy", "x").After(1500 * time.Microsecond), keyrailtest.Run{Fate: keyrailtest.Retry, Code: "busy", Detail: "x", HasDelay: true, Delay: 2 * time.Millisecond}},
		"at once":       {keyrail.Retry("busy", "x").After(0), keyrailtest.Run{Fate: keyrailtest.Retry, Code: "busy", Detail: "x", HasDelay: true}},
		"outage":        {keyrail.Retry("down", "%w", service).Outage(), keyrailtest.Run{Fate: keyrailtest.Retry, Code: "down", Detail: "no answer: unexpected EOF", Outage: true}},
		"dead letter":   {keyrail.DeadLetter("bad", "why"), keyrailtest.Run{Fate: keyrailtest.DeadLetter, Code: "bad", Detail: "why"}},
		"wrapped":       {fmt.Errorf("order 7: %w", keyrail.DeadLetter("bad", "why")), keyrailtest.Run{Fate: keyrailtest.DeadLetter, Code: "bad", Detail: "order 7: why"}},
		"any error":     {service, keyrailtest.Run{Fate: keyrailtest.Retry, Code: "error", Detail: "no answer: unexpected EOF"}},
		"skip, hiding":  {errors.Join(keyrail.Skip, io.EOF), keyrailtest.Run{Fate: keyrailtest.Retry, Code: "error", Detail: "keyrail: skip this message\nEOF"}},
	} {
		t.Run(name, func(t *testing.T) {
			run := newHost(t, func(ctx *keyrail.Context, _ *keyrail.Message) error {
				if err := ctx.Send("out", []byte("x")); err != nil {
					return err
				}
				return test.err
			}).Say("k", "v")
			if settled := test.want.Fate <= keyrailtest.Skip; (len(run.Sent) == 1) != settled {
				t.Errorf("sent %+v", run.Sent)
			}
			run.Sent = nil
			if !reflect.DeepEqual(run, test.want) {
				t.Errorf("got %+v, want %+v", run, test.want)
			}
		})
	}
}

func TestAFailureTellsItsCause(t *testing.T) {
	for _, err := range []error{keyrail.Retry("busy", "a: %w", io.EOF), keyrail.DeadLetter("bad", "a: %w", io.EOF)} {
		if !errors.Is(err, io.EOF) || err.Error() != "a: EOF" {
			t.Errorf("%T: %v", err, err)
		}
	}
	if text := keyrail.DeadLetter("bad", "").Error(); text != "bad" {
		t.Errorf("without a detail its text is %q", text)
	}
}

func TestWhatTheHostRefusesBecomesADeadLetterOrARetry(t *testing.T) {
	big := make([]byte, 512<<10+1)
	for name, test := range map[string]struct {
		do     handle
		is     error
		fate   keyrailtest.Fate
		code   string
		detail string
	}{
		"unknown output": {func(ctx *keyrail.Context, _ *keyrail.Message) error { return ctx.Send("nowhere", nil) },
			keyrail.ErrUnknownOutput, keyrailtest.DeadLetter, "unknown-output", `send to "nowhere": no such output`},
		"too large": {func(ctx *keyrail.Context, _ *keyrail.Message) error { return ctx.State().Put("a", big) },
			keyrail.ErrTooLarge, keyrailtest.DeadLetter, "too-large", `put "a": larger`},
		"over quota": {func(ctx *keyrail.Context, _ *keyrail.Message) error {
			var err error
			for err == nil {
				err = ctx.Send("out", nil)
			}
			return err
		}, keyrail.ErrOverQuota, keyrailtest.DeadLetter, "over-quota", `send to "out": over the message's quota`},
		"other": {func(ctx *keyrail.Context, _ *keyrail.Message) error {
			return ctx.SendRecord(keyrail.Record{To: "out", Delay: 367 * 24 * time.Hour})
		}, nil, keyrailtest.Retry, "error", "366 days"},
		"a name that is no text": {func(ctx *keyrail.Context, _ *keyrail.Message) error { return ctx.State().Put("\xff", nil) },
			nil, keyrailtest.Retry, "error", `put "\xff": not UTF-8`},
	} {
		t.Run(name, func(t *testing.T) {
			run := newHost(t, func(ctx *keyrail.Context, msg *keyrail.Message) error {
				err := test.do(ctx, msg)
				if test.is != nil && !errors.Is(err, test.is) {
					t.Errorf("%v is not %v", err, test.is)
				}
				return err
			}).Say("k", "v")
			if run.Fate != test.fate || run.Code != test.code || !strings.Contains(run.Detail, test.detail) {
				t.Errorf("%v %s: %s", run.Fate, run.Code, run.Detail)
			}
		})
	}
}

func TestStateAndTimersNeedAKey(t *testing.T) {
	for name, do := range map[string]func(ctx *keyrail.Context) error{
		"get":       func(ctx *keyrail.Context) error { _, err := ctx.State().Get("a"); return err },
		"put":       func(ctx *keyrail.Context) error { return ctx.State().Put("a", nil) },
		"delete":    func(ctx *keyrail.Context) error { return ctx.State().Delete("a") },
		"scan":      func(ctx *keyrail.Context) error { _, err := ctx.State().Scan("", 1); return err },
		"set":       func(ctx *keyrail.Context) error { return ctx.Timers().Set("a", time.Time{}, nil) },
		"set after": func(ctx *keyrail.Context) error { return ctx.Timers().SetAfter("a", 0, nil) },
		"cancel":    func(ctx *keyrail.Context) error { return ctx.Timers().Cancel("a") },
	} {
		run := newHost(t, func(ctx *keyrail.Context, _ *keyrail.Message) error { return do(ctx) }).Run(keyrailtest.Input{})
		if run.Fate != keyrailtest.DeadLetter || run.Code != "no-key" {
			t.Errorf("%s: %v %s", name, run.Fate, run.Code)
		}
	}
}

func TestNullAndEmptyStayApart(t *testing.T) {
	host := newHost(t, func(ctx *keyrail.Context, msg *keyrail.Message) error { return ctx.Send("out", msg.Value) })
	for _, bytes := range [][]byte{nil, {}, {0}} {
		sent := host.Run(keyrailtest.Input{Key: bytes, Value: bytes}).Sent[0]
		if !reflect.DeepEqual(sent.Key, bytes) || !reflect.DeepEqual(sent.Value, bytes) {
			t.Errorf("%#v came as %#v and %#v", bytes, sent.Key, sent.Value)
		}
	}
	host = newHost(t, func(ctx *keyrail.Context, _ *keyrail.Message) error {
		if err := ctx.State().Put("a", nil); err != nil {
			return err
		}
		value, err := ctx.State().Get("a")
		if value == nil || len(value) != 0 {
			t.Errorf("an empty value came as %#v", value)
		}
		return err
	})
	if run := host.Say("k", ""); run.Fate != keyrailtest.Done || host.State("k", "a") == nil {
		t.Errorf("%+v", run)
	}
}

func TestARecordHasWhatIsSaidAndElseWhatTheMessageHas(t *testing.T) {
	own := keyrailtest.Input{
		Key:       []byte("k"),
		Timestamp: time.UnixMilli(5),
		Headers: []keyrail.Header{{Name: "traceparent", Value: []byte("t")}, {Name: "h", Value: []byte("1")},
			{Name: "n"}, {Name: "h", Value: []byte("2")}},
	}
	added := []keyrail.Header{{Name: "h", Value: []byte("3")}, {Name: "null"}}
	for name, test := range map[string]struct {
		record keyrail.Record
		want   keyrailtest.Sent
	}{
		"nothing": {keyrail.Record{To: "out"},
			keyrailtest.Sent{To: "out", Key: own.Key, Headers: own.Headers[:1], Timestamp: time.UnixMilli(5).UTC()}},
		"everything": {
			keyrail.Record{To: "out", Key: []byte{}, Value: []byte("v"), Headers: added, ForwardHeaders: true, Timestamp: time.UnixMilli(-1), Delay: time.Second},
			keyrailtest.Sent{To: "out", Key: []byte{}, Value: []byte("v"), Headers: append(own.Headers[:4:4], added...), Timestamp: time.UnixMilli(-1).UTC(), Delay: time.Second}},
		"no key": {keyrail.Record{To: "out", Keyless: true},
			keyrailtest.Sent{To: "out", Headers: own.Headers[:1], Timestamp: time.UnixMilli(5).UTC()}},
	} {
		host := newHost(t, func(ctx *keyrail.Context, _ *keyrail.Message) error { return ctx.SendRecord(test.record) })
		if run := host.Run(own); len(run.Sent) != 1 || !reflect.DeepEqual(run.Sent[0], test.want) {
			t.Errorf("%s: got %+v, want %+v", name, run, test.want)
		}
	}
}

func TestStateIsReadWrittenAndScanned(t *testing.T) {
	host := newHost(t, func(ctx *keyrail.Context, msg *keyrail.Message) error {
		state := ctx.State()
		for _, name := range []string{"b", "a", "ab", "c"} {
			if err := state.Put(name, []byte(name)); err != nil {
				return err
			}
		}
		err := errors.Join(state.Delete("c"), state.PutFor("brief", []byte("x"), time.Second))
		page, err2 := state.Scan("a", 10)
		next, err3 := state.ScanAfter("", "a", 2)
		want := []keyrail.Entry{{Name: "ab", Value: []byte("ab")}, {Name: "b", Value: []byte("b")}}
		if len(page) != 2 || page[0].Name != "a" || page[1].Name != "ab" || !reflect.DeepEqual(next, want) {
			t.Errorf("scanned %q and %q", page, next)
		}
		return errors.Join(err, err2, err3)
	})
	if run := host.Say("k", ""); run.Fate != keyrailtest.Done {
		t.Fatalf("%+v", run)
	}
	if host.State("k", "b") == nil || host.State("k", "c") != nil || host.State("other", "b") != nil {
		t.Error("state is that of its key, and what was deleted is gone")
	}
	if string(host.State("k", "brief")) != "x" {
		t.Error("what is to end has not begun")
	}
	host.Advance(time.Second)
	if host.State("k", "brief") != nil {
		t.Error("what was to end has not ended")
	}
}

func TestAFailedMessageChangesNothing(t *testing.T) {
	host := newHost(t, func(ctx *keyrail.Context, _ *keyrail.Message) error {
		return errors.Join(ctx.State().Put("a", nil), ctx.Timers().SetAfter("t", 0, nil), ctx.Send("out", nil), io.EOF)
	})
	run := host.Say("k", "")
	if _, set := host.Timer("k", "t"); set || run.Sent != nil || host.State("k", "a") != nil {
		t.Errorf("something is left: %+v", run)
	}
}

func TestATimerIsAMessageOfItsKey(t *testing.T) {
	host := newHost(t, func(ctx *keyrail.Context, msg *keyrail.Message) error {
		switch {
		case msg.IsTimer():
			return ctx.Send("out", fmt.Appendf(nil, "%s %s %d %s", msg.Timer, msg.Value, msg.Timestamp.UnixMilli(), msg.Topic))
		case string(msg.Value) == "cancel":
			return ctx.Timers().Cancel("after")
		}
		at := time.UnixMilli(1_800_000_000_000).Add(time.Microsecond)
		return errors.Join(
			ctx.Timers().Set("at", at, []byte("p")),
			ctx.Timers().SetAfter("after", time.Minute, nil),
			ctx.Timers().SetAfter("never", math.MaxInt64, nil))
	})
	host.Say("k", "set")
	if timer, ok := host.Timer("k", "after"); !ok || !timer.At.Equal(host.Now().Add(time.Minute)) {
		t.Errorf("%+v %v", timer, ok)
	}
	host.Say("k", "cancel")
	if _, ok := host.Timer("k", "after"); ok {
		t.Error("it was cancelled")
	}
	run := host.Fire("k", "at")
	if len(run.Sent) != 1 || string(run.Sent[0].Value) != "at p 1800000000001 " {
		t.Errorf("%+v", run)
	}
	if _, ok := host.Timer("k", "at"); ok || host.Now().UnixMilli() != 1_800_000_000_001 {
		t.Errorf("it has run, at %v", host.Now())
	}
}

func TestTheContextTellsOfTheMessage(t *testing.T) {
	var first, second uint64
	host := newHost(t, func(ctx *keyrail.Context, msg *keyrail.Message) error {
		first, second = ctx.Random(), ctx.Random()
		deadline, ok := ctx.Deadline()
		got := []any{ctx.ID(), msg.Topic, msg.Attempt, string(ctx.Header("h")), ctx.Header("n"), ctx.Header("\xff"),
			len(ctx.Headers()), ctx.FollowsDeadLetter(), ctx.Now(), deadline.Sub(ctx.Now()), ok, ctx.Err(), ctx.Setup().Handler}
		want := []any{"in/3/0", "in", uint32(2), "last", []byte(nil), []byte(nil),
			3, true, time.UnixMilli(1_700_000_000_000).UTC(), 5 * time.Second, true, error(nil), "test"}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		return nil
	})
	input := keyrailtest.Input{Partition: 3, Attempt: 2, FollowsDeadLetter: true, Headers: []keyrail.Header{
		{Name: "h", Value: []byte("first")}, {Name: "n"}, {Name: "h", Value: []byte("last")}}}
	if run := host.Run(input); run.Fate != keyrailtest.Done || first == second {
		t.Errorf("%+v, %d and %d", run, first, second)
	}
}

func TestAContextDoesNotOutliveItsHandler(t *testing.T) {
	var kept *keyrail.Context
	newHost(t, func(ctx *keyrail.Context, _ *keyrail.Message) error { kept = ctx; return nil }).Say("k", "v")
	defer func() {
		if said := fmt.Sprint(recover()); !strings.Contains(said, "after its handler had returned") {
			t.Errorf("recovered %s", said)
		}
	}()
	kept.ID()
}

func TestLinesOfTheLogSayWhichMessageItIs(t *testing.T) {
	host := newHost(t, func(ctx *keyrail.Context, _ *keyrail.Message) error {
		log := ctx.Log().With("a", 1).WithGroup("g").With("b", "x")
		derived, cancel := context.WithCancel(ctx)
		defer cancel()
		log.WarnContext(derived, "look", "c", time.Second, slog.Group("d", "e", true), slog.Attr{})
		ctx.Setup().Log().Log(derived, keyrail.LevelCritical, "by context")
		ctx.Setup().Log().Log(context.Background(), keyrail.LevelTrace, "of none")
		return nil
	})
	host.Say("k", "v")
	place := map[string]string{"partition": "0", "offset": "0"}
	want := []keyrailtest.LogLine{
		{Level: slog.LevelWarn, Message: "look", Fields: map[string]string{
			"partition": "0", "offset": "0", "a": "1", "g.b": "x", "g.c": "1s", "g.d.e": "true"}},
		{Level: keyrail.LevelCritical, Message: "by context", Fields: place},
		{Level: keyrail.LevelTrace, Message: "of none", Fields: map[string]string{}},
	}
	if got := host.Log(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A limit is a handler with something of its own.
type limit struct {
	most    string
	refused keyrail.Counter
	last    keyrail.Gauge
	sizes   keyrail.Histogram
}

func (l *limit) Open(setup *keyrail.Setup) error {
	var ok bool
	if l.most, ok = setup.Config["most"]; !ok {
		return errors.New("config.most is not set")
	}
	l.refused = setup.Counter("refused", keyrail.Label{Name: "why", Value: "size"})
	l.last, l.sizes = setup.Gauge("last"), setup.Histogram("sizes")
	return nil
}

func (l *limit) Handle(_ *keyrail.Context, msg *keyrail.Message) error {
	l.last.Set(float64(len(msg.Value)))
	l.sizes.Observe(float64(len(msg.Value)))
	if bytes.Compare(msg.Value, []byte(l.most)) > 0 {
		l.refused.Add(1)
		return keyrail.DeadLetter("too-much", "%s", msg.Value)
	}
	return nil
}

func TestAHandlerMayRefuseItsSetup(t *testing.T) {
	if _, err := keyrailtest.Open(&limit{}, keyrail.Setup{}); err == nil || err.Error() != "config.most is not set" {
		t.Errorf("it says %v", err)
	}
	host := keyrailtest.New(t, &limit{}, keyrail.Setup{Config: map[string]string{"most": "b"}})
	for value, fate := range map[string]keyrailtest.Fate{"a": keyrailtest.Done, "cc": keyrailtest.DeadLetter, "d": keyrailtest.DeadLetter} {
		if run := host.Say("k", value); run.Fate != fate {
			t.Errorf("%s: %v", value, run.Fate)
		}
	}
	host.Say("k", "abcd")
	if host.Metric("refused") != 2 || host.Metric("last") != 4 || host.Metric("sizes") != 8 || host.Metric("none") != 0 {
		t.Errorf("%v refused, last %v, sizes %v", host.Metric("refused"), host.Metric("last"), host.Metric("sizes"))
	}
}

func TestAProgramHasOneHandler(t *testing.T) {
	panics := func(f func()) (said string) {
		defer func() { said = fmt.Sprint(recover()) }()
		f()
		return ""
	}
	if said := panics(func() { keyrail.Handle(nil) }); !strings.Contains(said, "nil") {
		t.Errorf("nil: %s", said)
	}
	keyrail.HandleFunc(func(*keyrail.Context, *keyrail.Message) error { return nil })
	if said := panics(func() { keyrail.Handle(&limit{}) }); !strings.Contains(said, "second") {
		t.Errorf("a second one: %s", said)
	}
}
