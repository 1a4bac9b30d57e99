package shard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ipfs/go-cid"
)

// ImportDir stores the files of a folder and of the folders in it, and then the manifest that lists them. pick, if not
// nil, chooses files by their path. Hidden files are left out. Symbolic links to files are followed, because the cache
// of the Hugging Face hub is made of links; links to folders are not.
func ImportDir(ctx context.Context, p Putter, dir, kind, name string, pick func(path string) bool) (*Manifest, cid.Cid, error) {
	paths, err := listDir(dir, pick)
	if err != nil {
		return nil, cid.Undef, fmt.Errorf("import %s: %w", dir, err)
	}
	m := &Manifest{Version: ManifestVersion, Kind: kind, Name: name, Files: []File{}}
	blocks := Deferred(p) // the manifest makes them durable
	for _, path := range paths {
		f, err := importFile(ctx, blocks, dir, path)
		if err != nil {
			return nil, cid.Undef, fmt.Errorf("import %s: %w", dir, err)
		}
		m.Files = append(m.Files, f)
	}
	c, err := SaveManifest(ctx, p, m)
	if err != nil {
		return nil, cid.Undef, fmt.Errorf("import %s: %w", dir, err)
	}
	return m, c, nil
}

// listDir returns slash-separated paths in the manifest's order.
func listDir(dir string, pick func(string) bool) ([]string, error) {
	var paths []string
	err := filepath.WalkDir(dir, func(full string, d fs.DirEntry, err error) error {
		if err != nil || full == dir {
			return err
		}
		if strings.HasPrefix(d.Name(), ".") {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := os.Stat(full) // follows links
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(dir, full)
		if err != nil {
			return err
		}
		if rel = filepath.ToSlash(rel); pick != nil && !pick(rel) {
			return nil
		}
		if len(paths) == MaxFiles {
			return fmt.Errorf("more than %d files", MaxFiles)
		}
		paths = append(paths, rel)
		return nil
	})
	slices.Sort(paths)
	return paths, err
}

func importFile(ctx context.Context, p Putter, dir, path string) (File, error) {
	f, err := os.Open(filepath.Join(dir, filepath.FromSlash(path)))
	if err != nil {
		return File{}, err
	}
	defer f.Close()
	return WriteFile(ctx, p, path, f)
}

// ExportDir writes the files of m into dir, which must be absent or empty. It fills a folder beside dir and renames it
// at the end, so that dir is complete or untouched whatever happens. m is validated first: no path can leave dir.
func ExportDir(ctx context.Context, g Getter, m *Manifest, dir string) (err error) {
	if err := m.Validate(); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	dir = filepath.Clean(dir)
	if err := absentOrEmpty(dir); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	part, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".part-")
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	defer func() {
		if err != nil {
			os.RemoveAll(part)
		}
	}()
	if err := fillDir(ctx, g, m, part); err != nil {
		return fmt.Errorf("export %s: %w", dir, err)
	}
	if err := os.Chmod(part, 0o755); err != nil { // MkdirTemp makes it private
		return fmt.Errorf("export: %w", err)
	}
	if err := replaceDir(part, dir); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return syncDir(filepath.Dir(dir))
}

func absentOrEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is not empty; name a new folder", dir)
	}
	return err
}

// replaceDir renames part to dir. An empty dir is removed first, as not every system renames over it.
func replaceDir(part, dir string) error {
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(part, dir)
}

// fillDir writes through an os.Root, which holds even against links that somebody puts into the folder meanwhile.
func fillDir(ctx context.Context, g Getter, m *Manifest, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, f := range m.Files {
		if parent := path.Dir(f.Path); parent != "." {
			if err := root.MkdirAll(filepath.FromSlash(parent), 0o755); err != nil {
				return err
			}
		}
		if err := exportFile(ctx, g, f, root); err != nil {
			return err
		}
	}
	return syncTree(dir)
}

func exportFile(ctx context.Context, g Getter, f File, root *os.Root) (err error) {
	w, err := root.OpenFile(filepath.FromSlash(f.Path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if _, err := io.Copy(w, io.NewSectionReader(NewReader(ctx, g, f), 0, int64(f.Size))); err != nil {
		return err
	}
	return w.Sync()
}

// syncTree is syncDir for dir and all folders in it.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(full string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return syncDir(full)
	})
}

// syncDir makes renames and new names in dir survive a crash, where the system can.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrInvalid) {
		return err
	}
	return nil
}
