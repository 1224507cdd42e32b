package keyrail

import "github.com/keyrail/keyrail/sdk/go/internal/contract"

// A Label tells metrics of one name apart.
type Label struct {
	Name, Value string
}

// A Counter is a metric that adds up. Metrics are not undone if the message fails.
type Counter struct{ metric }

// A Gauge is a metric whose last value stands.
type Gauge struct{ metric }

// A Histogram is a metric that counts values by their size.
type Histogram struct{ metric }

type metric struct {
	host   contract.Host
	handle uint32
}

// Counter registers a counter. The name is of letters, digits and _. The handle may be kept as long as the handler.
func (s *Setup) Counter(name string, labels ...Label) Counter {
	return Counter{s.register(name, contract.Counter, labels)}
}

// Gauge registers a gauge, as [Setup.Counter].
func (s *Setup) Gauge(name string, labels ...Label) Gauge {
	return Gauge{s.register(name, contract.Gauge, labels)}
}

// Histogram registers a histogram, as [Setup.Counter].
func (s *Setup) Histogram(name string, labels ...Label) Histogram {
	return Histogram{s.register(name, contract.Histogram, labels)}
}

func (s *Setup) register(name string, kind contract.Kind, labels []Label) metric {
	pairs := make([]contract.Pair, len(labels))
	for i, label := range labels {
		pairs[i] = contract.Pair(label)
	}
	return metric{s.host, s.host.Register(name, kind, pairs)}
}

// Add adds n.
func (c Counter) Add(n float64) { c.host.Observe(c.handle, n) }

// Set sets the value.
func (g Gauge) Set(value float64) { g.host.Observe(g.handle, value) }

// Observe counts a value.
func (h Histogram) Observe(value float64) { h.host.Observe(h.handle, value) }
