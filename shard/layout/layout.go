// Package layout says where everything trainable lies and who looks after it. It is pure: the same parameters and the
// same members give the same answer on every node, so nobody has to send it around.
//
// All trainable tensors of a job stand one behind the other, in model order, in one index space [0, Size). A unit (the
// embedding, one transformer block, the head, a tied tensor) is a range of it, and units are cut into chunks, the
// pieces in which vectors are summed, owned, hashed and sent. A chunk lies in one unit and is cut only where the
// optimizer allows, so that its owner can step it alone.
//
// Owners assigns chunks to members by balanced rendezvous hashing: each member has a pseudo-random rank in each chunk,
// derived from the member's name and the chunk's place alone, and a chunk goes to the best-ranked member that still has
// room. So loads are even, and when a member comes or goes little else moves. All arithmetic is on integers.
//
// The package has no state; its functions are safe for concurrent use.
package layout

import (
	"fmt"
	"math/bits"
	"sort"
)

// MaxChunk is the number of elements that a chunk holds at most: 1 MiB of float32, one block. A grain larger than that
// makes a chunk of its own.
const MaxChunk = 1 << 18

// MaxSize bounds the index space: offsets in bytes of float64 still fit an int64.
const MaxSize = 1 << 59

// Param is a trainable tensor.
type Param struct {
	Name       string
	Unit       int // units are numbered from 0 in model order
	Rows, Cols int
	Grain      int // ownership may cut at multiples of this many elements: 1, Cols, 64*Cols, Rows*Cols; 0 means 1
}

// Len is the number of elements.
func (p Param) Len() int { return p.Rows * p.Cols }

// Placed is a tensor with its place.
type Placed struct {
	Param
	Off int // of its first element in the index space
}

// Chunk is [Lo, Hi) of the index space and the unit it belongs to.
type Chunk struct{ Lo, Hi, Unit int }

// Len is the number of elements.
func (c Chunk) Len() int { return c.Hi - c.Lo }

// Unit is the range [Lo, Hi) of a unit and the range [FirstChunk, EndChunk) of its chunks.
type Unit struct{ Lo, Hi, FirstChunk, EndChunk int }

// Layout is the index space of a job.
type Layout struct {
	Params []Placed // in the order of their places
	Units  []Unit   // by number; a unit without trainable tensors is empty
	Chunks []Chunk  // in the order of their places
	Size   int      // elements
}

// New lays params out in the given order, which must be model order: units never go down.
func New(params []Param) (*Layout, error) { return NewCut(params, MaxChunk) }

// NewCut is New with chunks of at most so many elements, as far as grains allow.
func NewCut(params []Param, most int) (*Layout, error) {
	if most <= 0 || most > MaxChunk {
		return nil, fmt.Errorf("layout: chunks of at most %d elements; choose 1 to %d", most, MaxChunk)
	}
	l := &Layout{Params: make([]Placed, 0, len(params))}
	names := make(map[string]bool, len(params))
	unit := 0
	for _, p := range params {
		if names[p.Name] {
			return nil, fmt.Errorf("layout: tensor %q is there twice", p.Name)
		}
		names[p.Name] = true
		if p.Unit < unit {
			return nil, fmt.Errorf("layout: tensor %q of unit %d stands behind unit %d", p.Name, p.Unit, unit)
		}
		unit = p.Unit
		if err := l.place(p); err != nil {
			return nil, err
		}
	}
	l.cutUnits(most)
	return l, nil
}

// leastChunk is how small Most makes chunks: 16 KiB of float32, beside which what describes a chunk on its way, some 200
// bytes, hardly counts.
const leastChunk = 1 << 12

// Most is the size of chunks that cuts an index space into the wanted number or somewhat more, if it has the size for it.
func Most(size, chunks int) int {
	return min(max((size+chunks-1)/chunks, leastChunk), MaxChunk)
}

func (l *Layout) place(p Param) error {
	hi, n := bits.Mul64(uint64(p.Rows), uint64(p.Cols))
	if p.Rows <= 0 || p.Cols <= 0 || hi != 0 || n > uint64(MaxSize-l.Size) {
		return fmt.Errorf("layout: tensor %q of %d x %d elements", p.Name, p.Rows, p.Cols)
	}
	if p.Grain == 0 {
		p.Grain = 1
	}
	if p.Grain < 0 || p.Len()%p.Grain != 0 {
		return fmt.Errorf("layout: tensor %q of %d elements cannot be cut every %d", p.Name, p.Len(), p.Grain)
	}
	l.Params = append(l.Params, Placed{Param: p, Off: l.Size})
	l.Size += p.Len()
	return nil
}

// cutUnits fills Units and Chunks.
func (l *Layout) cutUnits(most int) {
	for i := 0; i < len(l.Params); {
		unit, j := l.Params[i].Unit, i
		for j < len(l.Params) && l.Params[j].Unit == unit {
			j++
		}
		for len(l.Units) < unit { // units in which nothing is trained
			l.Units = append(l.Units, Unit{l.Params[i].Off, l.Params[i].Off, len(l.Chunks), len(l.Chunks)})
		}
		u := Unit{Lo: l.Params[i].Off, Hi: l.end(j), FirstChunk: len(l.Chunks)}
		l.cut(u, unit, most)
		u.EndChunk = len(l.Chunks)
		l.Units = append(l.Units, u)
		i = j
	}
}

// end is where the j-th parameter begins, or the end of everything.
func (l *Layout) end(j int) int {
	if j == len(l.Params) {
		return l.Size
	}
	return l.Params[j].Off
}

// cut makes the chunks of a unit, as few as possible and of about the same size.
func (l *Layout) cut(u Unit, unit, most int) {
	for lo := u.Lo; lo < u.Hi; {
		left := u.Hi - lo
		chunks := (left + most - 1) / most
		hi := l.cutAt(lo, lo+(left+chunks-1)/chunks)
		l.Chunks = append(l.Chunks, Chunk{lo, hi, unit})
		lo = hi
	}
}

// cutAt is the last place in (lo, want] where a cut is allowed, or else the first one behind.
func (l *Layout) cutAt(lo, want int) int {
	if want >= l.Size {
		return l.Size
	}
	p := l.Params[l.find(want)]
	below := want - (want-p.Off)%p.Grain
	if below > lo {
		return below
	}
	return below + p.Grain // want lies inside a grain that began at or before lo
}

// find is the index of the parameter that holds element i.
func (l *Layout) find(i int) int {
	return sort.Search(len(l.Params), func(k int) bool { return l.end(k+1) > i })
}

// Segment is the part [Lo, Hi) of the index space that belongs to one parameter.
type Segment struct{ Param, Lo, Hi int }

// Segments splits [lo, hi) by parameters.
func (l *Layout) Segments(lo, hi int) []Segment {
	var segs []Segment
	for k := l.find(lo); lo < hi; k++ {
		end := min(hi, l.end(k+1))
		segs = append(segs, Segment{k, lo, end})
		lo = end
	}
	return segs
}
