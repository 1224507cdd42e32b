package guest

import (
	"unsafe"

	"github.com/keyrail/keyrail/sdk/go/internal/contract"
)

//go:wasmimport keyrail:handler/context@0.1.0 id
func contextID(slot uint32, result unsafe.Pointer)

//go:wasmimport keyrail:handler/context@0.1.0 headers
func contextHeaders(slot uint32, result unsafe.Pointer)

//go:wasmimport keyrail:handler/context@0.1.0 header-value
func contextHeaderValue(slot uint32, name unsafe.Pointer, nameSize uint32, result unsafe.Pointer)

//go:wasmimport keyrail:handler/context@0.1.0 follows-dead-letter
func contextFollowsDeadLetter(slot uint32) uint32

//go:wasmimport keyrail:handler/context@0.1.0 now-ms
func contextNowMs() int64

//go:wasmimport keyrail:handler/context@0.1.0 random
func contextRandom(slot uint32) uint64

//go:wasmimport keyrail:handler/context@0.1.0 deadline-ms
func contextDeadlineMs() int64

//go:wasmimport keyrail:handler/emit@0.1.0 send
func emitSend(slot uint32, to unsafe.Pointer, toSize uint32, hasKey uint32, key unsafe.Pointer, keySize uint32,
	hasValue uint32, value unsafe.Pointer, valueSize uint32, headers unsafe.Pointer, headerCount uint32,
	forwardHeaders uint32, hasTimestamp uint32, timestampMs int64, hasDelay uint32, delayMs uint64, result unsafe.Pointer)

//go:wasmimport keyrail:handler/state@0.1.0 get
func stateGet(slot uint32, name unsafe.Pointer, nameSize uint32, result unsafe.Pointer)

//go:wasmimport keyrail:handler/state@0.1.0 put
func statePut(slot uint32, name unsafe.Pointer, nameSize uint32, value unsafe.Pointer, valueSize uint32,
	hasTTL uint32, ttlMs uint64, result unsafe.Pointer)

//go:wasmimport keyrail:handler/state@0.1.0 delete
func stateDelete(slot uint32, name unsafe.Pointer, nameSize uint32, result unsafe.Pointer)

//go:wasmimport keyrail:handler/state@0.1.0 scan
func stateScan(slot uint32, prefix unsafe.Pointer, prefixSize uint32, hasAfter uint32, after unsafe.Pointer,
	afterSize uint32, limit uint32, result unsafe.Pointer)

//go:wasmimport keyrail:handler/timers@0.1.0 set
func timersSet(slot uint32, name unsafe.Pointer, nameSize uint32, atMs int64, payload unsafe.Pointer, payloadSize uint32,
	result unsafe.Pointer)

//go:wasmimport keyrail:handler/timers@0.1.0 cancel
func timersCancel(slot uint32, name unsafe.Pointer, nameSize uint32, result unsafe.Pointer)

//go:wasmimport keyrail:handler/log@0.1.0 threshold
func logThreshold() uint32

//go:wasmimport keyrail:handler/log@0.1.0 write
func logWrite(level uint32, message unsafe.Pointer, messageSize uint32, fields unsafe.Pointer, fieldCount uint32)

//go:wasmimport keyrail:handler/metrics@0.1.0 register
func metricsRegister(name unsafe.Pointer, nameSize uint32, kind uint32, labels unsafe.Pointer, labelCount uint32) uint32

//go:wasmimport keyrail:handler/metrics@0.1.0 observe
func metricsObserve(metric uint32, value float64)

// area is where the host writes results to: no more than the largest, under the border's lock.
//
// It is no variable on a stack, which may move while the host asks for memory.
var area [2]uint64

// outside calls the host, and reads what it has written to the area.
func outside[T any](call func(result unsafe.Pointer), read func(result reader) T) T {
	border.Lock()
	defer border.Unlock()
	call(unsafe.Pointer(&area))
	defer given.clear()
	return read(reader{&given, unsafe.Slice((*byte)(unsafe.Pointer(&area)), unsafe.Sizeof(area))})
}

// outsideFor is outside for a call whose result takes no memory.
func outsideFor[T any](call func() T) T {
	border.Lock()
	defer border.Unlock()
	return call()
}

// clear lets go of what nobody took.
func (b *blocks) clear() {
	clear(b.held)
	b.held, b.next = b.held[:0], 0
}

func (w *writer) start() unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(w.bytes)) }

func textAt(text string) (at unsafe.Pointer, size uint32) {
	return unsafe.Pointer(unsafe.StringData(text)), uint32(len(text))
}

func bytesAt(bytes []byte) (at unsafe.Pointer, size uint32) {
	return unsafe.Pointer(unsafe.SliceData(bytes)), uint32(len(bytes))
}

func optionAt(bytes []byte) (is uint32, at unsafe.Pointer, size uint32) {
	at, size = bytesAt(bytes)
	return uint32(bit(bytes != nil)), at, size
}

// Host is the contract's imports.
type Host struct{}

