package guest

import (
	"encoding/binary"
	"reflect"
	"testing"

	"github.com/keyrail/keyrail/sdk/go/internal/contract"
)

func TestRequestsAreWritten(t *testing.T) {
	list, headers := writeRequests([]contract.Request{
		{Slot: 7, Method: "GET", URL: "https://a/"},
		{Slot: 9, Method: "POST", URL: "https://b/", Body: []byte{}, HasTimeout: true, TimeoutMs: 1 << 40,
			Headers: []contract.Header{{Name: "a", Value: []byte("12")}, {Name: "b"}}},
		{Slot: 9, Method: "PUT", URL: "https://c/", Body: []byte("body"), Headers: []contract.Header{{Name: "c", Value: []byte("3")}}},
	})
	wanted := []struct {
		slot              uint32
		method, url, body string
		hasBody           byte
		first, count      uint32
	}{{7, "GET", "https://a/", "", 0, 0, 0}, {9, "POST", "https://b/", "", 1, 0, 2}, {9, "PUT", "https://c/", "body", 1, 2, 1}}
	for i, want := range wanted {
		at := i * requestSize
		record := list.bytes[at : at+requestSize]
		if slot := binary.LittleEndian.Uint32(record); slot != want.slot || list.pointed(at+4) != want.method || list.pointed(at+12) != want.url {
			t.Errorf("request %d is % x", i, record)
		}
		first := binary.LittleEndian.Uint32(record[20:]) - addressOf(headers.bytes)
		if count := binary.LittleEndian.Uint32(record[24:]); first != want.first*pairSize || count != want.count {
			t.Errorf("the headers of request %d are %d at %d", i, count, first)
		}
		if record[28] != want.hasBody || want.hasBody == 1 && list.pointed(at+32) != want.body {
			t.Errorf("the body of request %d is % x", i, record[28:40])
		}
		if timeout := binary.LittleEndian.Uint64(record[48:]); record[40] != bit(i == 1) || (timeout == 1<<40) != (i == 1) {
			t.Errorf("the timeout of request %d is % x", i, record[40:])
		}
	}
	for i, want := range [][2]string{{"a", "12"}, {"b", ""}, {"c", "3"}} {
		if headers.pointed(i*pairSize) != want[0] || headers.pointed(i*pairSize+8) != want[1] {
			t.Errorf("header %d is % x", i, headers.bytes[i*pairSize:][:pairSize])
		}
	}
}

func TestWhatIsFetchedIsRead(t *testing.T) {
	var l lowerer
	list := l.list(1+len(faults), fetchedSize, func(i int) []byte {
		if i == 0 {
			header := l.list(1, pairSize, func(int) []byte { return concat(l.text("a"), l.bytes([]byte("1"))) })
			return concat(words(0, 503), header, l.bytes([]byte("body")))
		}
		fault := words(1, uint32(i-1))
		if code := faults[i-1]; code == contract.Timeout || code == contract.TooLarge {
			return fault
		}
		return concat(fault, l.text("why"))
	})
	got := reader{&l.blocks, list}.fetched(0)
	want := []contract.Fetched{
		{Status: 503, Headers: []contract.Header{{Name: "a", Value: []byte("1")}}, Body: []byte("body")},
		{Code: "denied", Words: "why"},
		{Code: "invalid", Words: "why"},
		{Code: "timeout"},
		{Code: "unreachable", Words: "why"},
		{Code: "too-large"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
