package job

import (
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
	"unicode"
)

// Words of the spec.
const (
	AdapterLora = "lora"
	AdapterNone = "none"
	AdamW       = "adamw"
	Constant    = "constant"
	Linear      = "linear"
	Cosine      = "cosine"
	FP32        = "fp32"
)

// Types lists what Dataset.Type may say.
func Types() []string { return []string{"messages", "alpaca", "completion", "text", "tokens"} }

const (
	maxSequence = 1 << 20 // positions; longer than any model's window
	maxBatch    = 1 << 20 // rows
	maxRank     = 1 << 14
	maxList     = 256
	maxString   = 4096 // bytes
	maxName     = 128  // bytes
)

// Validate writes the defaults in and refuses what is missing, out of range or contradictory; the error names the
// key and what to do. It may be called again: a validated spec stays as it is.
func (s *Spec) Validate() error {
	s.fill()
	for _, check := range []func(*Spec) error{
		(*Spec).checkHead, (*Spec).checkAdapter, (*Spec).checkData, (*Spec).checkBatch,
		(*Spec).checkOptimizer, (*Spec).checkScheduler, (*Spec).checkSwarm,
	} {
		if err := check(s); err != nil {
			return err
		}
	}
	return nil
}

func (s *Spec) fill() {
	or(&s.Name, nameFrom(s.BaseModel))
	or(&s.DType, FP32)
	if s.Adapter == "" {
		s.Adapter = AdapterNone
		if s.LoraModelDir != "" {
			s.Adapter = AdapterLora
		}
	}
	if s.Adapter == AdapterLora && s.LoraModelDir == "" { // else the adapter's own values are taken, by Adopt
		or(&s.LoraR, 8)
		or(&s.LoraAlpha, 16)
	}
	if s.Shuffle == nil {
		s.Shuffle = new(true)
	}
	or(&s.MicroBatchSize, 1)
	or(&s.GlobalBatchSize, s.MicroBatchSize)
	if s.MaxSteps == 0 {
		or(&s.NumEpochs, 1)
	}
	or(&s.Optimizer.Name, AdamW)
	if len(s.Optimizer.Betas) == 0 {
		s.Optimizer.Betas = []float64{0.9, 0.999}
	}
	or(&s.Optimizer.Eps, 1e-8)
	if s.Optimizer.NoDecay == nil {
		s.Optimizer.NoDecay = &[]string{"norm", "bias"}
	}
	or(&s.LRScheduler.Name, Constant)
	if s.MaxGradNorm == nil {
		s.MaxGradNorm = new(1.0)
	}
	or(&s.Swarm.MinPeers, 1)
	or(&s.Checkpoint.EverySteps, 10)
}

// nameFrom makes a job's name of what its model is called: the last element, without revision, and with a dash for
// each character that a name cannot have.
func nameFrom(ref string) string {
	if hub, ok := strings.CutPrefix(ref, "hf:"); ok {
		ref, _, _ = strings.Cut(hub, "@")
	}
	name := strings.Map(func(r rune) rune {
		if nameRune(r) {
			return r
		}
		return '-'
	}, path.Base(strings.TrimRight(ref, "/")))
	name = strings.TrimLeft(name, "._-")
	if name == "" {
		return "job"
	}
	return name[:min(len(name), maxName)]
}

// nameRune: names of jobs, models and data share one alphabet, which is safe in paths and terminals.
func nameRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-'
}

// checkName refuses what could be a path: name becomes the directory of the result.
func checkName(name string) error {
	bad := func(r rune) bool { return !nameRune(r) }
	if name == "" || len(name) > maxName || strings.ContainsFunc(name, bad) || strings.ContainsRune("._-", rune(name[0])) {
		return fmt.Errorf("name is %q; use letters, digits, . _ and -, beginning with a letter or digit, at most %d", clip(name, 40), maxName)
	}
	return nil
}

func or[T comparable](v *T, def T) {
	if *v == *new(T) {
		*v = def
	}
}

func (s *Spec) checkHead() error {
	switch {
	case s.Version == "":
		return fmt.Errorf("version is missing; write version: %s", Version)
	case s.Version != Version:
		return fmt.Errorf("version %q is not known; this shoal reads %s", clip(s.Version, 40), Version)
	case s.BaseModel == "":
		return errors.New("base_model is missing; name a directory, an imported model or hf:owner/name")
	}
	if err := checkStrings("base_model", s.BaseModel); err != nil {
		return err
	}
	if err := checkName(s.Name); err != nil {
		return err
	}
	return oneOf("dtype", s.DType, FP32)
}

