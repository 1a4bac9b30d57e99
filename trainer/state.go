package trainer

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/seed-7b27c88a/shoal/kernels"
)

// State is everything that the next step depends on, in the order of the index space.
type State struct {
	Step    uint64    // optimizer steps done
	W, M, V []float32 // weights and both moments
}

// Snapshot copies the state.
func (t *Trainer) Snapshot() (State, error) {
	if err := t.lock(); err != nil {
		return State{}, err
	}
	defer t.mu.Unlock()
	s := State{Step: t.step, W: make([]float32, t.elems), M: make([]float32, t.elems), V: make([]float32, t.elems)}
	for i, x := range t.state() {
		if err := t.stage.Stream.Download([][]float32{s.W, s.M, s.V}[i], x); err != nil {
			return State{}, err
		}
	}
	return s, nil
}

// Restore replaces the state.
func (t *Trainer) Restore(s State) error {
	if err := t.lock(); err != nil {
		return err
	}
	defer t.mu.Unlock()
	parts := [][]float32{s.W, s.M, s.V}
	for _, p := range parts {
		if len(p) != t.elems {
			return fmt.Errorf("state of %d elements for an index space of %d", len(p), t.elems)
		}
	}
	t.changing()
	for i, x := range t.state() {
		t.stage.Stream.Upload(x, parts[i])
	}
	t.step = s.Step
	return t.stage.Stream.Err()
}

// StateHash is the sha2-256 of the bytes of W, M and V (little-endian float32), by which members compare their state.
func (t *Trainer) StateHash() ([32]byte, error) {
	if err := t.lock(); err != nil {
		return [32]byte{}, err
	}
	defer t.mu.Unlock()
	h := sha256.New()
	const piece = 1 << 16 // elements at a time
	vals, bytes := make([]float32, min(piece, t.elems)), make([]byte, 0, 4*piece)
	for _, x := range t.state() {
		for lo := 0; lo < t.elems; lo += piece {
			n := min(piece, t.elems-lo)
			if err := t.stage.Stream.Download(vals[:n], x.SliceCols(lo, lo+n)); err != nil {
				return [32]byte{}, err
			}
			bytes = bytes[:0]
			for _, v := range vals[:n] {
				bytes = binary.LittleEndian.AppendUint32(bytes, math.Float32bits(v))
			}
			h.Write(bytes)
		}
	}
	return [32]byte(h.Sum(nil)), nil
}

func (t *Trainer) state() [3]kernels.Tensor { return [3]kernels.Tensor{t.stage.W, t.m, t.v} }
