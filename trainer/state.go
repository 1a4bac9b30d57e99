package trainer

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"math"

	"github.com/seed-7b27c88a/shoal/trainer/optim"
)

// State is everything that the next step depends on, in the order of the index space. M and V are what the optimizer
// remembers; a vector that it does not use is nil.
type State struct {
	Step    uint64    // optimizer steps done
	W, M, V []float32 // weights and both vectors of the optimizer
	Scale   LossScale // of the next step; a function of the steps done (ScaleAfter)
}

// Snapshot copies the state.
func (t *Trainer) Snapshot() (State, error) {
	if err := t.lock(); err != nil {
		return State{}, err
	}
	defer t.mu.Unlock()
	s := State{Step: t.step, Scale: t.scale}
	for _, x := range t.state(&s) {
		*x.vector = make([]float32, t.elems)
		if err := x.read(0, *x.vector); err != nil {
			return State{}, err
		}
	}
	return s, nil
}

// Restore replaces the state. A vector that the optimizer does not use may be nil or full.
func (t *Trainer) Restore(s State) error {
	if err := t.lock(); err != nil {
		return err
	}
	defer t.mu.Unlock()
	vectors := t.state(&s)
	for _, x := range vectors {
		if n := len(*x.vector); n != t.elems {
			return fmt.Errorf("state of %d elements for an index space of %d", n, t.elems)
		}
	}
	t.changing()
	for _, x := range vectors {
		x.write(*x.vector)
	}
	t.step, t.scale = s.Step, s.Scale
	if t.owned != nil {
		t.owned.giveUp()
	}
	switch {
	case t.apart != nil:
		return t.rejoin()
	case t.whole != nil:
		return t.place()
	}
	return t.stage.Stream.Err()
}

// StateHash is the sha2-256 of the bytes of W and of those of M and V that the optimizer uses (little-endian float32), by
// which members compare their state; where owners step, of W alone.
func (t *Trainer) StateHash() ([32]byte, error) {
	if err := t.lock(); err != nil {
		return [32]byte{}, err
	}
	defer t.mu.Unlock()
	h := sha256.New()
	for _, x := range t.state(&State{}) {
		if err := t.hashVector(h, x.read); err != nil {
			return [32]byte{}, err
		}
	}
	return [32]byte(h.Sum(nil)), nil
}

func (t *Trainer) hashVector(h hash.Hash, read func(lo int, dst []float32) error) error {
	const piece = 1 << 16 // elements at a time
	vals, bytes := make([]float32, min(piece, t.elems)), make([]byte, 0, 4*min(piece, t.elems))
	for lo := 0; lo < t.elems; lo += piece {
		n := min(piece, t.elems-lo)
		if err := read(lo, vals[:n]); err != nil {
			return err
		}
		bytes = bytes[:0]
		for _, v := range vals[:n] {
			bytes = binary.LittleEndian.AppendUint32(bytes, math.Float32bits(v))
		}
		h.Write(bytes)
	}
	return nil
}

// stateVector is a vector of the state, on the device and in a State.
type stateVector struct {
	vector *[]float32
	read   func(lo int, dst []float32) error
	write  func(src []float32)
}

// state lists the vectors that are used.
func (t *Trainer) state(s *State) []stateVector {
	if t.apart != nil {
		return t.sharedState(s)
	}
	if t.whole != nil {
		return t.wholeState(s)
	}
	if t.elems == 0 { // a stage in which nothing learns
		return nil
	}
	if t.away != nil { // owners have the rest, see Moments
		return []stateVector{onHost(&s.W, t.away.w)}
	}
	w, stream := t.stage.W, t.stage.Stream
	all := []stateVector{{&s.W,
		func(lo int, dst []float32) error { return stream.Download(dst, w.SliceCols(lo, lo+len(dst))) },
		func(src []float32) { stream.Upload(w, src) }}}
	if t.owned != nil { // owners have the rest, see Moments
		return all
	}
	m, v := t.rule.Uses()
	for _, x := range []struct {
		used   bool
		slot   optim.Slot
		vector *[]float32
	}{{m, optim.M, &s.M}, {v, optim.V, &s.V}} {
		if x.used {
			all = append(all, stateVector{x.vector,
				func(lo int, dst []float32) error { return t.opt.Read(x.slot, lo, dst) },
				func(src []float32) { t.opt.Write(x.slot, src) }})
		}
	}
	return all
}
