package main

import (
	"testing"

	keyrail "github.com/keyrail/keyrail/sdk/go"
	"github.com/keyrail/keyrail/sdk/go/keyrailtest"
)

func newHost(t *testing.T) *keyrailtest.Host {
	return keyrailtest.New(t, keyrail.HandlerFunc(handle), keyrail.Setup{Outputs: []string{"totals"}})
}

func TestEachCustomerHasATotal(t *testing.T) {
	host := newHost(t)
	for _, step := range []struct{ customer, amount, total string }{
		{"ann", "7", "7"}, {"bob", "1", "1"}, {"ann", "-2", "5"},
	} {
		run := host.Say(step.customer, step.amount)
		if run.Fate != keyrailtest.Done || len(run.Sent) != 1 {
			t.Fatalf("%s %s: %+v", step.customer, step.amount, run)
		}
		if sent := run.Sent[0]; string(sent.Key) != step.customer || string(sent.Value) != step.total {
			t.Errorf("%s %s: sent %s %s", step.customer, step.amount, sent.Key, sent.Value)
		}
	}
}

func TestWhatIsNoAmountIsADeadLetterAndChangesNothing(t *testing.T) {
	host := newHost(t)
	host.SetState("ann", "total", []byte("5"))
	for amount, code := range map[string]string{"many": "no-number", "9223372036854775807": "overflow"} {
		run := host.Say("ann", amount)
		if run.Fate != keyrailtest.DeadLetter || run.Code != code || run.Sent != nil {
			t.Errorf("%s: %+v", amount, run)
		}
	}
	if total := host.State("ann", "total"); string(total) != "5" {
		t.Errorf("the total is %s", total)
	}
}
