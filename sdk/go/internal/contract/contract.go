// Package contract has the values that cross the border between a handler and its host, as handler.wit names them, and
// the two sides of that border.
package contract

// A Pair is a name with a value, as text: of the configuration, of a log line's fields, of a metric's labels.
type Pair struct {
	Name, Value string
}

// A Header is one of a record's headers. A nil value is Kafka's null.
type Header struct {
	Name  string
	Value []byte
}

// An Entry is a value of state with its name.
type Entry struct {
	Name  string
	Value []byte
}

// Setup is what a handler is opened with.
type Setup struct {
	Handler  string
	Topics   []string
	Outputs  []string
	Config   []Pair
	MaxBatch uint32
}

// A Message is one delivery. A nil key or value is Kafka's null.
type Message struct {
	// Timer says which of the next two counts.
	Timer       bool
	TopicIndex  uint32
	TimerName   string
	Partition   uint32
	Offset      uint64
	TimestampMs int64
	Key         []byte
	Value       []byte
	Attempt     uint32
}

// A Fate is a case of the contract's outcome, by its number there.
type Fate uint8

const (
	Done Fate = iota
	Skip
	Retry
	DeadLetter
)

// An Outcome is what becomes of a message.
type Outcome struct {
	Fate         Fate
	Code, Detail string
	// HasDelay says whether DelayMs counts; without it a retry waits as the manifest's policy says.
	HasDelay bool
	DelayMs  uint64
	Outage   bool
}

// An Output is a record to send.
type Output struct {
	To             string
	Key, Value     []byte
	Headers        []Header
	ForwardHeaders bool
	HasTimestamp   bool
	TimestampMs    int64
	HasDelay       bool
	DelayMs        uint64
}

// A Kind is what a metric does with what it observes, by its number in the contract.
type Kind uint8

const (
	Counter Kind = iota
	Gauge
	Histogram
)

// A Level is one of the log, by its number in the contract.
type Level uint8

const (
	Trace Level = iota
	Debug
	Info
	Warn
	Error
	Critical
)

// The codes of a [Refusal].
const (
	NoKey         = "no-key"
	UnknownOutput = "unknown-output"
	TooLarge      = "too-large"
	OverQuota     = "over-quota"
	Other         = "other"
)

// A Refusal is the contract's error: why a call that stages or reads failed.
type Refusal struct {
	Code string
	// Words are the host's, of the code "other" alone.
	Words string
}

// A Host is what a handler can ask and do: the contract's imports. A slot is a message's index in its batch.
type Host interface {
	ID(slot uint32) string
	Headers(slot uint32) []Header
	// HeaderValue is nil for Kafka's null, and where there is none of that name.
	HeaderValue(slot uint32, name string) []byte
	FollowsDeadLetter(slot uint32) bool
	NowMs() int64
	Random(slot uint32) uint64
	DeadlineMs() int64

	Send(slot uint32, output *Output) *Refusal

	Get(slot uint32, name string) ([]byte, *Refusal)
	// Put writes a value that ends after *ttlMs, or that stays where that is nil.
	Put(slot uint32, name string, value []byte, ttlMs *uint64) *Refusal
	Delete(slot uint32, name string) *Refusal
	// Scan begins with the first name where after is nil.
	Scan(slot uint32, prefix string, after *string, limit uint32) ([]Entry, *Refusal)

	SetTimer(slot uint32, name string, atMs int64, payload []byte) *Refusal
	CancelTimer(slot uint32, name string) *Refusal

	// FetchAll makes all requests at the same time: one result for each, in their order.
	FetchAll(requests []Request) []Fetched

	Threshold() Level
	Log(level Level, message string, fields []Pair)

	Register(name string, kind Kind, labels []Pair) uint32
	Observe(metric uint32, value float64)
}

// A Program is what a host runs: the contract's exports.
type Program interface {
	// Open says why it refuses the setup, or "".
	Open(setup Setup) (refused string)
	// Process gives one outcome for each message, in order.
	Process(batch []Message) []Outcome
}

// NewProgram makes a program of a keyrail.Handler. Package keyrail sets it, for those in this module that run handlers
// and can't reach into that package.
var NewProgram func(handler any, host Host) Program
