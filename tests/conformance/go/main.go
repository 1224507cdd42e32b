// The handler of tests/conformance/README.md.
package main

import (
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"

	keyrail "github.com/keyrail/keyrail/sdk/go"
)

func init() { keyrail.Handle(conform{}) }

func main() {}

type conform struct{}

func (conform) Open(setup *keyrail.Setup) error {
	if refuse := setup.Config["refuse"]; refuse != "" {
		return errors.New(refuse)
	}
	return nil
}

// Prepare names the requests of the header ask.
func (conform) Prepare(ctx *keyrail.Context, _ *keyrail.Message) (requests []keyrail.Request, err error) {
	for line := range strings.SplitSeq(string(ctx.Header("ask")), "\n") {
		if line == "" {
			continue
		}
		if verb, rest, _ := strings.Cut(line, " "); verb == "dead" {
			return nil, ends["dead"](ctx, rest)
		}
		requests = append(requests, request(line))
	}
	return requests, nil
}

func (conform) Handle(ctx *keyrail.Context, msg *keyrail.Message) error {
	asked = nil
	do := ctx.Header("do")
	if do == nil {
		return describe(ctx, msg)
	}
	for line := range strings.SplitSeq(string(do), "\n") {
		if line == "" {
			continue
		}
		if err := command(ctx, msg, line); err != nil {
			return err
		}
	}
	return nil
}

// command runs one line. To end at once is an error, as everywhere in Go.
func command(ctx *keyrail.Context, msg *keyrail.Message, line string) error {
	name, rest, _ := strings.Cut(line, " ")
	for _, commands := range []map[string]func(*keyrail.Context, string) error{sends, kept, told, asks, ends} {
		if run, ok := commands[name]; ok {
			return run(ctx, rest)
		}
	}
	switch name {
	case "describe":
		return describe(ctx, msg)
	case "until":
		return until(msg, rest)
	}
	return keyrail.DeadLetter("unknown-command", "%s", line)
}

var sends = map[string]func(*keyrail.Context, string) error{
	"send": func(ctx *keyrail.Context, rest string) error {
		to, text, _ := strings.Cut(rest, " ")
		return ctx.Send(to, []byte(text))
	},
	"caught": func(ctx *keyrail.Context, to string) error {
		code := "nothing"
		if err := ctx.Send(to, []byte("x")); err != nil {
			var refused *keyrail.CallError
			if !errors.As(err, &refused) {
				return err
			}
			code = refused.Code
		}
		return say(ctx, "caught "+code)
	},
	"record": func(ctx *keyrail.Context, _ string) error {
		return ctx.SendRecord(keyrail.Record{
			To:    "out",
			Key:   []byte("k2"),
			Value: []byte("v2"),
			Headers: []keyrail.Header{
				{Name: "a", Value: []byte("1")}, {Name: "b"}, {Name: "a", Value: []byte("2")},
			},
			ForwardHeaders: true,
			Timestamp:      time.UnixMilli(1234567890123),
		})
	},
	"tombstone": func(ctx *keyrail.Context, _ string) error { return ctx.Send("out", nil) },
	"keyless": func(ctx *keyrail.Context, _ string) error {
		return ctx.SendRecord(keyrail.Record{To: "out", Value: []byte{}, Keyless: true})
	},
	"later": func(ctx *keyrail.Context, rest string) error {
		delay, text, err := millis(rest)
		if err != nil {
			return err
		}
		return ctx.SendRecord(keyrail.Record{To: "out", Value: []byte(text), Delay: delay})
	},
}

var kept = map[string]func(*keyrail.Context, string) error{
	"put": func(ctx *keyrail.Context, rest string) error {
		name, text, _ := strings.Cut(rest, " ")
		return ctx.State().Put(name, []byte(text))
	},
	"put-for": func(ctx *keyrail.Context, rest string) error {
		ttl, rest, err := millis(rest)
		if err != nil {
			return err
		}
		name, text, _ := strings.Cut(rest, " ")
		return ctx.State().PutFor(name, []byte(text), ttl)
	},
	"delete": func(ctx *keyrail.Context, name string) error { return ctx.State().Delete(name) },
	"get": func(ctx *keyrail.Context, name string) error {
		value, err := ctx.State().Get(name)
		if err != nil {
			return err
		}
		return say(ctx, "get "+name+" "+orNull(value))
	},
	"scan": scan,
	"timer": func(ctx *keyrail.Context, rest string) error {
		name, rest, _ := strings.Cut(rest, " ")
		wait, text, err := millis(rest)
		if err != nil {
			return err
		}
		return ctx.Timers().SetAfter(name, wait, []byte(text))
	},
	"cancel": func(ctx *keyrail.Context, name string) error { return ctx.Timers().Cancel(name) },
}

