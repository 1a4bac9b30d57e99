// Package peft holds the parameter-efficient methods: overlays on a model's forward, never surgery on the model. They
// are read from and written to PEFT directories key for key, so that stock PEFT loads them.
//
// Words. An adapter is what a job trains beside a frozen model; its own parameters are named as PEFT names them where
// PEFT has a name. Saved modules are modules of the model itself that are trained whole beside an adapter and stored with
// it. Fresh values are drawn from (seed, name) alone, so that every node draws the same.
//
// Concurrency. An adapter is read-only once made and may serve several tapes.
package peft

import (
	"fmt"
	"math"

	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model"
)

// Adapter is a method over one model.
type Adapter interface {
	model.Overlay
	Weights() []*autograd.Param                  // all that it trains, also of the model
	Read(p *autograd.Param, dst []float32) error // what one of them starts from
	Save(dir, base string, value func(*autograd.Param) []float32) error
	Close() error
}

// Merger is an Adapter that can become part of the model's weights.
type Merger interface {
	Adapter
	Of(p *autograd.Param) []*autograd.Param // what it changes the weight p with; none: p stays
	Merge(p *autograd.Param, v []float32, value func(*autograd.Param) []float32)
}

// Config is what makes an adapter. Each method reads its own part.
type Config struct {
	Method string   // job.AdapterLora (also where it is empty) and its like
	Saved  []string // modules trained whole beside it; see job.Spec.LoraModulesToSave

	// lora and dora
	R       int
	Alpha   float64
	Dropout float64
	RSLoRA  bool // scale alpha/√r instead of alpha/r

	// lora, dora and ia3: last parts of module paths; none means the family's default
	Targets     []string
	All         bool     // every linear layer except the head; lora and dora
	FeedForward []string // those of Targets whose input is scaled; ia3

	Bottleneck job.Bottleneck
	Prefix     job.Prefix
	Prompt     job.Prompt
	InitIDs    []int32 // the tokens of Prompt.InitText
}

// FromSpec is the adapter that a validated spec asks for; false: none.
func FromSpec(s *job.Spec) (Config, bool) {
	if s.Adapter == job.AdapterNone || s.Adapter == "" {
		return Config{}, false
	}
	c := Config{Method: s.Adapter, Saved: s.LoraModulesToSave, R: s.LoraR, Alpha: s.LoraAlpha, Dropout: s.LoraDropout,
		RSLoRA: s.LoraRSLora, Targets: s.LoraTargetModules, All: s.LoraTargetLinear, Bottleneck: s.Bottleneck,
		Prefix: s.Prefix, Prompt: s.Prompt}
	if s.Adapter == job.AdapterIA3 {
		c.Targets, c.FeedForward = s.IA3.TargetModules, s.IA3.FeedForwardModules
		if len(c.FeedForward) == 0 {
			c.FeedForward = nil
		}
	}
	return c, true
}

// Job says what a spec has to say to get the same adapter.
func (c Config) Job() job.Adapter {
	a := job.Adapter{Kind: c.Method, ModulesToSave: c.Saved, R: c.R, Alpha: c.Alpha, Dropout: c.Dropout, RSLora: c.RSLoRA,
		TargetModules: c.Targets, TargetLinear: c.All, Bottleneck: c.Bottleneck, Prefix: c.Prefix, Prompt: c.Prompt}
	if c.Method == job.AdapterIA3 {
		a.TargetModules, a.IA3 = nil, job.IA3{TargetModules: c.Targets, FeedForwardModules: c.FeedForward}
	}
	return a
}

// method is an Adapter as its own file makes it: place makes the handles and says how they stand in files.
type method interface {
	Adapter
	common() *base
	place() error
}

// New makes a fresh adapter for m.
func New(m *model.Model, c Config, seed uint64) (Adapter, error) { return build(m, c, seed) }

func build(m *model.Model, c Config, seed uint64) (method, error) {
	b := base{Config: c, model: m, seed: seed}
	var a method
	switch c.Method {
	case "", job.AdapterLora, job.AdapterDora:
		a = &LoRA{base: b}
	case job.AdapterIA3:
		a = &IA3{base: b}
	case job.AdapterBottleneck:
		a = &Bottleneck{base: b}
	case job.AdapterPrefix:
		a = &Prefix{base: b}
	case job.AdapterPrompt:
		a = &Prompt{base: b}
	default:
		return nil, fmt.Errorf("adapter: %.40q is no method that shoal knows", c.Method)
	}
	if err := a.place(); err != nil {
		return nil, err
	}
	if err := a.common().placeSaved(); err != nil {
		return nil, err
	}
	return a, nil
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
