package main

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func archive(t testing.TB, h tar.Header, body string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	h.Size = int64(len(body))
	if err := w.WriteHeader(&h); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(body)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestUnpack(t *testing.T) {
	for name, tc := range map[string]struct {
		h    tar.Header
		body string
		ok   bool
	}{
		"file":      {tar.Header{Typeflag: tar.TypeReg, Name: "a.json", Mode: 0o644}, "x", true},
		"in dir":    {tar.Header{Typeflag: tar.TypeReg, Name: "sub/a.json", Mode: 0o644}, "x", true},
		"up":        {tar.Header{Typeflag: tar.TypeReg, Name: "../a.json"}, "x", false},
		"hidden up": {tar.Header{Typeflag: tar.TypeReg, Name: "sub/../../a.json"}, "x", false},
		"absolute":  {tar.Header{Typeflag: tar.TypeReg, Name: "/tmp/a.json"}, "x", false},
		"link":      {tar.Header{Typeflag: tar.TypeSymlink, Name: "a", Linkname: "/etc/passwd"}, "", false},
		"device":    {tar.Header{Typeflag: tar.TypeChar, Name: "a"}, "", false},
		"empty":     {tar.Header{Typeflag: tar.TypeReg, Name: ""}, "x", false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "out")
			err := unpack(bytes.NewReader(archive(t, tc.h, tc.body)), dir)
			if (err == nil) != tc.ok {
				t.Fatalf("got %v", err)
			}
			if got, err := os.ReadFile(filepath.Join(dir, tc.h.Name)); tc.ok && (err != nil || string(got) != tc.body) {
				t.Errorf("file %q, %v", got, err)
			}
			if left, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), "a*")); left != nil {
				t.Errorf("%v lies outside", left)
			}
		})
	}
}

// A cut archive leaves no half file behind.
func TestUnpackCut(t *testing.T) {
	dir := t.TempDir()
	whole := archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "w.safetensors"}, string(make([]byte, 4000)))
	if err := unpack(bytes.NewReader(whole[:2000]), dir); err == nil {
		t.Error("a cut archive was taken")
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(archive(f, tar.Header{Typeflag: tar.TypeReg, Name: "a.json"}, "x"))
	f.Add(archive(f, tar.Header{Typeflag: tar.TypeSymlink, Name: "a", Linkname: "/etc/passwd"}, ""))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := filepath.Join(t.TempDir(), "out")
		_ = unpack(bytes.NewReader(data), dir)
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), "*")); len(left) > 1 {
			t.Errorf("%v lies outside", left)
		}
	})
}
