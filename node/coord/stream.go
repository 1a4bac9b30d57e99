package coord

import (
	"fmt"

	"github.com/seed-7b27c88a/shoal/shard"
)

// Move puts the batches of the Count rounds after round At off to the end of the run: they had made the job diverge. What
// comes after them moves up. Moves are a part of the log's history, so that every member gives a round the same batch,
// and each position still counts once.
type Move struct {
	At    uint64 `cbor:"1,keyasint"`
	Count uint64 `cbor:"2,keyasint"`
}

// maxMoves bounds the list; a job has few, and is given up or taken over by a person before.
const maxMoves = 64

func checkMoves(ms []Move) error {
	if len(ms) > maxMoves {
		return fmt.Errorf("%d moves", len(ms))
	}
	return nil
}

// batch is the stream range of a round, as the moves so far have it. The cursor of commits knows nothing of moves: it
// counts the batches that are done.
func (m *Machine) batch(round uint64) shard.Range {
	at := round - 1
	for i := len(m.job.moves) - 1; i >= 0; i-- {
		at = m.job.moves[i].from(at, m.g.Steps)
	}
	return m.g.batch(at + 1)
}

// putOff tells whether the batch of a round is one that moves have put off.
func (m *Machine) putOff(round uint64) bool {
	at := round - 1
	for i := len(m.job.moves) - 1; i >= 0; i-- {
		v := m.job.moves[i]
		if n := m.g.Steps - min(v.At, m.g.Steps); at >= v.At && at-v.At >= n-min(v.Count, n) {
			return true
		}
		at = v.from(at, m.g.Steps)
	}
	return false
}

// from is which place of the order before the move stands at a place of the order after it; places count from 0.
func (v Move) from(place, steps uint64) uint64 {
	if place < v.At || v.At >= steps {
		return place
	}
	n := steps - v.At
	return v.At + (place-v.At+v.Count%n)%n
}