func (s *Spec) checkAdapter() error {
	if err := oneOf("adapter", s.Adapter, AdapterLora, AdapterNone); err != nil {
		return err
	}
	if s.Adapter == AdapterNone {
		if k := s.firstLoraKey(); k != "" {
			return fmt.Errorf("%s is set but adapter is none; write adapter: lora, or remove %s", k, k)
		}
		return nil
	}
	switch {
	case s.LoraModelDir == "" && (s.LoraR < 1 || s.LoraR > maxRank), s.LoraR < 0 || s.LoraR > maxRank:
		return fmt.Errorf("lora_r is %d; choose 1 to %d", s.LoraR, maxRank)
	case !finite(s.LoraAlpha) || s.LoraAlpha < 0:
		return fmt.Errorf("lora_alpha is %v; choose a positive number, as 16", s.LoraAlpha)
	case !(s.LoraDropout >= 0 && s.LoraDropout < 1):
		return fmt.Errorf("lora_dropout is %v; choose a number from 0 up to but not including 1", s.LoraDropout)
	case s.LoraTargetLinear && len(s.LoraTargetModules) > 0:
		return errors.New("lora_target_linear and lora_target_modules are both set; keep one of them")
	case s.LoraTargetLinear && s.LoraModelDir != "":
		return errors.New("lora_target_linear and lora_model_dir are both set; the adapter in lora_model_dir names its own modules, remove lora_target_linear")
	}
	return checkStrings("lora_target_modules", append(slices.Clone(s.LoraTargetModules), s.LoraModelDir)...)
}

func (s *Spec) firstLoraKey() string {
	switch {
	case s.LoraModelDir != "":
		return "lora_model_dir"
	case s.LoraR != 0:
		return "lora_r"
	case s.LoraAlpha != 0:
		return "lora_alpha"
	case s.LoraDropout != 0:
		return "lora_dropout"
	case len(s.LoraTargetModules) != 0:
		return "lora_target_modules"
	case s.LoraTargetLinear:
		return "lora_target_linear"
	case s.LoraRSLora:
		return "lora_rslora"
	}
	return ""
}

func (s *Spec) checkData() error {
	if len(s.Datasets) == 0 {
		return errors.New("datasets is missing; write datasets: [{path: data.jsonl}]")
	}
	if len(s.Datasets) > maxList {
		return fmt.Errorf("datasets has %d entries; at most %d", len(s.Datasets), maxList)
	}
	for i, d := range s.Datasets {
		if d.Path == "" {
			return fmt.Errorf("datasets.%d.path is missing; name a JSONL file", i)
		}
		if err := checkStrings(fmt.Sprintf("datasets.%d.path", i), d.Path); err != nil {
			return err
		}
		if d.Type != "" {
			if err := oneOf(fmt.Sprintf("datasets.%d.type", i), d.Type, Types()...); err != nil {
				return err
			}
		}
	}
	switch v := s.ValSetSize; {
	case !finite(v) || v < 0 || v > 1<<40 || v >= 1 && v != math.Trunc(v):
		return fmt.Errorf("val_set_size is %v; choose a fraction below 1 or a whole number of rows", v)
	case s.SequenceLen < 0 || s.SequenceLen == 1 || s.SequenceLen > maxSequence:
		return fmt.Errorf("sequence_len is %d; choose 2 to %d, or 0 for the longest row", s.SequenceLen, maxSequence)
	}
	return nil
}

func (s *Spec) checkBatch() error {
	switch {
	case s.MicroBatchSize < 1 || s.MicroBatchSize > maxBatch:
		return fmt.Errorf("micro_batch_size is %d; choose 1 to %d", s.MicroBatchSize, maxBatch)
	case s.GlobalBatchSize < 1 || s.GlobalBatchSize > maxBatch:
		return fmt.Errorf("global_batch_size is %d; choose 1 to %d", s.GlobalBatchSize, maxBatch)
	case s.GlobalBatchSize < s.MicroBatchSize:
		return fmt.Errorf("micro_batch_size %d is larger than global_batch_size %d; lower the first", s.MicroBatchSize, s.GlobalBatchSize)
	case s.MaxSteps < 0:
		return fmt.Errorf("max_steps is %d; choose a positive number, or num_epochs", s.MaxSteps)
	case !finite(s.NumEpochs) || s.NumEpochs < 0 || s.NumEpochs > 1e6:
		return fmt.Errorf("num_epochs is %v; choose a positive number up to 1e6", s.NumEpochs)
	case s.MaxSteps > 0 && s.NumEpochs > 0:
		return errors.New("max_steps and num_epochs are both set; keep one of them")
	}
	return nil
}

