package data

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/parquet-go/parquet-go"
)

const (
	maxColumns = 4096    // leaves of a table's schema
	maxChunk   = 1 << 30 // bytes of one column in one group of rows, decompressed, as the file's footer says
	readRows   = 16      // rows asked for at once
)

// parquetLines shows the rows of a parquet file as JSON lines. Closing what it returns closes f.
func parquetLines(f *os.File) (io.ReadCloser, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	t, err := openTable(f, st.Size())
	if err != nil {
		return nil, err
	}
	return readCloser{t, func() error { return errors.Join(t.close(), f.Close()) }}, nil
}

// caught turns a panic of the parquet library, which a damaged file may cause, into an error.
func caught(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("the file is damaged: %.200v", p)
	}
}

// table is the rows of a file, read as JSON lines.
type table struct {
	groups []parquet.RowGroup
	shape  *column
	leaves int

	rows parquet.Rows // of the group that is read; nil: the next one has to be opened
	buf  []parquet.Row
	out  []byte // lines that are not asked for yet
	err  error  // what follows them
}

func openTable(r io.ReaderAt, size int64) (_ *table, err error) {
	defer caught(&err)
	if err := checkFooter(r, size); err != nil {
		return nil, err
	}
	f, err := parquet.OpenFile(r, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return nil, err
	}
	if err := checkPages(r, size, f.Metadata().RowGroups); err != nil {
		return nil, err
	}
	t := &table{groups: f.RowGroups(), buf: make([]parquet.Row, readRows)}
	if t.shape, err = shapeOf(f.Root(), &t.leaves, 0); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *table) close() (err error) {
	defer caught(&err)
	if t.rows != nil {
		err = t.rows.Close()
	}
	return err
}

// Read implements io.Reader.
func (t *table) Read(p []byte) (int, error) {
	for len(t.out) == 0 {
		if t.err != nil {
			return 0, t.err
		}
		t.out = t.out[:0]
		t.err = t.more()
	}
	n := copy(p, t.out)
	t.out = t.out[n:]
	return n, nil
}

// more appends the next rows to out; io.EOF after the last.
func (t *table) more() (err error) {
	defer caught(&err)
	if t.rows == nil {
		if len(t.groups) == 0 {
			return io.EOF
		}
		t.rows, t.groups = t.groups[0].Rows(), t.groups[1:]
	}
	n, err := t.rows.ReadRows(t.buf)
	for _, row := range t.buf[:n] {
		if werr := t.write(row); werr != nil {
			return werr
		}
	}
	switch {
	case errors.Is(err, io.EOF):
		err = t.rows.Close()
		t.rows = nil
	case err == nil && n == 0:
		err = io.ErrNoProgress
	}
	return err
}

// write appends a row as a line.
func (t *table) write(row parquet.Row) error {
	a := assembler{out: t.out, values: make([][]parquet.Value, t.leaves)}
	row.Range(func(i int, v []parquet.Value) bool {
		if i < len(a.values) {
			a.values[i] = v
		}
		return true
	})
	err := a.object(t.shape)
	t.out = append(a.out, '\n')
	return err
}
