package keyrail

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/keyrail/keyrail/sdk/go/internal/contract"
)

const (
	// maxRetryAfter is the longest wait that a retry-after gets.
	maxRetryAfter = time.Hour
	// detailBytes of an answer's body stand in a failure's detail.
	detailBytes = 200
)

// A Request is an HTTP request to a host that the manifest grants under capabilities.http.
type Request struct {
	// Method is the method as it is sent. "" is GET, or POST if there is a body.
	Method string
	// URL is the whole of it: https://HOST/PATH.
	URL string
	// Headers are the request's; those of the connection (host, content-length, ...) are the host's. A nil value is empty.
	Headers []Header
	// Body is nil if there is none.
	Body []byte
	// Timeout is the time until the answer's last byte has come: at most, and if it is 0, the manifest's limits.timeout.
	Timeout time.Duration
}

// method is the one that is sent.
func (r *Request) method() string {
	switch {
	case r.Method != "":
		return r.Method
	case r.Body != nil:
		return "POST"
	}
	return "GET"
}

// name is how a failure's detail tells it. What follows ? or # may be secret.
func (r *Request) name() string {
	url := r.URL
	if at := strings.IndexAny(url, "?#"); at >= 0 {
		url = url[:at]
	}
	return r.method() + " " + url
}

// A Response is an answer, whatever its status.
type Response struct {
	// Status is as in HTTP: 200.
	Status int
	// Headers are in order, their names in lower case.
	Headers []Header
	// Body is all of it, as it came over the wire.
	Body []byte

	asked string
}

// OK reports whether the status is 2xx.
func (r *Response) OK() bool { return r.Status >= 200 && r.Status <= 299 }

// Header returns the value of the last header of that name, in any case, "" if there is none.
func (r *Response) Header(name string) string {
	for i := len(r.Headers) - 1; i >= 0; i-- {
		if strings.EqualFold(r.Headers[i].Name, name) {
			return string(r.Headers[i].Value)
		}
	}
	return ""
}

// Text returns the body as text.
func (r *Response) Text() string { return string(r.Body) }

// Check returns nil if the status is 2xx, else what to return for the message: a [Retry] with the code http-STATUS for 408,
// 425, 429 and 5xx, [RetryError.After] the seconds of a retry-after of 429 and 503 (an hour at most), and a [DeadLetter]
// with that code for any other status.
func (r *Response) Check() error {
	if r.OK() {
		return nil
	}
	code := fmt.Sprintf("http-%d", r.Status)
	switch {
	case r.Status == 429 || r.Status == 503:
		err := Retry(code, "%s", r.detail())
		if wait := r.retryAfter(); wait > 0 {
			err.After(wait)
		}
		return err
	case r.Status == 408 || r.Status == 425 || r.Status >= 500 && r.Status <= 599:
		return Retry(code, "%s", r.detail())
	}
	return DeadLetter(code, "%s", r.detail())
}

// retryAfter is 0 where the header does not name a whole number of seconds.
func (r *Response) retryAfter() time.Duration {
	value := strings.TrimSpace(r.Header("retry-after"))
	if value == "" || strings.Trim(value, "0123456789") != "" {
		return 0
	}
	// More digits than a number has are more than an hour.
	seconds, err := strconv.ParseUint(value, 10, 64)
	if err != nil || seconds > uint64(maxRetryAfter/time.Second) {
		return maxRetryAfter
	}
	return time.Duration(seconds) * time.Second
}

func (r *Response) detail() string {
	detail := fmt.Sprintf("%s: %d", r.asked, r.Status)
	if head := r.Body[:whole(r.Body[:min(len(r.Body), detailBytes)])]; len(head) > 0 && utf8.Valid(head) {
		return detail + " " + string(head)
	}
	return detail
}

// whole is how many bytes of a text are left without a character that is cut in two at its end.
func whole(text []byte) int {
	for at := len(text) - 1; at >= max(0, len(text)-utf8.UTFMax); at-- {
		if utf8.RuneStart(text[at]) {
			if !utf8.FullRune(text[at:]) {
				return at
			}
			break
		}
	}
	return len(text)
}

// An HTTPError says why a request has no answer. As a handler's result, "denied", "invalid" and "too-large" are dead
// letters, since another run would be refused alike, and "timeout" and "unreachable" are retried; the code of either is
// "http-" with that behind it.
type HTTPError struct {
	// Code is "denied": the manifest does not grant it, and nothing was sent; "invalid": no such request can be sent, and
	// nothing was; "timeout" or "unreachable": it may have been done all the same; "too-large": the answer's body passes
	// the manifest's limits.response-bytes.
	Code string

	asked, words string
}

// Error returns what was asked, and why it has no answer.
func (e *HTTPError) Error() string {
	words := e.words
	switch {
	case words != "":
	case e.Code == contract.Timeout:
		words = "no answer in time"
	case e.Code == contract.TooLarge:
		words = "the answer is larger than limits.response-bytes allows"
	default:
		words = e.Code
	}
	if e.asked == "" {
		return words
	}
	return e.asked + ": " + words
}

