package data

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/shard"
)

// cacheBlocks is how many blocks a Reader keeps: enough for rows read in order and for the border between two blocks.
const cacheBlocks = 8

// Reader gives random access to the positions of a manifest. It holds the index, 13 bytes per position; packed, 8 more
// and 4 per row.
type Reader struct {
	get     shard.Getter
	file    shard.File // positions
	starts  []uint64   // byte offset of each position, and the end
	targets []uint32
	heads   []byte // 1: labels follow
	tokens  uint64
	longest int

	packed bool     // what follows is there
	first  []uint64 // of cuts, for each position; and the end
	cuts   []uint32 // where rows after the first begin in their position

	mu    sync.Mutex // guards cache
	cache []cached   // the newest last
}

type cached struct {
	i    int
	data []byte
}

// Open reads the index of a data manifest, which may come from a stranger.
func Open(ctx context.Context, get shard.Getter, m shard.Manifest) (*Reader, error) {
	index, positions, err := files(m)
	if err != nil {
		return nil, fmt.Errorf("open data %q: %w", m.Name, err)
	}
	r := newReader(get, positions, m.Meta["format"] == formatPacked)
	if err := r.readIndex(ctx, index); err != nil {
		return nil, fmt.Errorf("open data %q: %w", m.Name, err)
	}
	if err := r.agrees(m.Meta); err != nil {
		return nil, fmt.Errorf("open data %q: %w", m.Name, err)
	}
	return r, nil
}

func newReader(get shard.Getter, positions shard.File, packed bool) *Reader {
	return &Reader{get: get, file: positions, starts: []uint64{0}, packed: packed, first: []uint64{0}}
}

func files(m shard.Manifest) (index, positions shard.File, err error) {
	if err := m.Validate(); err != nil {
		return index, positions, err
	}
	if m.Kind != shard.KindData {
		return index, positions, fmt.Errorf("manifest of kind %q; want %q", m.Kind, shard.KindData)
	}
	if f := m.Meta["format"]; f != format && f != formatPacked {
		return index, positions, fmt.Errorf("data format %.40q; this shoal reads %q and %q", f, format, formatPacked)
	}
	index, ok1 := m.File(fileIndex)
	positions, ok2 := m.File(filePositions)
	if !ok1 || !ok2 {
		return index, positions, errors.New("manifest without index and positions")
	}
	return index, positions, nil
}

// readIndex goes through the index block by block; an entry may span two.
func (r *Reader) readIndex(ctx context.Context, f shard.File) error {
	if f.Size > 20*MaxRows {
		return fmt.Errorf("index of %d bytes is too large", f.Size)
	}
	var rest []byte
	for i := range f.Blocks {
		data, err := fetch(ctx, r.get, f, i)
		if err != nil {
			return err
		}
		if rest, err = r.addEntries(append(rest, data...)); err != nil {
			return err
		}
	}
	if len(rest) > 0 {
		return errors.New("index ends in the middle of an entry")
	}
	if end := r.starts[len(r.starts)-1]; end != r.file.Size {
		return fmt.Errorf("index describes %d bytes of positions, there are %d", end, r.file.Size)
	}
	return nil
}

// addEntries takes whole entries from b and returns what is left, less than one entry.
func (r *Reader) addEntries(b []byte) ([]byte, error) {
	for {
		n, err := r.addEntry(b)
		if err != nil || n == 0 {
			return b, err
		}
		b = b[n:]
	}
}

var errNumber = errors.New("index entry is not a number")

// addEntry takes one entry and returns its length; 0: it is not whole.
func (r *Reader) addEntry(b []byte) (int, error) {
	head, n := binary.Uvarint(b)
	targets, m := binary.Uvarint(b[max(n, 0):])
	if n < 0 || m < 0 {
		return 0, errNumber
	}
	if n == 0 || m == 0 {
		return 0, nil
	}
	n += m
	length, row := head>>1, len(r.targets)
	if length == 0 || length > MaxTokens || targets >= length || row == MaxRows {
		return 0, fmt.Errorf("index entry %d: %d tokens with %d targets", row, length, targets)
	}
	if r.packed {
		m, err := r.addCuts(b[n:], length)
		if err != nil || m == 0 {
			return 0, err
		}
		n += m
	}
	r.starts = append(r.starts, r.starts[row]+4*length<<(head&1))
	r.targets = append(r.targets, uint32(targets))
	r.heads = append(r.heads, byte(head&1))
	r.tokens += length
	r.longest = max(r.longest, int(length))
	return n, nil
}

// addCuts takes what appendCuts wrote for a position of length tokens and returns its length; 0: it is not whole.
func (r *Reader) addCuts(b []byte, length uint64) (int, error) {
	rows, n := binary.Uvarint(b)
	if n < 0 {
		return 0, errNumber
	}
	if n == 0 {
		return 0, nil
	}
	if rows == 0 || rows > length || uint64(len(r.cuts))+rows > MaxRows {
		return 0, fmt.Errorf("index entry %d: %d rows in %d tokens", len(r.targets), rows, length)
	}
	r.cuts = r.cuts[:r.first[len(r.first)-1]] // an earlier try may have left some
	at := uint64(0)
	for range rows - 1 {
		tokens, m := binary.Uvarint(b[n:])
		if m < 0 {
			return 0, errNumber
		}
		if m == 0 {
			return 0, nil
		}
		n += m
		if tokens == 0 || tokens >= length-at {
			return 0, fmt.Errorf("index entry %d: a row of %d tokens from token %d of %d on", len(r.targets), tokens, at, length)
		}
		at += tokens
		r.cuts = append(r.cuts, uint32(at))
	}
	r.first = append(r.first, uint64(len(r.cuts)))
	return n, nil
}

