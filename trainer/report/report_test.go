package report

import (
	"encoding/binary"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7b27c88a/shoal/trainer"
)

// TestEvents decodes what was written with a reader of its own: a checksum bit by bit, fields by their numbers.
func TestEvents(t *testing.T) {
	start := time.Unix(1700000000, 500000000)
	want := []Event{
		Step(trainer.StepReport{Step: 1, Loss: 2.5, GradNorm: 0.25, LR: 0.5, Tokens: 300, Peers: 2, Time: 1.5}, start),
		Step(trainer.StepReport{Step: 200, Skipped: true, Passed: 3, LossScale: 1024, LR: 0.25, Tokens: 1, Peers: 1, Time: 2}, start),
	}
	b := AppendHeader(nil, start)
	for _, e := range want {
		b = AppendEvent(b, e)
	}
	version, got, err := decode(b)
	if err != nil || version != "brain.Event:2" {
		t.Fatalf("version %q, %v", version, err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if at := got[0].At; !at.Equal(start.Add(1500 * time.Millisecond)) {
		t.Errorf("step 1 at %v", at)
	}
	b[len(b)-7] ^= 1
	if _, _, err := decode(b); err == nil {
		t.Error("a flipped bit went unseen")
	}
}

// crc32c is the checksum from its polynomial, a bit at a time.
func crc32c(data []byte) uint32 {
	c := ^uint32(0)
	for _, x := range data {
		c ^= uint32(x)
		for range 8 {
			c = c>>1 ^ 0x82f63b78*(c&1)
		}
	}
	return ^c
}

func decode(b []byte) (version string, events []Event, err error) {
	check := func(data []byte, sum uint32) bool {
		rot := sum - 0xa282ead8
		return crc32c(data) == rot<<15|rot>>17
	}
	for len(b) > 0 {
		if len(b) < 16 {
			return "", nil, io.ErrUnexpectedEOF
		}
		n := binary.LittleEndian.Uint64(b)
		if !check(b[:8], binary.LittleEndian.Uint32(b[8:])) || n > uint64(len(b)-16) {
			return "", nil, errors.New("length is damaged")
		}
		payload := b[12 : 12+n]
		if !check(payload, binary.LittleEndian.Uint32(b[12+n:])) {
			return "", nil, errors.New("payload is damaged")
		}
		b = b[16+n:]
		e, v := Event{}, ""
		fields(payload, func(num int, u uint64, data []byte) {
			switch num {
			case 1:
				e.At = time.UnixMilli(int64(math.Float64frombits(u) * 1000))
			case 2:
				e.Step = u
			case 3:
				v = string(data)
			case 5:
				fields(data, func(_ int, _ uint64, value []byte) {
					var s Scalar
					fields(value, func(num int, u uint64, data []byte) {
						if num == 1 {
							s.Tag = string(data)
						} else {
							s.Value = float64(math.Float32frombits(uint32(u)))
						}
					})
					e.Scalars = append(e.Scalars, s)
				})
			}
		})
		if v != "" {
			version = v
		} else {
			events = append(events, e)
		}
	}
	return version, events, nil
}

// fields reads a protocol buffer.
func fields(b []byte, field func(num int, u uint64, data []byte)) {
	for len(b) > 0 {
		key, n := binary.Uvarint(b)
		b = b[n:]
		var u uint64
		var data []byte
		switch key & 7 {
		case 0:
			u, n = binary.Uvarint(b)
		case 1:
			u, n = binary.LittleEndian.Uint64(b), 8
		case 5:
			u, n = uint64(binary.LittleEndian.Uint32(b)), 4
		case 2:
			l, k := binary.Uvarint(b)
			data, n = b[k:k+int(l)], k+int(l)
		}
		b = b[n:]
		field(int(key>>3), u, data)
	}
}

// TestSVG: whatever the numbers and names are, the picture is well-formed and shows no number that is none.
func TestSVG(t *testing.T) {
	line := func(y ...float64) Series {
		s := Series{Name: "a<b&c", Y: y}
		for i := range y {
			s.X = append(s.X, float64(i+1))
		}
		return s
	}
	for _, all := range [][]Series{nil, {line()}, {line(1)}, {line(2, 2, 2)}, {line(3, math.NaN(), 1, math.Inf(1), math.MaxFloat64)}, {line(5, 4, 3), line(-1e-9, 2)}} {
		text := string(SVG("x < y", all))
		d := xml.NewDecoder(strings.NewReader(text))
		for {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%v: %v\n%s", all, err, text)
			}
		}
		if strings.Contains(text, "NaN") || strings.Contains(text, "Inf") {
			t.Errorf("%v: %s", all, text)
		}
	}
}

func TestText(t *testing.T) {
	if got, want := Spark([]float64{8, 7, 6, 5, 4, 3, 2, 1}, 8), "█▇▆▅▄▃▂▁"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := Spark([]float64{1, 1, 3, 3}, 2), "▁█"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for _, v := range [][]float64{nil, {1}, {math.NaN(), 2, 2}} {
		if got := Spark(v, 10); len([]rune(got)) > len(v) {
			t.Errorf("%v: %q", v, got)
		}
		Plot(v, 10, 4)
	}
}

func TestPlot(t *testing.T) {
	want := "        8 │˙\n          │ ˙․\n          │   ․\n        1 │    ˙˙․․․․\n"
	if got := Plot([]float64{8, 6, 4.5, 3.5, 2.7, 2.2, 1.8, 1.5, 1.2, 1}, 10, 4); got != want {
		t.Errorf("\n%s\nwant\n%s", got, want)
	}
}
