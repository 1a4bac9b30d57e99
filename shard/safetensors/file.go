package safetensors

import (
	"fmt"
	"io"
	"maps"
)

// File is an open safetensors file.
type File struct {
	r      io.ReaderAt
	header *header
	index  map[string]int // name → place in header.tensors
}

// Open reads the header of a file of size bytes and checks it against the size. r stays the caller's to close.
func Open(r io.ReaderAt, size int64) (*File, error) {
	h, err := readHeader(r, size)
	if err != nil {
		return nil, err
	}
	f := &File{r: r, header: h, index: make(map[string]int, len(h.tensors))}
	for i, t := range h.tensors {
		f.index[t.Name] = i
	}
	return f, nil
}

// Tensors lists the tensors in the order of their bytes. The caller must not change the slice.
func (f *File) Tensors() []Tensor { return f.header.tensors }

// Metadata is a copy of the header's free text, such as "format": "pt".
func (f *File) Metadata() map[string]string { return maps.Clone(f.header.meta) }

// Tensor looks a tensor up by name.
func (f *File) Tensor(name string) (Tensor, bool) {
	i, ok := f.index[name]
	if !ok {
		return Tensor{}, false
	}
	return f.header.tensors[i], true
}

// Raw reads the bytes of a tensor as they stand in the file.
func (f *File) Raw(name string) (*io.SectionReader, Tensor, error) {
	t, ok := f.Tensor(name)
	if !ok {
		return nil, Tensor{}, fmt.Errorf("safetensors: no tensor %.80q", name)
	}
	return io.NewSectionReader(f.r, f.header.data+t.Lo, t.Bytes()), t, nil
}

// ReadF32 fills dst, which must have the tensor's number of elements, from F64, F32, F16 or BF16. F64 is rounded to
// nearest even; the others are exact.
func (f *File) ReadF32(name string, dst []float32) error {
	return read(f, name, dst, toF32)
}

// ReadPartF32 is ReadF32 of a part: dst is filled with the elements from lo on.
func (f *File) ReadPartF32(name string, lo int, dst []float32) error {
	return readFrom(f, name, lo, dst, toF32)
}

// ReadF64 fills dst from any floating-point type, exactly.
func (f *File) ReadF64(name string, dst []float64) error {
	return read(f, name, dst, toF64)
}

// ReadI64 fills dst from any signed integer type, U8 or BOOL.
func (f *File) ReadI64(name string, dst []int64) error {
	return read(f, name, dst, toI64)
}

// readBuffer is how many bytes are converted at a time: enough to make a read call cheap, small enough for the cache.
const readBuffer = 128 << 10

// read converts a tensor piecewise, so that memory does not grow with its size. pick returns the conversion of a run of
// elements, or nil where there is none.
func read[T any](f *File, name string, dst []T, pick func(DType) func(dst []T, src []byte)) error {
	if t, ok := f.Tensor(name); ok && len(dst) != t.Elems() {
		return fmt.Errorf("safetensors: tensor %.80q has %d elements (shape %v), not %d", name, t.Elems(), t.Shape, len(dst))
	}
	return readFrom(f, name, 0, dst, pick)
}

// readFrom converts the elements of a tensor from lo on, as many as dst has.
func readFrom[T any](f *File, name string, lo int, dst []T, pick func(DType) func(dst []T, src []byte)) error {
	r, t, err := f.Raw(name)
	if err != nil {
		return err
	}
	convert := pick(t.DType)
	if convert == nil {
		return fmt.Errorf("safetensors: tensor %.80q has type %.20q, which cannot be read as %T", name, t.DType, dst)
	}
	if lo < 0 || lo > t.Elems() || len(dst) > t.Elems()-lo {
		return fmt.Errorf("safetensors: tensor %.80q has %d elements (shape %v), not %d from %d on", name, t.Elems(), t.Shape, len(dst), lo)
	}
	size := t.DType.Size()
	buf := make([]byte, min(readBuffer, size*len(dst)))
	for off := int64(size) * int64(lo); len(dst) > 0; {
		n := min(len(buf)/size, len(dst))
		if err := readFull(r, buf[:n*size], off); err != nil {
			return fmt.Errorf("safetensors: read tensor %.80q: %w", name, err)
		}
		convert(dst[:n], buf[:n*size])
		dst, off = dst[n:], off+int64(n*size)
	}
	return nil
}
