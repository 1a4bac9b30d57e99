package gpubench

import (
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	_ "github.com/seed-7b27c88a/shoal/kernels/cpu"
)

// TestSmall runs every measurement at small sizes, on a device that every machine has.
func TestSmall(t *testing.T) {
	dev, err := kernels.Open("cpu")
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	b, seen := New(dev), map[string]bool{}
	b.Small = true
	for _, p := range b.Parts() {
		figures, err := p.Measure(t.Context())
		if err != nil || len(figures) == 0 {
			t.Fatalf("%s: %v, %v", p.Name, figures, err)
		}
		for _, f := range figures {
			if f.Value <= 0 || seen[f.Name] {
				t.Errorf("%s: %+v", p.Name, f)
			}
			seen[f.Name] = true
		}
	}
}
