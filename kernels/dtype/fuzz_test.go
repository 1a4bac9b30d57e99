package dtype

import (
	"bytes"
	"testing"
)

// FuzzDecode: any bytes under any type decode to numbers or an error, and what was decoded encodes to numbers that
// decode to the same.
func FuzzDecode(f *testing.F) {
	f.Add(byte(F32), []byte{0, 0, 128, 63})
	f.Add(byte(BF16), []byte{128, 63, 255, 255})
	f.Add(byte(F16), []byte{1, 0, 0, 124, 1, 124})
	f.Add(byte(F64), []byte{0, 0, 0, 0, 0, 0, 240, 63})
	f.Add(byte(I32), []byte{1, 2, 3})
	f.Add(byte(NF4), []byte{1})
	f.Add(byte(200), []byte{1})
	f.Fuzz(func(t *testing.T, typ byte, b []byte) {
		want := Type(typ)
		if !want.Valid() {
			if Decode(nil, want, b) == nil {
				t.Fatal("an unknown type was decoded")
			}
			return
		}
		x := make([]float32, len(b)*8/want.Bits())
		if Decode(x, want, b) != nil || want == I32 {
			return
		}
		again, y := make([]byte, len(b)), make([]float32, len(x))
		if err := Encode(again, want, x); err != nil {
			t.Fatal(err)
		}
		if err := Decode(y, want, again); err != nil {
			t.Fatal(err)
		}
		for i := range x {
			if x[i] != y[i] && x[i] == x[i] {
				t.Fatalf("%v: element %d is %v, then %v (%x %x)", want, i, x[i], y[i], b, again)
			}
		}
		if want == F32 && !bytes.Equal(b, again) {
			t.Fatalf("f32 bytes changed: %x %x", b, again)
		}
	})
}
