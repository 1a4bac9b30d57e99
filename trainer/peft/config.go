package peft

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/seed-7b27c88a/shoal/trainer/job"
)

// maxTargets bounds the lists of names in adapter_config.json.
const maxTargets = 1 << 12

// Words of peft_type. The last is shoal's own: PEFT has no such method.
const (
	typeLoRA       = "LORA"
	typeIA3        = "IA3"
	typePrefix     = "PREFIX_TUNING"
	typePrompt     = "PROMPT_TUNING"
	typeBottleneck = "SHOAL_BOTTLENECK"
)

// fileConfig is an adapter_config.json as it is written: what stock PEFT needs to load the adapter, and its defaults for
// the rest. encoding/json writes the keys in alphabetical order, as stock PEFT does.
type fileConfig map[string]any

// describe is the file's config: what all types have, and what the method adds.
func (b *base) describe(baseModel string) fileConfig {
	f := fileConfig{"auto_mapping": nil, "base_model_name_or_path": baseModel, "inference_mode": true, "revision": nil,
		"task_type": "CAUSAL_LM"}
	for k, v := range b.config() {
		f[k] = v
	}
	if _, prompt := f["num_virtual_tokens"]; !prompt {
		f["modules_to_save"] = b.modulesToSave()
	}
	return f
}

func (l *LoRA) fileConfig() fileConfig {
	targets, fan := l.Targets, false
	if l.All {
		targets = layerNames(l.model)
	}
	for lin := range l.pairs {
		fan = fan || lin.InOut
	}
	return fileConfig{"peft_type": typeLoRA, "alpha_pattern": map[string]float64{}, "bias": "none", "fan_in_fan_out": fan,
		"init_lora_weights": true, "layers_pattern": nil, "layers_to_transform": nil, "lora_alpha": l.Alpha, "lora_dropout": l.Dropout,
		"r": l.R, "rank_pattern": map[string]int{}, "target_modules": targets, "use_dora": l.Method == job.AdapterDora, "use_rslora": l.RSLoRA}
}

func (a *IA3) fileConfig() fileConfig {
	fan := false
	for lin := range a.outputs {
		fan = fan || lin.InOut
	}
	for lin := range a.inputs {
		fan = fan || lin.InOut
	}
	return fileConfig{"peft_type": typeIA3, "target_modules": a.Targets, "feedforward_modules": a.FeedForward, "fan_in_fan_out": fan,
		"init_ia3_weights": true}
}

func (b *Bottleneck) fileConfig() fileConfig {
	o := b.Config.Bottleneck
	return fileConfig{"peft_type": typeBottleneck, "reduction": o.Reduction, "sites": o.Sites, "act": o.Act}
}

// fileConfig says that there is no projection: what is in the file has it folded in, so stock PEFT can also train it on.
func (p *Prefix) fileConfig() fileConfig {
	c := p.model.Config
	f := promptConfig(typePrefix, p.Config.Prefix.Tokens, p.width(), c.KVHeads, c.Layers)
	f["encoder_hidden_size"], f["prefix_projection"] = p.width(), false
	return f
}

func (p *Prompt) fileConfig() fileConfig {
	c, o := p.model.Config, p.Config.Prompt
	f := promptConfig(typePrompt, o.Tokens, c.Hidden, c.Heads, c.Layers)
	f["prompt_tuning_init"], f["prompt_tuning_init_text"], f["tokenizer_name_or_path"], f["tokenizer_kwargs"] = "RANDOM", nil, nil, nil
	return f
}

func promptConfig(kind string, tokens, dim, heads, layers int) fileConfig {
	return fileConfig{"peft_type": kind, "num_virtual_tokens": tokens, "token_dim": dim, "num_attention_heads": heads,
		"num_layers": layers, "num_transformer_submodules": 1}
}

