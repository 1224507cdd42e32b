package keyrail

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/keyrail/keyrail/sdk/go/internal/contract"
)

// Skip as a handler's result settles the message, counted apart: it is filtered out on purpose. What it staged takes
// effect, as with nil. It is not to be joined with other errors.
var Skip = errors.New("keyrail: skip this message")

// A RetryError runs the message again, by the manifest's retry policy, its key's later messages behind it.
type RetryError struct {
	// Code is short and stable: it becomes a header, a metric label and a group in lists.
	Code string

	err      error
	hasDelay bool
	delay    time.Duration
	outage   bool
}

// Retry returns an error that runs the message again; once its attempts are spent, the manifest's retry.then decides.
// The code is short and stable; what varies belongs into the detail, which is formatted as by [fmt.Errorf], %w included.
func Retry(code, format string, args ...any) *RetryError {
	return &RetryError{Code: code, err: fmt.Errorf(format, args...)}
}

// After makes it wait this long, instead of the back-off that the policy gives, and returns e.
func (e *RetryError) After(delay time.Duration) *RetryError {
	e.hasDelay, e.delay = true, delay
	return e
}

// Outage says that the cause lies outside the message, such as a service that is down: the retry costs no attempt, and
// it feeds the pipeline's circuit breaker. It returns e.
func (e *RetryError) Outage() *RetryError {
	e.outage = true
	return e
}

// Error returns the detail, or the code if there is none.
func (e *RetryError) Error() string { return words(e.err, e.Code) }

// Unwrap leads to what was formatted with %w.
func (e *RetryError) Unwrap() error { return e.err }

// A DeadLetterError gives the message up.
type DeadLetterError struct {
	// Code is short and stable, as in [RetryError].
	Code string

	err error
}

// DeadLetter returns an error that sends the message to the dead-letter topic now: no other run can succeed. Code and
// detail are as in [Retry].
func DeadLetter(code, format string, args ...any) *DeadLetterError {
	return &DeadLetterError{Code: code, err: fmt.Errorf(format, args...)}
}

// Error returns the detail, or the code if there is none.
func (e *DeadLetterError) Error() string { return words(e.err, e.Code) }

// Unwrap leads to what was formatted with %w.
func (e *DeadLetterError) Unwrap() error { return e.err }

// Why the host refuses a call that stages or reads. The calls wrap them, and say what was called: compare with
// [errors.Is].
var (
	// State or timers were used for a message without an order key.
	ErrNoKey error = &CallError{Code: contract.NoKey, words: "the message has no order key, and state and timers belong to one"}
	// The manifest has no output of that name.
	ErrUnknownOutput error = &CallError{Code: contract.UnknownOutput, words: "no such output: name it under [output] in the manifest"}
	// A record, a name, a key, a value or a page of a scan.
	ErrTooLarge error = &CallError{Code: contract.TooLarge, words: "larger than the host takes in one piece"}
	// What the message sends, and changes of its state, is together more than the manifest's [limits].
	ErrOverQuota error = &CallError{Code: contract.OverQuota, words: "over the message's quota: see [limits] in the manifest"}
)

// A CallError says why the host refused a call that stages or reads. As a handler's result, all but the code "other" are
// dead letters with their code, since another run would be refused alike; "other" is retried under the code "error".
type CallError struct {
	// Code is "no-key", "unknown-output", "too-large", "over-quota" or "other".
	Code string

	words string
}

// Error returns what was refused, in words.
func (e *CallError) Error() string { return e.words }

// text says whether a name can cross the border, which takes UTF-8 alone. Changed, it would be another name.
func text(call, name string) error {
	if !utf8.ValidString(name) {
		return fmt.Errorf("%s %.100q: not UTF-8", call, name)
	}
	return nil
}

// refused is the error of a call that was made with this argument.
func refused(call, argument string, why *contract.Refusal) error {
	if why == nil {
		return nil
	}
	var err error
	switch why.Code {
	case contract.NoKey:
		err = ErrNoKey
	case contract.UnknownOutput:
		err = ErrUnknownOutput
	case contract.TooLarge:
		err = ErrTooLarge
	case contract.OverQuota:
		err = ErrOverQuota
	default:
		err = &CallError{Code: why.Code, words: why.Words}
	}
	return fmt.Errorf("%s %.100q: %w", call, argument, err)
}

// A failure is an error that says itself what becomes of the message.
type failure interface {
	error
	outcome() contract.Outcome
	// detail is the text of its own, "" also where Error has to say something.
	detail() string
}

func (e *RetryError) outcome() contract.Outcome {
	return contract.Outcome{Fate: contract.Retry, Code: e.Code, HasDelay: e.hasDelay, DelayMs: ms(e.delay), Outage: e.outage}
}

func (e *RetryError) detail() string { return words(e.err, "") }

func (e *DeadLetterError) outcome() contract.Outcome {
	return contract.Outcome{Fate: contract.DeadLetter, Code: e.Code}
}

func (e *DeadLetterError) detail() string { return words(e.err, "") }

func (e *CallError) outcome() contract.Outcome {
	if e.Code == contract.Other {
		return contract.Outcome{Fate: contract.Retry, Code: codeOfErrors}
	}
	return contract.Outcome{Fate: contract.DeadLetter, Code: e.Code}
}

func (e *CallError) detail() string { return e.words }

// codeOfErrors is that of errors which do not say what becomes of the message.
const codeOfErrors = "error"

// outcome says what becomes of a message whose handler returned err.
func outcome(err error) contract.Outcome {
	if err == nil {
		return contract.Outcome{Fate: contract.Done}
	}
	var found failure
	if errors.As(err, &found) {
		out := found.outcome()
		out.Detail = err.Error()
		if err == error(found) {
			out.Detail = found.detail()
		}
		return out
	}
	// Joined errors are not looked into: beside another error a skip would hide it.
	for e := err; e != nil; e = errors.Unwrap(e) {
		if e == Skip {
			return contract.Outcome{Fate: contract.Skip}
		}
	}
	return contract.Outcome{Fate: contract.Retry, Code: codeOfErrors, Detail: err.Error()}
}

// words is an error's text, or instead if there is none; err is nil in a value that was not made by a function.
func words(err error, instead string) string {
	if err != nil {
		if text := err.Error(); text != "" {
			return text
		}
	}
	return instead
}
