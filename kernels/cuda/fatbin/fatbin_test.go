package fatbin

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels/cuda/src"
)

// TestFresh: the machine code is that of the sources.
func TestFresh(t *testing.T) {
	m, err := Read()
	if err != nil {
		t.Fatal(err)
	}
	if m.Sources != src.Hash() {
		t.Error("the kernels' sources have changed since the machine code was built: run make fatbin (needs nvcc)")
	}
	if sum := sha256.Sum256([]byte(Image)); m.Image != hex.EncodeToString(sum[:]) {
		t.Error("the manifest is of other machine code: run make fatbin")
	}
}
