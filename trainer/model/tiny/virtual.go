package tiny

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math"
	"sort"
	"strings"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/model"
)

// Virtual is a model directory that lies nowhere: its weights are made as they are read. It is for models too large to
// write for a measurement. The weights are float32 and even between -2 and 2 times Std; norms are 1 and biases 0.
func Virtual(s Shape) (safetensors.Files, error) {
	s = Default(s)
	s.DType = safetensors.F32
	config, err := json.Marshal(s.config())
	if err != nil {
		return nil, err
	}
	v := &virtual{config: config, std: float32(s.Std)}
	var header bytes.Buffer
	ts := s.tensors()
	if _, err := safetensors.NewWriter(&header, ts, nil); err != nil {
		return nil, err
	}
	v.header = header.Bytes()
	for _, t := range ts {
		v.names, v.ends = append(v.names, t.Name), append(v.ends, v.end()+int64(t.Elems()))
		v.vector = append(v.vector, len(t.Shape) == 1)
	}
	return v, nil
}

// virtual is the config and one file of weights.
type virtual struct {
	config, header []byte
	std            float32
	names          []string // of the tensors, as they follow each other
	ends           []int64  // where each ends, in elements
	vector         []bool
}

func (v *virtual) end() int64 {
	if n := len(v.ends); n > 0 {
		return v.ends[n-1]
	}
	return 0
}

// Open implements safetensors.Files.
func (v *virtual) Open(path string) (io.ReaderAt, int64, error) {
	switch path {
	case model.ConfigFile:
		return bytes.NewReader(v.config), int64(len(v.config)), nil
	case safetensors.SingleFile:
		return v, int64(len(v.header)) + 4*v.end(), nil
	}
	return nil, 0, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
}

// ReadAt implements io.ReaderAt on the file of weights.
func (v *virtual) ReadAt(p []byte, off int64) (n int, err error) {
	if off < int64(len(v.header)) {
		n = copy(p, v.header[off:])
	}
	var word [4]byte
	for at := off + int64(n) - int64(len(v.header)); n < len(p); {
		i := at / 4
		if i >= v.end() {
			return n, io.EOF
		}
		binary.LittleEndian.PutUint32(word[:], math.Float32bits(v.weight(i)))
		got := copy(p[n:], word[at%4:])
		n, at = n+got, at+int64(got)
	}
	return n, nil
}

// weight is element i of all tensors.
func (v *virtual) weight(i int64) float32 {
	t := sort.Search(len(v.ends), func(t int) bool { return i < v.ends[t] })
	switch {
	case !v.vector[t]:
		return float32(int32(uint32(i)*2654435769)) * 0x1p-30 * v.std // Knuth's multiplicative hash
	case strings.HasSuffix(v.names[t], ".bias"):
		return 0
	}
	return 1
}
