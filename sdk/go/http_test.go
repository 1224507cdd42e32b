package keyrail_test

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	keyrail "github.com/keyrail/keyrail/sdk/go"
	"github.com/keyrail/keyrail/sdk/go/internal/contract"
	"github.com/keyrail/keyrail/sdk/go/keyrailtest"
)

const (
	payURL = "https://api.example.com/pay?token=secret#top"
	named  = "https://api.example.com/pay"
)

// answered runs a message that asks once and wants the answer to be well.
func answered(t *testing.T, response *keyrail.Response, err error) keyrailtest.Run {
	t.Helper()
	host := newHost(t, func(ctx *keyrail.Context, _ *keyrail.Message) error {
		response, err := ctx.Fetch(keyrail.Request{URL: payURL})
		if err != nil {
			return err
		}
		return response.Check()
	})
	host.Answer("GET", payURL, response, err)
	return host.Say("k", "v")
}

func TestAStatusSaysWhatBecomesOfTheMessage(t *testing.T) {
	fates := map[keyrailtest.Fate][]int{
		keyrailtest.Done:       {200, 204, 299},
		keyrailtest.Retry:      {408, 425, 429, 500, 503, 599},
		keyrailtest.DeadLetter: {100, 199, 300, 301, 400, 404, 499, 600},
	}
	for fate, statuses := range fates {
		for _, status := range statuses {
			want := keyrailtest.Run{Fate: fate}
			if fate != keyrailtest.Done {
				want.Code, want.Detail = fmt.Sprint("http-", status), fmt.Sprintf("GET %s: %d", named, status)
			}
			if run := answered(t, &keyrail.Response{Status: status}, nil); !reflect.DeepEqual(run, want) {
				t.Errorf("%d: got %+v, want %+v", status, run, want)
			}
		}
	}
}

func TestARetryAfterIsTheWait(t *testing.T) {
	for _, test := range []struct {
		status int
		header string
		wait   time.Duration
	}{
		{429, "7", 7 * time.Second},
		{503, " 3600 ", time.Hour},
		{503, "3601", time.Hour},
		{503, strings.Repeat("9", 400), time.Hour},
		{503, "007", 7 * time.Second},
		{503, "0", 0},
		{503, "", 0},
		{503, "-1", 0},
		{503, "1.5", 0},
		{503, "Wed, 21 Oct 2026 07:28:00 GMT", 0},
		{500, "7", 0},
	} {
		headers := []keyrail.Header{{Name: "Retry-After", Value: []byte(test.header)}}
		run := answered(t, &keyrail.Response{Status: test.status, Headers: headers}, nil)
		if run.Delay != test.wait || run.HasDelay != (test.wait > 0) {
			t.Errorf("%d, %.20q: %v", test.status, test.header, run.Delay)
		}
	}
}

func TestTheDetailHasTheFirstBytesOfAText(t *testing.T) {
	full := strings.Repeat("x", 200)
	for body, want := range map[string]string{
		"":                      "",
		"no room":               " no room",
		full + "x":              " " + full,
		full[1:] + "\u00e9":     " " + full[1:],
		full[1:] + "\U0001f600": " " + full[1:],
		full[2:] + "\u00e9":     " " + full[2:] + "\u00e9",
		"x\xff":                 "",
		full + "\xff":           " " + full,
	} {
		run := answered(t, &keyrail.Response{Status: 500, Body: []byte(body)}, nil)
		if want := "GET " + named + ": 500" + want; run.Detail != want {
			t.Errorf("%q: %q", body, run.Detail)
		}
	}
}

func TestAnErrorThatIsReturnedIsAnOutcome(t *testing.T) {
	for code, want := range map[string]struct {
		fate  keyrailtest.Fate
		words string
	}{
		"denied":      {keyrailtest.DeadLetter, "denied"},
		"invalid":     {keyrailtest.DeadLetter, "invalid"},
		"too-large":   {keyrailtest.DeadLetter, "the answer is larger than limits.response-bytes allows"},
		"timeout":     {keyrailtest.Retry, "no answer in time"},
		"unreachable": {keyrailtest.Retry, "unreachable"},
	} {
		run := answered(t, nil, &keyrail.HTTPError{Code: code})
		expected := keyrailtest.Run{Fate: want.fate, Code: "http-" + code, Detail: "GET " + named + ": " + want.words}
		if !reflect.DeepEqual(run, expected) {
			t.Errorf("got %+v, want %+v", run, expected)
		}
	}
	run := newHost(t, func(ctx *keyrail.Context, _ *keyrail.Message) error {
		_, err := ctx.Fetch(keyrail.Request{URL: payURL})
		return fmt.Errorf("order 7: %w", err)
	}).Say("k", "v")
	if run.Code != "http-denied" || !strings.HasPrefix(run.Detail, "order 7: GET "+named+": the test gives it no answer") {
		t.Errorf("%+v", run)
	}
}

