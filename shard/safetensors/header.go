package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
)

const metadataKey = "__metadata__"

// header is what stands before the tensors' bytes.
type header struct {
	tensors []Tensor // in the order of their bytes
	meta    map[string]string
	data    int64 // where the tensors' bytes begin in the file
}

// readHeader reads and checks the header of a file of size bytes. It allocates in proportion to the header's length,
// and that only after the file proved to be long enough to hold it.
func readHeader(r io.ReaderAt, size int64) (*header, error) {
	var prefix [8]byte
	if size < int64(len(prefix)) {
		return nil, fmt.Errorf("safetensors: file of %d bytes is too short for a header", size)
	}
	if err := readFull(r, prefix[:], 0); err != nil {
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	n := binary.LittleEndian.Uint64(prefix[:])
	if n > MaxHeader {
		return nil, fmt.Errorf("safetensors: header of %d bytes, limit %d", n, MaxHeader)
	}
	if int64(n) > size-8 {
		return nil, fmt.Errorf("safetensors: header of %d bytes in a file of %d", n, size)
	}
	text := make([]byte, n)
	if err := readFull(r, text, 8); err != nil {
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	h, err := parseHeader(text)
	if err != nil {
		return nil, fmt.Errorf("safetensors: header: %w", err)
	}
	h.data = 8 + int64(n)
	if err := h.covers(size - h.data); err != nil {
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	return h, nil
}

func parseHeader(text []byte) (*header, error) {
	if len(text) == 0 || text[0] != '{' {
		return nil, errors.New("does not begin with {")
	}
	h := &header{}
	dec := newDecoder(text)
	err := object(dec, func(key string) error {
		if key == metadataKey {
			var err error
			h.meta, err = stringMap(dec)
			return err
		}
		if len(h.tensors) == MaxTensors {
			return fmt.Errorf("more than %d tensors", MaxTensors)
		}
		t, err := parseTensor(dec)
		t.Name = key
		h.tensors = append(h.tensors, t)
		return err
	})
	if err != nil {
		return nil, err
	}
	return h, atEnd(dec)
}

// covers checks that the tensors lie side by side in data bytes, and puts them in that order.
func (h *header) covers(data int64) error {
	slices.SortStableFunc(h.tensors, func(a, b Tensor) int {
		return cmp.Or(cmp.Compare(a.Lo, b.Lo), cmp.Compare(a.Hi, b.Hi))
	})
	end := int64(0)
	for _, t := range h.tensors {
		switch {
		case t.Lo < end:
			return fmt.Errorf("tensor %.80q overlaps the one before it at byte %d", t.Name, t.Lo)
		case t.Lo > end:
			return fmt.Errorf("no tensor holds bytes [%d, %d)", end, t.Lo)
		case t.Hi > data:
			return fmt.Errorf("tensor %.80q ends at byte %d, the file has %d: is it complete?", t.Name, t.Hi, data)
		}
		end = t.Hi
	}
	if end != data {
		return fmt.Errorf("%d bytes follow the last tensor", data-end)
	}
	return nil
}

func parseTensor(dec *json.Decoder) (Tensor, error) {
	var t Tensor
	var have int
	err := object(dec, func(key string) (err error) {
		have++
		switch key {
		case "dtype":
			var s string
			s, err = str(dec)
			t.DType = DType(s)
		case "shape":
			t.Shape, err = parseShape(dec)
		case "data_offsets":
			var lohi []int64
			if lohi, err = ints(dec, 2); err == nil && len(lohi) != 2 {
				err = errors.New("data_offsets needs two numbers")
			} else if err == nil {
				t.Lo, t.Hi = lohi[0], lohi[1]
			}
		default:
			err = fmt.Errorf("unknown key %.80q", key)
		}
		return err
	})
	if err != nil {
		return t, err
	}
	if have != 3 { // keys are distinct, so three are all
		return t, errors.New("needs dtype, shape and data_offsets")
	}
	return t, t.check()
}

func parseShape(dec *json.Decoder) ([]int, error) {
	dims, err := ints(dec, MaxRank)
	if err != nil {
		return nil, err
	}
	shape := make([]int, len(dims))
	for i, d := range dims {
		if d > math.MaxInt {
			return nil, fmt.Errorf("dimension %d does not fit this machine", d)
		}
		shape[i] = int(d)
	}
	return shape, nil
}

// The functions below read JSON strictly: encoding/json's own struct decoding takes duplicate keys and keys in any case.

func newDecoder(text []byte) *json.Decoder {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	return dec
}

// object reads {…}; value reads what follows each key. Duplicate keys are refused.
func object(dec *json.Decoder, value func(key string) error) error {
	if err := delim(dec, '{'); err != nil {
		return err
	}
	seen := map[string]bool{}
	for dec.More() {
		key, err := str(dec)
		if err != nil {
			return err
		}
		if seen[key] {
			return fmt.Errorf("duplicate key %.80q", key)
		}
		seen[key] = true
		if err := value(key); err != nil {
			return fmt.Errorf("%.80q: %w", key, err)
		}
	}
	return delim(dec, '}')
}

func stringMap(dec *json.Decoder) (map[string]string, error) {
	m := map[string]string{}
	return m, object(dec, func(key string) error {
		s, err := str(dec)
		m[key] = s
		return err
	})
}

// ints reads an array of at most limit non-negative integers.
func ints(dec *json.Decoder, limit int) ([]int64, error) {
	if err := delim(dec, '['); err != nil {
		return nil, err
	}
	var v []int64
	for dec.More() {
		if len(v) == limit {
			return nil, fmt.Errorf("more than %d numbers", limit)
		}
		tok, err := dec.Token()
		if err != nil {
			return nil, err
		}
		num, ok := tok.(json.Number)
		if !ok {
			return nil, fmt.Errorf("%.80q is not a number", fmt.Sprint(tok))
		}
		n, err := strconv.ParseInt(num.String(), 10, 64)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("%.80q is not a size", num)
		}
		v = append(v, n)
	}
	return v, delim(dec, ']')
}

func str(dec *json.Decoder) (string, error) {
	tok, err := dec.Token()
	if err != nil {
		return "", noEOF(err)
	}
	s, ok := tok.(string)
	if !ok {
		return "", fmt.Errorf("%.80q is not a string", fmt.Sprint(tok))
	}
	return s, nil
}

func delim(dec *json.Decoder, want json.Delim) error {
	tok, err := dec.Token()
	if err != nil {
		return noEOF(err)
	}
	if d, ok := tok.(json.Delim); !ok || d != want {
		return fmt.Errorf("%.80q where %q should stand", fmt.Sprint(tok), want)
	}
	return nil
}

func atEnd(dec *json.Decoder) error {
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("more text after the closing brace")
	}
	return nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readFull fills p from offset off. An io.ReaderAt may return io.EOF with the last byte.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	return noEOF(err)
}
