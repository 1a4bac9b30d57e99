package safetensors

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// data is the folder with reference files beside the repository; tests that need it skip where it is absent.
func data(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if filepath.Dir(dir) == dir {
			t.Skip("no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
	dir = filepath.Join(filepath.Dir(dir), "shared", "data")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("reference data: ../shared/data is absent")
	}
	return dir
}

func TestRoundTrip(t *testing.T) {
	x := []float32{0, 1, -2.5, 3.25, 65504, -0.0078125}
	tensors := []Tensor{
		{Name: "f16", DType: F16, Shape: []int{3, 2}},
		{Name: "odd", DType: U8, Shape: []int{3}},
		{Name: "f32", DType: F32, Shape: []int{6}},
		{Name: "bf16", DType: BF16, Shape: []int{2, 3}},
		{Name: "f64", DType: F64, Shape: []int{6, 1}},
		{Name: "none", DType: F32, Shape: []int{0, 7}},
		{Name: "scalar <&>", DType: F32, Shape: nil},
	}
	var b bytes.Buffer
	w, err := NewWriter(&b, tensors, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []error{
		w.WriteF32("f16", x),
		w.WriteRaw("odd", bytes.NewReader([]byte{1, 2, 3})),
		w.WriteF32("f32", x),
		w.WriteF32("bf16", []float32{0, 1, -2.5, 3.25, 65536, -0.0078125}),
		w.WriteF32("f64", x),
		w.WriteF32("none", nil),
		w.WriteF32("scalar <&>", []float32{7}),
		w.Close(),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	f, err := open(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if f.header.data%8 != 0 || f.Metadata()["format"] != "pt" {
		t.Errorf("data begins at %d, metadata %v", f.header.data, f.Metadata())
	}
	for name, want := range map[string][]float32{
		"f16": x, "f32": x, "f64": x, "bf16": {0, 1, -2.5, 3.25, 65536, -0.0078125}, "none": {}, "scalar <&>": {7},
	} {
		got := make([]float32, len(want))
		if err := f.ReadF32(name, got); err != nil {
			t.Error(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	odd := make([]int64, 3)
	if err := f.ReadI64("odd", odd); err != nil || !slices.Equal(odd, []int64{1, 2, 3}) {
		t.Errorf("odd: %v, %v", odd, err)
	}
}

func TestWriterRefuses(t *testing.T) {
	a := Tensor{Name: "a", DType: F32, Shape: []int{2}}
	for name, bad := range map[string][]Tensor{
		"duplicate":  {a, a},
		"metadata":   {{Name: "__metadata__", DType: F32}},
		"unknown":    {{Name: "a", DType: "F4"}},
		"overflow":   {{Name: "a", DType: F32, Shape: []int{1 << 61}}},
		"sum":        {{Name: "a", DType: U8, Shape: []int{1 << 62}}, {Name: "b", DType: U8, Shape: []int{1 << 62}}},
		"negative":   {{Name: "a", DType: F32, Shape: []int{-1}}},
		"dimensions": {{Name: "a", DType: F32, Shape: make([]int, 17)}},
	} {
		if _, err := NewWriter(io.Discard, bad, nil); err == nil {
			t.Errorf("%s: got through", name)
		}
	}
	for name, use := range map[string]func(w *Writer){
		"other name":    func(w *Writer) { w.WriteF32("b", []float32{1, 2}) },
		"short":         func(w *Writer) { w.WriteF32("a", []float32{1}) },
		"nothing":       func(w *Writer) {},
		"raw short":     func(w *Writer) { w.WriteRaw("a", strings.NewReader("1234567")) },
		"raw long":      func(w *Writer) { w.WriteRaw("a", strings.NewReader("123456789")) },
		"one too many":  func(w *Writer) { w.WriteF32("a", []float32{1, 2}); w.WriteF32("a", []float32{1, 2}) },
		"after failure": func(w *Writer) { w.WriteF32("b", nil); w.WriteF32("a", []float32{1, 2}) },
	} {
		w, err := NewWriter(io.Discard, []Tensor{a}, nil)
		if err != nil {
			t.Fatal(err)
		}
		use(w)
		if w.Close() == nil {
			t.Errorf("%s: got through", name)
		}
	}
}

// TestHalfPrecision holds the conversions to their definition: every 16-bit pattern survives, and each number between
// two neighbours goes to the nearer, ties to the even pattern.
func TestHalfPrecision(t *testing.T) {
	for _, tc := range []struct {
		name   string
		narrow func(float32) uint16
		wide   func(uint16) float32
	}{
		{"f16", dtype.ToF16, dtype.FromF16},
		{"bf16", dtype.ToBF16, dtype.FromBF16},
	} {
		for h := 0; h < 1<<16; h++ {
			x := tc.wide(uint16(h))
			if x != x {
				if y := tc.wide(tc.narrow(x)); y == y {
					t.Fatalf("%s %04x: NaN became %v", tc.name, h, y)
				}
				continue
			}
			if got := tc.narrow(x); got != uint16(h) {
				t.Fatalf("%s %04x: came back as %04x", tc.name, h, got)
			}
			next := tc.wide(uint16(h) + 1)
			if math.IsInf(float64(x), 0) || math.IsInf(float64(next), 0) || next != next || h&0x7fff == 0x7fff {
				continue
			}
			mid := float32((float64(x) + float64(next)) / 2) // exact: two more bits than a half has
			even := uint16(h) + uint16(h)&1
			if got := tc.narrow(mid); got != even {
				t.Fatalf("%s: the middle of %04x and its neighbour became %04x, want %04x", tc.name, h, got, even)
			}
			if got := tc.narrow(math.Nextafter32(mid, x)); got != uint16(h) {
				t.Fatalf("%s: just below the middle after %04x became %04x", tc.name, h, got)
			}
		}
	}
	for x, want := range map[float32]uint16{65519.996: 0x7bff, 65520: 0x7c00, 1e30: 0x7c00, -1e30: 0xfc00} {
		if got := dtype.ToF16(x); got != want {
			t.Errorf("dtype.ToF16(%v) = %04x, want %04x", x, got, want)
		}
	}
}

func TestReferenceConversions(t *testing.T) {
	s, err := OpenFile(Dir(filepath.Join(data(t), "reference", "quant")), "quant.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	info, ok := s.Tensor("x")
	if !ok {
		t.Fatalf("no x in %v", s.Names())
	}
	x := make([]float32, info.Elems())
	if err := s.ReadF32("x", x); err != nil {
		t.Fatal(err)
	}
	for name, narrow := range map[string]func(float32) uint16{"x_as_bf16_bits": dtype.ToBF16, "x_as_f16_bits": dtype.ToF16} {
		want := make([]int64, len(x))
		if err := s.where[name].ReadI64(name, want); err != nil {
			t.Fatal(err)
		}
		for i := range x {
			if narrow(x[i]) != uint16(want[i]) {
				t.Fatalf("%s[%d]: %v became %04x, want %04x", name, i, x[i], narrow(x[i]), uint16(want[i]))
			}
		}
	}
}

func TestReferenceModels(t *testing.T) {
	models := filepath.Join(data(t), "models")
	single, err := OpenSet(Dir(filepath.Join(models, "stories260K")))
	if err != nil {
		t.Fatal(err)
	}
	defer single.Close()
	sharded, err := OpenSet(Dir(filepath.Join(models, "stories260K-bf16-sharded")))
	if err != nil {
		t.Fatal(err)
	}
	defer sharded.Close()
	if d := cmp.Diff(single.Names(), sharded.Names()); d != "" {
		t.Fatal(d)
	}
	if len(sharded.files) != 2 {
		t.Errorf("%d files", len(sharded.files))
	}
	for _, name := range single.Names() {
		info, _ := single.Tensor(name)
		a, b := make([]float32, info.Elems()), make([]float32, info.Elems())
		if err := errors.Join(single.ReadF32(name, a), sharded.ReadF32(name, b)); err != nil {
			t.Fatal(err)
		}
		for i := range a {
			if dtype.FromBF16(dtype.ToBF16(a[i])) != b[i] {
				t.Fatalf("%s[%d]: %v and %v", name, i, a[i], b[i])
			}
		}
	}
}

// TestEveryReferenceFile opens all files, some of which have tensors at unaligned offsets.
func TestEveryReferenceFile(t *testing.T) {
	n := 0
	err := filepath.WalkDir(data(t), func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".safetensors" {
			return err
		}
		s, err := OpenFile(Dir(filepath.Dir(path)), filepath.Base(path))
		if err != nil {
			t.Errorf("%s: %v", path, err)
			return nil
		}
		n++
		for _, name := range s.Names() {
			info, _ := s.Tensor(name)
			if f := s.where[name]; toF64(info.DType) != nil {
				err = f.ReadF64(name, make([]float64, info.Elems()))
			} else {
				err = f.ReadI64(name, make([]int64, info.Elems()))
			}
			if err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
		return s.Close()
	})
	if err != nil || n == 0 {
		t.Fatalf("%d files, %v", n, err)
	}
}

func TestSetRefuses(t *testing.T) {
	write := func(t *testing.T, files map[string]string) Dir {
		dir := t.TempDir()
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return Dir(dir)
	}
	shard := string(build(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8))
	for _, tc := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"nothing", nil, "neither"},
		{"missing file", map[string]string{IndexFile: `{"weight_map":{"a":"gone.safetensors"}}`}, "gone.safetensors"},
		{"missing tensor", map[string]string{IndexFile: `{"weight_map":{"b":"s"}}`, "s": shard}, `no tensor "b"`},
		{"outside", map[string]string{IndexFile: `{"weight_map":{"a":"../s"}}`}, "beside the index"},
		{"backslash", map[string]string{IndexFile: `{"weight_map":{"a":"x\\s"}}`}, "beside the index"},
		{"duplicate", map[string]string{IndexFile: `{"weight_map":{"a":"s","a":"s"}}`, "s": shard}, "duplicate"},
		{"no map", map[string]string{IndexFile: `{"metadata":{"x":[1,{}]}}`}, "weight_map"},
		{"not an object", map[string]string{IndexFile: `[]`}, "should stand"},
		{"broken shard", map[string]string{IndexFile: `{"weight_map":{"a":"s"}}`, "s": shard[:65]}, "is it complete"},
		{"broken single file beside a good index", map[string]string{SingleFile: "x", IndexFile: `{"weight_map":{"a":"s"}}`, "s": shard}, "too short"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := OpenSet(write(t, tc.files))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}

func TestDirStaysInside(t *testing.T) {
	root := t.TempDir()
	inside := filepath.Join(root, "in")
	if err := errors.Join(os.Mkdir(inside, 0o700), os.WriteFile(filepath.Join(root, "blob"), []byte("x"), 0o600),
		os.Symlink("../blob", filepath.Join(inside, "link"))); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"../blob", "a/../../blob", filepath.Join(root, "blob"), ".", ""} {
		if _, _, err := Dir(inside).Open(path); err == nil {
			t.Errorf("%q: opened", path)
		}
	}
	r, size, err := Dir(inside).Open("link")
	if err != nil || size != 1 {
		t.Fatalf("a link as the hub's cache has them: %d bytes, %v", size, err)
	}
	r.(io.Closer).Close()
}