var _ contract.Host = Host{}

func (Host) ID(slot uint32) string {
	return outside(func(result unsafe.Pointer) { contextID(slot, result) }, func(r reader) string { return r.text(0) })
}

func (Host) Headers(slot uint32) []contract.Header {
	return outside(func(result unsafe.Pointer) { contextHeaders(slot, result) },
		func(r reader) []contract.Header { return r.headers(0) })
}

func (Host) HeaderValue(slot uint32, name string) []byte {
	at, size := textAt(name)
	return outside(func(result unsafe.Pointer) { contextHeaderValue(slot, at, size, result) },
		func(r reader) []byte { return r.option(0) })
}

func (Host) FollowsDeadLetter(slot uint32) bool {
	return outsideFor(func() uint32 { return contextFollowsDeadLetter(slot) }) != 0
}

func (Host) NowMs() int64 { return outsideFor(contextNowMs) }

func (Host) Random(slot uint32) uint64 {
	return outsideFor(func() uint64 { return contextRandom(slot) })
}

func (Host) DeadlineMs() int64 { return outsideFor(contextDeadlineMs) }

func (Host) Send(slot uint32, output *contract.Output) *contract.Refusal {
	to, toSize := textAt(output.To)
	hasKey, key, keySize := optionAt(output.Key)
	hasValue, value, valueSize := optionAt(output.Value)
	headers := writeHeaders(output.Headers)
	return outside(func(result unsafe.Pointer) {
		emitSend(slot, to, toSize, hasKey, key, keySize, hasValue, value, valueSize,
			headers.start(), uint32(len(output.Headers)), uint32(bit(output.ForwardHeaders)),
			uint32(bit(output.HasTimestamp)), output.TimestampMs, uint32(bit(output.HasDelay)), output.DelayMs, result)
	}, reader.refusal)
}

func (Host) Get(slot uint32, name string) ([]byte, *contract.Refusal) {
	at, size := textAt(name)
	var value []byte
	why := outside(func(result unsafe.Pointer) { stateGet(slot, at, size, result) }, func(r reader) *contract.Refusal {
		why := r.refusal()
		if why == nil {
			value = r.option(4)
		}
		return why
	})
	return value, why
}

func (Host) Put(slot uint32, name string, value []byte, ttlMs *uint64) *contract.Refusal {
	at, size := textAt(name)
	bytes, count := bytesAt(value)
	var hasTTL uint32
	var ttl uint64
	if ttlMs != nil {
		hasTTL, ttl = 1, *ttlMs
	}
	return outside(func(result unsafe.Pointer) { statePut(slot, at, size, bytes, count, hasTTL, ttl, result) },
		reader.refusal)
}

func (Host) Delete(slot uint32, name string) *contract.Refusal {
	at, size := textAt(name)
	return outside(func(result unsafe.Pointer) { stateDelete(slot, at, size, result) }, reader.refusal)
}

func (Host) Scan(slot uint32, prefix string, after *string, limit uint32) ([]contract.Entry, *contract.Refusal) {
	begin, beginSize := textAt(prefix)
	var hasAfter, fromSize uint32
	var from unsafe.Pointer
	if after != nil {
		hasAfter = 1
		from, fromSize = textAt(*after)
	}
	var entries []contract.Entry
	why := outside(func(result unsafe.Pointer) {
		stateScan(slot, begin, beginSize, hasAfter, from, fromSize, limit, result)
	}, func(r reader) *contract.Refusal {
		why := r.refusal()
		if why == nil {
			entries = r.entries(4)
		}
		return why
	})
	return entries, why
}

func (Host) SetTimer(slot uint32, name string, atMs int64, payload []byte) *contract.Refusal {
	at, size := textAt(name)
	bytes, count := bytesAt(payload)
	return outside(func(result unsafe.Pointer) { timersSet(slot, at, size, atMs, bytes, count, result) }, reader.refusal)
}

func (Host) CancelTimer(slot uint32, name string) *contract.Refusal {
	at, size := textAt(name)
	return outside(func(result unsafe.Pointer) { timersCancel(slot, at, size, result) }, reader.refusal)
}

func (Host) Threshold() contract.Level { return contract.Level(outsideFor(logThreshold)) }

func (Host) Log(level contract.Level, message string, fields []contract.Pair) {
	at, size := textAt(valid(message))
	pairs := writePairs(fields)
	border.Lock()
	defer border.Unlock()
	logWrite(uint32(level), at, size, pairs.start(), uint32(len(fields)))
}

func (Host) Register(name string, kind contract.Kind, labels []contract.Pair) uint32 {
	at, size := textAt(valid(name))
	pairs := writePairs(labels)
	return outsideFor(func() uint32 {
		return metricsRegister(at, size, uint32(kind), pairs.start(), uint32(len(labels)))
	})
}

func (Host) Observe(metric uint32, value float64) {
	border.Lock()
	defer border.Unlock()
	metricsObserve(metric, value)
}
