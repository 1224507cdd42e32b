// Totals sums up the amounts of each customer, the order key: it sends the new total to the output totals, and keeps it in
// the key's state. An amount that is no number is a dead letter.
package main

import (
	"math"
	"strconv"

	keyrail "github.com/keyrail/keyrail/sdk/go"
)

func init() { keyrail.HandleFunc(handle) }

func main() {}

func handle(ctx *keyrail.Context, msg *keyrail.Message) error {
	amount, err := strconv.ParseInt(string(msg.Value), 10, 64)
	if err != nil {
		return keyrail.DeadLetter("no-number", "the amount is no number: %w", err)
	}
	total, err := add(ctx, amount)
	if err != nil {
		return err
	}
	text := strconv.AppendInt(nil, total, 10)
	if err := ctx.State().Put("total", text); err != nil {
		return err
	}
	return ctx.Send("totals", text)
}

// add returns the customer's total with this amount.
func add(ctx *keyrail.Context, amount int64) (int64, error) {
	before, err := ctx.State().Get("total")
	if err != nil || before == nil {
		return amount, err
	}
	total, err := strconv.ParseInt(string(before), 10, 64)
	if err != nil {
		return 0, keyrail.DeadLetter("state", "the total: %w", err)
	}
	if amount > 0 && total > math.MaxInt64-amount || amount < 0 && total < math.MinInt64-amount {
		return 0, keyrail.DeadLetter("overflow", "%d and %d are too large together", total, amount)
	}
	return total + amount, nil
}