var told = map[string]func(*keyrail.Context, string) error{
	"header": func(ctx *keyrail.Context, name string) error {
		return say(ctx, "header "+name+" "+orNull(ctx.Header(name)))
	},
	"now": func(ctx *keyrail.Context, _ string) error {
		return say(ctx, fmt.Sprint("now ", ctx.Now().UnixMilli()))
	},
	"deadline": func(ctx *keyrail.Context, _ string) error {
		deadline, _ := ctx.Deadline()
		return say(ctx, fmt.Sprint("deadline ", deadline.Sub(ctx.Now()).Milliseconds()))
	},
	"random": func(ctx *keyrail.Context, _ string) error {
		return say(ctx, fmt.Sprintf("random %d %d", ctx.Random(), ctx.Random()))
	},
	"config": func(ctx *keyrail.Context, name string) error {
		value, ok := ctx.Setup().Config[name]
		if !ok {
			value = "null"
		}
		return say(ctx, "config "+name+" "+value)
	},
	"log": func(ctx *keyrail.Context, rest string) error {
		level, text, _ := strings.Cut(rest, " ")
		ctx.Log().Log(ctx, levels[level], text)
		return nil
	},
	"count": func(ctx *keyrail.Context, name string) error {
		ctx.Setup().Counter(name).Add(1)
		return nil
	},
}

// asked are the requests that the message has named by the command ask.
var asked []keyrail.Request

// request is METHOD URL [TEXT].
func request(line string) keyrail.Request {
	method, rest, _ := strings.Cut(line, " ")
	url, text, _ := strings.Cut(rest, " ")
	request := keyrail.Request{URL: url}
	if method != "-" {
		request.Method = method
	}
	if text != "" {
		request.Body = []byte(text)
	}
	return request
}

var asks = map[string]func(*keyrail.Context, string) error{
	"ask": func(_ *keyrail.Context, rest string) error {
		asked = append(asked, request(rest))
		return nil
	},
	"ask-header": func(_ *keyrail.Context, rest string) error {
		name, text, _ := strings.Cut(rest, " ")
		last := &asked[len(asked)-1]
		last.Headers = append(last.Headers, keyrail.Header{Name: name, Value: []byte(text)})
		return nil
	},
	"ask-timeout": func(_ *keyrail.Context, rest string) (err error) {
		asked[len(asked)-1].Timeout, _, err = millis(rest)
		return err
	},
	"fetch": func(ctx *keyrail.Context, _ string) error {
		answers := ctx.FetchAll(asked...)
		asked = nil
		return sayAnswers(ctx, answers)
	},
	"ok": func(ctx *keyrail.Context, rest string) error {
		response, err := ctx.Fetch(request(rest))
		if err != nil {
			return err
		}
		if err := response.Check(); err != nil {
			return err
		}
		return sayAnswers(ctx, []keyrail.Answer{{Response: response}})
	},
	"answers": func(ctx *keyrail.Context, _ string) error { return sayAnswers(ctx, ctx.Answers()) },
}

func sayAnswers(ctx *keyrail.Context, answers []keyrail.Answer) error {
	lines := make([]string, len(answers))
	for i, answer := range answers {
		var failed *keyrail.HTTPError
		switch {
		case errors.As(answer.Err, &failed):
			lines[i] = "error " + failed.Code
		case answer.Err != nil:
			return answer.Err
		default:
			lines[i] = fmt.Sprintf("%d %s", answer.Response.Status, answer.Response.Body)
		}
	}
	return say(ctx, strings.Join(lines, "\n"))
}

var levels = map[string]slog.Level{
	"trace":    keyrail.LevelTrace,
	"debug":    slog.LevelDebug,
	"info":     slog.LevelInfo,
	"warn":     slog.LevelWarn,
	"error":    slog.LevelError,
	"critical": keyrail.LevelCritical,
}

