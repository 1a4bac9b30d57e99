package peft

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/model"
)

// Names of the files of a PEFT directory.
const (
	ConfigFile  = "adapter_config.json"
	WeightsFile = "adapter_model.safetensors"
)

// Bounds on adapter_config.json.
const (
	maxConfigBytes = 1 << 20
	maxTargets     = 1 << 12
)

// fileConfig is adapter_config.json: what stock PEFT needs to load a LoRA.
type fileConfig struct {
	AlphaPattern  map[string]float64 `json:"alpha_pattern"`
	AutoMapping   any                `json:"auto_mapping"`
	Base          string             `json:"base_model_name_or_path"`
	Bias          string             `json:"bias"`
	FanInFanOut   bool               `json:"fan_in_fan_out"`
	Inference     bool               `json:"inference_mode"`
	Init          any                `json:"init_lora_weights"`
	LayersPattern any                `json:"layers_pattern"`
	Layers        any                `json:"layers_to_transform"`
	Alpha         *float64           `json:"lora_alpha"`
	Dropout       float64            `json:"lora_dropout"`
	ModulesToSave []string           `json:"modules_to_save"`
	Type          string             `json:"peft_type"`
	R             *int               `json:"r"`
	RankPattern   map[string]int     `json:"rank_pattern"`
	Revision      any                `json:"revision"`
	Targets       targets            `json:"target_modules"`
	Task          string             `json:"task_type"`
	DoRA          bool               `json:"use_dora"`
	RSLoRA        bool               `json:"use_rslora"`
}

// targets is a list of names, or PEFT's word for all of them.
type targets []string

const allLinear = "all-linear"

func (t *targets) UnmarshalJSON(b []byte) error {
	var word string
	if json.Unmarshal(b, &word) == nil {
		*t = targets{word}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(t))
}

// Open reads an adapter for m from a PEFT directory. Close it after the last Read.
func Open(m *model.Model, files model.Files, seed uint64) (*LoRA, error) {
	cfg, err := ReadConfig(files)
	if err != nil {
		return nil, err
	}
	l, err := New(m, cfg, seed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ConfigFile, err)
	}
	if l.stored, err = safetensors.OpenFile(files, WeightsFile); err != nil {
		return nil, err
	}
	if err := l.fits(); err != nil {
		l.stored.Close()
		return nil, fmt.Errorf("%s: %w", WeightsFile, err)
	}
	return l, nil
}

// Close closes the files that Open opened.
func (l *LoRA) Close() error {
	if l.stored == nil {
		return nil
	}
	return l.stored.Close()
}

// fits holds the stored tensors against the layers: each one there, with its shape, and none besides.
func (l *LoRA) fits() error {
	known := map[string]bool{}
	for _, p := range l.Params {
		known[p.Name] = true
		t, ok := l.stored.Tensor(p.Name)
		if !ok {
			return fmt.Errorf("holds no %s", p.Name)
		}
		if !slices.Equal(t.Shape, p.Shape) {
			return fmt.Errorf("%s has shape %v, the base model asks for %v", p.Name, t.Shape, p.Shape)
		}
	}
	for _, name := range l.stored.Names() {
		if !known[name] {
			return fmt.Errorf("%.120q belongs to no layer that %s names", name, ConfigFile)
		}
	}
	return nil
}

// ReadConfig reads and checks adapter_config.json.
func ReadConfig(files model.Files) (Config, error) {
	r, size, err := files.Open(ConfigFile)
	if err != nil {
		return Config{}, err
	}
	if c, ok := r.(io.Closer); ok {
		defer c.Close()
	}
	if size > maxConfigBytes {
		return Config{}, fmt.Errorf("%s: %d bytes, limit %d", ConfigFile, size, maxConfigBytes)
	}
	text := make([]byte, size)
	if n, err := r.ReadAt(text, 0); n < len(text) {
		return Config{}, fmt.Errorf("%s: %w", ConfigFile, err)
	}
	c, err := ParseConfig(text)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", ConfigFile, err)
	}
	return c, nil
}

// ParseConfig checks the text of an adapter_config.json and refuses by name what shoal cannot compute.
func ParseConfig(text []byte) (Config, error) {
	var f fileConfig
	if err := json.Unmarshal(text, &f); err != nil {
		return Config{}, err
	}
	switch {
	case f.Type != "LORA":
		return Config{}, fmt.Errorf("peft_type: %.40q is not supported, only LORA", f.Type)
	case f.DoRA:
		return Config{}, fmt.Errorf("use_dora: true is not supported")
	case f.Bias != "" && f.Bias != "none":
		return Config{}, fmt.Errorf("bias: %.40q is not supported, only none", f.Bias)
	case len(f.ModulesToSave) > 0:
		return Config{}, fmt.Errorf("modules_to_save: %.80q is not supported", f.ModulesToSave)
	case len(f.RankPattern) > 0 || len(f.AlphaPattern) > 0:
		return Config{}, fmt.Errorf("rank_pattern, alpha_pattern: not supported")
	case len(f.Targets) > maxTargets:
		return Config{}, fmt.Errorf("target_modules: %d of them, limit %d", len(f.Targets), maxTargets)
	case f.Layers != nil:
		return Config{}, fmt.Errorf("layers_to_transform: not supported")
	}
	c := Config{R: 8, Alpha: 8, Dropout: f.Dropout, RSLoRA: f.RSLoRA, Targets: f.Targets} // PEFT's own defaults
	if f.R != nil {
		c.R = *f.R
	}
	if f.Alpha != nil {
		c.Alpha = *f.Alpha
	}
	if slices.Equal(c.Targets, []string{allLinear}) {
		c.Targets, c.All = nil, true
	}
	return c, nil
}

// Save writes a PEFT directory with the given values. base is the name of the base model, for whoever loads it.
func (l *LoRA) Save(dir, base string, value func(*autograd.Param) []float32) error {
	text, err := json.MarshalIndent(l.fileConfig(base), "", "  ")
	if err != nil {
		return err
	}
	err = model.WriteFile(filepath.Join(dir, ConfigFile), func(w io.Writer) error {
		_, err := w.Write(append(text, '\n'))
		return err
	})
	if err != nil {
		return err
	}
	return model.WriteFile(filepath.Join(dir, WeightsFile), func(w io.Writer) error { return l.writeTensors(w, value) })
}

func (l *LoRA) writeTensors(w io.Writer, value func(*autograd.Param) []float32) error {
	ts := make([]safetensors.Tensor, len(l.Params))
	for i, p := range l.Params {
		ts[i] = safetensors.Tensor{Name: p.Name, DType: safetensors.F32, Shape: p.Shape}
	}
	out, err := safetensors.NewWriter(w, ts, nil)
	if err != nil {
		return err
	}
	for _, p := range l.Params {
		if err := out.WriteF32(p.Name, value(p)); err != nil {
			return err
		}
	}
	return out.Close()
}

func (l *LoRA) fileConfig(base string) fileConfig {
	f := fileConfig{AlphaPattern: map[string]float64{}, RankPattern: map[string]int{}, Base: base, Bias: "none", Inference: true,
		Init: true, Alpha: &l.Alpha, Dropout: l.Dropout, Type: "LORA", R: &l.R, Targets: l.Targets, Task: "CAUSAL_LM", RSLoRA: l.RSLoRA}
	if l.All {
		f.Targets = layerNames(l.model)
	}
	for lin := range l.pairs {
		f.FanInFanOut = f.FanInFanOut || lin.InOut
	}
	return f
}
