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
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
)

// exportFlags say what is written, of what, and where.
type exportFlags struct {
	as, quant string
	partial   bool
	dir, base string // of a run on this machine, instead of a job
	out       string // a directory, or a .gguf file
}

func (a *app) exportCmd() *cobra.Command {
	var f exportFlags
	cmd := &cobra.Command{
		Use:   "export JOB|--dir DIR -o PATH",
		Short: "write a result: a PEFT or Hugging Face directory, or a GGUF file",
		Args:  usage(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(args); err != nil {
				return err
			}
			export := func() error { return a.exportJob(cmd.Context(), args[0], f) }
			if f.dir != "" {
				export = func() error { return a.exportDir(cmd.Context(), f) }
			}
			if err := export(); err != nil {
				return err
			}
			return a.answer(map[string]string{"dir": f.out}, func(w io.Writer) { fmt.Fprintln(w, f.out) })
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.as, "as", "", "lora, merged, full or gguf (default: what the spec's output.as lists, or lora for an adapter, else full)")
	fl.StringVar(&f.quant, "quant", "", "with --as gguf: f32, f16, bf16 or q8_0 (default: the type that the weights have)")
	fl.BoolVar(&f.partial, "partial", false, "of a job that is under way, or was cut short, take the newest settled checkpoint")
	fl.StringVar(&f.dir, "dir", "", "directory of a finished run, instead of a job")
	fl.StringVar(&f.base, "base", "", "with --dir: the adapter's base model, where its config names one that is not here")
	fl.StringVarP(&f.out, "output", "o", "", "directory to write, or a file that ends in .gguf")
	return cmd
}

// exportForms are what --as takes; gguf may name a type of weights after a colon.
var exportForms = []string{job.FormLoRA, job.FormMerged, job.FormFull, job.FormGGUF}

// check completes the flags and refuses those that contradict each other.
func (f *exportFlags) check(args []string) error {
	if f.quant != "" && f.as == "" {
		f.as = trainer.ExportGGUF
	}
	switch {
	case f.out == "":
		return usagef("name the directory or the .gguf file to write with -o PATH")
	case (len(args) == 1) == (f.dir != ""):
		return usagef("name a job, or with --dir the directory of a finished run")
	case f.base != "" && f.dir == "", f.partial && f.dir != "":
		return usagef("--base goes with --dir, --partial with a job")
	case f.as != "" && !slices.Contains(exportForms, strings.SplitN(f.as, ":", 2)[0]):
		return usagef("--as %s: want lora, merged, full or gguf", f.as)
	case f.quant != "" && f.as != trainer.ExportGGUF:
		return usagef("--quant goes with --as gguf")
	case f.file() && !strings.HasPrefix(f.as, trainer.ExportGGUF):
		return usagef("%s is a file for --as gguf", f.out)
	}
	if f.quant != "" {
		f.as += ":" + f.quant
	}
	if f.file() {
		if _, err := os.Lstat(f.out); err == nil {
			return fmt.Errorf("%s is there already; remove it, or choose another name with -o", f.out)
		}
		return nil
	}
	return checkOutput(f.out, nil)
}

// file tells that one file is asked for.
func (f *exportFlags) file() bool { return strings.HasSuffix(f.out, ".gguf") }

func (a *app) exportJob(ctx context.Context, id string, f exportFlags) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	a.tellNewest(ctx, c, id)
	r := api.ResultRequest{As: f.as, Partial: f.partial}
	if !f.file() {
		return a.download(ctx, c, id, r, f.out)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(f.out), ".export-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := a.download(ctx, c, id, r, tmp); err != nil {
		return err
	}
	found, err := filepath.Glob(filepath.Join(tmp, "*.gguf"))
	if err != nil || len(found) != 1 {
		return fmt.Errorf("the daemon sent %d GGUF files: %v", len(found), err)
	}
	return os.Rename(found[0], f.out)
}

// download writes a job's result into dir.
func (a *app) download(ctx context.Context, c *api.Client, id string, r api.ResultRequest, dir string) error {
	body, err := c.Result(ctx, id, r)
	if err != nil {
		return err
	}
	defer body.Close()
	name := ""
	if j, err := c.Job(ctx, id); err == nil {
		name = j.Name
	}
	if err := clearResult(dir, name); err != nil {
		return err
	}
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
