// Package generate continues a prompt token by token with a cache of keys and values.
//
// Sampling draws by counters: the same seed, prompt and model give the same text, on any machine whose logits agree.
//
// A model in parts has a Part on each member, with a cache of its own layers; over them a Generator runs as over a whole.
//
// Concurrency. A Generator and a Part belong to one goroutine at a time. Close gives their device memory back.
package generate

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/peft"
	"github.com/seed-7b27c88a/shoal/trainer/stage"
)

// Options of one generation.
type Options struct {
	MaxTokens   int     // new tokens; 0: until the model's limit
	Temperature float64 // 0: always the most likely token
	Seed        uint64
	Stop        []int // token ids that end the text, beside the model's own
	IgnoreEOS   bool  // go on past the model's own end tokens
}

// Generator is a model, with an adapter or without, ready to continue prompts.
type Generator struct {
	model  *model.Model
	over   model.Overlay // nil: none
	next   Stages
	end    func()
	closed bool
	eos    []int
}

// Stages run a model that lies in parts.
type Stages interface {
	// Logits runs the tokens of q behind the q.Past rows that the caches hold, and fills dst with the logits of the last. room
	// is how many rows the caches must have in the end. Where q.Past is 0 they begin anew; a part that does not hold the
	// rows of before gives ErrForgot.
	Logits(ctx context.Context, q model.Sequence, room int, dst []float32) error
}

// ErrClosed: the generator was closed.
var ErrClosed = errors.New("the generator is closed")

// Open loads the model in base, and over it the adapter in adapter if that is not nil.
func Open(dev kernels.Device, base, adapter model.Files) (*Generator, error) {
	m, err := model.Open(base)
	if err != nil {
		return nil, fmt.Errorf("open model: %w", err)
	}
	defer m.Close()
	var over stage.Adapter
	if adapter != nil {
		a, err := peft.Open(m, adapter, 0)
		if err != nil {
			return nil, fmt.Errorf("open adapter: %w", err)
		}
		defer a.Close()
		over = a
	}
	s, err := stage.New(dev, m, over, nil, 0)
	if err != nil {
		return nil, err
	}
	g := New(s)
	drop := g.end
	g.end = func() {
		drop()
		s.Close()
	}
	return g, nil
}

// New generates with a stage of the whole model that is there already and stays the caller's to close, after the generator.
func New(s *stage.Stage) *Generator {
	p := NewPart(s)
	g := Over(s.Model, s.Over, Line{p})
	g.end = p.Close
	return g
}

// Over generates with a model whose parts are somewhere; over is what lies on it, or nil.
func Over(m *model.Model, over model.Overlay, s Stages) *Generator {
	return &Generator{model: m, over: over, next: s, end: func() {}, eos: m.Config.EOS}
}

// Close gives the device memory back. A Generator that is used afterwards gives ErrClosed. It may be called again.
func (g *Generator) Close() {
	if !g.closed {
		g.closed = true
		g.end()
	}
}

// Limit is how many tokens prompt and text may have together.
func (g *Generator) Limit() int {
	before, _ := model.Before(g.over)
	return g.model.Config.MaxPos - before
}

// Tokens yields new tokens until one of them ends the text (it is not yielded), MaxTokens or the model's limit is
// reached, or the consumer stops. An error ends the sequence.
func (g *Generator) Tokens(ctx context.Context, prompt []int32, o Options) iter.Seq2[int32, error] {
	return func(yield func(int32, error) bool) {
		if g.closed {
			yield(0, ErrClosed)
			return
		}
		room := g.Limit() - len(prompt)
		if o.MaxTokens > 0 {
			room = min(room, o.MaxTokens)
		}
		if err := g.model.CheckOver(g.over, model.Sequence{IDs: prompt}); err != nil {
			yield(0, fmt.Errorf("prompt: %w", err))
			return
		}
		_, virtual := model.Before(g.over) // rows that the first pass puts before the prompt
		total := virtual + len(prompt) + max(room, 0)
		logits := make([]float32, g.model.Config.Vocab)
		past, next, text := 0, prompt, slices.Clone(prompt)
		for i := range max(room, 0) {
			rows := len(next)
			if past == 0 {
				rows += virtual
			}
			err := g.next.Logits(ctx, model.Sequence{IDs: next, Past: past}, total, logits)
			if errors.Is(err, ErrForgot) && past > 0 { // tell it again
				err = g.next.Logits(ctx, model.Sequence{IDs: text}, total, logits)
			}
			if err != nil {
				yield(0, err)
				return
			}
			past += rows
			if top := float64(logits[argMax(logits)]); math.IsNaN(top) || math.IsInf(top, 0) {
				yield(0, errNonFinite)
				return
			}
			id := pick(logits, o, i)
			if g.ends(id, o) || !yield(int32(id), nil) {
				return
			}
			next = []int32{int32(id)}
			text = append(text, int32(id))
		}
	}
}

// All collects Tokens.
func (g *Generator) All(ctx context.Context, prompt []int32, o Options) (ids []int32, err error) {
	for id, err := range g.Tokens(ctx, prompt, o) {
		if err != nil {
			return ids, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func (g *Generator) ends(id int, o Options) bool {
	return slices.Contains(o.Stop, id) || !o.IgnoreEOS && slices.Contains(g.eos, id)
}

var errNonFinite = errors.New("the logits are not finite: the model's or the adapter's weights are broken; use another checkpoint")

// pick takes the i-th new token from its logits.
func pick(logits []float32, o Options, i int) int {
	if o.Temperature <= 0 {
		return argMax(logits)
	}
	return sample(logits, o.Temperature, uniform(o.Seed, i))
}

// argMax is the first of the largest; NaN never wins.
func argMax(x []float32) int {
	best := 0
	for i, v := range x {
		if v > x[best] || x[best] != x[best] && v == v {
			best = i
		}
	}
	return best
}

// sample draws from softmax(logits/temperature) by where u in [0, 1) falls in its running sum.
func sample(logits []float32, temperature, u float64) int {
	top := float64(logits[argMax(logits)])
	p, sum := make([]float64, len(logits)), 0.0
	for i, v := range logits {
		if v == v {
			p[i] = math.Exp((float64(v) - top) / temperature)
		}
		sum += p[i]
	}
	u *= sum
	for i, v := range p {
		if u -= v; u < 0 && v > 0 {
			return i
		}
	}
	return argMax(logits)
}

// uniform is the i-th draw of a seed.
func uniform(seed uint64, i int) float64 {
	b := binary.LittleEndian.AppendUint64([]byte("shoal sample "), seed)
	src := rand.NewChaCha8(sha256.Sum256(binary.LittleEndian.AppendUint64(b, uint64(i))))
	return float64(src.Uint64()>>11) / (1 << 53)
}
