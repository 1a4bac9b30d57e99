package data

import (
	"math/bits"
	"sync"
)

// Sampler maps the sample stream of a run to rows: sample s = epoch·Rows + i is row p[i], where p is the order of that
// epoch. Without Shuffle p[i] = i. With it p is a permutation of (Seed, epoch) that any implementation can repeat:
//
//	mix(x):  x ^= x>>30; x *= 0xbf58476d1ce4e5b9; x ^= x>>27; x *= 0x94d049bb133111eb; x ^= x>>31
//	key      = mix(mix(Seed) + epoch)
//	draw(k)  = mix(key + (k+1)·0x9e3779b97f4a7c15)                       k = 0, 1, 2, …
//	p        = 0, 1, …, Rows-1
//	for i = Rows-1 down to 1, with k = Rows-1-i:  j = floor(draw(k)·(i+1) / 2^64);  swap p[i], p[j]
//
// all in 64-bit unsigned arithmetic: Fisher and Yates' shuffle over the counter-based generator splitmix64 (Steele, Lea
// and Flood 2014). The floor favours no row by more than Rows/2^64.
//
// The orders of the last two epochs asked for are kept, 4 bytes per row each.
type Sampler struct {
	Rows    uint64 // at most MaxRows
	Seed    uint64
	Shuffle bool

	mu    sync.Mutex
	cache [2]order // the newest first
}

type order struct {
	epoch uint64
	p     []uint32
}

// Row returns the row of sample s. It panics if there are no rows.
func (m *Sampler) Row(s uint64) uint64 {
	epoch, i := s/m.Rows, s%m.Rows
	if !m.Shuffle {
		return i
	}
	return uint64(m.order(epoch)[i])
}

func (m *Sampler) order(epoch uint64) []uint32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch c := &m.cache; {
	case c[0].p != nil && c[0].epoch == epoch:
	case c[1].p != nil && c[1].epoch == epoch:
		c[0], c[1] = c[1], c[0]
	default:
		c[0], c[1] = order{epoch, permutation(m.Rows, m.Seed, epoch)}, c[0]
	}
	return m.cache[0].p
}

func permutation(rows, seed, epoch uint64) []uint32 {
	p := make([]uint32, rows)
	for i := range p {
		p[i] = uint32(i)
	}
	key := mix(mix(seed) + epoch)
	for i := rows - 1; i >= 1 && i < rows; i-- {
		draw := mix(key + (rows-i)*0x9e3779b97f4a7c15) // k+1 = rows-i
		j, _ := bits.Mul64(draw, i+1)
		p[i], p[j] = p[j], p[i]
	}
	return p
}

func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
