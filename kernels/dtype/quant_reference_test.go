package dtype

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// reference reads the tensors of data/reference/quant, or skips.
func reference(t *testing.T) func(name string) []byte {
	t.Helper()
	dir, err := os.Getwd()
	for err == nil {
		if _, e := os.Stat(filepath.Join(dir, "go.mod")); e == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			t.Skip("no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
	b, err := os.ReadFile(filepath.Join(dir, "../shared/data/reference/quant/quant.safetensors"))
	if err != nil {
		t.Skipf("reference data is not here: %v", err)
	}
	n := 8 + binary.LittleEndian.Uint64(b)
	var head map[string]struct {
		Offsets [2]int `json:"data_offsets"`
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b[8:n], &all); err != nil {
		t.Fatal(err)
	}
	delete(all, "__metadata__")
	rest, _ := json.Marshal(all)
	if err := json.Unmarshal(rest, &head); err != nil {
		t.Fatal(err)
	}
	return func(name string) []byte {
		h, ok := head[name]
		if !ok {
			t.Fatalf("the reference has no %s", name)
		}
		return b[n:][h.Offsets[0]:h.Offsets[1]]
	}
}

func floats(b []byte) []float32 {
	out := make([]float32, len(b)/4)
	if err := Decode(out, F32, b); err != nil {
		panic(err)
	}
	return out
}

// TestQuantReference compares codes, scales and decoded numbers, bit for bit.
func TestQuantReference(t *testing.T) {
	ref := reference(t)
	for _, c := range []struct {
		name, form string
		block      int
	}{{"x", "int8_b64", 64}, {"x", "int8_row", 96}, {"x_tail", "int8_b64", 64}} {
		x, name := floats(ref(c.name)), c.name+"."+c.form
		q, m := make([]int8, len(x)), make([]float32, Blocks(len(x), c.block))
		if err := QuantizeI8(q, m, x, c.block); err != nil {
			t.Fatal(err)
		}
		if err := DequantizeI8(x, q, m, c.block); err != nil {
			t.Fatal(err)
		}
		codes := make([]byte, len(q))
		for i, v := range q {
			codes[i] = byte(v)
		}
		compare(t, name, codes, ref(name+".q"), m, floats(ref(name+".absmax")), x, floats(ref(name+".dequant")))
	}
	for _, name := range []string{"x", "x_tail"} {
		x := floats(ref(name))
		packed, m := make([]byte, NF4.Bytes(len(x))), make([]float32, Blocks(len(x), 64))
		if err := QuantizeNF4(packed, m, x, 64); err != nil {
			t.Fatal(err)
		}
		if err := DequantizeNF4(x, packed, m, 64); err != nil {
			t.Fatal(err)
		}
		compare(t, name+".nf4", packed, ref(name+".nf4.packed"), m, floats(ref(name+".nf4.absmax")), x, floats(ref(name+".nf4.dequant")))
	}
	for i, l := range floats(ref("nf4_code")) {
		if nf4Levels[i] != l {
			t.Errorf("level %d is %v, want %v", i, nf4Levels[i], l)
		}
	}
}

func compare(t *testing.T, name string, codes, wantCodes []byte, scales, wantScales, x, want []float32) {
	t.Helper()
	if !bytes.Equal(codes, wantCodes) {
		t.Errorf("%s: codes differ", name)
	}
	for i, w := range wantScales {
		if scales[i] != w {
			t.Errorf("%s: scale %d is %v, want %v", name, i, scales[i], w)
		}
	}
	for i, w := range want {
		if x[i] != w {
			t.Fatalf("%s: element %d decodes to %v, want %v", name, i, x[i], w)
		}
	}
}

// TestHalfReference compares the rounding of real weights with outliers.
func TestHalfReference(t *testing.T) {
	ref := reference(t)
	x := floats(ref("x"))
	bf, f := ref("x_as_bf16_bits"), ref("x_as_f16_bits")
	for i, v := range x {
		if want := uint16(binary.LittleEndian.Uint32(bf[4*i:])); ToBF16(v) != want {
			t.Errorf("%v as bf16 is %04x, want %04x", v, ToBF16(v), want)
		}
		if want := uint16(binary.LittleEndian.Uint32(f[4*i:])); ToF16(v) != want {
			t.Errorf("%v as f16 is %04x, want %04x", v, ToF16(v), want)
		}
	}
}
