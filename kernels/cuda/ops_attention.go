//go:build cuda

package cuda

import (
	"fmt"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/dtype"
)

// attentionArgs is AttentionArgs of src/attention.cu.
type attentionArgs struct {
	o, lse, q, k, v                mat
	dq, dk, dv, do                 mat
	pk, pv, dpk, dpv               mat
	qstart, kstart, klen           uint64
	qstartLd, kstartLd, klenLd     int64
	delta, gate                    uint64
	count, heads, kvHeads, dim     int32
	window, compute, add, onPrefix int32
	scale, softcap                 float32
}

type checkSequencesArgs struct {
	qstart, kstart, klen       uint64
	qstartLd, kstartLd, klenLd int64
	gate, fault                uint64
	count, queries, keys, op   int32
}

// Sizes of src/attention.cu.
const (
	keysOfTile    = 32
	queriesOfTile = 16
	mostHeadDim   = 256
)

// attender is the kernels for a width of heads and a type of products.
type attender struct {
	forward, backQ, backK          kernel
	queries, keys                  int // rows of a block, of the kernels over queries and of that over keys
	forwardBytes, qBytes, keyBytes int // of shared memory
}

// attenderFor chooses. In float32 kernels are for heads up to 32, 64, 128 or 256 wide; the tensor cores take up to 64 or 128.
func attenderFor(dim int32, compute dtype.Type) (attender, error) {
	if compute != dtype.F32 && dim <= 128 {
		i, wide := kernel(0), 64
		if dim > 64 {
			i, wide = 1, 128
		}
		if compute == dtype.F16 {
			i += 2
		}
		row := 2 * (wide + 8)
		return attender{kAttendBF64 + i, kAttendBackQBF64 + i, kAttendBackKBF64 + i, 64, 64, row * (64 + 4*64), row * 2 * (64 + 2*32), row * 2 * (64 + 2*32)}, nil
	}
	for i, most := range []int32{32, 64, 128, mostHeadDim} {
		if dim <= most {
			k, d := kernel(i), int(dim)
			keys := tileOfKeys[i]
			return attender{kAttend32 + k, kAttendBackQ32 + k, kAttendBackK32 + k, queriesOfTile, keys.rows, forwardShared(d), backwardShared(d), keys.shared(d)}, nil
		}
	}
	return attender{}, fmt.Errorf("heads of %d; the GPU's kernels take %d at most", dim, mostHeadDim)
}

// sequences fills in the tables, from operand number first on, and launches their check.
func (a *attentionArgs) sequences(l *launcher, c *kernels.Cmd, first int) {
	t := &c.T
	qstart, kstart, klen := matOf(&t[first]), matOf(&t[first+1]), matOf(&t[first+2])
	a.qstart, a.kstart, a.klen = qstart.p, kstart.p, klen.p
	a.qstartLd, a.kstartLd, a.klenLd = qstart.ld, kstart.ld, klen.ld
	a.pk, a.pv = matOf(&t[first+3]), matOf(&t[first+4])
	a.count, a.heads, a.kvHeads, a.dim, a.window, a.compute = klen.rows, c.I[0], c.I[1], c.I[2], c.I[3], c.I[7]
	a.scale, a.softcap = c.F[0], c.F[1]
	*launch[checkSequencesArgs](l, kCheckSequences, 1, 256, 0) = checkSequencesArgs{a.qstart, a.kstart, a.klen, a.qstartLd, a.kstartLd, a.klenLd,
		a.gate, l.dev.fault.address(), a.count, a.q.rows, a.k.rows, int32(c.Op)}
}

// queryGrid has a block for each tile of queries and head: at most as many tiles as there would be if each sequence
// began a new one.
func (a *attentionArgs) queryGrid(queries int) [3]uint32 {
	return [3]uint32{uint32(blocks(int(a.q.rows), queries)) + uint32(a.count), uint32(a.heads), 1}
}

func attention(l *launcher, c *kernels.Cmd) error {
	k, err := attenderFor(c.I[2], dtype.Type(c.I[7]))
	if err != nil {
		return err
	}
	gate, err := l.scratch(4)
	if err != nil {
		return err
	}
	t := &c.T
	a := attentionArgs{o: matOf(&t[0]), lse: matOf(&t[1]), q: matOf(&t[2]), k: matOf(&t[3]), v: matOf(&t[4]), gate: gate}
	a.sequences(l, c, 5)
	*launchGrid[attentionArgs](l, k.forward, a.queryGrid(k.queries), 128, k.forwardBytes) = a
	return nil
}

func attentionBack(l *launcher, c *kernels.Cmd) error {
	k, err := attenderFor(c.I[2], dtype.Type(c.I[7]))
	if err != nil {
		return err
	}
	t := &c.T
	q := matOf(&t[4])
	gate, err := l.scratch(unit + 4*int(q.rows)*int(c.I[0]))
	if err != nil {
		return err
	}
	a := attentionArgs{dq: matOf(&t[0]), dk: matOf(&t[1]), dv: matOf(&t[2]), do: matOf(&t[3]), q: q, k: matOf(&t[5]), v: matOf(&t[6]),
		o: matOf(&t[7]), lse: matOf(&t[8]), dpk: matOf(&t[14]), dpv: matOf(&t[15]), gate: gate, delta: gate + unit, add: c.I[6]}
	a.sequences(l, c, 9)
	*launch[attentionArgs](l, kAttendDelta, blocks(int(q.rows)*int(a.heads), 4), 128, 0) = a
	*launchGrid[attentionArgs](l, k.backQ, a.queryGrid(k.queries), 128, k.qBytes) = a
	*launchGrid[attentionArgs](l, k.backK, [3]uint32{uint32(blocks(int(a.k.rows), k.keys)), uint32(a.kvHeads), 1}, 128, k.keyBytes) = a
	if a.dpk.p != 0 {
		a.onPrefix = 1
		*launchGrid[attentionArgs](l, k.backK, [3]uint32{uint32(blocks(int(a.pk.rows), k.keys)), uint32(a.kvHeads), 1}, 128, k.keyBytes) = a
	}
	return nil
}

// forwardShared is the shared memory of a block in bytes: keys, values, queries, probabilities.
func forwardShared(dim int) int {
	return 4 * ((2*keysOfTile+queriesOfTile)*(dim+1) + queriesOfTile*keysOfTile)
}

// backwardShared has gradients of outputs too.
func backwardShared(dim int) int { return forwardShared(dim) + 4*queriesOfTile*(dim+1) }

// keyTile is how many rows of keys a block has, and how many queries pass by at a time.
type keyTile struct{ rows, queries int }

var tileOfKeys = [4]keyTile{{32, 32}, {32, 32}, {32, 32}, {16, 16}}

func (k keyTile) shared(dim int) int { return 4 * (2*(k.rows+k.queries)*(dim+1) + 2*k.rows*k.queries) }
