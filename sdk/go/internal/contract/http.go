package contract

// The codes of a [Fetched] that is no answer, with [TooLarge].
const (
	Denied      = "denied"
	Invalid     = "invalid"
	Timeout     = "timeout"
	Unreachable = "unreachable"
)

// A Request is an HTTP request on behalf of a slot. Values of headers are never null.
type Request struct {
	Slot        uint32
	Method, URL string
	Headers     []Header
	// Body is nil if there is none.
	Body       []byte
	HasTimeout bool
	TimeoutMs  uint64
}

// A Fetched is what came of a request: a response, or an error with a code.
type Fetched struct {
	Status  uint16
	Headers []Header
	Body    []byte

	// Code is that of an error, and Words are the host's, if it has some.
	Code, Words string
}
