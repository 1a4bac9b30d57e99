package data

import (
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	thrift "github.com/parquet-go/parquet-go/format"
)

// The parquet library takes memory as a file says. What is checked here before it does bounds that by a multiple of the
// file's own size and of these.
const (
	maxFooter     = 16 << 20 // bytes
	maxElements   = 1 << 19  // of all lists in the footer: columns times groups of rows
	maxPage       = 64 << 20 // bytes, decompressed; writers aim at one MiB
	maxPageHeader = 1 << 20
	maxPageValues = 1 << 23
)

// checkFooter checks the footer, from which everything else follows.
func checkFooter(r io.ReaderAt, size int64) error {
	var end [8]byte
	if size < 12 {
		return errors.New("not a parquet file")
	}
	if _, err := r.ReadAt(end[:], size-8); err != nil {
		return err
	}
	n := int64(binary.LittleEndian.Uint32(end[:4]))
	if string(end[4:]) != "PAR1" || n > maxFooter || n > size-12 {
		return fmt.Errorf("not a parquet file, or one with a footer of more than %d bytes, or encrypted", maxFooter)
	}
	footer := make([]byte, n)
	if _, err := r.ReadAt(footer, size-8-n); err != nil {
		return err
	}
	s := skimmer{b: footer, elements: maxElements}
	return s.structure(0)
}

// checkPages walks over the pages of every column.
func checkPages(r io.ReaderAt, size int64, groups []thrift.RowGroup) error {
	for _, g := range groups {
		if g.NumRows < 0 || g.NumRows > MaxRows {
			return fmt.Errorf("a group of %d rows", g.NumRows)
		}
		for _, c := range g.Columns {
			if err := checkChunk(r, size, &c.MetaData); err != nil {
				return fmt.Errorf("column %.80q: %w", c.MetaData.PathInSchema, err)
			}
		}
	}
	return nil
}

func checkChunk(r io.ReaderAt, size int64, m *thrift.ColumnMetaData) error {
	at := m.DataPageOffset
	if d := m.DictionaryPageOffset; d > 0 && d < at {
		at = d
	}
	if n := m.TotalUncompressedSize; n < 0 || n > maxChunk {
		return fmt.Errorf("%d bytes in one group of rows; at most %d", n, maxChunk)
	}
	end := at + m.TotalCompressedSize
	if at < 4 || end < at || end > size {
		return errors.New("its pages lie outside of the file")
	}
	for values := int64(0); values < m.NumValues; {
		if at >= end {
			return errors.New("pages are missing")
		}
		p, err := readPage(r, at, end)
		if err != nil {
			return err
		}
		if err := p.fits(r, m.Codec); err != nil {
			return err
		}
		at, values = p.end, values+p.values
	}
	return nil
}

// page is what the header of a page says.
type page struct {
	start, end   int64 // of its bytes in the file, compressed
	uncompressed int64
	values       int64 // of the column; 0: it is a dictionary
	levels       int64 // bytes at the start that are never compressed
	plain        bool  // not compressed, whatever the column's codec
}

func readPage(r io.ReaderAt, at, end int64) (p page, err error) {
	buf := make([]byte, min(end-at, 1<<10))
	for {
		if _, err := r.ReadAt(buf, at); err != nil {
			return p, err
		}
		s := skimmer{b: buf, elements: 1 << 12, numbers: map[[2]int16]int64{}}
		if err = s.structure(0); err == nil {
			return p, p.read(s.numbers, at+int64(len(buf)-len(s.b)), end)
		}
		if n := int64(len(buf)); n < min(end-at, maxPageHeader) { // it may be longer
			buf = make([]byte, min(end-at, 16*n))
			continue
		}
		return p, err
	}
}

// read takes the numbers of PageHeader: 2 and 3 are its sizes, 5 is a data page's own header, 7 a dictionary's, 8 that of a
// data page of version 2.
func (p *page) read(n map[[2]int16]int64, start, end int64) error {
	compressed := n[[2]int16{0, 3}]
	p.uncompressed, p.start, p.end = n[[2]int16{0, 2}], start, start+compressed
	p.values = n[[2]int16{5, 1}] + n[[2]int16{8, 1}]
	p.levels = n[[2]int16{8, 5}] + n[[2]int16{8, 6}]
	if flag, ok := n[[2]int16{8, 7}]; ok && flag == 0 {
		p.plain = true
	}
	entries := n[[2]int16{7, 1}]
	switch {
	case compressed < 0 || compressed > end-start || p.uncompressed < 0 || p.uncompressed > maxPage:
		return fmt.Errorf("a page of %d bytes, %d decompressed; at most %d", compressed, p.uncompressed, maxPage)
	case p.values < 0 || p.values > maxPageValues || entries < 0 || entries > maxPageValues:
		return fmt.Errorf("a page of %d values", max(p.values, entries))
	case p.levels < 0 || p.levels > compressed || n[[2]int16{8, 5}] < 0 || n[[2]int16{8, 6}] < 0:
		return errors.New("a page is shorter than its levels")
	}
	return nil
}

// fits says that the page holds no more than it says.
func (p *page) fits(r io.ReaderAt, codec thrift.CompressionCodec) error {
	body := io.NewSectionReader(r, p.start+p.levels, p.end-p.start-p.levels)
	want := p.uncompressed - p.levels
	if p.plain {
		codec = thrift.Uncompressed
	}
	switch codec {
	case thrift.Uncompressed:
		if want > body.Size() {
			return errors.New("a page is shorter than it says")
		}
		return nil
	case thrift.Snappy: // which begins with its length
		var head [binary.MaxVarintLen64]byte
		n, err := body.ReadAt(head[:], 0)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if length, k := binary.Uvarint(head[:n]); n > 0 && (k <= 0 || length > uint64(max(want, 0))) {
			return errors.New("a page decompresses to more than it says")
		}
		return nil
	case thrift.Gzip:
		z, err := gzip.NewReader(body)
		if err != nil {
			return err
		}
		return bounded(z, want)
	case thrift.Zstd:
		z, err := zstd.NewReader(body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(2*maxPage))
		if err != nil {
			return err
		}
		defer z.Close()
		return bounded(z, want)
	}
	return fmt.Errorf("compressed with %s; write it with snappy, zstd, gzip or not at all", codec)
}

// bounded reads all of r, of which there may be at most n bytes.
func bounded(r io.Reader, n int64) error {
	got, err := io.Copy(io.Discard, io.LimitReader(r, n+1))
	if err == nil && got > n {
		err = errors.New("a page decompresses to more than it says")
	}
	return err
}