// agrees checks what the manifest says about itself: planners read Meta without the index.
func (r *Reader) agrees(meta map[string]string) error {
	for k, v := range map[string]uint64{"rows": uint64(r.Rows()), "tokens": r.tokens, "targets": r.TargetsTotal(), "longest": uint64(r.longest)} {
		if meta[k] != strconv.FormatUint(v, 10) {
			return fmt.Errorf("manifest says %s %.40q, the index %d", k, meta[k], v)
		}
	}
	if parts := strconv.Itoa(r.Parts()); r.packed && meta["packed"] != parts {
		return fmt.Errorf("manifest says packed %.40q, the index %s", meta["packed"], parts)
	}
	return nil
}

// Rows is the number of positions.
func (r *Reader) Rows() int { return len(r.targets) }

// Parts is the number of rows that the positions hold; more than Rows where they are packed.
func (r *Reader) Parts() int { return r.Rows() + len(r.cuts) }

// Cuts lists where the rows after the first begin in position i.
func (r *Reader) Cuts(i int) []int {
	if !r.packed {
		return nil
	}
	var out []int
	for _, t := range r.cuts[r.first[i]:r.first[i+1]] {
		out = append(out, int(t))
	}
	return out
}

// Len is the number of tokens of position i.
func (r *Reader) Len(i int) int { return int(r.starts[i+1]-r.starts[i]) >> (2 + r.heads[i]) }

// Targets is the number of target tokens of position i.
func (r *Reader) Targets(i int) int { return int(r.targets[i]) }

// Longest is the number of tokens of the longest position.
func (r *Reader) Longest() int { return r.longest }

// Tokens is the number of tokens of all positions.
func (r *Reader) Tokens() uint64 { return r.tokens }

// TargetsTotal is the number of target tokens of all positions.
func (r *Reader) TargetsTotal() uint64 {
	var n uint64
	for _, t := range r.targets {
		n += uint64(t)
	}
	return n
}

// Blocks lists the blocks that hold position i, so that they can be fetched ahead.
func (r *Reader) Blocks(i int) []cid.Cid {
	lo, hi := r.starts[i]/shard.MaxBlock, (r.starts[i+1]-1)/shard.MaxBlock
	return r.file.Blocks[lo : hi+1]
}

// Row returns position i: ids and, beside each, its label. The caller may keep and change them.
func (r *Reader) Row(ctx context.Context, i int) (ids, labels []int32, err error) {
	if i < 0 || i >= r.Rows() {
		return nil, nil, fmt.Errorf("position %d of %d", i, r.Rows())
	}
	b, err := r.bytes(ctx, r.starts[i], r.starts[i+1])
	if err != nil {
		return nil, nil, fmt.Errorf("position %d: %w", i, err)
	}
	e, err := parsePosition(b, r.heads[i] == 1)
	if err != nil {
		return nil, nil, fmt.Errorf("position %d: %w", i, err)
	}
	e.Cuts = r.Cuts(i)
	if e.Targets() != r.Targets(i) {
		return nil, nil, fmt.Errorf("position %d: %d target tokens, the index says %d", i, e.Targets(), r.Targets(i))
	}
	return e.IDs, e.Labels, nil
}

// parsePosition reads what appendPosition wrote.
func parsePosition(b []byte, explicit bool) (Example, error) {
	n := len(b) / 4
	if explicit {
		n /= 2
	}
	e := Example{IDs: make([]int32, n), Labels: make([]int32, n)}
	for t := range n {
		word := binary.LittleEndian.Uint32(b[4*t:])
		e.IDs[t], e.Labels[t] = int32(word&maxID), Ignore
		if word>>31 == 1 {
			e.Labels[t] = e.IDs[t]
		}
		if explicit {
			e.Labels[t] = int32(binary.LittleEndian.Uint32(b[4*(n+t):]))
		}
		if l := e.Labels[t]; l < 0 && l != Ignore {
			return Example{}, fmt.Errorf("token %d has label %d", t, l)
		}
	}
	return e, nil
}

// bytes returns [lo, hi) of the positions file.
func (r *Reader) bytes(ctx context.Context, lo, hi uint64) ([]byte, error) {
	out := make([]byte, 0, hi-lo)
	for lo < hi {
		data, err := r.block(ctx, int(lo/shard.MaxBlock))
		if err != nil {
			return nil, err
		}
		from := lo % shard.MaxBlock
		part := data[from:min(uint64(len(data)), from+hi-lo)]
		out = append(out, part...)
		lo += uint64(len(part))
	}
	return out, nil
}

func (r *Reader) block(ctx context.Context, i int) ([]byte, error) {
	r.mu.Lock()
	for k := len(r.cache) - 1; k >= 0; k-- {
		if c := r.cache[k]; c.i == i {
			r.mu.Unlock()
			return c.data, nil
		}
	}
	r.mu.Unlock()
	data, err := fetch(ctx, r.get, r.file, i)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.cache) == cacheBlocks {
		r.cache = append(r.cache[:0], r.cache[1:]...)
	}
	r.cache = append(r.cache, cached{i, data})
	return data, nil
}

// fetch gets block i of f and checks its length, which a CID does not promise.
func fetch(ctx context.Context, get shard.Getter, f shard.File, i int) ([]byte, error) {
	data, err := get.Get(ctx, f.Blocks[i])
	if err != nil {
		return nil, fmt.Errorf("%s, block %d: %w", f.Path, i, err)
	}
	if want := min(f.Size-uint64(i)*shard.MaxBlock, shard.MaxBlock); uint64(len(data)) != want {
		return nil, fmt.Errorf("%s, block %d: %d bytes, want %d", f.Path, i, len(data), want)
	}
	return data, nil
}