func TestAnErrorCanBeToldFromOthers(t *testing.T) {
	host := newHost(t, func(ctx *keyrail.Context, _ *keyrail.Message) error {
		_, err := ctx.Fetch(keyrail.Request{URL: payURL})
		var failed *keyrail.HTTPError
		if !errors.As(err, &failed) || failed.Code != "unreachable" {
			t.Errorf("%v", err)
		}
		return ctx.Send("out", []byte(err.Error()))
	})
	host.AnswerWith(func(keyrailtest.Requested) (*keyrail.Response, error) { return nil, io.ErrUnexpectedEOF })
	if run := host.Say("k", "v"); string(run.Sent[0].Value) != "GET "+named+": unexpected EOF" {
		t.Errorf("%+v", run)
	}
}

func TestAResponseTellsItsParts(t *testing.T) {
	response := keyrail.Response{Status: 201, Body: []byte("{}"), Headers: []keyrail.Header{
		{Name: "x-a", Value: []byte("1")}, {Name: "x-a", Value: []byte("2")},
	}}
	if !response.OK() || response.Text() != "{}" || response.Header("X-A") != "2" || response.Header("x-b") != "" {
		t.Errorf("%+v", response)
	}
}

func TestARequestIsSentAsItWasTold(t *testing.T) {
	header := func(name, value string) keyrail.Header { return keyrail.Header{Name: name, Value: []byte(value)} }
	for name, test := range map[string]struct{ given, want keyrail.Request }{
		"GET":        {keyrail.Request{}, keyrail.Request{Method: "GET"}},
		"POST":       {keyrail.Request{Body: []byte{}}, keyrail.Request{Method: "POST", Body: []byte{}}},
		"GET, body":  {keyrail.Request{Method: "GET", Body: []byte("x")}, keyrail.Request{Method: "GET", Body: []byte("x")}},
		"up to 1 ms": {keyrail.Request{Timeout: time.Nanosecond}, keyrail.Request{Method: "GET", Timeout: time.Millisecond}},
		"headers": {
			keyrail.Request{Headers: []keyrail.Header{header("a", "1"), header("A", "2")}},
			keyrail.Request{Method: "GET", Headers: []keyrail.Header{header("a", "1"), header("A", "2")}},
		},
	} {
		test.given.URL, test.want.URL = payURL, payURL
		test.want.Headers = append(test.want.Headers, header("idempotency-key", "in/0/0"))
		host := newHost(t, func(ctx *keyrail.Context, _ *keyrail.Message) error {
			_, err := ctx.Fetch(test.given)
			return err
		})
		host.AnswerWith(func(keyrailtest.Requested) (*keyrail.Response, error) { return &keyrail.Response{Status: 200}, nil })
		run := host.Say("k", "v")
		if want := []keyrailtest.Requested{{ID: "in/0/0", Request: test.want}}; run.Code != "" || !reflect.DeepEqual(host.Requests(), want) {
			t.Errorf("%s: got %+v, want %+v", name, host.Requests(), want)
		}
	}
}

func TestRequestsOfOneCallAreAnsweredInTheirOrder(t *testing.T) {
	own := []keyrail.Header{{Name: "Idempotency-Key", Value: []byte("mine")}}
	host := newHost(t, func(ctx *keyrail.Context, _ *keyrail.Message) error {
		if answers := ctx.FetchAll(); len(answers) != 0 {
			t.Errorf("%+v", answers)
		}
		for _, answer := range ctx.FetchAll(
			keyrail.Request{URL: "https://a/1"},
			keyrail.Request{URL: "https://a/\xff"},
			keyrail.Request{URL: "https://a/2", Method: "POST", Headers: own},
			keyrail.Request{URL: "https://a/3", Body: []byte("x")},
			keyrail.Request{URL: "https://a/", Headers: []keyrail.Header{{Name: "\xff"}}},
			keyrail.Request{URL: "https://a/4"},
		) {
			told := "error"
			if response, err := answer.Check(); err == nil {
				told = response.Text()
			} else if failed := (*keyrail.HTTPError)(nil); errors.As(err, &failed) {
				told = failed.Code
			}
			if err := ctx.Send("out", []byte(told)); err != nil {
				return err
			}
		}
		return nil
	})
	host.Answer("POST", "https://a/3", nil, &keyrail.HTTPError{Code: "timeout"})
	host.AnswerWith(func(request keyrailtest.Requested) (*keyrail.Response, error) {
		return &keyrail.Response{Status: 200, Body: []byte(request.URL[len(request.URL)-1:])}, nil
	})
	var told, keys []string
	for _, sent := range host.Say("k", "v").Sent {
		told = append(told, string(sent.Value))
	}
	if want := []string{"1", "invalid", "2", "timeout", "invalid", "4"}; !reflect.DeepEqual(told, want) {
		t.Errorf("%q", told)
	}
	for _, made := range host.Requests() {
		keys = append(keys, made.Header("Idempotency-key"))
	}
	if want := []string{"in/0/0", "mine", "in/0/0-2", "in/0/0"}; !reflect.DeepEqual(keys, want) {
		t.Errorf("%q", keys)
	}
}

