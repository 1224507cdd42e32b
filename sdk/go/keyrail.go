// Package keyrail is for handlers of messages that run in Keyrail, compiled to WebAssembly.
//
// A handler is a function from a message to nil or an error, registered by an init function:
//
//	package main
//
//	import keyrail "github.com/keyrail/keyrail/sdk/go"
//
//	func init() { keyrail.HandleFunc(handle) }
//
//	func main() {} // never runs
//
//	func handle(ctx *keyrail.Context, msg *keyrail.Message) error {
//		return ctx.Send("copies", msg.Value)
//	}
//
// This builds it:
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o handler.wasm
//
// # Outcomes
//
// With nil the message is settled, and what the handler staged for it (sends, state, timers) takes effect, together with
// the commit of its offset. So it is with [Skip], counted apart. With any other error the message has failed, and all of
// that is undone: [Retry] and [DeadLetter] say what is to become of it, a [CallError] of this package becomes a dead
// letter (see there), an [HTTPError] a dead letter or a retry (see there), and all else is retried under the code "error". Errors may be wrapped; codes are found with
// [errors.As], and the detail is the text of the outermost.
//
// A panic ends the instance. The message fails as a trap, with what the panic printed as detail: it is retried, then
// dead-lettered.
//
// # Null
//
// Kafka tells null from empty. A nil []byte is null, as a value a tombstone; one that is not nil and has no bytes is empty.
//
// # Tests
//
// Package keyrailtest runs handlers in ordinary tests, on any platform.
package keyrail

import (
	"time"

	"github.com/keyrail/keyrail/sdk/go/internal/contract"
)

// A Handler handles messages.
type Handler interface {
	// Handle handles one message; the package's comment says what its result means. One key's messages come in order.
	//
	// Nothing undoes what a failed message changed in the handler's own memory, and the host may drop an instance at any
	// time: keep there only what may be lost.
	Handle(ctx *Context, msg *Message) error
}

// An Opener is a [Handler] that wants to see its setup.
type Opener interface {
	// Open runs once per instance, before the first message. An error refuses this version of the handler; its text is
	// what the operator reads.
	Open(setup *Setup) error
}

// A HandlerFunc is a function as a [Handler].
type HandlerFunc func(ctx *Context, msg *Message) error

// Handle calls f.
func (f HandlerFunc) Handle(ctx *Context, msg *Message) error { return f(ctx, msg) }

var registered Handler

// Handle makes h the handler of this program. It is to be called once, by an init function, and panics if it is
// called again. If h is an [Opener], it is opened before the first message.
func Handle(h Handler) {
	if h == nil {
		panic("keyrail: Handle of nil")
	}
	if registered != nil {
		panic("keyrail: a program has one handler, and this is the second")
	}
	registered = h
	serve(h)
}

// HandleFunc is [Handle] for a function.
func HandleFunc(f func(ctx *Context, msg *Message) error) { Handle(HandlerFunc(f)) }

// Setup is the pipeline as its manifest describes it.
type Setup struct {
	// Handler is the pipeline's name.
	Handler string
	// Topics are the input topics.
	Topics []string
	// Outputs are the names of [output].
	Outputs []string
	// Config is what stands under [config].
	Config map[string]string
	// MaxBatch is the most messages that the host hands over at once.
	MaxBatch int

	host contract.Host
}

// A Message is one delivery: a record of an input topic, or a timer that fell due.
type Message struct {
	// Topic is the input topic; "" for a timer.
	Topic string
	// Timer is a timer's name.
	Timer string
	// Partition and Offset are where the record was first read, also after parking and redrive. A timer's are those of
	// the message that set it.
	Partition uint32
	Offset    uint64
	// Timestamp is the record's, in whole milliseconds; a timer's is the time it was set for.
	Timestamp time.Time
	// Key is the record's key; nil is Kafka's null.
	Key []byte
	// Value is the record's value, or a timer's payload; nil is a tombstone.
	Value []byte
	// Attempt is 1 on the first run.
	Attempt uint32
}

// IsTimer reports whether a timer made this delivery happen.
func (m *Message) IsTimer() bool { return m.Topic == "" }

// A Header is one of a record's headers. Names may repeat; a nil Value is Kafka's null.
type Header struct {
	Name  string
	Value []byte
}
