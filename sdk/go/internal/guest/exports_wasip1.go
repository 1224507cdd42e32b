package guest

import (
	"sync"

	"github.com/keyrail/keyrail/sdk/go/internal/contract"
)

// given is what the host writes into, out what it reads from: until the next call, since nothing tells when it has.
var (
	given blocks
	out   *writer
)

// border is held by who is outside, in a call of the host's, and between calls by nobody's leave.
//
// While the host is asked for something it asks for memory itself, and Go may run other goroutines then, to collect
// garbage. The component model forbids to call out of there, so they have to wait.
var (
	border sync.Mutex
	atRest bool
)

func enter() {
	if atRest {
		atRest = false
		border.Unlock()
	}
}

func leave() {
	border.Lock()
	atRest = true
}

var program contract.Program

// Serve makes p what the host runs.
func Serve(p contract.Program) { program = p }

//go:wasmexport cabi_realloc
func reallocate(address, oldSize, align, size uint32) uint32 {
	return given.reallocate(address, oldSize, align, size)
}

//go:wasmexport keyrail:handler/guest@0.1.0#open
func open(handler, handlerSize, topics, topicCount, outputs, outputCount, config, configCount, maxBatch uint32) uint32 {
	enter()
	defer leave()
	arguments := newWriter(1, 36, 0)
	for i, part := range [...]uint32{
		handler, handlerSize, topics, topicCount, outputs, outputCount, config, configCount, maxBatch,
	} {
		arguments.u32(i*4, part)
	}
	setup := reader{&given, arguments.bytes}.setup()
	given.clear()
	refused := "no handler is registered: call keyrail.Handle or keyrail.HandleFunc in an init function, for main does not run"
	if program != nil {
		refused = program.Open(setup)
	}
	refused = valid(refused)
	out = newWriter(1, 12, len(refused))
	if refused != "" {
		out.u8(0, 1)
		out.text(4, refused)
	}
	return addressOf(out.bytes)
}

//go:wasmexport keyrail:handler/guest@0.1.0#process
func process(messages, count uint32) uint32 {
	enter()
	defer leave()
	arguments := newWriter(1, 8, 0)
	arguments.u32(0, messages)
	arguments.u32(4, count)
	records := reader{&given, arguments.bytes}.records(0, messageSize)
	batch := make([]contract.Message, len(records))
	for i, record := range records {
		batch[i] = record.message()
	}
	given.clear()
	outcomes := writeOutcomes(program.Process(batch))
	// Address and count of the list stand behind it, where there is room for them.
	at := len(outcomes.bytes) - 8
	outcomes.u32(at, addressOf(outcomes.bytes))
	outcomes.u32(at+4, uint32(len(batch)))
	out = outcomes
	return addressOf(out.bytes) + uint32(at)
}
