package data

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/shard"
)

func text(name, typ, content string) Source {
	return Source{Name: name, Type: typ, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(content)), nil
	}}
}

func build(t *testing.T, o Options, tok Tokenizer, sources ...Source) (Built, *shard.Mem) {
	t.Helper()
	mem := shard.NewMem()
	b, err := Build(t.Context(), sources, tok, o, mem)
	if err != nil {
		t.Fatal(err)
	}
	return b, mem
}

func readAll(t *testing.T, get shard.Getter, m shard.Manifest) []Example {
	t.Helper()
	r, err := Open(t.Context(), get, m)
	if err != nil {
		t.Fatal(err)
	}
	var out []Example
	for i := range r.Rows() {
		ids, labels, err := r.Row(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		if r.Len(i) != len(ids) {
			t.Errorf("position %d: Len %d, %d ids", i, r.Len(i), len(ids))
		}
		out = append(out, Example{IDs: ids, Labels: labels, Cuts: r.Cuts(i)})
	}
	return out
}

func TestTokenRows(t *testing.T) {
	b, mem := build(t, Options{SequenceLen: 4, SkipBadRows: true, Vocab: 100}, nil, text("a.jsonl", "", `
{"input_ids": [1, 2, 3]}
{"input_ids": [1, 2, 3, 4, 5], "labels": [-100, -100, 3, 4, 5]}

{"input_ids": [1, 2], "labels": [7, 8]}
{"input_ids": [1], "labels": null}
{"input_ids": [], "labels": []}
{"input_ids": [1, 100]}
{"input_ids": [1, -1]}
{"input_ids": [1, 2], "labels": [1]}
{"input_ids": [1, 2], "labels": [1, -7]}
{"input_ids": [1.5]}
{"text": "x"}
[1, 2]
{"input_ids": [1,
`))
	want := []Example{
		{IDs: []int32{1, 2, 3}, Labels: []int32{1, 2, 3}},
		{IDs: []int32{1, 2, 3, 4}, Labels: []int32{-100, -100, 3, 4}},
		{IDs: []int32{1, 2}, Labels: []int32{7, 8}},
		{IDs: []int32{1}, Labels: []int32{1}},
	}
	if d := cmp.Diff(want, readAll(t, mem, b.Train)); d != "" {
		t.Error(d)
	}
	s := b.Stats
	if len(s.FirstBad) != 5 || !strings.HasPrefix(s.FirstBad[0], "a.jsonl:7: no tokens") {
		t.Errorf("%q", s.FirstBad)
	}
	s.FirstBad = nil
	if d := cmp.Diff(Stats{Rows: 4, Tokens: 10, Targets: 5, Longest: 4, Truncated: 1, CutTokens: 1, NoTarget: 1, Skipped: 9}, s); d != "" {
		t.Error(d)
	}
}

func TestMalformedRowIsNamed(t *testing.T) {
	in := text("a.jsonl", "", "{\"input_ids\":[1,2]}\n\n{\"input_ids\":\"x\"}\n")
	_, err := Build(t.Context(), []Source{in}, nil, Options{}, shard.NewMem())
	if err == nil || !strings.Contains(err.Error(), "a.jsonl:3: input_ids: ") || !strings.Contains(err.Error(), "skip_bad_rows") {
		t.Errorf("%v", err)
	}
}

func TestBuildRefuses(t *testing.T) {
	ok := "{\"input_ids\":[1,2]}\n"
	for want, tc := range map[string]struct {
		in, typ string
		o       Options
	}{
		"no rows to train on":        {"\n\n", "", Options{}},
		"nothing to learn":           {`{"input_ids":[1,2],"labels":[-100,-100]}`, "", Options{}},
		"no known kind of row":       {`{"texts":"x"}`, "", Options{}},
		"not a row of type messages": {ok, "messages", Options{}},
		"need a tokenizer":           {`{"text":"x"}`, "", Options{}},
		"lower it":                   {ok, "", Options{SequenceLen: 8, ModelLimit: 4}},
		"leaves none to train on":    {ok, "", Options{ValSetSize: 1}},
		"row longer than":            {ok + strings.Repeat(" ", MaxLine+1), "", Options{}},
	} {
		_, err := Build(t.Context(), []Source{text("a.jsonl", tc.typ, tc.in)}, nil, tc.o, shard.NewMem())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// randomRows writes rows whose positions fill several blocks, so that some span a border.
func randomRows(n, longest int) (string, []Example) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	var want []Example
	for range n {
		e := Example{IDs: make([]int32, 1+rnd.IntN(longest))}
		for t := range e.IDs {
			e.IDs[t] = rnd.Int32N(1 << 17)
		}
		e.Labels = slices.Clone(e.IDs)
		for t := range e.Labels {
			switch kind := len(want) % 3; {
			case kind == 1 && rnd.IntN(2) == 0:
				e.Labels[t] = Ignore
			case kind == 2:
				e.Labels[t] = rnd.Int32N(1 << 17)
			}
		}
		line, _ := json.Marshal(map[string][]int32{"input_ids": e.IDs, "labels": e.Labels})
		b.Write(append(line, '\n'))
		want = append(want, e)
	}
	return b.String(), want
}

func TestManyBlocks(t *testing.T) {
	in, want := randomRows(300, 5000)
	b, mem := build(t, Options{}, nil, text("a", "tokens", in))
	if n := len(b.Train.Files[1].Blocks); n < 3 {
		t.Fatalf("only %d blocks", n)
	}
	for i, e := range readAll(t, mem, b.Train) { // cmp.Diff takes seconds for a million numbers
		if !slices.Equal(e.IDs, want[i].IDs) || !slices.Equal(e.Labels, want[i].Labels) {
			t.Fatalf("position %d does not come back", i)
		}
	}
	again, _ := build(t, Options{}, nil, text("a", "", in))
	if d := cmp.Diff(b.Train, again.Train, cmp.Comparer(cid.Cid.Equals)); d != "" {
		t.Error("the same rows give another manifest:", d)
	}
	r, err := Open(t.Context(), mem, b.Train)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < r.Rows(); i += 16 {
		only := shard.NewMem()
		for _, c := range r.Blocks(i) {
			data, _ := mem.Get(t.Context(), c)
			if err := only.Put(t.Context(), c, data); err != nil {
				t.Fatal(err)
			}
		}
		one := Reader{get: only, file: r.file, starts: r.starts, targets: r.targets, heads: r.heads} // not packed
		if _, _, err := one.Row(t.Context(), i); err != nil {
			t.Fatalf("position %d is not in the blocks that Blocks lists: %v", i, err)
		}
	}
}

func TestHeldOut(t *testing.T) {
	var in strings.Builder
	for i := range 100 {
		fmt.Fprintf(&in, "{\"input_ids\": [%d, %d]}\n", i, i)
	}
	for _, tc := range []struct {
		size float64
		held int
	}{{0.1, 10}, {7, 7}, {0.001, 1}, {0, 0}} {
		b, mem := build(t, Options{ValSetSize: tc.size, Seed: 3}, nil, text("a", "", in.String()))
		train, val := readAll(t, mem, b.Train), readAll(t, mem, b.Val)
		if len(val) != tc.held || len(train)+len(val) != 100 || b.Stats.Held != tc.held {
			t.Errorf("%v: %d and %d", tc.size, len(train), len(val))
		}
		var all []int32
		for _, e := range append(train, val...) {
			all = append(all, e.IDs[0])
		}
		slices.Sort(all)
		if len(slices.Compact(all)) != 100 {
			t.Errorf("%v: some rows are in both parts", tc.size)
		}
		other, _ := build(t, Options{ValSetSize: tc.size, Seed: 4}, nil, text("a", "", in.String()))
		if same := cmp.Equal(b.Val, other.Val, cmp.Comparer(cid.Cid.Equals)); same != (tc.held == 0) {
			t.Errorf("%v: the seed does not decide", tc.size)
		}
	}
}

func TestCompressedFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a.jsonl.gz")
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	fmt.Fprint(z, "\ufeff{\"input_ids\":[1,2,3]}")
	z.Close()
	if err := os.WriteFile(name, buf.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	b, _ := build(t, Options{}, nil, File(name, ""))
	if b.Stats.Targets != 2 {
		t.Errorf("%+v", b.Stats)
	}
	if _, err := Build(t.Context(), []Source{File(name+"x", "")}, nil, Options{}, shard.NewMem()); err == nil {
		t.Error("a missing file has no error")
	}
}

// put stores raw files as if they were data.
func put(ctx context.Context, mem *shard.Mem, index, positions []byte, meta map[string]string) shard.Manifest {
	m := shard.Manifest{Version: 1, Kind: shard.KindData, Meta: meta}
	for _, f := range []struct {
		path string
		data []byte
	}{{fileIndex, index}, {filePositions, positions}} {
		c := &cutter{put: mem}
		_ = c.write(ctx, f.data) // a Mem does not fail
		_ = c.flush(ctx)
		m.Files = append(m.Files, shard.File{Path: f.path, Size: c.size, Blocks: c.blocks})
	}
	return m
}

func meta(rows, tokens, targets, longest string) map[string]string {
	return map[string]string{"format": format, "rows": rows, "tokens": tokens, "targets": targets, "longest": longest}
}

func TestFileIsRegular(t *testing.T) {
	for path, want := range map[string]string{os.DevNull: "device", t.TempDir(): "directory"} {
		if f, err := File(path, "").Open(); err == nil || !strings.Contains(err.Error(), want+", not a regular file") {
			t.Errorf("%s: %v, %v", path, f, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	eight := []byte{1, 0, 0, 0x80, 2, 0, 0, 0x80} // two learned tokens, one target
	good := meta("1", "2", "1", "2")
	for name, tc := range map[string]struct {
		index, positions []byte
		meta             map[string]string
		change           func(*shard.Manifest)
	}{
		"other kind":           {[]byte{4, 1}, eight, good, func(m *shard.Manifest) { m.Kind = shard.KindModel }},
		"no format":            {[]byte{4, 1}, eight, nil, nil},
		"no index":             {[]byte{4, 1}, eight, good, func(m *shard.Manifest) { m.Files = m.Files[1:] }},
		"too few blocks":       {[]byte{4, 1}, eight, good, func(m *shard.Manifest) { m.Files[0].Blocks = nil }},
		"wrong size":           {[]byte{4, 1}, eight, good, func(m *shard.Manifest) { m.Files[0].Size = 1 }},
		"huge size":            {[]byte{4, 1}, eight, good, func(m *shard.Manifest) { m.Files[0].Size = 1 << 63 }},
		"half an entry":        {[]byte{4}, eight, good, nil},
		"endless number":       {bytes.Repeat([]byte{0xff}, 11), eight, good, nil},
		"empty position":       {[]byte{4, 1, 0, 0}, eight, good, nil},
		"huge position":        {[]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1}, eight, good, nil},
		"more targets":         {[]byte{4, 2}, eight, good, nil},
		"positions missing":    {[]byte{6, 1}, eight, good, nil},
		"positions left":       {[]byte{4, 1}, append(eight, 0), good, nil},
		"other rows in meta":   {[]byte{4, 1}, eight, meta("2", "2", "1", "2"), nil},
		"other tokens in meta": {[]byte{4, 1}, eight, meta("1", "3", "1", "2"), nil},
		"longest in words":     {[]byte{4, 1}, eight, meta("1", "2", "1", "two"), nil},
	} {
		mem := shard.NewMem()
		m := put(t.Context(), mem, tc.index, tc.positions, tc.meta)
		if tc.change != nil {
			tc.change(&m)
		}
		if _, err := Open(t.Context(), mem, m); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for name, positions := range map[string][]byte{
		"one target less": {1, 0, 0, 0x80, 2, 0, 0, 0},
		"negative label":  {1, 0, 0, 0x80, 2, 0, 0, 0x80, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff},
	} {
		mem := shard.NewMem()
		index := []byte{4, 1}
		if len(positions) == 16 {
			index[0] = 5
		}
		r, err := Open(t.Context(), mem, put(t.Context(), mem, index, positions, good))
		if err != nil {
			t.Fatal(name, err)
		}
		if _, _, err := r.Row(t.Context(), 0); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(true, []byte{8, 2, 2, 2}, []byte{1, 0, 0, 0x80, 2, 0, 0, 0x80, 1, 0, 0, 0, 2, 0, 0, 0x80})
	f.Add(false, []byte{4, 1, 5, 1}, []byte{1, 0, 0, 0x80, 2, 0, 0, 0x80, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0})
	f.Add(true, []byte{0xff, 0xff, 0xff, 0xff, 1}, []byte{})
	f.Fuzz(func(t *testing.T, packed bool, index, positions []byte) {
		ctx, mem := t.Context(), shard.NewMem()
		m := put(ctx, mem, index, positions, nil)
		r := newReader(mem, m.Files[1], packed)
		if r.readIndex(ctx, m.Files[0]) != nil {
			return
		}
		for i := range r.Rows() {
			ids, labels, err := r.Row(ctx, i)
			if err == nil && (len(ids) != r.Len(i) || len(labels) != len(ids)) {
				t.Fatalf("position %d: %d ids, %d labels, Len %d", i, len(ids), len(labels), r.Len(i))
			}
			if e := (Example{IDs: ids, Labels: labels, Cuts: r.Cuts(i)}); err == nil && !e.cutsFit() {
				t.Fatalf("position %d of %d tokens is cut at %v", i, len(ids), e.Cuts)
			}
		}
	})
}