var ends = map[string]func(*keyrail.Context, string) error{
	"skip": func(*keyrail.Context, string) error { return keyrail.Skip },
	"retry": func(_ *keyrail.Context, rest string) error {
		code, text, _ := strings.Cut(rest, " ")
		return keyrail.Retry(code, "%s", text)
	},
	"after": func(_ *keyrail.Context, rest string) error {
		delay, rest, err := millis(rest)
		if err != nil {
			return err
		}
		code, text, _ := strings.Cut(rest, " ")
		return keyrail.Retry(code, "%s", text).After(delay)
	},
	"outage": func(_ *keyrail.Context, rest string) error {
		code, text, _ := strings.Cut(rest, " ")
		return keyrail.Retry(code, "%s", text).Outage()
	},
	"dead": func(_ *keyrail.Context, rest string) error {
		code, text, _ := strings.Cut(rest, " ")
		return keyrail.DeadLetter(code, "%s", text)
	},
	"raise": func(_ *keyrail.Context, text string) error { return errors.New(text) },
}

func until(msg *keyrail.Message, rest string) error {
	most, code, _ := strings.Cut(rest, " ")
	attempts, err := strconv.ParseUint(most, 10, 32)
	if err != nil {
		return err
	}
	if uint64(msg.Attempt) <= attempts {
		return keyrail.Retry(code, "attempt %d", msg.Attempt)
	}
	return nil
}

func scan(ctx *keyrail.Context, rest string) error {
	words := strings.Split(rest, " ")
	if len(words) < 2 {
		return fmt.Errorf("scan of %q", rest)
	}
	prefix := words[0]
	if prefix == "-" {
		prefix = ""
	}
	limit, err := strconv.ParseUint(words[1], 10, 32)
	if err != nil {
		return err
	}
	var entries []keyrail.Entry
	if len(words) > 2 {
		entries, err = ctx.State().ScanAfter(prefix, words[2], uint32(limit))
	} else {
		entries, err = ctx.State().Scan(prefix, uint32(limit))
	}
	if err != nil {
		return err
	}
	found := make([]string, len(entries))
	for i, entry := range entries {
		found[i] = entry.Name + "=" + string(entry.Value)
	}
	return say(ctx, "scan "+strings.Join(found, ","))
}

func describe(ctx *keyrail.Context, msg *keyrail.Message) error {
	from, follows := "topic "+msg.Topic, "no"
	if msg.IsTimer() {
		from = "timer " + msg.Timer
	}
	if ctx.FollowsDeadLetter() {
		follows = "yes"
	}
	var text strings.Builder
	fmt.Fprintf(&text, "from %s\n", from)
	fmt.Fprintf(&text, "at %d/%d %d\n", msg.Partition, msg.Offset, msg.Timestamp.UnixMilli())
	fmt.Fprintf(&text, "attempt %d\n", msg.Attempt)
	fmt.Fprintf(&text, "id %s\n", ctx.ID())
	fmt.Fprintf(&text, "follows %s\n", follows)
	fmt.Fprintf(&text, "key %s\n", shape(msg.Key))
	fmt.Fprintf(&text, "value %s\n", shape(msg.Value))
	headers := ctx.Headers()
	fmt.Fprintf(&text, "headers %d", len(headers))
	for _, header := range headers[:min(3, len(headers))] {
		fmt.Fprintf(&text, "\nheader %s %s", header.Name, shape(header.Value))
	}
	return say(ctx, text.String())
}

// shape is a size and a hash.
func shape(bytes []byte) string {
	if bytes == nil {
		return "null"
	}
	hash := fnv.New32a()
	hash.Write(bytes)
	return fmt.Sprintf("%d %08x", len(bytes), hash.Sum32())
}

func say(ctx *keyrail.Context, text string) error { return ctx.Send("out", []byte(text)) }

func orNull(value []byte) string {
	if value == nil {
		return "null"
	}
	return string(value)
}

// millis parts a time from what stands behind it.
func millis(rest string) (time.Duration, string, error) {
	number, rest, _ := strings.Cut(rest, " ")
	ms, err := strconv.ParseInt(number, 10, 64)
	return time.Duration(min(ms, math.MaxInt64/int64(time.Millisecond))) * time.Millisecond, rest, err
}
