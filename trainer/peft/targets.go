package peft

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seed-7b27c88a/shoal/trainer/model"
)

// called tells whether a linear layer is named by its path or by the last parts of it, as PEFT matches.
func called(l *model.Linear, name string) bool {
	return l.Path == name || strings.HasSuffix(l.Path, "."+name)
}

// chosen are the linear layers that targets name, all of them where all is set. Each name must match one; key is what
// the spec calls the list.
func chosen(m *model.Model, key string, targets []string, all bool) ([]*model.Linear, error) {
	var ls []*model.Linear
	hit := make([]bool, len(targets))
	for _, l := range m.Linear {
		use := all
		for i, t := range targets {
			if called(l, t) {
				use, hit[i] = true, true
			}
		}
		if use {
			ls = append(ls, l)
		}
	}
	if miss := slices.Index(hit, false); miss >= 0 {
		return nil, fmt.Errorf("%s: no linear layer of this %s is called %.80q (it has %s)", key, m.Config.Type, targets[miss],
			strings.Join(layerNames(m), ", "))
	}
	if len(ls) == 0 {
		return nil, fmt.Errorf("%s: no linear layer to adapt", key)
	}
	return ls, nil
}

// layerNames are the last parts of the module paths, each once, in model order.
func layerNames(m *model.Model) (names []string) {
	for _, lin := range m.Linear {
		if _, name, _ := cutLast(lin.Path); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// first is the first of several lists of names that the model has layers for.
func first(m *model.Model, lists ...[]string) []string {
	for _, names := range lists {
		if _, err := chosen(m, "", names, false); err == nil {
			return names
		}
	}
	return nil
}
