package twohash

import (
	"crypto/sha256"
	"math/rand/v2"
	"testing"
)

func message(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// TestSum compares with the standard library, at all lengths around blocks and at other starts of the memory.
func TestSum(t *testing.T) {
	if !available {
		t.Log("this processor has no SHA instructions: both ways are the standard library's")
	}
	for n := range 400 {
		a, b := message(1, n+n%7)[n%7:], message(2, n+n%5)[n%5:]
		if x, y := Sum(a, b); x != sha256.Sum256(a) || y != sha256.Sum256(b) {
			t.Fatalf("two messages of %d bytes", n)
		}
	}
	a, b := message(1, 1<<20), message(2, 1<<20-100)
	if x, y := Sum(a, b); x != sha256.Sum256(a) || y != sha256.Sum256(b) {
		t.Error("two lengths")
	}
	b = message(2, 1<<20)
	if x, y := Sum(a, b); x != sha256.Sum256(a) || y != sha256.Sum256(b) {
		t.Error("two messages of 1 MiB")
	}
}

func FuzzSum(f *testing.F) {
	f.Add([]byte("abc"), []byte("def"))
	f.Add(message(1, 128), message(2, 128))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		b = append(b, a...)[:len(a)]
		if x, y := Sum(a, b); x != sha256.Sum256(a) || y != sha256.Sum256(b) {
			t.Errorf("two messages of %d bytes", len(a))
		}
	})
}

// BenchmarkSum hashes two blocks of 1 MiB at once, and one after the other.
func BenchmarkSum(b *testing.B) {
	p, q := message(1, 1<<20), message(2, 1<<20)
	b.Run("two", func(b *testing.B) {
		b.SetBytes(2 << 20)
		for b.Loop() {
			Sum(p, q)
		}
	})
	b.Run("one by one", func(b *testing.B) {
		b.SetBytes(2 << 20)
		for b.Loop() {
			sha256.Sum256(p)
			sha256.Sum256(q)
		}
	})
}
