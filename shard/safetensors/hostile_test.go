package safetensors

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"
)

// build makes a file of a header text and data bytes.
func build(text string, data int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(text)))
	return append(append(b, text...), make([]byte, data)...)
}

func open(b []byte) (*File, error) { return Open(bytes.NewReader(b), int64(len(b))) }

func TestHostileHeaders(t *testing.T) {
	one := `{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`
	for _, tc := range []struct {
		name string
		file []byte
		want string // part of the error
	}{
		{"empty file", nil, "too short"},
		{"seven bytes", make([]byte, 7), "too short"},
		{"header of 2^62", binary.LittleEndian.AppendUint64(nil, 1<<62), "limit"},
		{"header of 2^64-1", binary.LittleEndian.AppendUint64(nil, math.MaxUint64), "limit"},
		{"header longer than file", binary.LittleEndian.AppendUint64(nil, 1<<20), "in a file of"},
		{"no header", build("", 0), "begin with {"},
		{"leading space", build(" "+one, 8), "begin with {"},
		{"array", build("[]", 0), "begin with {"},
		{"cut JSON", build(one[:30], 8), "unexpected EOF"},
		{"text after the object", build(one+"{}", 8), "closing brace"},
		{"not JSON", build("{a:1}", 8), "invalid"},
		{"overlap", build(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}`, 12), "overlaps"},
		{"same bytes twice", build(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8), "overlaps"},
		{"hole", build(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]}}`, 20), "no tensor holds"},
		{"hole at the front", build(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}`, 16), "no tensor holds"},
		{"short file", build(one, 7), "is it complete"},
		{"trailing bytes", build(one, 9), "follow the last"},
		{"shape mismatch", build(`{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}`, 8), "does not fill"},
		{"product overflow", build(`{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`, 0), "overflows"},
		{"product overflow to size", build(`{"a":{"dtype":"F64","shape":[2305843009213693953],"data_offsets":[0,8]}}`, 8), "does not fill"},
		{"overflow hidden by zero", build(`{"a":{"dtype":"F32","shape":[4611686018427387904,4,0],"data_offsets":[0,0]}}`, 0), "overflows"},
		{"begin after end", build(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}`, 8), "bad offsets"},
		{"negative offset", build(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}`, 8), "not a size"},
		{"negative dimension", build(`{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}`, 8), "not a size"},
		{"fraction", build(`{"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}`, 8), "not a size"},
		{"exponent", build(`{"a":{"dtype":"F32","shape":[2e0],"data_offsets":[0,8]}}`, 8), "not a size"},
		{"offset past int64", build(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,9223372036854775808]}}`, 8), "not a size"},
		{"three offsets", build(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,8]}}`, 8), "more than 2"},
		{"one offset", build(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[8]}}`, 8), "two numbers"},
		{"seventeen dimensions", build(`{"a":{"dtype":"F32","shape":[`+strings.Repeat("1,", 16)+`1],"data_offsets":[0,4]}}`, 4), "more than 16"},
		{"duplicate name", build(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}`, 16), "duplicate"},
		{"duplicate name, escaped", build(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"\u0061":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}`, 16), "duplicate"},
		{"duplicate field", build(`{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8), "duplicate"},
		{"duplicate metadata", build(`{"__metadata__":{},"__metadata__":{}}`, 0), "duplicate"},
		{"metadata of numbers", build(`{"__metadata__":{"a":1}}`, 0), "not a string"},
		{"field in another case", build(`{"a":{"DTYPE":"F32","shape":[2],"data_offsets":[0,8]}}`, 8), "unknown key"},
		{"field missing", build(`{"a":{"dtype":"F32","shape":[2]}}`, 0), "needs dtype"},
		{"unknown field", build(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}}`, 8), "unknown key"},
		{"deep nesting", build(`{"a":`+strings.Repeat("[", 100000), 0), "should stand"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := open(tc.file)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}

func TestUnknownTypeIsAnErrorWhenRead(t *testing.T) {
	f, err := open(build(`{"q":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]},`+
		`"x":{"dtype":"F4_E2M1","shape":[6],"data_offsets":[4,7]},"w":{"dtype":"F32","shape":[1],"data_offsets":[7,11]}}`, 11))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.ReadF32("w", make([]float32, 1)); err != nil {
		t.Error(err)
	}
	for name, n := range map[string]int{"q": 4, "x": 6} {
		if err := f.ReadF32(name, make([]float32, n)); err == nil || !strings.Contains(err.Error(), "cannot be read") {
			t.Errorf("%s: got %v", name, err)
		}
		if _, _, err := f.Raw(name); err != nil {
			t.Error(err)
		}
	}
	if err := f.ReadF32("w", make([]float32, 2)); err == nil {
		t.Error("a wrong length must be refused")
	}
	if err := f.ReadF32("none", nil); err == nil {
		t.Error("an unknown name must be refused")
	}
}

func TestTooManyTensors(t *testing.T) {
	var b strings.Builder
	b.WriteString("{")
	for i := range MaxTensors + 1 {
		fmt.Fprintf(&b, `"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},`, i)
	}
	b.WriteString(`"z":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`)
	if _, err := open(build(b.String(), 0)); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Fatalf("got %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(build(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"__metadata__":{"format":"pt"}}   `, 8))
	f.Add(build(`{"q":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]},"x":{"dtype":"F16","shape":[],"data_offsets":[4,6]}}`, 6))
	f.Add(build(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"BF16","shape":[2,0],"data_offsets":[8,8]}}`, 8))
	f.Add(build(`{"a":{"dtype":"F64","shape":[2305843009213693953],"data_offsets":[0,8]}}`, 8))
	f.Add(binary.LittleEndian.AppendUint64(nil, 1<<62))
	f.Add(build(`{}`, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := open(b)
		if err != nil {
			return
		}
		sum := int64(0)
		for _, x := range file.Tensors() {
			sum += x.Bytes()
			if x.DType.Size() == 0 {
				continue
			}
			if int64(x.Elems()*x.DType.Size()) != x.Bytes() {
				t.Fatalf("%+v: shape and bytes differ", x)
			}
			if toF32(x.DType) != nil {
				if err := file.ReadF32(x.Name, make([]float32, x.Elems())); err != nil {
					t.Fatal(err)
				}
			}
		}
		if sum+file.header.data != int64(len(b)) {
			t.Fatalf("tensors hold %d bytes of %d", sum, len(b))
		}
	})
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"metadata":{"total_size":8},"weight_map":{"a":"model-00001-of-00001.safetensors"}}`))
	f.Add([]byte(`{"weight_map":{"a":"../x"}}`))
	f.Add([]byte(`{"weight_map":{"a":"x","a":"y"}}`))
	f.Add([]byte(`{"weight_map":{}} {}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		index, err := parseIndex(b)
		for _, path := range index {
			if err == nil && !plainName(path) {
				t.Fatalf("%q got through", path)
			}
		}
	})
}
