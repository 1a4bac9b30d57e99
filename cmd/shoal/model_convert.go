package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/seed-7b27c88a/shoal/node/prepare"
	"github.com/seed-7b27c88a/shoal/trainer/autograd"
	"github.com/seed-7b27c88a/shoal/trainer/model"
)

func (a *app) modelConvertCmd() *cobra.Command {
	var heads int
	var out string
	cmd := &cobra.Command{
		Use:   "convert-gqa DIR|name|hf:owner/name[@rev] --kv-heads N -o DIR",
		Short: "write a model with fewer heads of keys and values, each the mean of those that it replaces",
		Args:  usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case out == "":
				return usagef("name the directory to write with -o DIR")
			case heads < 1:
				return usagef("--kv-heads N: say how many heads of keys and values are to be left")
			}
			if err := checkOutput(out, []string{absolute(args[0])}); err != nil {
				return err
			}
			err := a.withSources(func(src *prepare.Sources) error {
				m, err := src.Model(cmd.Context(), args[0], a.progress(0).long)
				if err != nil {
					return err
				}
				return pool(m.Files, heads, out)
			})
			if err != nil {
				return err
			}
			a.say("the model has to be trained on before it is as good as it was")
			return a.answer(map[string]string{"dir": out}, func(w io.Writer) { fmt.Fprintln(w, out) })
		},
	}
	cmd.Flags().IntVar(&heads, "kv-heads", 0, "heads of keys and values that are left")
	cmd.Flags().StringVarP(&out, "output", "o", "", "directory to write")
	return cmd
}

// pool writes the model in files with so many heads of keys and values, a weight at a time.
func pool(files model.Files, heads int, dir string) error {
	m, err := model.OpenWith(files, model.Surgery{KVHeads: heads})
	if err != nil {
		return err
	}
	defer m.Close()
	return m.Save(dir, files, func(p *autograd.Param) ([]float32, error) {
		v := make([]float32, p.Len())
		return v, m.Read(p, v)
	})
}
