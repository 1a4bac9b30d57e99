package data

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/trainer/tokenizer/tokenizertest"
)

type talk struct {
	Role    string   `parquet:"role"`
	Content string   `parquet:"content"`
	Weight  *float64 `parquet:"weight,optional"`
}

type conversationRow struct {
	Messages []talk    `parquet:"messages,list"`
	Tools    *string   `parquet:"tools,optional"`
	Scores   []float32 `parquet:"scores,list"`
	ID       int64     `parquet:"id"`
	Nested   struct {
		Flags [][]bool `parquet:"flags,list"`
		Plain []string `parquet:"plain"` // repeated, without a list around it
	} `parquet:"nested"`
}

func writeParquet[T any](t testing.TB, rows []T, o ...parquet.WriterOption) []byte {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[T](&b, o...)
	if _, err := w.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func conversationRows() []conversationRow {
	zero, tools := 0.0, `[{"name":"f"}]`
	rows := []conversationRow{
		{Messages: []talk{{"user", "hi", nil}, {"assistant", "yo", nil}}, ID: 1, Scores: []float32{0.5, 2}},
		{Messages: []talk{{"user", "é\n\"", nil}, {"assistant", "a", &zero}, {"assistant", "b", nil}}, Tools: &tools},
		{ID: -3},
	}
	rows[1].Nested.Flags, rows[1].Nested.Plain = [][]bool{{true, false}, {}, {true}}, []string{"x", "y"}
	return rows
}

func parquetFile(t testing.TB, data []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "rows.parquet")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestParquetLines(t *testing.T) {
	want := []string{
		`{"messages":[{"role":"user","content":"hi","weight":null},{"role":"assistant","content":"yo","weight":null}],"tools":null,"scores":[0.5,2],"id":1,"nested":{"flags":[],"plain":[]}}`,
		`{"messages":[{"role":"user","content":"é\n\"","weight":null},{"role":"assistant","content":"a","weight":0},{"role":"assistant","content":"b","weight":null}],"tools":"[{\"name\":\"f\"}]","scores":[],"id":0,"nested":{"flags":[[true,false],[],[true]],"plain":["x","y"]}}`,
		`{"messages":[],"tools":null,"scores":[],"id":-3,"nested":{"flags":[],"plain":[]}}`,
	}
	for name, o := range map[string][]parquet.WriterOption{
		"plain": nil, "zstd": {parquet.Compression(&parquet.Zstd)}, "gzip": {parquet.Compression(&parquet.Gzip)},
		"snappy": {parquet.Compression(&parquet.Snappy)}, "snappy, version 1": {parquet.Compression(&parquet.Snappy), parquet.DataPageVersion(1)}, "small pages": {parquet.PageBufferSize(16), parquet.DataPageVersion(1)},
		"groups": {parquet.MaxRowsPerRowGroup(1)},
	} {
		f, err := File(parquetFile(t, writeParquet(t, conversationRows(), o...)), "").Open()
		if err != nil {
			t.Fatal(name, err)
		}
		got, err := io.ReadAll(f)
		if err := f.Close(); err != nil {
			t.Error(name, err)
		}
		if s := strings.Join(want, "\n") + "\n"; err != nil || string(got) != s {
			t.Errorf("%s: %v\ngot  %s\nwant %s", name, err, got, s)
		}
	}
}

// TestParquetRows learns from a table as from lines.
func TestParquetRows(t *testing.T) {
	tok := byteTokenizer(t, tokenizertest.Options{})
	file := parquetFile(t, writeParquet(t, conversationRows()[:2]))
	b, mem := build(t, Options{}, tok, File(file, ""))
	got := readAll(t, mem, b.Train)
	if s := show(tok, got[0]); s != "<s><|im_start|>user\nhi</s>\n<|im_start|>assistant\n[yo</s>]\n" {
		t.Errorf("%q", s)
	}
	if s := show(tok, got[1]); !strings.HasSuffix(s, "assistant\na</s>\n<|im_start|>assistant\n[b</s>]\n") || !strings.Contains(s, "<tools>") {
		t.Errorf("%q", s)
	}
	bad := parquetFile(t, writeParquet(t, conversationRows()))
	if _, err := Build(t.Context(), []Source{File(bad, "")}, tok, Options{}, shard.NewMem()); err == nil || !strings.Contains(err.Error(), "rows.parquet:3: messages is not a list") {
		t.Error(err)
	}
}

// FuzzParquet reads damaged tables: an error or rows, never a panic.
func FuzzParquet(f *testing.F) {
	whole := writeParquet(f, conversationRows())
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add(writeParquet(f, conversationRows(), parquet.Compression(&parquet.Snappy), parquet.DataPageVersion(1)))
	f.Add([]byte("PAR1PAR1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := openTable(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(r, 1<<20))
		_ = r.close()
	})
}
