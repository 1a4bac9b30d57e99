package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/seed-7b27c88a/shoal/node/prepare"
	"github.com/seed-7b27c88a/shoal/trainer/model"
)

// shown is what model show tells.
type shown struct {
	Architecture string   `json:"architecture"`
	Weights      int64    `json:"weights"`
	Types        []string `json:"types"` // of the stored tensors, the most frequent first
	Layers       int      `json:"layers"`
	Hidden       int      `json:"hidden"`
	FeedForward  int      `json:"feed_forward"`
	Heads        int      `json:"heads"`
	KVHeads      int      `json:"kv_heads"`
	HeadDim      int      `json:"head_dim"`
	Vocabulary   int      `json:"vocabulary"`
	Context      int      `json:"context"`           // tokens
	Window       int      `json:"window,omitempty"`  // tokens that a query sees in the layers that have one
	Sliding      int      `json:"sliding,omitempty"` // how many layers have one
	Rotation     string   `json:"rotation,omitempty"`
	Tied         bool     `json:"tied"`
	Modules      []string `json:"modules"` // what an adapter can be put on
	Names        []string `json:"names"`   // of all weights, as unfrozen_parameters has them, N in place of a layer's number
}

func (a *app) modelShowCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "show DIR|name|hf:owner/name[@rev]",
		Short: "what a model is, and what an adapter can be put on",
		Args:  usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withSources(func(src *prepare.Sources) error {
				m, err := src.Model(cmd.Context(), args[0], a.progress(0).long)
				if err != nil {
					return err
				}
				opened, err := model.Open(m.Files)
				if err != nil {
					return fmt.Errorf("model %s: %w", args[0], err)
				}
				defer opened.Close()
				v := describe(opened)
				return a.answer(v, v.text)
			})
		},
	}
}

var layerNumber = regexp.MustCompile(`\.[0-9]+\.`)

func describe(m *model.Model) shown {
	c := m.Config
	v := shown{Architecture: c.Type, Layers: c.Layers, Hidden: c.Hidden, FeedForward: c.Inner, Heads: c.Heads, KVHeads: c.KVHeads,
		HeadDim: c.HeadDim, Vocabulary: c.Vocab, Context: c.MaxPos, Tied: c.Tied}
	types := map[string]int{}
	for _, p := range m.Params {
		if name := layerNumber.ReplaceAllString(p.Name, ".N."); !slices.Contains(v.Names, name) {
			v.Names = append(v.Names, name)
		}
		v.Weights += int64(p.Len())
		types[strings.ToLower(string(m.Stored(p).DType))]++
	}
	v.Types = slices.SortedFunc(maps.Keys(types), func(a, b string) int { return cmp.Or(types[b]-types[a], strings.Compare(a, b)) })
	for _, w := range c.Windows {
		if w > 0 {
			v.Window = w
			v.Sliding++
		}
	}
	if c.Freq != nil {
		v.Rotation = strings.TrimSpace(fmt.Sprintf("%v %s", c.Rope.Theta, c.Rope.Scaling))
	}
	for _, l := range m.Linear {
		if name := l.Path[strings.LastIndexByte(l.Path, '.')+1:]; !slices.Contains(v.Modules, name) {
			v.Modules = append(v.Modules, name)
		}
	}
	return v
}

func (v shown) text(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer t.Flush()
	fmt.Fprintf(t, "architecture\t%s\n", v.Architecture)
	fmt.Fprintf(t, "weights\t%s (%s)\n", count(float64(v.Weights)), strings.Join(v.Types, ", "))
	fmt.Fprintf(t, "layers\t%d of %d, feed-forward %d\n", v.Layers, v.Hidden, v.FeedForward)
	fmt.Fprintf(t, "heads\t%d of %d, %d of keys and values\n", v.Heads, v.HeadDim, v.KVHeads)
	fmt.Fprintf(t, "vocabulary\t%d%s\n", v.Vocabulary, map[bool]string{true: ", one table for both ends"}[v.Tied])
	fmt.Fprintf(t, "context\t%d tokens\n", v.Context)
	if v.Sliding > 0 {
		fmt.Fprintf(t, "window\t%d tokens in %s\n", v.Window, plural(v.Sliding, "layer"))
	}
	if v.Rotation != "" {
		fmt.Fprintf(t, "rotation\t%s\n", v.Rotation)
	}
	fmt.Fprintf(t, "modules\t%s\n", strings.Join(v.Modules, ", "))
	for i, name := range v.Names {
		fmt.Fprintf(t, "%s\t%s\n", map[bool]string{true: "names"}[i == 0], name)
	}
}
