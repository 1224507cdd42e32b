package keyrail

import (
	"time"

	"github.com/keyrail/keyrail/sdk/go/internal/contract"
)

func init() {
	contract.NewProgram = func(handler any, host contract.Host) contract.Program {
		return &program{handler: handler.(Handler), setup: &Setup{host: host}}
	}
}

// A program runs a handler message by message.
type program struct {
	handler Handler
	setup   *Setup
}

func (p *program) Open(setup contract.Setup) (refused string) {
	config := make(map[string]string, len(setup.Config))
	for _, pair := range setup.Config {
		config[pair.Name] = pair.Value
	}
	p.setup = &Setup{
		Handler:  setup.Handler,
		Topics:   setup.Topics,
		Outputs:  setup.Outputs,
		Config:   config,
		MaxBatch: int(setup.MaxBatch),
		host:     p.setup.host,
	}
	opener, ok := p.handler.(Opener)
	if !ok {
		return ""
	}
	err := opener.Open(p.setup)
	if err == nil {
		return ""
	}
	if words := err.Error(); words != "" {
		return words
	}
	return "refused without a word"
}

func (p *program) Process(batch []contract.Message) []contract.Outcome {
	outcomes := make([]contract.Outcome, len(batch))
	if preparer, ok := p.handler.(Preparer); ok {
		p.inTwoSteps(preparer, batch, outcomes)
		return outcomes
	}
	for slot := range batch {
		ctx := p.context(batch, slot)
		outcomes[slot] = outcome(p.handler.Handle(ctx, ctx.message))
		ctx.over = true
	}
	return outcomes
}

func (p *program) inTwoSteps(preparer Preparer, batch []contract.Message, outcomes []contract.Outcome) {
	var all asking
	contexts := make([]*Context, len(batch))
	ends := make([]int, len(batch))
	for slot := range batch {
		ctx := p.context(batch, slot)
		requests, err := preparer.Prepare(ctx, ctx.message)
		if err != nil {
			outcomes[slot] = outcome(err)
			ctx.over = true
		} else {
			all.add(ctx.slot, requests)
			contexts[slot] = ctx
		}
		ends[slot] = len(all.answers)
	}
	answers, from := all.ask(p.setup.host), 0
	for slot, ctx := range contexts {
		if ctx != nil {
			ctx.answers = answers[from:ends[slot]:ends[slot]]
			outcomes[slot] = outcome(p.handler.Handle(ctx, ctx.message))
			ctx.over = true
		}
		from = ends[slot]
	}
}

func (p *program) context(batch []contract.Message, slot int) *Context {
	return &Context{setup: p.setup, message: p.message(&batch[slot]), slot: uint32(slot)}
}

func (p *program) message(given *contract.Message) *Message {
	m := &Message{
		Partition: given.Partition,
		Offset:    given.Offset,
		Timestamp: fromMs(given.TimestampMs),
		Key:       given.Key,
		Value:     given.Value,
		Attempt:   given.Attempt,
	}
	if given.Timer {
		m.Timer = given.TimerName
	} else {
		m.Topic = p.setup.Topics[given.TopicIndex]
	}
	return m
}

func fromMs(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// ms is in whole milliseconds, up, so that nothing comes early.
func ms(d time.Duration) uint64 {
	if d <= 0 {
		return 0
	}
	return (uint64(d) + uint64(time.Millisecond) - 1) / uint64(time.Millisecond)
}
