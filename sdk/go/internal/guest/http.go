package guest

import "github.com/keyrail/keyrail/sdk/go/internal/contract"

// How requests and what comes of them lie in memory.
const (
	requestSize = 56
	fetchedSize = 24
)

var faults = [...]string{contract.Denied, contract.Invalid, contract.Timeout, contract.Unreachable, contract.TooLarge}

// writeRequests gives the list of requests, and the list that their headers are parts of: it is to be kept as long.
func writeRequests(requests []contract.Request) (list, headers *writer) {
	count, behind, behindHeaders := 0, 0, 0
	for i := range requests {
		request := &requests[i]
		count += len(request.Headers)
		behind += len(request.Method) + len(request.URL) + len(request.Body)
		for _, header := range request.Headers {
			behindHeaders += len(header.Name) + len(header.Value)
		}
	}
	list, headers = newWriter(len(requests), requestSize, behind), newWriter(count, pairSize, behindHeaders)
	next := 0
	for i := range requests {
		request, at := &requests[i], i*requestSize
		list.u32(at, request.Slot)
		list.text(at+4, request.Method)
		list.text(at+12, request.URL)
		list.u32(at+20, addressOf(headers.bytes)+uint32(next))
		list.u32(at+24, uint32(len(request.Headers)))
		for _, header := range request.Headers {
			headers.text(next, header.Name)
			headers.text(next+8, string(header.Value))
			next += pairSize
		}
		list.option(at+28, request.Body)
		list.u8(at+40, bit(request.HasTimeout))
		list.u64(at+48, request.TimeoutMs)
	}
	return list, headers
}

func (r reader) fetched(at int) []contract.Fetched {
	records := r.records(at, fetchedSize)
	all := make([]contract.Fetched, len(records))
	for i, record := range records {
		all[i] = record.fetchedOne()
	}
	return all
}

func (r reader) fetchedOne() contract.Fetched {
	if r.u8(0) == 0 {
		records := r.records(8, pairSize)
		headers := make([]contract.Header, len(records))
		for i, record := range records {
			headers[i] = contract.Header{Name: record.text(0), Value: record.list(8)}
		}
		return contract.Fetched{Status: r.u16(4), Headers: headers, Body: r.list(16)}
	}
	fault := contract.Fetched{Code: faults[r.u8(4)]}
	if fault.Code != contract.Timeout && fault.Code != contract.TooLarge {
		fault.Words = r.text(8)
	}
	return fault
}
