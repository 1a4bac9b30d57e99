package sim

import (
	"bytes"
	"fmt"
	"hash/maphash"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/node/coord"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// cache opens each log entry and each message once for all members.
type cache struct {
	seed    maphash.Seed
	entries recent[uint64, *coord.Entry]
	made    recent[*record.Signed, made]
}

// made is a record as its signer made it: nobody has to take apart what this process put together. message is what coord
// made of it first.
type made struct {
	record  *record.Record
	cid     cid.Cid
	message any
}

const (
	keptEntries  = 64      // more than a swarm has under way
	keptMessages = 1 << 12 // about as many as a large swarm has under way; the largest have 200 KiB
)

func newCache() *cache {
	return &cache{seed: maphash.MakeSeed(), entries: newRecent[uint64, *coord.Entry](keptEntries), made: newRecent[*record.Signed, made](keptMessages)}
}

func (c *cache) entry(s *record.Signed, open func() (*coord.Entry, error)) (*coord.Entry, error) {
	k := maphash.Bytes(c.seed, s.Record)
	if e := c.entries.get(k); e != nil && e.Signer == s.Signer && bytes.Equal(e.Signed.Record, s.Record) {
		return e, nil
	}
	e, err := open()
	if err == nil {
		c.entries.put(k, e)
	}
	return e, err
}

// recent is a map of the newest things put into it.
type recent[K comparable, V any] struct {
	m     map[K]V
	order []K // a ring
	next  int
}

func newRecent[K comparable, V any](size int) recent[K, V] {
	return recent[K, V]{m: make(map[K]V, size), order: make([]K, 0, size)}
}

func (r *recent[K, V]) get(k K) V { return r.m[k] }

func (r *recent[K, V]) put(k K, v V) {
	if _, known := r.m[k]; known {
		r.m[k] = v
		return
	}
	if len(r.order) < cap(r.order) {
		r.order = append(r.order, k)
	} else {
		delete(r.m, r.order[r.next])
		r.order[r.next] = k
		r.next = (r.next + 1) % len(r.order)
	}
	r.m[k] = v
}

// keys signs with nothing, to spend the time of a simulation on the protocol.
type keys struct {
	id    record.PeerID
	cache *cache
}

func (k keys) Entry(s *record.Signed, open func() (*coord.Entry, error)) (*coord.Entry, error) {
	return k.cache.entry(s, open)
}

// Message opens a message that went to many once. What comes out of it is never changed.
func (k keys) Message(s *record.Signed, open func() (any, error)) (any, error) {
	m := k.cache.made.get(s)
	if m.message != nil {
		return m.message, nil
	}
	o, err := open()
	if err == nil && m.record != nil {
		m.message = o
		k.cache.made.put(s, m)
	}
	return o, err
}

func (k keys) Sign(h record.Header, body any) (*record.Signed, cid.Cid, error) {
	b, err := record.Encode(body)
	if err != nil {
		return nil, cid.Undef, err
	}
	r := &record.Record{Header: h, Body: b}
	raw, err := record.Encode(r)
	if err != nil || len(raw) > record.MaxRecord {
		return nil, cid.Undef, fmt.Errorf("a record of %d bytes cannot be signed: %w", len(raw), err)
	}
	s := &record.Signed{Record: raw, Signer: k.id, Sig: []byte{1}}
	m := made{record: r, cid: record.CID(raw)}
	k.cache.made.put(s, m)
	return s, m.cid, nil
}

func (k keys) Open(s *record.Signed) (*record.Record, cid.Cid, error) {
	if m := k.cache.made.get(s); m.record != nil {
		return m.record, m.cid, nil
	}
	var r record.Record
	if err := record.Decode(s.Record, &r); err != nil {
		return nil, cid.Undef, err
	}
	return &r, record.CID(s.Record), nil
}
