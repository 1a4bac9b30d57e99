package peft

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/model"
)

// placeSaved finds the weights of the modules that are trained whole. Where the head shares the token table, naming one
// of them means both: there is one tensor to train. The file then has it under both names, so that stock PEFT, which
// keeps a copy for each module, gets the same model.
func (b *base) placeSaved() error {
	for _, p := range b.model.Params {
		k := slices.IndexFunc(b.Saved, func(t string) bool { return names(t, p) })
		if k < 0 {
			continue
		}
		if b.adapts(p) {
			return fmt.Errorf("lora_modules_to_save: %.80q names %s, which the adapter changes already; take it out of one of them", b.Saved[k], p.Name)
		}
		b.saved = append(b.saved, p)
		b.store(prefixOfNames+p.Name, p)
		if p.Tied {
			b.store(prefixOfNames+headModule+".weight", p)
		}
	}
	miss := slices.IndexFunc(b.Saved, func(t string) bool {
		return !slices.ContainsFunc(b.saved, func(p *autograd.Param) bool { return names(t, p) })
	})
	if miss >= 0 {
		return fmt.Errorf("lora_modules_to_save: this %s has no module %.80q (it has %s)", b.model.Config.Type, b.Saved[miss],
			strings.Join(moduleNames(b.model), ", "))
	}
	return nil
}

// headModule is the output layer in every family.
const headModule = "lm_head"

// names tells whether a word of modules_to_save means the weight p.
func names(module string, p *autograd.Param) bool {
	return inModule(p.Name, module) || p.Tied && module == headModule
}

// inModule tells whether a weight belongs to a module that is named by its path or by the last parts of it.
func inModule(name, module string) bool {
	path, _, _ := cutLast(name)
	for path != "" {
		if path == module || strings.HasSuffix(path, "."+module) {
			return module != ""
		}
		path, _, _ = cutLast(path)
	}
	return false
}

// cutLast cuts a path before its last dot.
func cutLast(path string) (before, last string, ok bool) {
	i := strings.LastIndexByte(path, '.')
	if i < 0 {
		return "", path, false
	}
	return path[:i], path[i+1:], true
}

// adapts tells whether p belongs to a linear layer that has a tensor of the adapter beside it.
func (b *base) adapts(p *autograd.Param) bool {
	module, _, _ := cutLast(p.Name)
	return slices.ContainsFunc(b.Params, func(q *autograd.Param) bool {
		return strings.HasPrefix(q.Name, prefixOfNames+module+".")
	})
}

// moduleNames are the last parts of the paths of modules with weights, each once, in model order.
func moduleNames(m *model.Model) (names []string) {
	for _, p := range m.Params {
		path, _, _ := cutLast(p.Name)
		if _, name, _ := cutLast(path); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// modulesToSave are the names for adapter_config.json.
func (b *base) modulesToSave() []string {
	names := slices.Clone(b.Saved)
	for _, p := range b.saved {
		if !p.Tied {
			continue
		}
		path, _, _ := cutLast(p.Name)
		_, table, _ := cutLast(path)
		for _, name := range []string{table, headModule} {
			if !slices.ContainsFunc(names, func(t string) bool { return t == name || t == path }) {
				names = append(names, name)
			}
		}
	}
	return names
}