// readConfig is an adapter_config.json as it is read. nil: absent or null.
type readConfig struct {
	Type          string   `json:"peft_type"`
	ModulesToSave []string `json:"modules_to_save"`
	Targets       targets  `json:"target_modules"`

	Alpha        *float64           `json:"lora_alpha"`
	AlphaPattern map[string]float64 `json:"alpha_pattern"`
	Bias         string             `json:"bias"`
	DoRA         bool               `json:"use_dora"`
	Dropout      float64            `json:"lora_dropout"`
	Exclude      targets            `json:"exclude_modules"`
	Layers       any                `json:"layers_to_transform"`
	R            *int               `json:"r"`
	RankPattern  map[string]int     `json:"rank_pattern"`
	RSLoRA       bool               `json:"use_rslora"`

	FeedForward targets `json:"feedforward_modules"`

	Reduction float64  `json:"reduction"`
	Sites     []string `json:"sites"`
	Act       string   `json:"act"`

	Tokens     int  `json:"num_virtual_tokens"`
	Submodules *int `json:"num_transformer_submodules"`
}

// targets is a list of names, or PEFT's word for all of them.
type targets []string

const allLinear = "all-linear"

func (t *targets) UnmarshalJSON(b []byte) error {
	var word *string
	if json.Unmarshal(b, &word) == nil {
		if *t = nil; word != nil {
			*t = targets{*word}
		}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(t))
}

// ParseConfig checks the text of an adapter_config.json and refuses by name what shoal cannot compute.
func ParseConfig(text []byte) (Config, error) {
	var f readConfig
	if err := json.Unmarshal(text, &f); err != nil {
		return Config{}, err
	}
	for key, list := range map[string][]string{"target_modules": f.Targets, "feedforward_modules": f.FeedForward,
		"modules_to_save": f.ModulesToSave, "sites": f.Sites} {
		if len(list) > maxTargets {
			return Config{}, fmt.Errorf("%s: %d of them, limit %d", key, len(list), maxTargets)
		}
	}
	switch f.Type {
	case typeLoRA:
		return f.lora()
	case typeIA3:
		return Config{Method: job.AdapterIA3, Saved: f.ModulesToSave, Targets: f.Targets, FeedForward: f.FeedForward}, f.refuse()
	case typeBottleneck:
		return Config{Method: job.AdapterBottleneck, Saved: f.ModulesToSave,
			Bottleneck: job.Bottleneck{Reduction: f.Reduction, Sites: f.Sites, Act: f.Act}}, f.refuse()
	case typePrefix:
		return Config{Method: job.AdapterPrefix, Prefix: job.Prefix{Tokens: f.Tokens}}, f.refusePrompt()
	case typePrompt:
		return Config{Method: job.AdapterPrompt, Prompt: job.Prompt{Tokens: f.Tokens}}, f.refusePrompt()
	}
	return Config{}, fmt.Errorf("peft_type: %.40q is not supported, only %s, %s, %s, %s and %s", f.Type, typeLoRA, typeIA3, typePrefix,
		typePrompt, typeBottleneck)
}

func (f *readConfig) lora() (Config, error) {
	c := Config{Method: job.AdapterLora, Saved: f.ModulesToSave, R: 8, Alpha: 8, Dropout: f.Dropout, RSLoRA: f.RSLoRA, Targets: f.Targets} // PEFT's own defaults
	if f.DoRA {
		c.Method = job.AdapterDora
	}
	if f.R != nil {
		c.R = *f.R
	}
	if f.Alpha != nil {
		c.Alpha = *f.Alpha
	}
	if slices.Equal(c.Targets, []string{allLinear}) {
		c.Targets, c.All = nil, true
	}
	return c, f.refuse()
}

// refuse names what is not supported.
func (f *readConfig) refuse() error {
	switch {
	case f.Bias != "" && f.Bias != "none":
		return fmt.Errorf("bias: %.40q is not supported, only none", f.Bias)
	case len(f.RankPattern) > 0 || len(f.AlphaPattern) > 0:
		return fmt.Errorf("rank_pattern, alpha_pattern: not supported")
	case len(f.Exclude) > 0:
		return fmt.Errorf("exclude_modules: not supported")
	case f.Layers != nil:
		return fmt.Errorf("layers_to_transform: not supported")
	}
	return nil
}

func (f *readConfig) refusePrompt() error {
	switch {
	case len(f.ModulesToSave) > 0:
		return fmt.Errorf("modules_to_save: %.80q is not supported with virtual tokens", f.ModulesToSave)
	case f.Submodules != nil && *f.Submodules != 1:
		return fmt.Errorf("num_transformer_submodules: %d is not supported, only 1", *f.Submodules)
	}
	return nil
}
