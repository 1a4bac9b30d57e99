package main

import (
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/seed-7b27c88a/shoal/node"
)

func (a *app) versionCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "version, commit and Go release",
		Args:  usage(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			v := struct {
				Version string `json:"version"`
				Go      string `json:"go"`
				OS      string `json:"os"`
				Arch    string `json:"arch"`
			}{node.Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH}
			return a.answer(v, func(w io.Writer) { fmt.Fprintf(w, "shoal %s %s %s/%s\n", v.Version, v.Go, v.OS, v.Arch) })
		},
	}
}