func (e *HTTPError) outcome() contract.Outcome {
	out := contract.Outcome{Fate: contract.DeadLetter, Code: "http-" + e.Code}
	if e.Code == contract.Timeout || e.Code == contract.Unreachable {
		out.Fate = contract.Retry
	}
	return out
}

func (e *HTTPError) detail() string { return e.Error() }

// An Answer is what came of a request: a response, or an [HTTPError].
type Answer struct {
	// Response is nil if there is none.
	Response *Response
	Err      error
}

// Check returns the response if its status is 2xx; else the error is what to return for the message, Err itself or that of
// [Response.Check].
func (a Answer) Check() (*Response, error) {
	if a.Err != nil {
		return nil, a.Err
	}
	return a.Response, a.Response.Check()
}

// Fetch makes an HTTP request, and waits for its answer; any status is one. The request is made now, whatever becomes of the
// message, and again if the message runs again, with the same idempotency-key.
//
// It fails with an [HTTPError].
func (c *Context) Fetch(request Request) (*Response, error) {
	answer := c.FetchAll(request)[0]
	return answer.Response, answer.Err
}

// FetchAll makes HTTP requests at the same time, and waits for the last: one answer for each, in their order.
func (c *Context) FetchAll(requests ...Request) []Answer {
	var all asking
	all.add(c.slot, requests)
	return all.ask(c.host())
}

// Answers returns what came of the requests that [Preparer.Prepare] named for this message, in their order.
func (c *Context) Answers() []Answer { return c.answers }

// A Preparer is a [Handler] in two steps. The requests of all messages of a batch are made at the same time, between them.
type Preparer interface {
	// Prepare names the message's requests, none or more. Handle then finds their answers by [Context.Answers], of the same
	// Context. An error, [Skip] too, is the message's outcome: its requests are not made, and Handle is not called.
	//
	// All messages of a batch are prepared before the first is handled. It has one of a key at most where the manifest
	// grants hosts, so a service sees one key's requests in order.
	Prepare(ctx *Context, msg *Message) ([]Request, error)
}

// TwoSteps makes a [Handler] of the two functions of a [Preparer].
func TwoSteps(
	prepare func(ctx *Context, msg *Message) ([]Request, error),
	handle func(ctx *Context, msg *Message, answers []Answer) error,
) Handler {
	return twoSteps{prepare, handle}
}

type twoSteps struct {
	prepare func(*Context, *Message) ([]Request, error)
	handle  func(*Context, *Message, []Answer) error
}

func (t twoSteps) Prepare(ctx *Context, msg *Message) ([]Request, error) { return t.prepare(ctx, msg) }

func (t twoSteps) Handle(ctx *Context, msg *Message) error { return t.handle(ctx, msg, ctx.answers) }

// asking are the requests of one call.
type asking struct {
	given []contract.Request
	// answers are those of all requests; without an error are those that the host gives.
	answers []Answer
	asked   []string
}

func (a *asking) add(slot uint32, requests []Request) {
	for i := range requests {
		request := &requests[i]
		name, answer := request.name(), Answer{}
		if fault := request.fault(); fault != "" {
			answer.Err = &HTTPError{Code: contract.Invalid, asked: name, words: fault}
		} else {
			a.given = append(a.given, request.contract(slot))
		}
		a.answers, a.asked = append(a.answers, answer), append(a.asked, name)
	}
}

func (a *asking) ask(host contract.Host) []Answer {
	if len(a.given) == 0 {
		return a.answers
	}
	fetched := host.FetchAll(a.given)
	for i := range a.answers {
		if a.answers[i].Err != nil {
			continue
		}
		a.answers[i], fetched = answer(&fetched[0], a.asked[i]), fetched[1:]
	}
	return a.answers
}

// fault says why a request can't cross the border, "" if it can: text there is UTF-8.
func (r *Request) fault() string {
	for _, text := range []string{r.Method, r.URL} {
		if !utf8.ValidString(text) {
			return "not UTF-8"
		}
	}
	for i := range r.Headers {
		if !utf8.ValidString(r.Headers[i].Name) {
			return fmt.Sprintf("the header %.100q is not UTF-8", r.Headers[i].Name)
		}
	}
	return ""
}

func (r *Request) contract(slot uint32) contract.Request {
	headers := make([]contract.Header, len(r.Headers))
	for i, header := range r.Headers {
		headers[i] = contract.Header(header)
	}
	return contract.Request{
		Slot:       slot,
		Method:     r.method(),
		URL:        r.URL,
		Headers:    headers,
		Body:       r.Body,
		HasTimeout: r.Timeout > 0,
		TimeoutMs:  ms(r.Timeout),
	}
}

func answer(given *contract.Fetched, asked string) Answer {
	if given.Code != "" {
		return Answer{Err: &HTTPError{Code: given.Code, asked: asked, words: given.Words}}
	}
	headers := make([]Header, len(given.Headers))
	for i, header := range given.Headers {
		headers[i] = Header(header)
	}
	return Answer{Response: &Response{Status: int(given.Status), Headers: headers, Body: given.Body, asked: asked}}
}
