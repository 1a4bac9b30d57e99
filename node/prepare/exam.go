package prepare

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/trainer/exam"
	"github.com/seed-7b27c88a/shoal/trainer/job"
)

// examFile is the one file of a data manifest that holds an exam.
const examFile = "exam.json"

// StoreExam puts an exam into blocks.
func StoreExam(ctx context.Context, put shard.Putter, x *exam.Exam, name string) (cid.Cid, error) {
	b, err := x.Encode()
	if err != nil {
		return cid.Undef, err
	}
	f, err := shard.WriteFile(ctx, put, examFile, bytes.NewReader(b))
	if err != nil {
		return cid.Undef, err
	}
	return shard.SaveManifest(ctx, put, &shard.Manifest{Version: shard.ManifestVersion, Kind: shard.KindData, Name: name, Files: []shard.File{f}})
}

// LoadExam opens a stored exam of a model with vocab tokens that takes limit at a time.
func LoadExam(ctx context.Context, get shard.Getter, c cid.Cid, vocab, limit int) (*exam.Exam, error) {
	m, err := shard.LoadManifest(ctx, get, c)
	if err != nil {
		return nil, err
	}
	f, ok := m.File(examFile)
	if m.Kind != shard.KindData || !ok {
		return nil, fmt.Errorf("manifest of kind %q holds no questions", m.Kind)
	}
	r := shard.NewReader(ctx, get, f)
	return exam.Decode(io.NewSectionReader(r, 0, r.Size()), vocab, limit)
}

// exam reads the files that the evaluation asks; nil: it asks none.
func (in *Inputs) exam(spec *job.Spec) (*exam.Exam, error) {
	e := spec.Eval
	if len(e.Tasks) == 0 && e.BaseText == "" && len(e.Samples) == 0 {
		return nil, nil
	}
	tok, err := in.Model.Tokenizer()
	if err != nil {
		return nil, err
	}
	return exam.Build(e, openRegular, tok, in.Model.Config.MaxPos-spec.Before())
}

func openRegular(path string) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("is no file; name a file of text")
	}
	return f, nil
}
