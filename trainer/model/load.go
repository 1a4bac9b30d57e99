package model

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
)

// Open reads config.json and the headers of the weight files, and checks that they fit. Close it after the last Read.
func Open(files Files) (*Model, error) { return OpenWith(files, Surgery{}) }

// Close closes the weight files.
func (m *Model) Close() error { return m.set.Close() }

// Read fills dst with p's values as float32.
func (m *Model) Read(p *autograd.Param, dst []float32) error {
	if pool := m.pools[p]; pool != nil {
		return m.readPooled(p, pool, dst)
	}
	if c := m.slices[p]; c != nil {
		return m.readSlice(p, c, func(lo int, v []float32) error {
			copy(dst[lo:], v)
			return nil
		})
	}
	return m.set.ReadF32(m.stored[p], dst)
}

// pieceLen is how many elements ReadPieces gives at a time: 4 MiB as float32.
const pieceLen = 1 << 20

// ReadPieces gives p's values to put, a piece after the other, each with the place of its first element: a table that
// fills memory as it is stored never lies there as float32 too. v is put's until it returns.
func (m *Model) ReadPieces(p *autograd.Param, put func(lo int, v []float32) error) error {
	if m.pools[p] != nil { // what is averaged is small
		v := make([]float32, p.Len())
		if err := m.Read(p, v); err != nil {
			return err
		}
		return put(0, v)
	}
	if c := m.slices[p]; c != nil {
		return m.readSlice(p, c, put)
	}
	buf := make([]float32, min(pieceLen, p.Len()))
	for lo := 0; lo < p.Len(); lo += len(buf) {
		v := buf[:min(len(buf), p.Len()-lo)]
		if err := m.set.ReadPartF32(m.stored[p], lo, v); err != nil {
			return err
		}
		if err := put(lo, v); err != nil {
			return err
		}
	}
	return nil
}

// Stored says under which name and with which element type p stands in the files; its shape is the model's.
func (m *Model) Stored(p *autograd.Param) safetensors.Tensor {
	t, _ := m.set.Tensor(m.stored[p])
	t.Shape = p.Shape
	return t
}

// builder hands out handles for the weights that an architecture names; the first error sticks.
type builder struct {
	m     *Model
	unit  int
	strip string // prefix that the names in the files lack
	used  map[string]bool
	pool  *pooling // of the weights that are named next, nil: none
	local *Config  // of the shard
	cut   []run    // of what is named next, nil: not cut
	cutIn bool     // its inputs are cut
	dim   int      // which dimension of a matrix is cut
	full  int      // its length in the files
	whole int      // what by said of it
	err   error
}

// architectures by config.json's model_type.
func architectures(modelType string) func(*builder) {
	switch modelType {
	case "llama", "mistral", "qwen2", "qwen3":
		return buildLlama
	case "gemma2":
		return buildGemma2
	case "phi3":
		return buildPhi3
	case "gpt2":
		return buildGPT2
	}
	return nil
}

func build(cfg *Config, set *safetensors.Set, s Surgery) (*Model, error) {
	return buildShard(cfg, set, s, Shard{Of: 1})
}

func buildShard(cfg *Config, set *safetensors.Set, s Surgery, sh Shard) (*Model, error) {
	m := &Model{Config: cfg, set: set, stored: map[*autograd.Param]string{}, pools: map[*autograd.Param]*pooling{}, group: 1,
		shard: sh, slices: map[*autograd.Param]*slice{}, addends: map[*autograd.Param]bool{}}
	if s.KVHeads != 0 {
		m.group, cfg.KVHeads = cfg.KVHeads/s.KVHeads, s.KVHeads
	}
	if cfg.Tied {
		m.tied = cfg.Layers + 2
	}
	b := &builder{m: m, used: map[string]bool{}, local: sh.local(cfg)}
	architectures(cfg.Type)(b)
	if b.err == nil {
		b.err = b.leftOver()
	}
	if b.err != nil {
		return nil, b.err
	}
	slices.SortStableFunc(m.Params, func(a, b *autograd.Param) int { return a.Unit - b.Unit })
	return m, nil
}

