package prepare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/trainer/data"
	"github.com/seed-7b27c88a/shoal/trainer/job"
)

// rowsFile is the file of a manifest of stored rows, plain JSONL.
const rowsFile = "rows.jsonl"

// Rows materialises the datasets of a spec for a model, into put.
func (s *Sources) Rows(ctx context.Context, spec *job.Spec, m *Model, put shard.Putter, p Progress) (data.Built, error) {
	var sources []data.Source
	for _, d := range spec.Datasets {
		found, err := s.dataset(ctx, d, p)
		if err != nil {
			return data.Built{}, err
		}
		sources = append(sources, found...)
	}
	o := data.Options{
		SequenceLen: spec.SequenceLen, SkipBadRows: spec.SkipBadRows,
		TrainOnInputs: spec.TrainOnInputs, ValSetSize: spec.ValSetSize, Seed: spec.Seed, Name: spec.Name,
		Pack: spec.SamplePacking,
	}
	if m.Config != nil {
		o.ModelLimit, o.Vocab = m.Config.MaxPos-spec.Before(), m.Config.Vocab
	}
	if p != nil {
		o.Progress = func(st data.Stats) { p("tokenize rows", int64(st.Rows+st.Held), 0) }
	}
	tok, err := m.Tokenizer()
	if errors.Is(err, fs.ErrNotExist) {
		return data.Build(ctx, sources, nil, o, put) // rows of token ids need none
	} else if err != nil {
		return data.Built{}, err
	}
	if tok, err = tok.WithTemplate(spec.ChatTemplate); err != nil {
		return data.Built{}, err
	}
	return data.Build(ctx, sources, tok, o, put)
}

// dataset finds the files of rows that d names.
func (s *Sources) dataset(ctx context.Context, d job.Dataset, p Progress) ([]data.Source, error) {
	if !strings.HasPrefix(d.Path, "hf:") {
		src, err := s.source(ctx, d.Path, d.Type)
		return []data.Source{src}, err
	}
	names, err := s.downloadRows(ctx, d, p)
	if err != nil {
		return nil, fmt.Errorf("datasets: %w", err)
	}
	var out []data.Source
	for _, name := range names {
		out = append(out, data.File(name, d.Type))
	}
	return out, nil
}

// source opens a file, or rows stored under a name.
func (s *Sources) source(ctx context.Context, ref, kind string) (data.Source, error) {
	if st, err := os.Stat(ref); err == nil {
		if st.IsDir() {
			return data.Source{}, fmt.Errorf("datasets: %s is a directory, name a JSONL file in it", ref)
		}
		return data.File(ref, kind), nil
	}
	c, err := s.lookUp(shard.KindData, ref)
	if errors.Is(err, ErrUnknown) {
		return data.Source{}, fmt.Errorf("datasets: %q %w: name a file of rows, rows stored with \"shoal data add\", or hf:owner/name", ref, ErrUnknown)
	} else if err != nil {
		return data.Source{}, err
	}
	m, err := shard.LoadManifest(ctx, s.Store, c)
	if err != nil {
		return data.Source{}, fmt.Errorf("data %s: %w", ref, err)
	}
	f, ok := m.File(rowsFile)
	if !ok {
		return data.Source{}, fmt.Errorf("data %s holds no rows", ref)
	}
	if kind == "" {
		kind = m.Meta["type"]
	}
	return data.Source{Name: ref, Type: kind, Open: func() (io.ReadCloser, error) {
		r := shard.NewReader(ctx, s.Store, f)
		return io.NopCloser(io.NewSectionReader(r, 0, r.Size())), nil
	}}, nil
}

// Stored is what StoreRows kept.
type Stored struct {
	CID    cid.Cid
	Bytes  int64
	Detail string
}

// StoreRows checks every row of a JSONL file and stores the file, decompressed, as it is.
func StoreRows(ctx context.Context, path, kind, name string, put shard.Putter, p Progress) (Stored, error) {
	src := data.File(path, kind)
	var o data.Options
	if p != nil {
		o.Progress = func(st data.Stats) { p("check rows", int64(st.Rows), 0) }
	}
	built, err := data.Build(ctx, []data.Source{src}, plain{}, o, nowhere{})
	if err != nil {
		return Stored{}, err
	}
	r, err := src.Open()
	if err != nil {
		return Stored{}, err
	}
	defer r.Close()
	f, err := shard.WriteFile(ctx, put, rowsFile, r)
	if err != nil {
		return Stored{}, err
	}
	m := shard.Manifest{Version: shard.ManifestVersion, Kind: shard.KindData, Name: name, Files: []shard.File{f},
		Meta: map[string]string{"format": "jsonl", "rows": fmt.Sprint(built.Stats.Rows), "type": kind}}
	c, err := shard.SaveManifest(ctx, put, &m)
	if err != nil {
		return Stored{}, err
	}
	detail := fmt.Sprintf("%d rows", built.Stats.Rows)
	if built.Stats.Rows == 1 {
		detail = "1 row"
	}
	if kind != "" {
		detail += ", " + kind
	}
	return Stored{CID: c, Bytes: int64(f.Size), Detail: detail}, nil
}

// nowhere names blocks and forgets them.
type nowhere struct{}

func (nowhere) Add(_ context.Context, codec uint64, b []byte) (cid.Cid, error) {
	return shard.Name(codec, b)
}
func (nowhere) Put(context.Context, cid.Cid, []byte) error { return nil }

// plain stands in for a tokenizer where only the shape of rows is checked: every byte is a token.
type plain struct{}

func (plain) Prompt(text string) ([]int32, error)   { return make([]int32, len(text)), nil }
func (plain) Continue(text string) ([]int32, error) { return make([]int32, len(text)), nil }
func (plain) EOS() (int32, string, bool)            { return 0, "", true }

func (plain) Chat(messages, _ json.RawMessage) ([]int32, []bool, error) {
	n := len(strings.TrimSpace(string(messages)))
	said := make([]bool, n)
	for i := range said {
		said[i] = true
	}
	return make([]int32, n), said, nil
}