// prepareEach asks once for each byte of the value; "-" fails, and "s" is skipped.
func prepareEach(ctx *keyrail.Context, msg *keyrail.Message) (requests []keyrail.Request, err error) {
	if err := ctx.Send("out", []byte("prepared")); err != nil {
		return nil, err
	}
	switch string(msg.Value) {
	case "-":
		return nil, keyrail.DeadLetter("not-this-one", "")
	case "s":
		return nil, keyrail.Skip
	}
	for i := range msg.Value {
		requests = append(requests, keyrail.Request{URL: "https://a/" + string(msg.Value[i:i+1])})
	}
	return requests, nil
}

func handleEach(ctx *keyrail.Context, _ *keyrail.Message, answers []keyrail.Answer) error {
	for _, answer := range answers {
		response, err := answer.Check()
		if err != nil {
			return err
		}
		if err := ctx.Send("out", response.Body); err != nil {
			return err
		}
	}
	return nil
}

func TestWhatIsPreparedIsAskedAndHandledWithItsAnswers(t *testing.T) {
	host := keyrailtest.New(t, keyrail.TwoSteps(prepareEach, handleEach), keyrail.Setup{Outputs: []string{"out"}})
	host.Answer("GET", "https://a/x", nil, &keyrail.HTTPError{Code: "timeout"})
	host.AnswerWith(func(request keyrailtest.Requested) (*keyrail.Response, error) {
		return &keyrail.Response{Status: 200, Body: []byte(request.URL)}, nil
	})
	for value, want := range map[string]string{
		"bc": "done  prepared https://a/b https://a/c",
		"":   "done  prepared",
		"-":  "dead-letter not-this-one",
		"s":  "skip  prepared",
		"x":  "retry http-timeout",
	} {
		run := host.Say("k", value)
		told := fmt.Sprint(run.Fate, " ", run.Code)
		for _, sent := range run.Sent {
			told += " " + string(sent.Value)
		}
		if told != want {
			t.Errorf("%q: %q", value, told)
		}
	}
	if made := len(host.Requests()); made != 3 {
		t.Errorf("%d requests", made)
	}
}

// A server answers with the URL, and keeps the calls.
type server struct {
	contract.Host
	calls [][]uint32
	sent  []string
}

func (s *server) FetchAll(requests []contract.Request) []contract.Fetched {
	var slots []uint32
	var all []contract.Fetched
	for _, request := range requests {
		slots = append(slots, request.Slot)
		all = append(all, contract.Fetched{Status: 200, Body: []byte(request.URL)})
	}
	s.calls = append(s.calls, slots)
	return all
}

func (s *server) Send(slot uint32, output *contract.Output) *contract.Refusal {
	s.sent = append(s.sent, fmt.Sprintf("%d %s", slot, output.Value))
	return nil
}

func TestTheRequestsOfABatchAreMadeInOneCall(t *testing.T) {
	host := &server{}
	program := contract.NewProgram(keyrail.TwoSteps(prepareEach, handleEach), host)
	if refused := program.Open(contract.Setup{Topics: []string{"in"}}); refused != "" {
		t.Fatal(refused)
	}
	var fates []contract.Fate
	for _, outcome := range program.Process([]contract.Message{{Value: []byte("a\xffb")}, {Value: []byte("-")}, {}, {Value: []byte("c")}}) {
		fates = append(fates, outcome.Fate)
	}
	// A byte that is no character makes a URL that can't be sent.
	if want := []contract.Fate{contract.DeadLetter, contract.DeadLetter, contract.Done, contract.Done}; !reflect.DeepEqual(fates, want) {
		t.Errorf("%v", fates)
	}
	if want := [][]uint32{{0, 0, 3}}; !reflect.DeepEqual(host.calls, want) {
		t.Errorf("%v", host.calls)
	}
	if want := []string{"0 prepared", "1 prepared", "2 prepared", "3 prepared", "0 https://a/a", "3 https://a/c"}; !reflect.DeepEqual(host.sent, want) {
		t.Errorf("%q", host.sent)
	}
	if program.Process([]contract.Message{{}}); len(host.calls) != 1 {
		t.Error("no request, and a call")
	}
}
