package model

import (
	"encoding/json"
	"fmt"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
)

// Surgery is what is changed about a model as it is opened. It follows from the files and the numbers here alone, so
// whoever opens the same files in the same way has the same model. The zero value changes nothing.
type Surgery struct {
	KVHeads int // that many heads of keys and values, each the mean of those that it replaces; 0: as they are
}

// OpenWith opens a changed model.
func OpenWith(files Files, s Surgery) (*Model, error) {
	cfg, err := ReadConfig(files)
	if err != nil {
		return nil, err
	}
	if err := s.check(cfg); err != nil {
		return nil, err
	}
	set, err := safetensors.OpenSet(files)
	if err != nil {
		return nil, err
	}
	m, err := build(cfg, set, s)
	if err != nil {
		set.Close()
		return nil, err
	}
	return m, nil
}

func (s Surgery) check(c *Config) error {
	switch {
	case s.KVHeads == 0 || s.KVHeads == c.KVHeads:
		return nil
	case c.Type == "gpt2":
		return fmt.Errorf("kv_heads: a gpt2 has as many heads of keys and values as of queries, and no config that says otherwise")
	case s.KVHeads < 0 || s.KVHeads > c.KVHeads || c.KVHeads%s.KVHeads != 0:
		return fmt.Errorf("kv_heads: %d heads of keys and values cannot be pooled to %d; choose a divisor", c.KVHeads, s.KVHeads)
	}
	return nil
}

// Changed says that the model is not what its files hold.
func (m *Model) Changed() bool { return m.group > 1 }

// pooling says how rows of a weight become fewer: the first keep of them stay, those of heads follow, head rows each, and
// every group of heads becomes its mean (Ainslie et al. 2023, arXiv:2305.13245, section 2.1).
type pooling struct {
	keep, head, group int
}

// stored is how many rows the files hold for so many of the model's.
func (p *pooling) stored(rows int) int { return p.keep + (rows-p.keep)*p.group }

// apply makes dst, rows of cols elements, of what is stored. Sums run in head order, in float64, and are rounded once.
func (p *pooling) apply(dst, stored []float32, cols int) {
	at := p.keep * cols
	copy(dst[:at], stored[:at])
	dst, stored = dst[at:], stored[at:]
	size := p.head * cols
	for i := range dst {
		from := i/size*p.group*size + i%size
		sum := 0.0
		for k := range p.group {
			sum += float64(stored[from+k*size])
		}
		dst[i] = float32(sum / float64(p.group))
	}
}

// pooled is a linear layer of which all outputs but the first keep are heads of keys or values.
func (b *builder) pooled(path string, in, out, keep int) *Linear {
	if b.m.group > 1 {
		b.pool = &pooling{keep, b.m.Config.HeadDim, b.m.group}
		defer func() { b.pool = nil }()
	}
	return b.linear(path, in, out, false)
}

// readPooled fills dst with a weight that is stored with more heads.
func (m *Model) readPooled(p *autograd.Param, pool *pooling, dst []float32) error {
	rows, cols := p.Shape[0], p.Len()/p.Shape[0]
	stored := make([]float32, pool.stored(rows)*cols)
	if err := m.set.ReadF32(m.stored[p], stored); err != nil {
		return err
	}
	pool.apply(dst, stored, cols)
	return nil
}

// changedConfig is a config.json with the number of heads that the model has now; everything else stays.
func (m *Model) changedConfig(from Files) ([]byte, error) {
	text, err := readSmall(from, ConfigFile, maxConfigBytes)
	if err != nil {
		return nil, err
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(text, &keys); err != nil {
		return nil, fmt.Errorf("%s: %w", ConfigFile, err)
	}
	if keys["num_key_value_heads"], err = json.Marshal(m.Config.KVHeads); err != nil {
		return nil, err
	}
	text, err = json.MarshalIndent(keys, "", "  ")
	return append(text, '\n'), err
}
