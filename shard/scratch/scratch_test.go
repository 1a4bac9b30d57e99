package scratch_test

import (
	"os"
	"testing"

	"github.com/seed-7b27c88a/shoal/shard/scratch"
)

// TestVectors: vectors do not overlap, are used again, and leave no file behind.
func TestVectors(t *testing.T) {
	dir := t.TempDir()
	d, err := scratch.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	sizes := []int{0, 1, 1000, 1024, 1025, 1 << 18, 1<<18 + 1, 3 << 18}
	var all [][]float32
	for k := range 3 * len(sizes) {
		v, err := d.Vector(sizes[k%len(sizes)])
		if err != nil || len(v) != sizes[k%len(sizes)] {
			t.Fatalf("%d elements: %v", len(v), err)
		}
		for i := range v {
			v[i] = float32(k + 1)
		}
		all = append(all, v)
	}
	for k, v := range all {
		for i, x := range v {
			if x != float32(k+1) {
				t.Fatalf("element %d of vector %d is %v", i, k, x)
			}
		}
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("files are left: %v, %v", files, err)
	}
	before := d.Bytes()
	for _, v := range all {
		d.Free(v)
	}
	for _, n := range sizes {
		if _, err := d.Vector(n); err != nil {
			t.Fatal(err)
		}
	}
	if d.Bytes() != before {
		t.Errorf("%d bytes on disk, %d before vectors were given back", d.Bytes(), before)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	for _, v := range all { // who comes late does no harm
		if len(v) > 0 {
			v[0], v[len(v)-1] = 1, 2
		}
	}
	if _, err := d.Vector(1); err == nil {
		t.Error("a closed Dir makes vectors")
	}
}

// TestPlain: a nil Dir is plain memory.
func TestPlain(t *testing.T) {
	var d *scratch.Dir
	v, err := d.Vector(5)
	if err != nil || len(v) != 5 || d.Bytes() != 0 {
		t.Errorf("%v, %v", v, err)
	}
	d.Free(v)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
