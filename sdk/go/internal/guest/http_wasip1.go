package guest

import (
	"runtime"
	"unsafe"

	"github.com/keyrail/keyrail/sdk/go/internal/contract"
)

//go:wasmimport keyrail:handler/http@0.1.0 fetch-all
func httpFetchAll(requests unsafe.Pointer, requestCount uint32, result unsafe.Pointer)

func (Host) FetchAll(requests []contract.Request) []contract.Fetched {
	list, headers := writeRequests(requests)
	// The list has their address as a number alone, which keeps nothing.
	defer runtime.KeepAlive(headers)
	return outside(func(result unsafe.Pointer) { httpFetchAll(list.start(), uint32(len(requests)), result) },
		func(r reader) []contract.Fetched { return r.fetched(0) })
}
