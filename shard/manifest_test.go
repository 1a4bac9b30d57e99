package shard

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/ipfs/go-cid"
)

func sample() *Manifest {
	return &Manifest{
		Version: ManifestVersion, Kind: KindModel, Name: "tiny",
		Files: []File{
			{Path: "config.json", Size: 3, Blocks: []cid.Cid{Sum(cid.Raw, []byte("abc"))}},
			{Path: "empty"},
			{Path: "sub/model.safetensors", Size: MaxBlock + 1, Blocks: []cid.Cid{Sum(cid.Raw, make([]byte, MaxBlock)), Sum(cid.Raw, []byte{0})}},
		},
		Meta: map[string]string{"b": "2", "a": "1"},
	}
}

func TestManifestRoundTrip(t *testing.T) {
	m := sample()
	data, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeManifest(data)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(m, got, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b cid.Cid) bool { return a.Equals(b) })); d != "" {
		t.Fatal(d)
	}
	if m.Size() != MaxBlock+4 || len(m.Blocks()) != 3 {
		t.Errorf("%d bytes in %d blocks", m.Size(), len(m.Blocks()))
	}
}

// TestManifestFormat keeps the bytes of version 1: identities that people passed on must stay what they are.
func TestManifestFormat(t *testing.T) {
	m := &Manifest{Version: 1, Kind: KindModel, Name: "m", Meta: map[string]string{"k": "v"},
		Files: []File{{Path: "f", Size: 3, Blocks: []cid.Cid{Sum(cid.Raw, []byte("abc"))}}}}
	data, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	const want = "a5" + "0101" + "02656d6f64656c" + "03616d" + // version, kind, name
		"0481a3" + "016166" + "0203" + "0381" + // one file: path, size, one block
		"5824" + "01551220" + "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" + // CIDv1 raw sha2-256 of "abc"
		"05a1616b6176"
	if got := hex.EncodeToString(data); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestManifestValidate(t *testing.T) {
	block := Sum(cid.Raw, []byte("abc"))
	file := func(path string) File { return File{Path: path, Size: 3, Blocks: []cid.Cid{block}} }
	for _, tc := range []struct {
		name  string
		spoil func(*Manifest)
		want  string
	}{
		{"version", func(m *Manifest) { m.Version = 2 }, "version 2"},
		{"kind", func(m *Manifest) { m.Kind = "image" }, "unknown kind"},
		{"name too long", func(m *Manifest) { m.Name = strings.Repeat("x", MaxName+1) }, "name"},
		{"name with a newline", func(m *Manifest) { m.Name = "a\nb" }, "name"},
		{"name not UTF-8", func(m *Manifest) { m.Name = "\xff" }, "name"},
		{"order", func(m *Manifest) { m.Files = []File{file("b"), file("a")} }, "out of order"},
		{"twice", func(m *Manifest) { m.Files = []File{file("a"), file("a")} }, "equal"},
		{"file and folder", func(m *Manifest) { m.Files = []File{file("a"), file("a.b"), file("a/b")} }, "as a folder"},
		{"too few blocks", func(m *Manifest) { m.Files[2].Blocks = m.Files[2].Blocks[:1] }, "2 blocks, not 1"},
		{"too many blocks", func(m *Manifest) { m.Files[0].Blocks = append(m.Files[0].Blocks, block) }, "1 blocks, not 2"},
		{"blocks of nothing", func(m *Manifest) { m.Files[1].Blocks = []cid.Cid{block} }, "0 blocks, not 1"},
		{"huge size", func(m *Manifest) { m.Files[0].Size = 1<<64 - 1 }, "blocks, not 1"},
		{"undefined block", func(m *Manifest) { m.Files[0].Blocks[0] = cid.Undef }, "missing"},
		{"block of another kind", func(m *Manifest) { m.Files[0].Blocks[0] = cid.NewCidV0(block.Hash()) }, "not a CIDv1"},
		{"block is a manifest", func(m *Manifest) { m.Files[0].Blocks[0] = Sum(cid.DagCBOR, []byte("abc")) }, "not raw"},
		{"facts", func(m *Manifest) {
			for i := range MaxMeta + 1 {
				m.Meta[fmt.Sprint(i)] = ""
			}
		}, "facts"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := sample()
			tc.spoil(m)
			if _, err := m.Encode(); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}

func TestCheckPath(t *testing.T) {
	for path, ok := range map[string]bool{
		"a": true, "a/b.c": true, "ä/ö": true, "..a": true, "a b": true,
		"": false, ".": false, "..": false, "../a": false, "a/..": false, "a/../b": false, "/a": false, "a/": false, "a//b": false,
		"./a": false, `a\b`: false, "c:a": false, "a\x00b": false, "a\nb": false, "\xff": false, strings.Repeat("a", MaxPath+1): false,
	} {
		if err := CheckPath(path); (err == nil) != ok {
			t.Errorf("%q: %v", path, err)
		}
	}
}

func TestDecodeManifestRefuses(t *testing.T) {
	good, err := sample().Encode()
	if err != nil {
		t.Fatal(err)
	}
	encode := func(v any) []byte {
		b, err := cbor.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, data := range map[string][]byte{
		"nothing":        nil,
		"cut":            good[:len(good)-1],
		"trailing":       append(bytes.Clone(good), 0),
		"long integer":   append([]byte{good[0], 0x01, 0x18, 0x01}, good[3:]...),
		"null files":     encode(map[int]any{1: 1, 2: "model", 4: nil}),
		"unknown key":    encode(map[int]any{1: 1, 2: "model", 4: []any{}, 9: 1}),
		"text keys":      encode(map[string]any{"Version": 1, "Kind": "model"}),
		"null block":     encode(map[int]any{1: 1, 2: "model", 4: []any{map[int]any{1: "a", 2: 1, 3: []any{nil}}}}),
		"short block":    encode(map[int]any{1: 1, 2: "model", 4: []any{map[int]any{1: "a", 2: 1, 3: []any{[]byte{1, 0x55, 0x12, 0x20, 1}}}}}),
		"huge array":     {0xa3, 0x01, 0x01, 0x02, 0x65, 'm', 'o', 'd', 'e', 'l', 0x04, 0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"larger than it": make([]byte, MaxBlock+1),
	} {
		if _, err := DecodeManifest(data); err == nil {
			t.Errorf("%s: decoded", name)
		}
	}
}

func FuzzDecodeManifest(f *testing.F) {
	good, err := sample().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:40])
	f.Add([]byte{0xa3, 0x01, 0x01, 0x02, 0x65, 'm', 'o', 'd', 'e', 'l', 0x04, 0x80})
	f.Add([]byte{0xa3, 0x01, 0x01, 0x02, 0x65, 'm', 'o', 'd', 'e', 'l', 0x04, 0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := DecodeManifest(data)
		if err != nil {
			return
		}
		again, err := m.Encode()
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%x became %x, %v", data, again, err)
		}
	})
}
