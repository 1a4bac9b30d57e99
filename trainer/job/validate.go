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
	FP32 = "fp32"
	BF16 = "bf16"
	FP16 = "fp16"
	Int8 = "int8"
)

// Types lists what Dataset.Type may say.
func Types() []string {
	return []string{"messages", "sharegpt", "alpaca", "completion", "text", "tokens"}
}

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
		(*Spec).checkOptimizer, (*Spec).checkScheduler, (*Spec).checkSwarm, (*Spec).checkParallel, (*Spec).checkEval, (*Spec).checkOutput,
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
	s.fillAdapter()
	if s.Shuffle == nil {
		s.Shuffle = new(true)
	}
	or(&s.MicroBatchSize, 1)
	if n := s.GradientAccumulationSteps; n > 0 && n <= maxBatch && s.MicroBatchSize <= maxBatch {
		or(&s.GlobalBatchSize, n*s.MicroBatchSize)
	}
	or(&s.GlobalBatchSize, s.MicroBatchSize)
	if s.MaxSteps == 0 {
		or(&s.NumEpochs, 1)
	}
	s.Optimizer.fill()
	s.LRScheduler.fill()
	if s.MaxGradNorm == nil {
		s.MaxGradNorm = new(1.0)
	}
	or(&s.Swarm.MinPeers, 1)
	or(&s.Wire.Gradients, FP32)
	if s.Parallel.Staged() {
		or(&s.Wire.Activations, BF16)
	}
	if s.Adapter != AdapterNone && s.Adapter != "" && (s.Parallel.Staged() || s.Parallel.ownersStep()) {
		or(&s.Parallel.MirrorRounds, 1) // it is little, and the death of an owner does not show then
	}
	s.Parallel.fill()
	or(&s.Checkpoint.EverySteps, 10)
	if s.Eval.Patience > 0 { // who waits for a better one wants the best
		s.Eval.KeepBest = true
	}
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
	return oneOf("dtype", s.DType, FP32, BF16, FP16)
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
