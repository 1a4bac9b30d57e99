package hub

import (
	"context"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Split says which rows of a data set are wanted.
type Split struct {
	Name   string // train, validation, test, or another word in the names of files; default train
	Subset string // folder at the top, for data sets that have several; empty: there is only one
}

// maxParts bounds the files of a split.
const maxParts = 4096

// Dataset fetches what is missing of a split and returns the paths of its files, in the order of their names: parquet
// tables or JSON lines. Names of files say which split they belong to: train-00000-of-00002.parquet, data/test.jsonl,
// validation/0.parquet. Where no name says so, all rows are the split train. Where tables and lines are both there, tables
// are taken.
func (c *Client) Dataset(ctx context.Context, r Ref, s Split, p Progress) ([]string, error) {
	if s.Name == "" {
		s.Name = "train"
	}
	if !wordPattern.MatchString(s.Name) || s.Subset != "" && !wordPattern.MatchString(s.Subset) {
		return nil, fmt.Errorf("split %.40q of %.40q is no name; use letters, digits, . _ and -", s.Name, s.Subset)
	}
	d := &download{c: c, ref: r, repo: c.repo("datasets", r), progress: p, kind: "datasets",
		mark: doneMark + "-" + s.Name + "-" + s.Subset}
	d.choose = func(context.Context) ([]file, error) { return d.listing.rows(s) }
	dir, err := d.finished(ctx)
	if err != nil {
		return nil, err
	}
	return partsIn(dir, s)
}

// partsIn lists the files of a split in a snapshot, where other splits may be too.
func partsIn(dir string, s Split) ([]string, error) {
	l := &listing{files: map[string]file{}}
	for _, pattern := range []string{"*", "*/*", "*/*/*", "*/*/*/*"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			rel, err := filepath.Rel(dir, name)
			if err != nil {
				return nil, err
			}
			l.files[filepath.ToSlash(rel)] = file{name: filepath.ToSlash(rel), hash: strings.Repeat("0", 40)}
		}
	}
	files, err := l.rows(s)
	var out []string
	for _, f := range files {
		out = append(out, filepath.Join(dir, filepath.FromSlash(f.name)))
	}
	return out, err
}

var (
	wordPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$`)
	partPattern = regexp.MustCompile(`^([A-Za-z0-9_][A-Za-z0-9 ._=+-]{0,150}/){0,3}[A-Za-z0-9_][A-Za-z0-9 ._=+-]{0,150}$`)
)

// rows lists the files of a split.
func (l *listing) rows(s Split) ([]file, error) {
	for _, kinds := range [][]string{{".parquet"}, {".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson"}} {
		var all []file
		for _, name := range slices.Sorted(maps.Keys(l.files)) {
			if partPattern.MatchString(name) && slices.ContainsFunc(kinds, func(k string) bool { return strings.HasSuffix(name, k) }) {
				all = append(all, l.files[name])
			}
		}
		if len(all) > 0 {
			return pickSplit(all, s)
		}
	}
	return nil, fmt.Errorf("there are neither parquet tables nor JSON lines in it; download and convert it, and name the file")
}

func pickSplit(all []file, s Split) ([]file, error) {
	subsets, splits := map[string]bool{}, map[string]bool{}
	var out []file
	for _, f := range all {
		sub, split := placeOf(f.name, s.Name)
		if s.Subset != "" && sub != s.Subset {
			subsets[sub] = true
			continue
		}
		splits[split] = true
		if split == s.Name {
			subsets[sub] = true
			out = append(out, f)
		}
	}
	if len(out) == 0 && s.Name == "train" && len(splits) == 1 && splits[""] {
		for _, f := range all {
			if sub, _ := placeOf(f.name, ""); s.Subset == "" || sub == s.Subset {
				subsets[sub] = true
				out = append(out, f)
			}
		}
	}
	switch {
	case len(out) == 0 && len(splits) == 0:
		return nil, fmt.Errorf("it has no part %q; it has %s", s.Subset, words(subsets))
	case len(out) == 0:
		return nil, fmt.Errorf("it has no split %q; it has %s", s.Name, words(splits))
	case s.Subset == "" && len(subsets) > 1:
		return nil, fmt.Errorf("it has the parts %s; choose one with name", words(subsets))
	case len(out) > maxParts:
		return nil, fmt.Errorf("%d files; at most %d", len(out), maxParts)
	}
	return out, checkable(out)
}

// placeOf tells the part and the split that a file belongs to by the words in its path; wanted is a split besides the usual
// ones.
func placeOf(name, wanted string) (subset, split string) {
	dirs := strings.Split(name, "/")
	for i := len(dirs) - 1; i >= 0; i-- {
		word := splitWord(dirs[i], wanted)
		if split == "" {
			split = word
		}
		if word == "" && i < len(dirs)-1 && i == 0 && dirs[i] != "data" {
			subset = dirs[i]
		}
	}
	return subset, split
}

// splitWord finds the name of a split among the words of a file's or folder's name.
func splitWord(name, wanted string) string {
	for path.Ext(name) != "" {
		name = strings.TrimSuffix(name, path.Ext(name))
	}
	usual := map[string]string{"train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation",
		"dev": "validation", "test": "test", "testing": "test", "eval": "test", "evaluation": "test"}
	if wanted != "" && (name == wanted || strings.HasPrefix(name, wanted+"-") || strings.HasPrefix(name, wanted+"_")) {
		return wanted
	}
	for _, w := range strings.FieldsFunc(strings.ToLower(name), func(c rune) bool { return strings.ContainsRune("-_. =+", c) }) {
		if s, ok := usual[w]; ok {
			return s
		}
	}
	return ""
}

func words(set map[string]bool) string {
	var out []string
	for _, w := range slices.Sorted(maps.Keys(set)) {
		if w == "" {
			w = "files at the top"
		}
		if out = append(out, w); len(out) == 20 {
			break
		}
	}
	return strings.Join(out, ", ")
}
