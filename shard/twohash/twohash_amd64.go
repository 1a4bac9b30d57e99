package twohash

import (
	"crypto/sha256"
	"encoding/binary"
)

// initial is the state before the first block: FIPS 180-4, 5.3.3.
var initial = [8]uint32{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}

// sum hashes two messages of one length, which is at least a block's.
func sum(a, b []byte) (x, y [sha256.Size]byte) {
	s, t := initial, initial
	whole := len(a) / sha256.BlockSize
	blocks(&s, &t, &a[0], &b[0], whole)
	var p, q [2 * sha256.BlockSize]byte
	n := pad(&p, a[whole*sha256.BlockSize:], len(a))
	pad(&q, b[whole*sha256.BlockSize:], len(b))
	blocks(&s, &t, &p[0], &q[0], n)
	for i := range s {
		binary.BigEndian.PutUint32(x[4*i:], s[i])
		binary.BigEndian.PutUint32(y[4*i:], t[i])
	}
	return x, y
}

// pad puts the rest of a message of size bytes, and what SHA-256 puts behind it, into p and returns how many blocks
// that makes.
func pad(p *[2 * sha256.BlockSize]byte, rest []byte, size int) int {
	n := copy(p[:], rest)
	p[n] = 0x80
	blocks := (n+1+8-1)/sha256.BlockSize + 1
	binary.BigEndian.PutUint64(p[blocks*sha256.BlockSize-8:], uint64(size)*8)
	return blocks
}

// blocks adds n blocks of 64 bytes at p to the state a, and as many at q to b; n is at least 1.
//
//go:noescape
func blocks(a, b *[8]uint32, p, q *byte, n int)

func cpuid(leaf, sub uint32) (eax, ebx, ecx, edx uint32)

// available says that the processor has the SHA extensions, and SSSE3 and SSE4.1 for the shuffles.
var available = func() bool {
	most, _, _, _ := cpuid(0, 0)
	if most < 7 {
		return false
	}
	_, _, c1, _ := cpuid(1, 0)
	_, b7, _, _ := cpuid(7, 0)
	return c1>>9&1 != 0 && c1>>19&1 != 0 && b7>>29&1 != 0
}()
