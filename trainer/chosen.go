package trainer

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/peft"
	"github.com/seed-7b27c88a/shoal/trainer/tokenizer"
)

// choose finds what learns: the adapter that is stored or asked for, or weights of the model.
func (p *parts) choose(spec *job.Spec, files, stored model.Files) error {
	c, asked := peft.FromSpec(spec)
	var err error
	switch {
	case stored != nil:
		p.adapter, err = peft.Open(p.model, stored, spec.Seed)
	case asked:
		if c.InitIDs, err = initIDs(c.Prompt.InitText, files); err == nil {
			p.adapter, err = peft.New(p.model, c, spec.Seed)
		}
	default:
		p.trained, err = unfrozen(p.model, spec.UnfrozenParameters)
		return err
	}
	if err != nil {
		return fmt.Errorf("open adapter: %w", err)
	}
	p.trained = p.adapter.Weights()
	return nil
}

// over is the adapter as a pass sees it.
func (p *parts) over() model.Overlay {
	if p.adapter == nil {
		return nil
	}
	return p.adapter
}

// unfrozen are the weights whose names begin with a match of one of the patterns; all of them, if there are none.
func unfrozen(m *model.Model, patterns []string) ([]*autograd.Param, error) {
	if len(patterns) == 0 {
		return slices.Clone(m.Params), nil
	}
	use := map[*autograd.Param]bool{}
	for _, pattern := range patterns {
		re, err := regexp.Compile("^(?:" + pattern + ")")
		if err != nil {
			return nil, fmt.Errorf("unfrozen_parameters: %w", err)
		}
		hit := false
		for _, p := range m.Params {
			if re.MatchString(p.Name) {
				use[p], hit = true, true
			}
		}
		if !hit {
			return nil, fmt.Errorf("unfrozen_parameters: %.80q matches no weight; names are like %s", pattern, examples(m))
		}
	}
	return slices.DeleteFunc(slices.Clone(m.Params), func(p *autograd.Param) bool { return !use[p] }), nil
}

// examples are some names: the first, one of a block, the last.
func examples(m *model.Model) string {
	ps := m.Params
	return strings.Join([]string{ps[0].Name, ps[len(ps)/2].Name, ps[len(ps)-1].Name}, ", ")
}

// initIDs are the tokens of a text that a prompt starts from.
func initIDs(text string, files model.Files) ([]int32, error) {
	if text == "" {
		return nil, nil
	}
	tok, err := tokenizer.Load(model.FS(files))
	if err != nil {
		return nil, fmt.Errorf("prompt.init_text: %w", err)
	}
	ids, err := tok.Encode(text)
	if err == nil && len(ids) == 0 {
		err = errors.New("the text has no tokens")
	}
	if err != nil {
		return nil, fmt.Errorf("prompt.init_text: %w", err)
	}
	return ids, nil
}
