package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
)

// Writer writes a file from front to back: NewWriter writes the header, then each tensor is handed in, in the order of
// the header, with WriteF32 or WriteRaw, and Close checks that none is missing.
type Writer struct {
	w       io.Writer
	tensors []Tensor
	next    int
	err     error // the first failure; nothing is written after it
}

// NewWriter writes the header for tensors, whose Lo and Hi it sets itself: they are laid side by side in the given order.
// meta nil means {"format": "pt"}, which loaders expect.
func NewWriter(w io.Writer, tensors []Tensor, meta map[string]string) (*Writer, error) {
	placed, err := place(tensors)
	if err != nil {
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	if meta == nil {
		meta = map[string]string{"format": "pt"}
	}
	text, err := encodeHeader(placed, meta)
	if err != nil {
		return nil, fmt.Errorf("safetensors: header: %w", err)
	}
	if len(text) > MaxHeader {
		return nil, fmt.Errorf("safetensors: header of %d bytes, limit %d", len(text), MaxHeader)
	}
	if _, err := w.Write(append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)); err != nil {
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	return &Writer{w: w, tensors: placed}, nil
}

// place lays the tensors side by side.
func place(tensors []Tensor) ([]Tensor, error) {
	if len(tensors) > MaxTensors {
		return nil, fmt.Errorf("%d tensors, limit %d", len(tensors), MaxTensors)
	}
	placed := make([]Tensor, len(tensors))
	seen := map[string]bool{metadataKey: true}
	end := int64(0)
	for i, t := range tensors {
		n, ok := product(t.Shape)
		size := t.DType.Size()
		switch {
		case seen[t.Name]:
			return nil, fmt.Errorf("name %.80q is taken", t.Name)
		case size == 0:
			return nil, fmt.Errorf("tensor %.80q: unknown type %.20q", t.Name, t.DType)
		case !ok || int64(n) > (math.MaxInt64-end)/int64(size):
			return nil, fmt.Errorf("tensor %.80q: shape %v overflows", t.Name, t.Shape)
		}
		seen[t.Name] = true
		t.Lo, t.Hi = end, end+int64(n)*int64(size)
		end = t.Hi
		placed[i] = t
		if err := t.check(); err != nil {
			return nil, fmt.Errorf("tensor %.80q: %w", t.Name, err)
		}
	}
	return placed, nil
}

// encodeHeader keeps the given order, which a map would not, so that equal input gives equal bytes.
func encodeHeader(tensors []Tensor, meta map[string]string) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	field := func(key string, v any) error {
		if err := enc.Encode(key); err != nil {
			return err
		}
		b.Truncate(b.Len() - 1) // Encode ends with a newline
		b.WriteByte(':')
		if err := enc.Encode(v); err != nil {
			return err
		}
		b.Truncate(b.Len() - 1)
		b.WriteByte(',')
		return nil
	}
	b.WriteByte('{')
	if len(meta) > 0 {
		if err := field(metadataKey, meta); err != nil {
			return nil, err
		}
	}
	for _, t := range tensors {
		entry := struct {
			DType   DType    `json:"dtype"`
			Shape   []int    `json:"shape"`
			Offsets [2]int64 `json:"data_offsets"`
		}{t.DType, append([]int{}, t.Shape...), [2]int64{t.Lo, t.Hi}}
		if err := field(t.Name, entry); err != nil {
			return nil, err
		}
	}
	text := append(bytes.TrimSuffix(b.Bytes(), []byte(",")), '}')
	for len(text)%8 != 0 {
		text = append(text, ' ')
	}
	return text, nil
}

// WriteF32 writes the next tensor, which must be called name, from src, rounded to the tensor's type.
func (w *Writer) WriteF32(name string, src []float32) error {
	t, err := w.begin(name)
	if err != nil {
		return err
	}
	convert := fromFloat32(t.DType)
	if convert == nil {
		return w.fail(fmt.Errorf("tensor %.80q: float32 cannot become %s", name, t.DType))
	}
	if len(src) != t.Elems() {
		return w.fail(fmt.Errorf("tensor %.80q: %d elements for shape %v", name, len(src), t.Shape))
	}
	size := t.DType.Size()
	buf := make([]byte, min(int64(readBuffer), t.Bytes()))
	for len(src) > 0 {
		n := min(len(buf)/size, len(src))
		convert(buf[:n*size], src[:n])
		if _, err := w.w.Write(buf[:n*size]); err != nil {
			return w.fail(fmt.Errorf("tensor %.80q: %w", name, err))
		}
		src = src[n:]
	}
	return nil
}

// WriteRaw copies the bytes of the next tensor, which must be called name, from r. r must hold exactly as many as the
// tensor's shape and type need.
func (w *Writer) WriteRaw(name string, r io.Reader) error {
	t, err := w.begin(name)
	if err != nil {
		return err
	}
	n, err := io.Copy(w.w, io.LimitReader(r, t.Bytes()))
	if err == nil && n < t.Bytes() {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		var more [1]byte
		if k, _ := io.ReadFull(r, more[:]); k > 0 {
			err = errors.New("more bytes than its shape needs")
		}
	}
	if err != nil {
		return w.fail(fmt.Errorf("tensor %.80q: %w", name, err))
	}
	return nil
}

// begin makes sure that name is the next tensor of the header.
func (w *Writer) begin(name string) (Tensor, error) {
	if w.err != nil {
		return Tensor{}, w.err
	}
	if w.next == len(w.tensors) || w.tensors[w.next].Name != name {
		return Tensor{}, w.fail(fmt.Errorf("tensor %.80q is not the next of the header", name))
	}
	w.next++
	return w.tensors[w.next-1], nil
}

func (w *Writer) fail(err error) error {
	w.err = fmt.Errorf("safetensors: %w", err)
	return w.err
}

// Close reports the first failure, or that tensors are missing. It does not close the underlying writer.
func (w *Writer) Close() error {
	if w.err == nil && w.next < len(w.tensors) {
		return w.fail(fmt.Errorf("tensor %.80q was not written", w.tensors[w.next].Name))
	}
	return w.err
}
