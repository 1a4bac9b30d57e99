package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seed-7b27c88a/shoal/node/api"
)

func (a *app) exportCmd() *cobra.Command {
	var r api.ResultRequest
	var out string
	cmd := &cobra.Command{
		Use:   "export JOB -o DIR",
		Short: "write a job's result: a PEFT or Hugging Face directory, and metrics.jsonl",
		Args:  usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return usagef("name the directory to write with -o DIR")
			}
			if err := checkOutput(out, nil); err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			if err := a.download(cmd.Context(), c, args[0], r, out); err != nil {
				return err
			}
			return a.answer(map[string]string{"dir": out}, func(w io.Writer) { fmt.Fprintln(w, out) })
		},
	}
	cmd.Flags().StringVar(&r.As, "as", "", "lora, merged or full (default: lora for a LoRA job, else full)")
	cmd.Flags().BoolVar(&r.Partial, "partial", false, "of a job that is under way, or was cut short, take the newest settled checkpoint")
	cmd.Flags().StringVarP(&out, "output", "o", "", "directory to write")
	return cmd
}

// download writes a job's result into dir.
func (a *app) download(ctx context.Context, c *api.Client, id string, r api.ResultRequest, dir string) error {
	body, err := c.Result(ctx, id, r)
	if err != nil {
		return err
	}
	defer body.Close()
	return unpack(body, dir)
}

// unpack writes the files of a tar archive into dir, each complete or not at all. A root keeps hostile names inside.
func unpack(r io.Reader, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("result: %w", err)
		}
		if err := checkEntry(h); err != nil {
			return err
		}
		if err := place(root, h.Name, t); err != nil {
			return err
		}
	}
}

// checkEntry accepts plain files with plain names, as large as the bytes that come with them (a sparse one may be
// larger).
func checkEntry(h *tar.Header) error {
	sparse := slices.ContainsFunc(slices.Collect(maps.Keys(h.PAXRecords)), func(k string) bool { return strings.HasPrefix(k, "GNU.sparse") })
	if h.Typeflag != tar.TypeReg || sparse || len(h.Name) > 1024 || h.Name != path.Clean(h.Name) || !filepath.IsLocal(h.Name) {
		return fmt.Errorf("result: refusing entry %.200q", h.Name)
	}
	return nil
}

func place(root *os.Root, name string, r io.Reader) error {
	if d := path.Dir(name); d != "." {
		if err := root.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	tmp := name + ".part"
	f, err := root.Create(tmp)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		root.Remove(tmp)
		return fmt.Errorf("write %s: %w", name, err)
	}
	return root.Rename(tmp, name)
}
