// Package guest is the border between a handler and its host: the component model's canonical ABI, written by hand, since
// the contract is flat and frozen.
package guest

import (
	"encoding/binary"
	"unsafe"
)

// blocks are what the host has asked for, to write an argument or a result into, and nobody has taken yet. They are
// ordinary memory of Go, reachable from here until they are taken: what is made of them is collected like anything else.
type blocks struct {
	held []block
	// next is where the search begins: they are taken in about the order in which they were asked for.
	next int
}

type block struct {
	address uint32
	bytes   []byte
}

// allocate makes a block of zeroes and returns it with its address. Nothing is at the address of an empty one.
func (b *blocks) allocate(size, align uint32) uint32 {
	if size == 0 {
		return align
	}
	var bytes []byte
	if align == 1 {
		bytes = make([]byte, size)
	} else {
		words := make([]uint64, (size+7)/8)
		bytes = unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), size)
	}
	address := addressOf(bytes)
	b.held = append(b.held, block{address, bytes})
	return address
}

// reallocate makes a block with another size of one that is held.
func (b *blocks) reallocate(address, oldSize, align, size uint32) uint32 {
	if oldSize == 0 {
		return b.allocate(size, align)
	}
	old := b.take(address, oldSize)
	grown := b.allocate(size, align)
	if size > 0 {
		copy(b.held[len(b.held)-1].bytes, old)
	}
	return grown
}

// take gives a block away. An empty one is empty, and not nil.
func (b *blocks) take(address, size uint32) []byte {
	if size == 0 {
		return []byte{}
	}
	for range b.held {
		if b.next >= len(b.held) {
			b.next = 0
		}
		found := &b.held[b.next]
		b.next++
		if found.address == address && found.bytes != nil {
			bytes := found.bytes
			found.bytes = nil
			return bytes[:size:size]
		}
	}
	panic("keyrail: the host speaks of memory that it did not ask for")
}

func addressOf(bytes []byte) uint32 { return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(bytes)))) }

// A reader reads values where they lie: in a block, or in the area of a result.
type reader struct {
	blocks *blocks
	bytes  []byte
}

func (r reader) u8(at int) uint8   { return r.bytes[at] }
func (r reader) u16(at int) uint16 { return binary.LittleEndian.Uint16(r.bytes[at:]) }
func (r reader) u32(at int) uint32 { return binary.LittleEndian.Uint32(r.bytes[at:]) }
func (r reader) u64(at int) uint64 { return binary.LittleEndian.Uint64(r.bytes[at:]) }

func (r reader) list(at int) []byte { return r.blocks.take(r.u32(at), r.u32(at+4)) }

func (r reader) text(at int) string {
	bytes := r.list(at)
	// Nobody else has these bytes, and nobody writes to them any more.
	return unsafe.String(unsafe.SliceData(bytes), len(bytes))
}

// option is a list behind its tag; nil where there is none.
func (r reader) option(at int) []byte {
	if r.u8(at) == 0 {
		return nil
	}
	return r.list(at + 4)
}

// records gives each record of a list, of this size.
func (r reader) records(at, size int) []reader {
	count := r.u32(at + 4)
	bytes := r.blocks.take(r.u32(at), count*uint32(size))
	records := make([]reader, count)
	for i := range records {
		records[i] = reader{r.blocks, bytes[i*size : (i+1)*size]}
	}
	return records
}

// A writer lays out a list of records, and behind it the bytes that they point to, as one piece of memory.
type writer struct {
	bytes []byte
	// tail is where the next bytes go.
	tail int
}

// newWriter has room for count records of this size, and for so many bytes behind them.
func newWriter(count, size, behind int) *writer {
	words := make([]uint64, (count*size+behind+7)/8+1)
	return &writer{
		bytes: unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), len(words)*8),
		tail:  count * size,
	}
}

func (w *writer) u8(at int, value uint8)   { w.bytes[at] = value }
func (w *writer) u32(at int, value uint32) { binary.LittleEndian.PutUint32(w.bytes[at:], value) }
func (w *writer) u64(at int, value uint64) { binary.LittleEndian.PutUint64(w.bytes[at:], value) }

func (w *writer) text(at int, value string) {
	w.u32(at, addressOf(w.bytes)+uint32(w.tail))
	w.u32(at+4, uint32(len(value)))
	w.tail += copy(w.bytes[w.tail:], value)
}

func (w *writer) option(at int, value []byte) {
	if value == nil {
		return
	}
	w.u8(at, 1)
	w.text(at+4, unsafe.String(unsafe.SliceData(value), len(value)))
}
