package job

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

func (s *Spec) checkData() error {
	if len(s.Datasets) == 0 {
		return errors.New("datasets is missing; write datasets: [{path: data.jsonl}]")
	}
	if len(s.Datasets) > maxList {
		return fmt.Errorf("datasets has %d entries; at most %d", len(s.Datasets), maxList)
	}
	for i, d := range s.Datasets {
		if d.Path == "" {
			return fmt.Errorf("datasets.%d.path is missing; name a file of rows", i)
		}
		if err := checkStrings(fmt.Sprintf("datasets.%d.path", i), d.Path); err != nil {
			return err
		}
		if err := d.checkSplit(); err != nil {
			return fmt.Errorf("datasets.%d.%w", i, err)
		}
		if d.Type != "" {
			if err := oneOf(fmt.Sprintf("datasets.%d.type", i), d.Type, Types()...); err != nil {
				return err
			}
		}
	}
	if s.ChatTemplate != "" {
		if err := oneOf("chat_template", s.ChatTemplate, ChatTemplates()...); err != nil {
			return err
		}
	}
	switch v := s.ValSetSize; {
	case s.SamplePacking && s.SequenceLen == 0:
		return errors.New("sample_packing needs sequence_len, the tokens that a position is filled up to; set it")
	case !finite(s.NEFTuneAlpha) || s.NEFTuneAlpha < 0 || s.NEFTuneAlpha > 1000:
		return fmt.Errorf("neftune_alpha is %v; choose 0 (none) to 1000, 5 is usual", s.NEFTuneAlpha)
	case !finite(v) || v < 0 || v > 1<<40 || v >= 1 && v != math.Trunc(v):
		return fmt.Errorf("val_set_size is %v; choose a fraction below 1 or a whole number of rows", v)
	case s.SequenceLen < 0 || s.SequenceLen == 1 || s.SequenceLen > maxSequence:
		return fmt.Errorf("sequence_len is %d; choose 2 to %d, or 0 for the longest row", s.SequenceLen, maxSequence)
	}
	return nil
}

// checkSplit bounds what says which rows of a data set on the hub are meant.
func (d Dataset) checkSplit() error {
	for _, k := range []struct{ key, v string }{{"split", d.Split}, {"name", d.Name}} {
		bad := func(r rune) bool { return !nameRune(r) }
		switch {
		case k.v != "" && !strings.HasPrefix(d.Path, "hf:"):
			return fmt.Errorf("%s is %q, but %.80q is not on the hub; name the file that is meant", k.key, clip(k.v, 40), d.Path)
		case len(k.v) > 96 || strings.ContainsFunc(k.v, bad):
			return fmt.Errorf("%s is %q; use letters, digits, . _ and -", k.key, clip(k.v, 40))
		}
	}
	return nil
}

// ChatTemplates lists what Spec.ChatTemplate may say.
func ChatTemplates() []string {
	return []string{"tokenizer_default", "chatml", "llama3", "mistral", "gemma", "phi3", "alpaca"}
}

func (s *Spec) checkBatch() error {
	switch {
	case s.MicroBatchSize < 1 || s.MicroBatchSize > maxBatch:
		return fmt.Errorf("micro_batch_size is %d; choose 1 to %d", s.MicroBatchSize, maxBatch)
	case s.GradientAccumulationSteps < 0 || s.GradientAccumulationSteps > maxBatch:
		return fmt.Errorf("gradient_accumulation_steps is %d; choose 1 to %d", s.GradientAccumulationSteps, maxBatch)
	case s.GlobalBatchSize < 1 || s.GlobalBatchSize > maxBatch:
		return fmt.Errorf("global_batch_size is %d; choose 1 to %d", s.GlobalBatchSize, maxBatch)
	case s.GlobalBatchSize < s.MicroBatchSize:
		return fmt.Errorf("micro_batch_size %d is larger than global_batch_size %d; lower the first", s.MicroBatchSize, s.GlobalBatchSize)
	case s.GradientAccumulationSteps > 0 && s.GradientAccumulationSteps*s.MicroBatchSize != s.GlobalBatchSize:
		return fmt.Errorf("gradient_accumulation_steps %d times micro_batch_size %d is %d but global_batch_size is %d; remove one of them",
			s.GradientAccumulationSteps, s.MicroBatchSize, s.GradientAccumulationSteps*s.MicroBatchSize, s.GlobalBatchSize)
	case s.MaxSteps < 0:
		return fmt.Errorf("max_steps is %d; choose a positive number, or num_epochs", s.MaxSteps)
	case !finite(s.NumEpochs) || s.NumEpochs < 0 || s.NumEpochs > 1e6:
		return fmt.Errorf("num_epochs is %v; choose a positive number up to 1e6", s.NumEpochs)
	case s.MaxSteps > 0 && s.NumEpochs > 0:
		return errors.New("max_steps and num_epochs are both set; keep one of them")
	}
	return nil
}
