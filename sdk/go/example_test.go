package keyrail_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	keyrail "github.com/keyrail/keyrail/sdk/go"
	"github.com/keyrail/keyrail/sdk/go/keyrailtest"
)

// run shows what becomes of messages of the key k.
func run(f func(ctx *keyrail.Context, msg *keyrail.Message) error, values ...string) {
	host, err := keyrailtest.Open(keyrail.HandlerFunc(f), keyrail.Setup{Outputs: []string{"out"}})
	if err != nil {
		fmt.Println("refused:", err)
		return
	}
	for _, value := range values {
		run := host.Say("k", value)
		line := strings.TrimSpace(fmt.Sprint(run.Fate, " ", run.Code))
		for _, sent := range run.Sent {
			line += fmt.Sprintf(" -> %s %q", sent.To, sent.Value)
		}
		fmt.Println(line)
	}
}

func Example() {
	handle := func(ctx *keyrail.Context, msg *keyrail.Message) error {
		if len(msg.Value) == 0 {
			return keyrail.Skip
		}
		before, err := ctx.State().Get("last")
		if err != nil {
			return err
		}
		if err := ctx.State().Put("last", msg.Value); err != nil {
			return err
		}
		return ctx.Send("out", before)
	}
	run(handle, "red", "", "blue")
	// Output:
	// done -> out ""
	// skip
	// done -> out "red"
}

func ExampleDeadLetter() {
	handle := func(ctx *keyrail.Context, msg *keyrail.Message) error {
		var order struct{ Amount int }
		if err := json.Unmarshal(msg.Value, &order); err != nil {
			return keyrail.DeadLetter("bad-json", "the order: %w", err)
		}
		return ctx.Send("out", strconv.AppendInt(nil, int64(order.Amount), 10))
	}
	run(handle, `{"amount": 7}`, "7!")
	// Output:
	// done -> out "7"
	// dead-letter bad-json
}

func ExampleRetry() {
	ask := func() error { return io.ErrUnexpectedEOF } // A service.
	handle := func(*keyrail.Context, *keyrail.Message) error {
		if err := ask(); err != nil {
			return keyrail.Retry("service-down", "%w", err).Outage().After(10 * time.Second)
		}
		return nil
	}
	run(handle, "order")
	// Output:
	// retry service-down
}

func ExampleContext_SendRecord() {
	handle := func(ctx *keyrail.Context, msg *keyrail.Message) error {
		return ctx.SendRecord(keyrail.Record{
			To:      "out",
			Value:   msg.Value,
			Headers: []keyrail.Header{{Name: "seen-by", Value: []byte("example")}},
			Delay:   7 * 24 * time.Hour,
		})
	}
	run(handle, "how was it?")
	// Output:
	// done -> out "how was it?"
}

func ExampleContext_Timers() {
	handle := func(ctx *keyrail.Context, msg *keyrail.Message) error {
		if msg.IsTimer() {
			return ctx.Send("out", msg.Value)
		}
		if string(msg.Value) == "paid" {
			return ctx.Timers().Cancel("remind")
		}
		return ctx.Timers().SetAfter("remind", 24*time.Hour, []byte("still open"))
	}
	host, err := keyrailtest.Open(keyrail.HandlerFunc(handle), keyrail.Setup{Outputs: []string{"out"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	host.Say("k", "ordered")
	fmt.Printf("%s\n", host.Fire("k", "remind").Sent[0].Value)
	// Output:
	// still open
}

func ExampleTwoSteps() {
	prepare := func(_ *keyrail.Context, msg *keyrail.Message) ([]keyrail.Request, error) {
		return []keyrail.Request{{URL: "https://api.example.com/charges", Body: msg.Value}}, nil
	}
	handle := func(ctx *keyrail.Context, _ *keyrail.Message, answers []keyrail.Answer) error {
		charge, err := answers[0].Check()
		if err != nil {
			return err
		}
		return ctx.Send("out", charge.Body)
	}
	host, err := keyrailtest.Open(keyrail.TwoSteps(prepare, handle), keyrail.Setup{Outputs: []string{"out"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	host.Answer("POST", "https://api.example.com/charges", &keyrail.Response{Status: 201, Body: []byte("paid")}, nil)
	fmt.Printf("%s\n", host.Say("k", "order").Sent[0].Value)
	host.Answer("POST", "https://api.example.com/charges", &keyrail.Response{Status: 503}, nil)
	fmt.Println(host.Say("k", "order").Detail)
	// Output:
	// paid
	// POST https://api.example.com/charges: 503
}

func ExampleContext_Fetch() {
	handle := func(ctx *keyrail.Context, msg *keyrail.Message) error {
		rate, err := ctx.Fetch(keyrail.Request{URL: "https://api.example.com/rates/EUR", Timeout: time.Second})
		if err != nil {
			return err
		}
		if rate.Status == 404 {
			return keyrail.Skip
		}
		if err := rate.Check(); err != nil {
			return err
		}
		return ctx.Send("out", rate.Body)
	}
	host, err := keyrailtest.Open(keyrail.HandlerFunc(handle), keyrail.Setup{Outputs: []string{"out"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	host.Answer("GET", "https://api.example.com/rates/EUR", nil, &keyrail.HTTPError{Code: "timeout"})
	run := host.Say("k", "order")
	fmt.Println(run.Fate, run.Code)
	// Output:
	// retry http-timeout
}

func ExampleCallError() {
	handle := func(ctx *keyrail.Context, msg *keyrail.Message) error {
		err := ctx.Send("audit", msg.Value)
		if errors.Is(err, keyrail.ErrUnknownOutput) {
			return nil // This pipeline has no audit.
		}
		return err
	}
	run(handle, "x")
	// Output:
	// done
}
