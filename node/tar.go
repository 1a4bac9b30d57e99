package node

import (
	"archive/tar"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// writeTar writes the files under dir, in order of their names, without owners and times.
func writeTar(w io.Writer, dir string) error {
	t := tar.NewWriter(w)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		return addFile(t, path, filepath.ToSlash(name))
	})
	if err != nil {
		return err
	}
	return t.Close()
}

func addFile(t *tar.Writer, path, name string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: st.Size(), Mode: 0o644}); err != nil {
		return err
	}
	_, err = io.Copy(t, f)
	return err
}
