// Package modeltest helps tests of everything that trains: small models made on the spot, and the reference values of
// the shared data folder where that is there.
package modeltest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/seed-7b27c88a/shoal/kernels"
	_ "github.com/seed-7b27c88a/shoal/kernels/cpu" // the device that tests compute on
	"github.com/seed-7b27c88a/shoal/shard/safetensors"
)

// Device opens the CPU for the length of the test.
func Device(t testing.TB) kernels.Device {
	t.Helper()
	dev, err := kernels.Open("cpu")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	return dev
}

// Data is the path of a file or folder of the shared test data. Where there is none the test is skipped.
func Data(t testing.TB, elem ...string) string {
	t.Helper()
	dir, err := os.Getwd()
	for err == nil && dir != filepath.Dir(dir) {
		if _, gone := os.Stat(filepath.Join(dir, "go.mod")); gone == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	path := filepath.Join(append([]string{dir, "..", "shared", "data"}, elem...)...)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("the shared test data is not here: %v", err)
	}
	return path
}

// JSON reads a file into v.
func JSON(t testing.TB, path string, v any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, v)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// File opens a safetensors file for the length of the test.
func File(t testing.TB, path string) *safetensors.File {
	t.Helper()
	r, size, err := safetensors.Dir(filepath.Dir(path)).Open(filepath.Base(path))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.(*os.File).Close() })
	f, err := safetensors.Open(r, size)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return f
}

// F64 reads a whole tensor.
func F64(t testing.TB, f *safetensors.File, name string) []float64 {
	t.Helper()
	v := make([]float64, elems(t, f, name))
	if err := f.ReadF64(name, v); err != nil {
		t.Fatal(err)
	}
	return v
}

// Rows reads a tensor of integers as rows of its last dimension.
func Rows(t testing.TB, f *safetensors.File, name string) [][]int32 {
	t.Helper()
	v := make([]int64, elems(t, f, name))
	if err := f.ReadI64(name, v); err != nil {
		t.Fatal(err)
	}
	x, _ := f.Tensor(name)
	width := x.Shape[len(x.Shape)-1]
	rows := make([][]int32, len(v)/width)
	for i, id := range v {
		rows[i/width] = append(rows[i/width], int32(id))
	}
	return rows
}

func elems(t testing.TB, f *safetensors.File, name string) int {
	t.Helper()
	x, ok := f.Tensor(name)
	if !ok {
		t.Fatalf("no tensor %s", name)
	}
	return x.Elems()
}