func (s *Spec) checkOptimizer() error {
	o := &s.Optimizer
	if err := oneOf("optimizer.name", o.Name, AdamW); err != nil {
		return err
	}
	switch {
	case o.LR == 0:
		return errors.New("optimizer.lr is missing; for LoRA 2e-4 and for full fine-tuning 2e-5 are usual")
	case !(o.LR > 0 && o.LR <= 100):
		return fmt.Errorf("optimizer.lr is %v; choose a positive number, as 2e-4", o.LR)
	case len(o.Betas) != 2:
		return fmt.Errorf("optimizer.betas has %d numbers; write two, as [0.9, 0.999]", len(o.Betas))
	case !(o.Betas[0] >= 0 && o.Betas[0] < 1 && o.Betas[1] >= 0 && o.Betas[1] < 1):
		return fmt.Errorf("optimizer.betas is %v; both lie from 0 up to but not including 1", o.Betas)
	case !(o.Eps > 0 && o.Eps <= 1):
		return fmt.Errorf("optimizer.eps is %v; choose a small positive number, as 1e-8", o.Eps)
	case !(o.WeightDecay >= 0 && o.WeightDecay <= 100):
		return fmt.Errorf("optimizer.weight_decay is %v; choose 0 or a positive number, as 0.1", o.WeightDecay)
	case !(*s.MaxGradNorm >= 0 && finite(*s.MaxGradNorm)):
		return fmt.Errorf("max_grad_norm is %v; choose a positive number, or 0 for no clipping", *s.MaxGradNorm)
	}
	return checkStrings("optimizer.no_decay", *o.NoDecay...)
}

func (s *Spec) checkScheduler() error {
	c := s.LRScheduler
	if err := oneOf("lr_scheduler.name", c.Name, Constant, Linear, Cosine); err != nil {
		return err
	}
	switch {
	case c.WarmupSteps < 0:
		return fmt.Errorf("lr_scheduler.warmup_steps is %d; choose 0 or more", c.WarmupSteps)
	case s.MaxSteps > 0 && c.WarmupSteps > s.MaxSteps:
		return fmt.Errorf("lr_scheduler.warmup_steps %d is more than max_steps %d, the learning rate would never be reached; lower the first", c.WarmupSteps, s.MaxSteps)
	case !(c.MinLRRatio >= 0 && c.MinLRRatio <= 1):
		return fmt.Errorf("lr_scheduler.min_lr_ratio is %v; choose a number from 0 to 1", c.MinLRRatio)
	}
	return nil
}

func (s *Spec) checkSwarm() error {
	switch {
	case s.Swarm.MinPeers < 1 || s.Swarm.MinPeers > 1<<16:
		return fmt.Errorf("swarm.min_peers is %d; choose 1 to 65536", s.Swarm.MinPeers)
	case s.Swarm.MaxPeers < 0 || s.Swarm.MaxPeers > 1<<16:
		return fmt.Errorf("swarm.max_peers is %d; choose 1 to 65536, or 0 for no limit", s.Swarm.MaxPeers)
	case s.Swarm.MaxPeers > 0 && s.Swarm.MaxPeers < s.Swarm.MinPeers:
		return fmt.Errorf("swarm.max_peers %d is below swarm.min_peers %d; raise the first or lower the second", s.Swarm.MaxPeers, s.Swarm.MinPeers)
	case s.Checkpoint.EverySteps < 1:
		return fmt.Errorf("checkpoint.every_steps is %d; choose 1 or more", s.Checkpoint.EverySteps)
	case s.Eval.EverySteps < 0:
		return fmt.Errorf("eval.every_steps is %d; choose 1 or more, or 0 to measure at the end", s.Eval.EverySteps)
	case s.Eval.EverySteps > 0 && s.ValSetSize == 0:
		return errors.New("eval.every_steps is set but no rows are held out; set val_set_size, as 0.02")
	}
	return nil
}

func finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }

func oneOf(key, got string, want ...string) error {
	if slices.Contains(want, got) {
		return nil
	}
	return fmt.Errorf("%s is %q; choose %s", key, clip(got, 40), strings.Join(want, ", "))
}

// checkStrings bounds strings and keeps control characters out of names that end up in paths and terminals.
func checkStrings(key string, vs ...string) error {
	if len(vs) > maxList {
		return fmt.Errorf("%s has %d entries; at most %d", key, len(vs), maxList)
	}
	for _, v := range vs {
		if len(v) > maxString {
			return fmt.Errorf("%s is longer than %d bytes; shorten it", key, maxString)
		}
		if strings.ContainsFunc(v, unicode.IsControl) {
			return fmt.Errorf("%s holds a control character; remove it", key)
		}
	}
	return nil
}
