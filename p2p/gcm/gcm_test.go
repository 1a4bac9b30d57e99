package gcm

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"math/rand/v2"
	"testing"
)

// both returns the AEAD and crypto/cipher's of a key.
func both(t testing.TB, rng *rand.Rand) (ours, theirs cipher.AEAD) {
	key := random(rng, 16)
	ours, err := New(key)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	if theirs, err = cipher.NewGCM(block); err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

func random(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// Every length around a group, a stretch and the shortest one gives crypto/cipher's bytes, both ways.
func TestEqual(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var sizes []int
	for _, around := range []int{0, 4096, 4096 + 256, 8192, 16384, 3 * 8192, 128 << 10, 256 << 10} {
		for d := -18; d <= 18; d++ {
			sizes = append(sizes, max(0, around+d))
		}
	}
	for n := 4096; n < 4096+2*256+3; n += 3 {
		sizes = append(sizes, n)
	}
	for _, n := range sizes {
		ours, theirs := both(t, rng)
		nonce, text, head := random(rng, 12), random(rng, n), random(rng, n%5)
		want := theirs.Seal(bytes.Clone(head), nonce, text, nil)
		if got := ours.Seal(bytes.Clone(head), nonce, text, nil); !bytes.Equal(got, want) {
			t.Fatalf("%d bytes are sealed to something else", n)
		}
		got, err := ours.Open(bytes.Clone(head), nonce, want[len(head):], nil)
		if err != nil || !bytes.Equal(got, append(head, text...)) {
			t.Fatalf("%d bytes are opened to something else: %v", n, err)
		}
	}
}

// In place, as records are.
func TestInPlace(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, n := range []int{4096, 100_001} {
		ours, theirs := both(t, rng)
		nonce, text := random(rng, 12), random(rng, n)
		b := append(make([]byte, 0, n+16), text...)
		b = ours.Seal(b[:0], nonce, b, nil)
		if !bytes.Equal(b, theirs.Seal(nil, nonce, text, nil)) {
			t.Fatalf("%d bytes are sealed in place to something else", n)
		}
		if got, err := ours.Open(b[:0], nonce, b, nil); err != nil || !bytes.Equal(got, text) {
			t.Fatalf("%d bytes are opened in place to something else: %v", n, err)
		}
	}
}

// A bit that is turned anywhere, or another nonce, is found, and nothing of the text gets out.
func TestForged(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	ours, _ := both(t, rng)
	nonce, text := random(rng, 12), random(rng, 9001)
	box := ours.Seal(nil, nonce, text, nil)
	for _, at := range []int{0, 255, 256, 8191, 8192, 8999, 9000, 9001, len(box) - 1} {
		box[at] ^= 1 << (at % 8)
		dst := make([]byte, 0, len(text))
		if _, err := ours.Open(dst, nonce, box, nil); err == nil {
			t.Fatalf("a bit of byte %d may be turned", at)
		}
		if !bytes.Equal(dst[:len(text)], make([]byte, len(text))) {
			t.Fatal("a message that is not genuine gets out")
		}
		box[at] ^= 1 << (at % 8)
	}
	nonce[0]++
	if _, err := ours.Open(nil, nonce, box, nil); err == nil {
		t.Fatal("any nonce will do")
	}
}

func FuzzEqual(f *testing.F) {
	f.Add([]byte("0123456789abcdef"), []byte("0123456789ab"), []byte("text"), 1000)
	f.Add(make([]byte, 16), make([]byte, 12), []byte{0xff}, 5000)
	f.Fuzz(func(t *testing.T, key, nonce, text []byte, repeat int) {
		if len(key) != 16 || len(nonce) != 12 || repeat < 0 || len(text) == 0 || repeat > 40_000/len(text) {
			t.Skip()
		}
		text = bytes.Repeat(text, repeat)
		ours, err := New(key)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := aes.NewCipher(key)
		theirs, _ := cipher.NewGCM(block)
		box := ours.Seal(nil, nonce, text, nil)
		if !bytes.Equal(box, theirs.Seal(nil, nonce, text, nil)) {
			t.Fatal("sealed to something else")
		}
		if got, err := ours.Open(nil, nonce, box, nil); err != nil || !bytes.Equal(got, text) {
			t.Fatalf("opened to something else: %v", err)
		}
	})
}

// BenchmarkRecord compares with crypto/cipher, in the cache.
func BenchmarkRecord(b *testing.B) {
	ours, theirs := both(b, rand.New(rand.NewPCG(7, 8)))
	for _, c := range []struct {
		name string
		aead cipher.AEAD
	}{{"here", ours}, {"crypto", theirs}} {
		for _, n := range []int{4 << 10, 128 << 10} {
			nonce, text := make([]byte, 12), make([]byte, n)
			box := c.aead.Seal(nil, nonce, text, nil)
			b.Run(fmt.Sprintf("%s/seal/%d", c.name, n), func(b *testing.B) {
				b.SetBytes(int64(n))
				dst := make([]byte, 0, n+16)
				for b.Loop() {
					c.aead.Seal(dst, nonce, text, nil)
				}
			})
			b.Run(fmt.Sprintf("%s/open/%d", c.name, n), func(b *testing.B) {
				b.SetBytes(int64(n))
				dst := make([]byte, 0, n)
				for b.Loop() {
					c.aead.Open(dst, nonce, box, nil)
				}
			})
		}
	}
}
