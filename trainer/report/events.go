package report

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"time"
)

// Scalar is one number under a tag; TensorBoard groups tags by what stands before their slash.
type Scalar struct {
	Tag   string
	Value float64
}

// Event is what was measured at one optimizer step.
type Event struct {
	At      time.Time
	Step    uint64
	Scalars []Scalar
}

// EventsSuffix ends the names of event files written here.
const EventsSuffix = ".shoal"

// EventsName is what the event file of a run that began at start is called: TensorBoard knows such files by the
// beginning of their names.
func EventsName(start time.Time) string {
	return fmt.Sprintf("events.out.tfevents.%010d%s", start.Unix(), EventsSuffix)
}

// Field numbers of the protocol buffers Event, Summary and Summary.Value, with their wire types: 0 is a varint, 1 eight
// bytes, 2 bytes with their length before them, 5 four bytes.
const (
	eventTime    = 1<<3 | 1
	eventStep    = 2<<3 | 0
	eventVersion = 3<<3 | 2
	eventSummary = 5<<3 | 2

	summaryValue = 1<<3 | 2
	valueTag     = 1<<3 | 2
	valueSimple  = 2<<3 | 5
)

// AppendHeader appends the record that every event file begins with.
func AppendHeader(b []byte, start time.Time) []byte {
	return appendRecord(b, appendBytes(appendTime(nil, start), eventVersion, []byte("brain.Event:2")))
}

// AppendEvent appends the record of an event.
func AppendEvent(b []byte, e Event) []byte {
	var summary []byte
	for _, s := range e.Scalars {
		v := appendBytes(nil, valueTag, []byte(s.Tag))
		v = append(v, valueSimple)
		v = binary.LittleEndian.AppendUint32(v, math.Float32bits(float32(s.Value)))
		summary = appendBytes(summary, summaryValue, v)
	}
	p := append(appendTime(nil, e.At), eventStep)
	p = binary.AppendUvarint(p, e.Step)
	return appendRecord(b, appendBytes(p, eventSummary, summary))
}

func appendTime(p []byte, at time.Time) []byte {
	seconds := float64(at.UnixNano()) / 1e9
	return binary.LittleEndian.AppendUint64(append(p, eventTime), math.Float64bits(seconds))
}

func appendBytes(p []byte, field byte, v []byte) []byte {
	p = binary.AppendUvarint(append(p, field), uint64(len(v)))
	return append(p, v...)
}

// appendRecord frames a payload as TFRecord does: its length, the length's checksum, itself, its checksum.
func appendRecord(b, payload []byte) []byte {
	at := len(b)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(payload)))
	b = binary.LittleEndian.AppendUint32(b, masked(b[at:]))
	b = append(b, payload...)
	return binary.LittleEndian.AppendUint32(b, masked(payload))
}

// masked is a CRC-32C turned and shifted, so that a checksum of data that holds checksums is a good one too.
func masked(data []byte) uint32 {
	c := crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))
	return (c>>15 | c<<17) + 0xa282ead8
}
