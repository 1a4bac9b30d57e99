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

// download is one call of Download or Dataset.
type download struct {
	kind   string                                // models or datasets
	mark   string                                // file that says that all is there
	choose func(context.Context) ([]file, error) // which files are fetched

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
	files, err := d.choose(ctx)
	if err != nil {
		return "", err
	}
	if err := d.measure(files); err != nil {
		return "", err
	}
	for _, f := range files {
		if err := d.file(ctx, f); err != nil {
			return "", fmt.Errorf("%s: %w", f.name, err)
		}
	}
	if err := writeFile(filepath.Join(dir, d.mark), ""); err != nil {
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
	data, err := d.c.get(ctx, d.c.endpoint()+"/api/"+d.kind+"/"+d.ref.Repo+"/revision/"+url.PathEscape(d.ref.Revision)+"?blobs=true", maxListing)
	if err != nil {
		return d.explain(err)
	}
	d.listing, err = readListing(data)
	return err
}

// modelFiles decides what is fetched of a model; with several files of weights their index has to be there first.
func (d *download) modelFiles(ctx context.Context) ([]file, error) {
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
	return d.listing.wanted(index)
}

// measure adds up what there is to fetch.
func (d *download) measure(files []file) error {
	d.done, d.total = 0, 0
	for _, f := range files {
		if d.total += f.size; d.total > d.c.maxBytes() || d.total < 0 {
			return fmt.Errorf("more than %d bytes; raise the limit if that is wanted", d.c.maxBytes())
		}
	}
	return nil
}

// file makes one file of the snapshot.
func (d *download) file(ctx context.Context, f file) error {
	blob := d.repo.blob(f.hash)
	if st, err := os.Stat(blob); err == nil && st.Size() == f.size {
		d.advance(f.name, f.size)
		return d.repo.link(d.listing.commit, f.name, f.hash)
	}
	from := d.page() + "/resolve/" + d.listing.commit + "/" + strings.ReplaceAll(url.PathEscape(f.name), "%2F", "/")
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

// page is where a person looks at it, and where its files lie.
func (d *download) page() string {
	if d.kind == "models" {
		return d.c.endpoint() + "/" + d.ref.Repo
	}
	return d.c.endpoint() + "/" + d.kind + "/" + d.ref.Repo
}

// explain says what a status means for this model and what to do.
func (d *download) explain(err error) error {
	var s *statusError
	if !errors.As(err, &s) {
		return err
	}
	page, what := d.page(), strings.TrimSuffix(d.kind, "s")
	switch {
	case s.code == 401 && d.c.Token == "":
		return fmt.Errorf("%w: there is no such public %s; if it is private, set HF_TOKEN", err, what)
	case s.code == 401:
		return fmt.Errorf("%w: HF_TOKEN is not accepted; make a new one", err)
	case s.code == 403 && d.c.Token == "":
		return fmt.Errorf("%w: accept the %s's conditions at %s and set HF_TOKEN", err, what, page)
	case s.code == 403:
		return fmt.Errorf("%w: accept the %s's conditions at %s, or use a token that may read it", err, what, page)
	case s.code == 404:
		return fmt.Errorf("%w: no such %s, revision %q or file; look at %s", err, what, d.ref.Revision, page)
	}
	return err
}