// param finds a tensor and checks its shape.
func (b *builder) param(name string, kind autograd.Kind, shape ...int) *autograd.Param {
	p := &autograd.Param{Name: name, Unit: b.unit, Kind: kind, Rows: 1, Cols: shape[len(shape)-1], Shape: shape, Off: -1}
	if len(shape) == 2 {
		p.Rows = shape[0]
	}
	stored := strings.TrimPrefix(name, b.strip)
	t, ok := b.m.set.Tensor(stored)
	want := shape
	if b.pool != nil {
		want = slices.Clone(shape)
		want[0] = b.pool.stored(shape[0])
		b.m.pools[p] = b.pool
	}
	if b.cut != nil {
		want = b.slice(p, shape)
	}
	switch {
	case b.err != nil:
	case !ok:
		b.err = fmt.Errorf("the weight files hold no %s, which a %s of %d layers has", stored, b.m.Config.Type, b.m.Config.Layers)
	case !slices.Equal(t.Shape, want):
		b.err = fmt.Errorf("%s has shape %v, config.json asks for %v", stored, t.Shape, want)
	case t.DType != safetensors.F32 && t.DType != safetensors.BF16 && t.DType != safetensors.F16 && t.DType != safetensors.F64:
		b.err = fmt.Errorf("%s has type %.20q; shoal reads F32, BF16 and F16 weights", stored, t.DType)
	}
	b.used[stored] = true
	b.m.stored[p] = stored
	b.m.Params = append(b.m.Params, p)
	return p
}

// slice notes how p is cut, and gives its shape in the files.
func (b *builder) slice(p *autograd.Param, shape []int) []int {
	want := slices.Clone(shape)
	at := 0 // the dimension that is cut
	if len(shape) == 2 {
		at = b.dim
	}
	want[at] = b.full
	c := &slice{rows: 1, cols: want[len(want)-1], byCols: at == len(want)-1, runs: b.cut}
	if len(want) == 2 {
		c.rows = want[0]
	}
	b.m.slices[p] = c
	b.m.addends[p] = c.width()*b.m.shard.Of > b.full+b.m.shard.Of // several shards hold the same heads
	return want
}

func (b *builder) norm(name string, n int) *autograd.Param {
	return b.param(name, autograd.Norm, n)
}

// table is a table of embeddings; one that the head shares is a unit of its own.
func (b *builder) table(name string, rows, cols int) *autograd.Param {
	return b.param(name, autograd.Embedding, rows, cols)
}

// tokens is the table of token embeddings.
func (b *builder) tokens(name string, rows, cols int) *autograd.Param {
	return b.vocabulary(name, autograd.Embedding, rows, cols)
}

// vocabulary is a matrix with a row for each token.
func (b *builder) vocabulary(name string, kind autograd.Kind, rows, cols int) *autograd.Param {
	if sh := b.m.shard; !sh.whole() {
		b.cut, b.dim, b.full = []run{sh.of(b.m.Config.Vocab)}, 0, b.m.Config.Vocab
		defer func() { b.cut = nil }()
	}
	return b.param(name, kind, rows, cols)
}

// linear has a bias where the files have one, whatever config.json says: Qwen2's says no and has them.
func (b *builder) linear(path string, in, out int, inOut bool) *Linear {
	l := &Linear{Path: path, InOut: inOut, Split: b.splitting(in, out, inOut)}
	defer func() { b.cut = nil }()
	if inOut {
		l.W = b.param(path+".weight", autograd.Weight, in, out)
	} else {
		l.W = b.param(path+".weight", autograd.Weight, out, in)
	}
	if _, ok := b.m.set.Tensor(strings.TrimPrefix(path+".bias", b.strip)); ok {
		if b.cutIn {
			b.cut = nil
		}
		l.B = b.param(path+".bias", autograd.Bias, out)
		if l.Split == ByInputs {
			b.m.addends[l.B] = true // the first shard's alone
		}
	}
	b.m.Linear = append(b.m.Linear, l)
	return l
}

// splitting says how the layer that is named next is cut, and along which dimension of its matrix.
func (b *builder) splitting(in, out int, inOut bool) Split {
	switch {
	case b.cut == nil:
		return NotSplit
	case b.cutIn:
		b.dim, b.full = 1, b.whole
		if inOut {
			b.dim = 0
		}
		return ByInputs
	}
	b.dim, b.full = 0, b.whole
	if inOut {
		b.dim = 1
	}
	return ByOutputs
}

// head is the matrix of the output layer: its own, or the token table.
func (b *builder) head(name string, tokens *autograd.Param) {
	if !b.m.Config.Tied {
		b.m.head = b.vocabulary(name, autograd.Weight, b.local.Vocab, b.m.Config.Hidden)
		return
	}
	tokens.Unit, tokens.Tied = b.m.tied, true
	b.m.head = tokens
	b.used[name] = true // some files repeat the shared table
}

// leftOver refuses weights that the model would silently lack.
func (b *builder) leftOver() error {
	for _, name := range b.m.set.Names() {
		if !b.used[name] && !ignored(name) {
			return fmt.Errorf("the weight files hold %.120q, which shoal's %s does not know", name, b.m.Config.Type)
		}
	}
	return nil
}

// ignored names buffers that old files carry and that follow from config.json.
func ignored(name string) bool {
	for _, suffix := range []string{".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}
