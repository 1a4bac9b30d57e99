package gguf

import (
	"encoding/binary"
	"math"
)

// alignment of tensors, and of where they begin, in bytes; it is the format's default, so no key states it.
const alignment = 32

// The types of metadata values that are written.
const (
	kindUint32  = 4
	kindInt32   = 5
	kindFloat32 = 6
	kindBool    = 7
	kindString  = 8
	kindArray   = 9
)

// header collects metadata in the order in which it is written.
type header struct {
	b     []byte
	count uint64
}

func (h *header) key(name string, kind uint32) {
	h.count++
	h.b = appendString(h.b, name)
	h.b = binary.LittleEndian.AppendUint32(h.b, kind)
}

func (h *header) uint32(name string, v int) {
	h.key(name, kindUint32)
	h.b = binary.LittleEndian.AppendUint32(h.b, uint32(v))
}

func (h *header) float32(name string, v float64) {
	h.key(name, kindFloat32)
	h.b = binary.LittleEndian.AppendUint32(h.b, math.Float32bits(float32(v)))
}

func (h *header) bool(name string, v bool) {
	h.key(name, kindBool)
	b := byte(0)
	if v {
		b = 1
	}
	h.b = append(h.b, b)
}

func (h *header) string(name, v string) {
	h.key(name, kindString)
	h.b = appendString(h.b, v)
}

func (h *header) strings(name string, vs []string) {
	h.array(name, kindString, len(vs))
	for _, v := range vs {
		h.b = appendString(h.b, v)
	}
}

func (h *header) int32s(name string, vs []int32) {
	h.array(name, kindInt32, len(vs))
	for _, v := range vs {
		h.b = binary.LittleEndian.AppendUint32(h.b, uint32(v))
	}
}

func (h *header) float32s(name string, vs []float32) {
	h.array(name, kindFloat32, len(vs))
	for _, v := range vs {
		h.b = binary.LittleEndian.AppendUint32(h.b, math.Float32bits(v))
	}
}

func (h *header) array(name string, kind uint32, n int) {
	h.key(name, kindArray)
	h.b = binary.LittleEndian.AppendUint32(h.b, kind)
	h.b = binary.LittleEndian.AppendUint64(h.b, uint64(n))
}

// bytes is all that stands before the first tensor. The tensors follow each other in the order of the list.
func (h *header) bytes(tensors []tensor) []byte {
	b := binary.LittleEndian.AppendUint32([]byte("GGUF"), 3)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(tensors)))
	b = binary.LittleEndian.AppendUint64(b, h.count)
	b = append(b, h.b...)
	at := uint64(0)
	for i := range tensors {
		t := &tensors[i]
		b = appendString(b, t.name)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(t.shape)))
		for d := len(t.shape) - 1; d >= 0; d-- { // innermost first
			b = binary.LittleEndian.AppendUint64(b, uint64(t.shape[d]))
		}
		b = binary.LittleEndian.AppendUint32(b, t.typ.code())
		b = binary.LittleEndian.AppendUint64(b, at)
		at += uint64(padded(t.bytes()))
	}
	return append(b, make([]byte, padded(int64(len(b)))-int64(len(b)))...)
}

func padded(n int64) int64 { return (n + alignment - 1) / alignment * alignment }

func appendString(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
}
