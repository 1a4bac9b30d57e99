package hub

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// download is one call of Download.
type download struct {
	c        *Client
	ref      Ref
	repo     repo
	progress Progress
	listing  *listing
	done     int64 // bytes that are there
	total    int64
}

// run asks what there is, fetches what is missing, links it and marks the snapshot as complete.
func (d *download) run(ctx context.Context) (string, error) {
	if err := d.list(ctx); err != nil {
		return "", err
	}
	commit := d.listing.commit
	dir := d.repo.snapshot(commit)
	for _, sub := range []string{filepath.Join(d.repo.dir, "blobs"), dir} {
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return "", err
		}
	}
	files, err := d.files(ctx)
	if err != nil {
		return "", err
	}
	for _, f := range files {
		if err := d.file(ctx, f); err != nil {
			return "", fmt.Errorf("%s: %w", f.name, err)
		}
	}
	if err := writeFile(filepath.Join(dir, doneMark), ""); err != nil {
		return "", err
	}
	if d.ref.Revision != commit {
		if err := writeFile(d.repo.ref(d.ref.Revision), commit); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// list asks for the files of the revision.
func (d *download) list(ctx context.Context) error {
	data, err := d.c.get(ctx, d.c.endpoint()+"/api/models/"+d.ref.Repo+"/revision/"+url.PathEscape(d.ref.Revision)+"?blobs=true", maxListing)
	if err != nil {
		return d.explain(err)
	}
	d.listing, err = readListing(data)
	return err
}

// files decides what is fetched; with several files of weights their index has to be there first.
func (d *download) files(ctx context.Context) ([]file, error) {
	var index []byte
	if f, ok := d.listing.files[indexFile]; ok {
		if f.size > maxIndex || !hashPattern.MatchString(f.hash) {
			return nil, fmt.Errorf("%s of %d bytes with hash %.70q", indexFile, f.size, f.hash)
		}
		if err := d.file(ctx, f); err != nil {
			return nil, fmt.Errorf("%s: %w", indexFile, err)
		}
		var err error
		if index, err = os.ReadFile(d.repo.blob(f.hash)); err != nil {
			return nil, err
		}
	}
	files, err := d.listing.wanted(index)
	if err != nil {
		return nil, err
	}
	d.done, d.total = 0, 0
	for _, f := range files {
		if d.total += f.size; d.total > d.c.maxBytes() || d.total < 0 {
			return nil, fmt.Errorf("more than %d bytes; raise the limit if that is wanted", d.c.maxBytes())
		}
	}
	return files, nil
}

// file makes one file of the snapshot.
func (d *download) file(ctx context.Context, f file) error {
	blob := d.repo.blob(f.hash)
	if st, err := os.Stat(blob); err == nil && st.Size() == f.size {
		d.advance(f.name, f.size)
		return d.repo.link(d.listing.commit, f.name, f.hash)
	}
	from := d.c.endpoint() + "/" + d.ref.Repo + "/resolve/" + d.listing.commit + "/" + url.PathEscape(f.name)
	t := &transfer{c: d.c, url: from, file: f, part: blob + ".incomplete", advance: func(n int64) { d.advance(f.name, n) }}
	if err := t.run(ctx); err != nil {
		return d.explain(err)
	}
	if err := os.Rename(t.part, blob); err != nil {
		if _, there := os.Stat(blob); there != nil || !errors.Is(err, fs.ErrNotExist) { // else another process was faster
			return err
		}
	}
	return d.repo.link(d.listing.commit, f.name, f.hash)
}

func (d *download) advance(name string, n int64) {
	d.done += n
	if d.progress != nil && d.total > 0 {
		d.progress(name, d.done, d.total)
	}
}

// explain says what a status means for this model and what to do.
func (d *download) explain(err error) error {
	var s *statusError
	if !errors.As(err, &s) {
		return err
	}
	page := strings.TrimSuffix(d.c.endpoint(), "/") + "/" + d.ref.Repo
	switch {
	case s.code == 401 && d.c.Token == "":
		return fmt.Errorf("%w: there is no such public model; if it is private, set HF_TOKEN", err)
	case s.code == 401:
		return fmt.Errorf("%w: HF_TOKEN is not accepted; make a new one", err)
	case s.code == 403 && d.c.Token == "":
		return fmt.Errorf("%w: accept the model's conditions at %s and set HF_TOKEN", err, page)
	case s.code == 403:
		return fmt.Errorf("%w: accept the model's conditions at %s, or use a token that may read it", err, page)
	case s.code == 404:
		return fmt.Errorf("%w: no such model, revision %q or file; look at %s", err, d.ref.Revision, page)
	}
	return err
}
