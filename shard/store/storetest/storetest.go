// Package storetest is what every shard.Store promises, as a test. Each implementation runs it on itself.
package storetest

import (
	"bytes"
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/seed-7b27c88a/shoal/shard"
)

// Run tests the stores that open makes. Each call of open returns an empty store, closed by t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) shard.Store) {
	for _, tc := range []struct {
		name string
		run  func(*testing.T, shard.Store)
	}{
		{"round trip", roundTrip},
		{"sizes", sizes},
		{"not found", notFound},
		{"corrupt", corrupt},
		{"foreign identifiers", foreign},
		{"buffers", buffers},
		{"canceled", canceled},
		{"concurrent", concurrent},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.run(t, open(t)) })
	}
}

func roundTrip(t *testing.T, s shard.Store) {
	ctx := t.Context()
	data := []byte("some bytes")
	for _, codec := range []uint64{cid.Raw, cid.DagCBOR} {
		c, err := s.Add(ctx, codec, data)
		if err != nil || !c.Equals(shard.Sum(codec, data)) {
			t.Fatalf("Add: %v, %v", c, err)
		}
		if again, err := s.Add(ctx, codec, data); err != nil || !again.Equals(c) {
			t.Fatalf("Add again: %v, %v", again, err)
		}
		if err := s.Put(ctx, c, data); err != nil {
			t.Fatalf("Put of what is there: %v", err)
		}
		want(t, s, c, data)
	}
	other := []byte("from elsewhere")
	c := shard.Sum(cid.Raw, other)
	if err := s.Put(ctx, c, other); err != nil {
		t.Fatal(err)
	}
	want(t, s, c, other)
}

func sizes(t *testing.T, s shard.Store) {
	ctx := t.Context()
	for _, n := range []int{0, 1, 4095, 4096, 4097, shard.MaxBlock - 1, shard.MaxBlock} {
		data := pattern(n)
		c, err := s.Add(ctx, cid.Raw, data)
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		want(t, s, c, data)
	}
	large := pattern(shard.MaxBlock + 1)
	if _, err := s.Add(ctx, cid.Raw, large); !errors.Is(err, shard.ErrTooLarge) {
		t.Errorf("Add of %d bytes: %v", len(large), err)
	}
	if err := s.Put(ctx, shard.Sum(cid.Raw, large), large); !errors.Is(err, shard.ErrTooLarge) {
		t.Errorf("Put of %d bytes: %v", len(large), err)
	}
}

func notFound(t *testing.T, s shard.Store) {
	c := shard.Sum(cid.Raw, []byte("never stored"))
	absent(t, s, c)
	if _, err := s.Add(t.Context(), cid.DagCBOR, []byte("never stored")); err != nil {
		t.Fatal(err)
	}
	absent(t, s, c) // the same bytes under another codec are another block
}

func corrupt(t *testing.T, s shard.Store) {
	data := pattern(1000)
	c := shard.Sum(cid.Raw, data)
	for name, bad := range map[string][]byte{
		"changed": append([]byte{data[0] ^ 1}, data[1:]...),
		"cut":     data[:999],
		"longer":  append(bytes.Clone(data), 0),
		"empty":   nil,
	} {
		if err := s.Put(t.Context(), c, bad); !errors.Is(err, shard.ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", name, err)
		}
	}
	absent(t, s, c)
}

func foreign(t *testing.T, s shard.Store) {
	ctx := t.Context()
	data := []byte("bytes")
	raw := shard.Sum(cid.Raw, data)
	sum1 := sha1.Sum(data)
	for name, c := range map[string]cid.Cid{
		"undefined": cid.Undef,
		"version 0": cid.NewCidV0(raw.Hash()),
		"codec":     cid.NewCidV1(cid.DagProtobuf, raw.Hash()),
		"identity":  cid.NewCidV1(cid.Raw, multihash(t, data, mh.IDENTITY)),
		"sha1":      cid.NewCidV1(cid.Raw, multihash(t, sum1[:], mh.SHA1)),
	} {
		if err := s.Put(ctx, c, data); err == nil {
			t.Errorf("%s: stored", name)
		}
	}
	if _, err := s.Add(ctx, cid.DagProtobuf, data); err == nil {
		t.Error("Add with an unknown codec: stored")
	}
}

// buffers makes sure that the caller may use its slice again as soon as Add or Put returned.
func buffers(t *testing.T, s shard.Store) {
	ctx := t.Context()
	data := pattern(5000)
	kept := bytes.Clone(data)
	c, err := s.Add(ctx, cid.Raw, data)
	if err != nil {
		t.Fatal(err)
	}
	clear(data)
	want(t, s, c, kept)

	data = pattern(6000)
	kept = bytes.Clone(data)
	c = shard.Sum(cid.Raw, data)
	if err := s.Put(ctx, c, data); err != nil {
		t.Fatal(err)
	}
	clear(data)
	want(t, s, c, kept)
}

func canceled(t *testing.T, s shard.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := shard.Sum(cid.Raw, []byte("x"))
	if _, err := s.Add(ctx, cid.Raw, []byte("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("Add: %v", err)
	}
	if err := s.Put(ctx, c, []byte("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("Put: %v", err)
	}
	if _, err := s.Get(ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("Get: %v", err)
	}
	if _, err := s.Has(ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("Has: %v", err)
	}
	absent(t, s, c)
}

func concurrent(t *testing.T, s shard.Store) {
	ctx := t.Context()
	const writers, blocks = 4, 16
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range blocks { // all write the same blocks, each beginning at another
				data := fmt.Appendf(nil, "block %d", (i+w*blocks/writers)%blocks)
				c, err := s.Add(ctx, cid.Raw, data)
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := s.Get(ctx, c); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%q: %q, %v", data, got, err)
				}
			}
		})
	}
	wg.Wait()
}

func want(t *testing.T, s shard.Store, c cid.Cid, data []byte) {
	t.Helper()
	if ok, err := s.Has(t.Context(), c); err != nil || !ok {
		t.Errorf("Has: %v, %v", ok, err)
	}
	if got, err := s.Get(t.Context(), c); err != nil || !bytes.Equal(got, data) {
		t.Errorf("Get: %d bytes, %v; want %d bytes", len(got), err, len(data))
	}
}

func absent(t *testing.T, s shard.Store, c cid.Cid) {
	t.Helper()
	if ok, err := s.Has(t.Context(), c); err != nil || ok {
		t.Errorf("Has: %v, %v; want absent", ok, err)
	}
	if _, err := s.Get(t.Context(), c); !errors.Is(err, shard.ErrNotFound) {
		t.Errorf("Get: %v, want ErrNotFound", err)
	}
}

// pattern is n bytes that do not repeat with a period of a power of two.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i/251)
	}
	return b
}

func multihash(t *testing.T, digest []byte, code uint64) mh.Multihash {
	t.Helper()
	h, err := mh.Encode(digest, code)
	if err != nil {
		t.Fatal(err)
	}
	return h
}
