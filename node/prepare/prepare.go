// Package prepare turns what a job spec names (a directory, a stored name, hf:owner/name, a file of rows) into what a
// trainer reads and what a swarm can share: files of a model, manifests of blocks, materialised positions.
//
// It is used by the daemon that submits a job and by commands that train, generate or evaluate in their own process.
// Sources is safe for concurrent use; a Model belongs to its caller.
package prepare

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer/model"
	"github.com/seed-7b27c88a/shoal/trainer/tokenizer"
)

// ErrUnknown says that a name stands for nothing here.
var ErrUnknown = errors.New("is not there")

// Progress is told how far something is; total 0 means unknown.
type Progress func(what string, done, total int64)

// Sources is where names are looked up.
type Sources struct {
	Store shard.Getter                             // blocks of stored things; may be nil if Find is
	Find  func(kind, name string) (cid.Cid, error) // stored names; undefined: unknown. nil: there are none
	Hub   string                                   // directory of downloads
}

// Model is a model directory, wherever it lies.
type Model struct {
	Name   string
	Files  model.Files
	Config *model.Config // nil: only its tokenizer counts

	dir      string          // where it is a directory
	manifest *shard.Manifest // where it is stored
	cid      cid.Cid
}

// Model opens the model that ref names.
func (s *Sources) Model(ctx context.Context, ref string, p Progress) (*Model, error) {
	m, err := s.open(ctx, shard.KindModel, ref, p)
	if err != nil {
		return nil, err
	}
	if m.Config, err = model.ReadConfig(m.Files); err != nil {
		return nil, fmt.Errorf("model %s: %w", ref, err)
	}
	return m, nil
}

// Vocabulary opens a directory, or what else ref names, of which the tokenizer alone counts: it need not be a whole model.
func (s *Sources) Vocabulary(ctx context.Context, ref string, p Progress) (*Model, error) {
	return s.open(ctx, shard.KindModel, ref, p)
}

// Adapter opens the PEFT directory that ref names.
func (s *Sources) Adapter(ctx context.Context, ref string) (*Model, error) {
	return s.open(ctx, shard.KindAdapter, ref, nil)
}

func (s *Sources) open(ctx context.Context, kind, ref string, p Progress) (*Model, error) {
	if st, err := os.Stat(ref); err == nil && st.IsDir() {
		return fromDir(ref), nil
	}
	if strings.HasPrefix(ref, "hf:") {
		return s.download(ctx, ref, p)
	}
	c, err := s.lookUp(kind, ref)
	if err != nil {
		return nil, err
	}
	m, err := shard.LoadManifest(ctx, s.Store, c)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", kind, ref, err)
	}
	if m.Kind != kind {
		return nil, fmt.Errorf("%s is a %s, not a %s", ref, m.Kind, kind)
	}
	return &Model{Name: ref, Files: shard.OpenFiles(ctx, s.Store, m), manifest: m, cid: c}, nil
}

// fromDir follows a link to the directory: a walk through its files would stop at it.
func fromDir(dir string) *Model {
	at := dir
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		at = real
	}
	return &Model{Name: filepath.Base(dir), Files: safetensors.Dir(at), dir: at}
}

func (s *Sources) lookUp(kind, ref string) (cid.Cid, error) {
	if text, ok := strings.CutPrefix(ref, "cid:"); ok && s.Store != nil {
		return cid.Decode(text)
	}
	if s.Find != nil {
		if c, err := s.Find(kind, ref); err != nil || c.Defined() {
			return c, err
		}
	}
	return cid.Undef, fmt.Errorf("%s %q %w: name a directory, a stored %s, or hf:owner/name", kind, ref, ErrUnknown, kind)
}

// Tokenizer loads the model's tokenizer.
func (m *Model) Tokenizer() (*tokenizer.Tokenizer, error) {
	t, err := tokenizer.Load(model.FS(m.Files))
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", m.Name, err)
	}
	return t, nil
}

// Check opens the weights' headers, to find out before anything is stored whether this is a model.
func (m *Model) Check() error {
	opened, err := model.Open(m.Files)
	if err != nil {
		return fmt.Errorf("model %s: %w", m.Name, err)
	}
	return opened.Close()
}

// Detail says in a few words what the model is.
func (m *Model) Detail() string {
	return fmt.Sprintf("%s, %d layers of %d", m.Config.Type, m.Config.Layers, m.Config.Hidden)
}

// Store puts the files into blocks and returns the manifest's CID; what is stored already stays where it is.
func (m *Model) Store(ctx context.Context, kind string, put shard.Putter) (*shard.Manifest, cid.Cid, error) {
	if m.manifest != nil {
		return m.manifest, m.cid, nil
	}
	return shard.ImportDir(ctx, put, m.dir, kind, m.Name, wanted)
}

// wanted picks the files of a model or adapter directory that shoal, or who gets the result, can use.
func wanted(name string) bool {
	base := path.Base(name)
	switch {
	case strings.Contains(name, "/"): // original/, onnx/ and the like
		return false
	case strings.HasSuffix(base, ".safetensors"), strings.HasSuffix(base, ".safetensors.index.json"):
		return true
	case strings.HasPrefix(base, "tokenizer"), strings.HasPrefix(base, "chat_template"), strings.HasSuffix(base, ".tiktoken"):
		return true
	}
	switch base {
	case "config.json", "generation_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
		"adapter_config.json":
		return true
	}
	return false
}
