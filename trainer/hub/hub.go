// Package hub downloads models, adapters and data sets from the Hugging Face hub, or a server that speaks like it.
//
// A model is named hf:owner/name or hf:owner/name@revision, where a revision is a branch, a tag or a commit. Of its files
// only those are fetched that shoal, or who gets the result, can use: config, tokenizer, chat template and safetensors
// weights at the top level. A data set is named alike, and of its files those of one split are fetched. Everything is checked against the hash that the hub lists before it is used: sha256 for large
// files, git's blob hash for small ones; a file without either is refused.
//
// The cache has the layout of the hub's own clients, so that they and shoal share it:
//
//	models--owner--name/refs/<revision>            the commit that a revision named last
//	models--owner--name/blobs/<hash>               files by content; <hash>.incomplete while one is on its way
//	models--owner--name/snapshots/<commit>/<file>  links into blobs; a link is made when its blob is complete
//
// and datasets--owner--name alike for data sets.
//
// A download that broke off goes on where it stopped. Two processes may download the same file at once: both write the
// same bytes to the same places. A Client is safe for concurrent use.
package hub

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Defaults of Client.
const (
	DefaultEndpoint = "https://huggingface.co"
	DefaultMaxBytes = 1 << 40
)

// Progress is told how many of a model's bytes are there. Calls come one after the other; done goes
// back when bytes turn out to be wrong and have to come again.
type Progress func(file string, done, total int64)

// Client downloads into a cache. The zero value of an optional field means its default.
type Client struct {
	Dir      string        // of the cache
	Endpoint string        // default DefaultEndpoint
	Token    string        // for models that are private or whose license has to be accepted; empty: none
	MaxBytes int64         // of one model; default DefaultMaxBytes
	Retries  int           // attempts that may fail in a row without a byte having arrived; default 4
	Wait     time.Duration // before the first of them, doubled each time; default 1 s
	Silence  time.Duration // after which a connection is given up; default 1 min
	HTTP     *http.Client  // default: net/http's

	once sync.Once
	http http.Client
}

// FromEnv returns a Client that follows HF_ENDPOINT and HF_TOKEN. Downloads go to HF_HUB_CACHE, or HF_HOME/hub, or dir.
func FromEnv(dir string) *Client {
	c := &Client{Dir: dir, Endpoint: os.Getenv("HF_ENDPOINT"), Token: os.Getenv("HF_TOKEN")}
	if home := os.Getenv("HF_HOME"); home != "" {
		c.Dir = filepath.Join(home, "hub")
	}
	if cache := os.Getenv("HF_HUB_CACHE"); cache != "" {
		c.Dir = cache
	}
	return c
}

// Ref names a model on the hub.
type Ref struct {
	Repo     string // owner/name
	Revision string // default main
}

// String is how a person writes it.
func (r Ref) String() string {
	if r.Revision == "main" {
		return "hf:" + r.Repo
	}
	return "hf:" + r.Repo + "@" + r.Revision
}

var (
	repoPattern     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$`)
	revisionPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$`)
	commitPattern   = regexp.MustCompile(`^[0-9a-f]{40}$`)
)

// Parse reads owner/name or owner/name@revision, with or without hf: before it.
func Parse(s string) (Ref, error) {
	repo, revision, at := strings.Cut(strings.TrimPrefix(s, "hf:"), "@")
	if !at {
		revision = "main"
	}
	if !repoPattern.MatchString(repo) || strings.Contains(repo, "..") {
		return Ref{}, fmt.Errorf("%.120q is not a model on the hub; write hf:owner/name or hf:owner/name@revision", s)
	}
	if !revisionPattern.MatchString(revision) || strings.Contains(revision, "..") || strings.Contains(revision, "//") || strings.HasSuffix(revision, "/") {
		return Ref{}, fmt.Errorf("%.120q is not a revision; write a branch, a tag or a commit after the @", revision)
	}
	return Ref{repo, revision}, nil
}

// Download fetches what is missing of a model and returns the directory of its snapshot. If the hub cannot be reached
// and the revision was downloaded before, that snapshot is returned.
func (c *Client) Download(ctx context.Context, r Ref, p Progress) (dir string, err error) {
	d := &download{c: c, ref: r, repo: c.repo("models", r), progress: p, kind: "models", mark: doneMark}
	d.choose = d.modelFiles
	return d.finished(ctx)
}

// finished runs the download unless all is there.
func (d *download) finished(ctx context.Context) (dir string, err error) {
	if commitPattern.MatchString(d.ref.Revision) {
		if dir, ok := d.repo.complete(d.ref.Revision, d.mark); ok {
			return dir, nil // a commit never changes
		}
	}
	if dir, err = d.run(ctx); err == nil {
		return dir, nil
	}
	if errors.Is(err, errUnreachable) {
		if commit, ok := d.repo.known(d.ref.Revision); ok {
			if dir, ok := d.repo.complete(commit, d.mark); ok {
				return dir, nil
			}
		}
	}
	return "", fmt.Errorf("download %s: %w", d.ref, err)
}

// repo is the folder of one model or data set in the cache.
type repo struct{ dir string }

func (c *Client) repo(kind string, r Ref) repo {
	return repo{filepath.Join(c.Dir, kind+"--"+strings.ReplaceAll(r.Repo, "/", "--"))}
}

func (r repo) blob(hash string) string { return filepath.Join(r.dir, "blobs", hash) }

func (r repo) snapshot(commit string) string { return filepath.Join(r.dir, "snapshots", commit) }

func (r repo) ref(revision string) string {
	return filepath.Join(r.dir, "refs", filepath.FromSlash(revision))
}

// known is the commit that a revision named last.
func (r repo) known(revision string) (string, bool) {
	if commitPattern.MatchString(revision) {
		return revision, true
	}
	data, err := os.ReadFile(r.ref(revision))
	commit := strings.TrimSpace(string(data))
	return commit, err == nil && commitPattern.MatchString(commit)
}

// doneMark is written into a snapshot when all of its files are there. Other clients do not know it, and download only
// some of a model's files, so its absence says only that the hub has to be asked.
const doneMark = ".shoal-complete"

func (r repo) complete(commit, mark string) (string, bool) {
	dir := r.snapshot(commit)
	_, err := os.Stat(filepath.Join(dir, mark))
	return dir, err == nil
}

// link makes the file of a snapshot point to its blob; where links are not possible it becomes a second name of it.
func (r repo) link(commit, file, hash string) error {
	name := filepath.Join(r.snapshot(commit), filepath.FromSlash(file))
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	target := filepath.Join(strings.Repeat("../", 2+strings.Count(file, "/")), "blobs", hash)
	if have, err := os.Readlink(name); err == nil && have == target {
		return nil
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if os.Symlink(target, name) == nil {
		return nil
	}
	err := os.Link(r.blob(hash), name)
	if errors.Is(err, fs.ErrExist) { // another process was faster
		return nil
	}
	return err
}

// writeFile replaces a small file in one step.
func writeFile(name, content string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
