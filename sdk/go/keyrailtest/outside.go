package keyrailtest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	keyrail "github.com/keyrail/keyrail/sdk/go"
	"github.com/keyrail/keyrail/sdk/go/internal/contract"
)

const idempotencyKey = "idempotency-key"

// A Requested is an HTTP request that was made, with the host's idempotency-key.
type Requested struct {
	// ID is that of its message.
	ID string
	keyrail.Request
}

// Header returns the value of the last header of that name, in any case.
func (r Requested) Header(name string) string {
	return (&keyrail.Response{Headers: r.Headers}).Header(name)
}

// A Server answers HTTP requests, or fails with a [keyrail.HTTPError]; any other error is one that is unreachable.
type Server func(request Requested) (*keyrail.Response, error)

// outside is who answers.
type outside struct {
	table  map[[2]string]Server
	server Server
	made   []Requested
}

// Answer answers HTTP requests of this method to this URL, written as the handler sends them.
func (h *Host) Answer(method, url string, response *keyrail.Response, err error) {
	if h.world.outside.table == nil {
		h.world.outside.table = map[[2]string]Server{}
	}
	h.world.outside.table[[2]string{method, url}] = func(Requested) (*keyrail.Response, error) { return response, err }
}

// AnswerWith answers all HTTP requests that [Host.Answer] names no answer for.
func (h *Host) AnswerWith(server Server) { h.world.outside.server = server }

// Requests returns the HTTP requests that were made, in order, of failed messages, too.
func (h *Host) Requests() []Requested { return slices.Clone(h.world.outside.made) }

func (w *world) FetchAll(requests []contract.Request) []contract.Fetched {
	all := make([]contract.Fetched, len(requests))
	for i := range requests {
		all[i] = w.fetch(&requests[i])
	}
	return all
}

func (w *world) fetch(given *contract.Request) contract.Fetched {
	request := Requested{ID: w.id, Request: keyrail.Request{
		Method:  given.Method,
		URL:     given.URL,
		Body:    bytes.Clone(given.Body),
		Timeout: toDuration(given.TimeoutMs),
	}}
	hasKey := false
	for _, header := range given.Headers {
		hasKey = hasKey || strings.EqualFold(header.Name, idempotencyKey)
		request.Headers = append(request.Headers, keyrail.Header{Name: header.Name, Value: bytes.Clone(header.Value)})
	}
	key := w.id
	if !slices.Contains([]string{"GET", "HEAD", "OPTIONS", "TRACE"}, given.Method) {
		if w.changing++; w.changing > 1 {
			key = fmt.Sprintf("%s-%d", w.id, w.changing)
		}
	}
	if !hasKey {
		request.Headers = append(request.Headers, keyrail.Header{Name: idempotencyKey, Value: []byte(key)})
	}
	w.outside.made = append(w.outside.made, request)
	return w.outside.answer(request)
}

func (o *outside) answer(request Requested) contract.Fetched {
	server := o.table[[2]string{request.Method, request.URL}]
	if server == nil {
		server = o.server
	}
	if server == nil {
		return contract.Fetched{Code: contract.Denied, Words: "the test gives it no answer: call Host.Answer, or Host.AnswerWith for all"}
	}
	response, err := server(request)
	var failed *keyrail.HTTPError
	switch {
	case errors.As(err, &failed):
		return contract.Fetched{Code: failed.Code, Words: err.Error()}
	case err != nil:
		return contract.Fetched{Code: contract.Unreachable, Words: err.Error()}
	case response == nil:
		panic("keyrailtest: an answer has a response or an error")
	}
	fetched := contract.Fetched{Status: uint16(response.Status), Headers: []contract.Header{}, Body: append([]byte{}, response.Body...)}
	for _, header := range response.Headers {
		fetched.Headers = append(fetched.Headers, contract.Header{Name: strings.ToLower(header.Name), Value: bytes.Clone(header.Value)})
	}
	return fetched
}
