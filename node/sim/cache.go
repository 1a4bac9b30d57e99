package sim

import (
	"bytes"
	"hash/maphash"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/node/coord"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// cache opens each log entry once for all members.
type cache struct {
	seed    maphash.Seed
	entries map[uint64]*coord.Entry
	order   []uint64
}

const cached = 512 // entries: more than a swarm has under way

func newCache() *cache { return &cache{seed: maphash.MakeSeed(), entries: map[uint64]*coord.Entry{}} }

func (c *cache) entry(s *record.Signed, open func() (*coord.Entry, error)) (*coord.Entry, error) {
	k := maphash.Bytes(c.seed, s.Record)
	if e := c.entries[k]; e != nil && e.Signer == s.Signer && bytes.Equal(e.Signed.Record, s.Record) {
		return e, nil
	}
	e, err := open()
	if err != nil {
		return nil, err
	}
	c.entries[k] = e
	if c.order = append(c.order, k); len(c.order) > cached {
		delete(c.entries, c.order[0])
		c.order = c.order[1:]
	}
	return e, nil
}

// keys signs with nothing, to spend the time of a simulation on the protocol.
type keys struct {
	id    record.PeerID
	cache *cache
}

func (k keys) Entry(s *record.Signed, open func() (*coord.Entry, error)) (*coord.Entry, error) {
	return k.cache.entry(s, open)
}

func (k keys) Sign(h record.Header, body any) (*record.Signed, cid.Cid, error) {
	b, err := record.Encode(body)
	if err != nil {
		return nil, cid.Undef, err
	}
	rec, err := record.Encode(record.Record{Header: h, Body: b})
	if err != nil {
		return nil, cid.Undef, err
	}
	s := &record.Signed{Record: rec, Signer: k.id, Sig: []byte{1}}
	return s, record.CID(rec), nil
}

func (k keys) Open(s *record.Signed) (*record.Record, cid.Cid, error) {
	var r record.Record
	if err := record.Decode(s.Record, &r); err != nil {
		return nil, cid.Undef, err
	}
	return &r, record.CID(s.Record), nil
}
