// Package src holds the CUDA C++ sources of shoal's kernels, and their hash, by which tests know that the machine code in
// kernels/cuda/fatbin was built from them. README.md says how a kernel is written.
package src

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"path"
)

// Files are the sources.
//
//go:embed *.cu *.cuh
var Files embed.FS

// Units are the names of the .cu files, sorted.
func Units() []string { return names(".cu") }

// Hash is the SHA-256 of all names and contents.
func Hash() string {
	h := sha256.New()
	for _, n := range append(names(".cu"), names(".cuh")...) {
		text, err := fs.ReadFile(Files, n)
		if err != nil {
			panic("kernels/cuda/src: " + err.Error()) // it is compiled in
		}
		h.Write([]byte(n + "\x00"))
		h.Write(text)
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil))
}

func names(ext string) (out []string) {
	entries, err := fs.ReadDir(Files, ".")
	if err != nil {
		panic("kernels/cuda/src: " + err.Error())
	}
	for _, e := range entries {
		if path.Ext(e.Name()) == ext {
			out = append(out, e.Name())
		}
	}
	return out
}
