package job

import (
	"fmt"
	"reflect"
	"strings"
)

// suggest names the known key that a stranger's key most likely means: what other trainers call it, the same word at
// another level, or the smallest edit distance at the same level.
func suggest(path, name string) string {
	if s, ok := elsewhere(name); ok {
		return "here it is " + s
	}
	keys := Keys()
	for _, k := range keys {
		if k[strings.LastIndexByte(k, '.')+1:] == name {
			return fmt.Sprintf("did you mean %q?", k)
		}
	}
	best, dist := "", 1<<30
	for _, k := range keys {
		parent, last := "", k
		if i := strings.LastIndexByte(k, '.'); i >= 0 {
			parent, last = k[:i], k[i+1:]
		}
		if parent != withoutIndexes(path) {
			continue
		}
		if d := distance(clip(name, 60), last); d < dist {
			best, dist = join(path, last), d
		}
	}
	return fmt.Sprintf("the nearest known one is %q", best)
}

// elsewhere maps keys of other trainers to ours.
func elsewhere(name string) (string, bool) {
	s, ok := map[string]string{
		"learning_rate":               `"optimizer.lr"`,
		"per_device_train_batch_size": `"micro_batch_size"`,
		"gradient_accumulation_steps": `"global_batch_size" (sequences per optimizer step over all nodes)`,
		"model_name_or_path":          `"base_model"`,
		"cutoff_len":                  `"sequence_len"`,
		"warmup_ratio":                `"lr_scheduler.warmup_steps"`,
		"num_train_epochs":            `"num_epochs"`,
		"max_length":                  `"sequence_len"`,
		"bf16":                        `"dtype"`,
		"fp16":                        `"dtype"`,
	}[name]
	return s, ok
}

// Keys lists every key of a spec, dotted, in the order of the table in the documentation.
func Keys() []string {
	return keysOf(reflect.TypeFor[Spec](), "")
}

func keysOf(t reflect.Type, prefix string) []string {
	var out []string
	for i := range t.NumField() {
		f := t.Field(i)
		out = append(out, prefix+keyOf(f))
		ft := f.Type
		for ft.Kind() == reflect.Slice || ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		if ft.Kind() == reflect.Struct {
			out = append(out, keysOf(ft, prefix+keyOf(f)+".")...)
		}
	}
	return out
}

// withoutIndexes turns datasets.0 into datasets.
func withoutIndexes(path string) string {
	var out []string
	for _, p := range strings.Split(path, ".") {
		if strings.Trim(p, "0123456789") != "" {
			out = append(out, p)
		}
	}
	return strings.Join(out, ".")
}

// distance is the Levenshtein distance in bytes: one row of the table at a time.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diag, row[j+1] = row[j+1], min(diag+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
