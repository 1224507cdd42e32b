package keyrail

import (
	"context"
	"log/slog"
	"slices"
	"strconv"

	"github.com/keyrail/keyrail/sdk/go/internal/contract"
)

// Levels of the host's log that slog has no names for.
const (
	LevelTrace    = slog.LevelDebug - 4
	LevelCritical = slog.LevelError + 4
)

// Log returns a logger to the host's log, for [Opener]: [Context.Log] adds which message it is.
//
// In WebAssembly slog's default logger writes there, too, with the message of a [Context] that it is given.
func (s *Setup) Log() *slog.Logger { return slog.New(&logHandler{host: s.host}) }

// place is what a line says of the message.
func (c *Context) place() []contract.Pair {
	return []contract.Pair{
		{Name: "partition", Value: strconv.FormatUint(uint64(c.message.Partition), 10)},
		{Name: "offset", Value: strconv.FormatUint(c.message.Offset, 10)},
	}
}

// A logHandler writes to the host's log. The host has the time, and text alone as values.
type logHandler struct {
	host   contract.Host
	fields []contract.Pair
	// prefix is the names of open groups, each with a dot behind it.
	prefix string
}

func level(l slog.Level) contract.Level {
	switch {
	case l < slog.LevelDebug:
		return contract.Trace
	case l < slog.LevelInfo:
		return contract.Debug
	case l < slog.LevelWarn:
		return contract.Info
	case l < slog.LevelError:
		return contract.Warn
	case l < LevelCritical:
		return contract.Error
	default:
		return contract.Critical
	}
}

func (h *logHandler) Enabled(_ context.Context, l slog.Level) bool {
	return level(l) >= h.host.Threshold()
}

func (h *logHandler) Handle(ctx context.Context, record slog.Record) error {
	fields := slices.Clip(h.fields)
	if len(fields) == 0 || fields[0].Name != "partition" {
		if c, ok := ctx.Value(contextKey{}).(*Context); ok && !c.over {
			fields = append(c.place(), fields...)
		}
	}
	record.Attrs(func(attr slog.Attr) bool {
		fields = appendAttr(fields, h.prefix, attr)
		return true
	})
	h.host.Log(level(record.Level), record.Message, fields)
	return nil
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	with.fields = slices.Clip(h.fields)
	for _, attr := range attrs {
		with.fields = appendAttr(with.fields, h.prefix, attr)
	}
	return &with
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	with := *h
	with.prefix += name + "."
	return &with
}

// appendAttr adds what slog's rules leave of an attribute, a group's one by one.
func appendAttr(fields []contract.Pair, prefix string, attr slog.Attr) []contract.Pair {
	value := attr.Value.Resolve()
	if attr.Equal(slog.Attr{}) {
		return fields
	}
	if value.Kind() != slog.KindGroup {
		return append(fields, contract.Pair{Name: prefix + attr.Key, Value: value.String()})
	}
	if attr.Key != "" {
		prefix += attr.Key + "."
	}
	for _, inner := range value.Group() {
		fields = appendAttr(fields, prefix, inner)
	}
	return fields
}
