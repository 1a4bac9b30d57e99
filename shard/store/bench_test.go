package store

import (
	"encoding/binary"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/shard"
)

// BenchmarkAdd stores blocks of 1 MiB that do not compress: each with its own fsync, by several writers that share
// theirs, and deferred.
func BenchmarkAdd(b *testing.B) {
	b.Run("sync", func(b *testing.B) {
		s, next := openBench(b), blocks()
		b.SetBytes(shard.MaxBlock)
		for b.Loop() {
			put(b, s, next())
		}
	})
	b.Run("shared", func(b *testing.B) {
		s, next := openBench(b), blocks()
		b.SetBytes(shard.MaxBlock)
		b.SetParallelism(4) // times GOMAXPROCS
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				put(b, s, next())
			}
		})
	})
	b.Run("deferred", func(b *testing.B) {
		s, next := openBench(b), blocks()
		b.SetBytes(shard.MaxBlock)
		for b.Loop() {
			put(b, s.Deferred(), next())
		}
		put(b, s, nil) // makes them durable
	})
}

// BenchmarkGet reads blocks into new memory, and into memory that is used again.
func BenchmarkGet(b *testing.B) {
	s := openBench(b)
	next := blocks()
	var cids []cid.Cid
	for range 256 {
		cids = append(cids, put(b, s.Deferred(), next()))
	}
	if err := s.db.Flush(); err != nil {
		b.Fatal(err)
	}
	for name, buf := range map[string][]byte{"new": nil, "into": make([]byte, 0, shard.MaxBlock)} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(shard.MaxBlock)
			for i := 0; b.Loop(); i++ {
				if _, err := s.GetInto(b.Context(), cids[i*97%len(cids)], buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func openBench(b *testing.B) *Store {
	b.Helper()
	s, err := Open(filepath.Join(b.TempDir(), "store"), Options{Reserve: -1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

// blocks returns a maker of blocks that are all different.
func blocks() func() []byte {
	base := noise(1, shard.MaxBlock)
	var n atomic.Uint64
	return func() []byte {
		data := append([]byte{}, base...)
		binary.LittleEndian.PutUint64(data, n.Add(1))
		return data
	}
}

func put(b *testing.B, p shard.Putter, data []byte) cid.Cid {
	c, err := p.Add(b.Context(), cid.Raw, data)
	if err != nil {
		b.Error(err)
	}
	return c
}
