package data

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/shard"
)

// Names of the files of a data manifest and of its format.
const (
	filePositions = "positions"
	fileIndex     = "index"
	format        = "1"
	formatPacked  = "2"
)

// Writer writes positions one after the other into blocks. It holds at most two blocks in memory.
type Writer struct {
	positions, index *cutter
	packed           bool   // positions may hold several rows
	rows             uint64 // positions
	parts            uint64 // rows in them
	tokens, targets  uint64
	longest          int
	scratch          []byte
}

// NewWriter returns a Writer into put.
func NewWriter(put shard.Putter) *Writer {
	return &Writer{positions: &cutter{put: put}, index: &cutter{put: put}}
}

// Add writes one position. Its ids are not negative, its labels neither except for Ignore.
func (w *Writer) Add(ctx context.Context, e Example) error {
	if w.rows == MaxRows {
		return fmt.Errorf("more than %d rows; split the data into several jobs", MaxRows)
	}
	if len(e.IDs) == 0 || len(e.IDs) > MaxTokens || len(e.Labels) != len(e.IDs) {
		return fmt.Errorf("position of %d tokens with %d labels; a position has 1 to %d and as many labels", len(e.IDs), len(e.Labels), MaxTokens)
	}
	if !e.cutsFit() || len(e.Cuts) > 0 && !w.packed {
		return fmt.Errorf("position of %d tokens with rows from %v on", len(e.IDs), e.Cuts)
	}
	explicit := e.explicit()
	w.scratch = appendPosition(w.scratch[:0], e, explicit)
	if err := w.positions.write(ctx, w.scratch); err != nil {
		return err
	}
	targets := e.Targets()
	head := uint64(len(e.IDs)) << 1
	if explicit {
		head |= 1
	}
	w.scratch = binary.AppendUvarint(w.scratch[:0], head)
	w.scratch = binary.AppendUvarint(w.scratch, uint64(targets))
	if w.packed {
		w.scratch = appendCuts(w.scratch, e.Cuts)
	}
	if err := w.index.write(ctx, w.scratch); err != nil {
		return err
	}
	w.rows++
	w.parts += 1 + uint64(len(e.Cuts))
	w.tokens += uint64(len(e.IDs))
	w.targets += uint64(targets)
	w.longest = max(w.longest, len(e.IDs))
	return nil
}

// Close writes what is left and returns the manifest.
func (w *Writer) Close(ctx context.Context, name string) (shard.Manifest, error) {
	var files []shard.File
	for _, f := range []struct {
		path string
		c    *cutter
	}{{fileIndex, w.index}, {filePositions, w.positions}} {
		if err := f.c.flush(ctx); err != nil {
			return shard.Manifest{}, err
		}
		files = append(files, shard.File{Path: f.path, Size: f.c.size, Blocks: f.c.blocks})
	}
	meta := map[string]string{
		"format":  format,
		"rows":    strconv.FormatUint(w.rows, 10),
		"tokens":  strconv.FormatUint(w.tokens, 10),
		"targets": strconv.FormatUint(w.targets, 10),
		"longest": strconv.Itoa(w.longest),
	}
	if w.packed {
		meta["format"], meta["packed"] = formatPacked, strconv.FormatUint(w.parts, 10)
	}
	return shard.Manifest{Version: shard.ManifestVersion, Kind: shard.KindData, Name: name, Files: files, Meta: meta}, nil
}

// appendCuts writes the number of rows and the tokens of each but the last.
func appendCuts(b []byte, cuts []int) []byte {
	b = binary.AppendUvarint(b, uint64(len(cuts)+1))
	at := 0
	for _, t := range cuts {
		b = binary.AppendUvarint(b, uint64(t-at))
		at = t
	}
	return b
}

func appendPosition(b []byte, e Example, explicit bool) []byte {
	for t, id := range e.IDs {
		word := uint32(id)
		if e.Labels[t] == id {
			word |= 1 << 31
		}
		b = binary.LittleEndian.AppendUint32(b, word)
	}
	if explicit {
		for _, l := range e.Labels {
			b = binary.LittleEndian.AppendUint32(b, uint32(l))
		}
	}
	return b
}

// cutter cuts a stream of bytes into blocks.
type cutter struct {
	put    shard.Putter
	buf    []byte // of the block that is filling up
	size   uint64 // bytes written
	blocks []cid.Cid
}

func (c *cutter) write(ctx context.Context, p []byte) error {
	c.size += uint64(len(p))
	for len(p) > 0 {
		n := min(len(p), shard.MaxBlock-len(c.buf))
		c.buf, p = append(c.buf, p[:n]...), p[n:]
		if len(c.buf) == shard.MaxBlock {
			if err := c.flush(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *cutter) flush(ctx context.Context) error {
	if len(c.buf) == 0 {
		return nil
	}
	id, err := c.put.Add(ctx, cid.Raw, c.buf)
	if err != nil {
		return fmt.Errorf("store data block: %w", err)
	}
	c.blocks = append(c.blocks, id)
	c.buf = nil // the store may have kept it
	return nil
}
