package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/shard"
)

// place is where a large block lies: the database has it as the value of the block's key.
type place struct {
	segment uint32 // number of the file
	offset  uint32 // bytes
	size    uint32 // bytes
	sum     uint32 // CRC-32C of the block's bytes
	epoch   uint64 // of segments, when the entry was written
}

const placeSize = 24 // bytes

func (p place) end() int64 { return int64(p.offset) + int64(p.size) }

func (p place) encode() []byte {
	b := make([]byte, 0, placeSize)
	for _, v := range []uint32{p.segment, p.offset, p.size, p.sum} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return binary.BigEndian.AppendUint64(b, p.epoch)
}

func decodePlace(b []byte) (place, error) {
	if len(b) != placeSize {
		return place{}, fmt.Errorf("%w: the place of a block takes %d bytes, not %d", shard.ErrCorrupt, len(b), placeSize)
	}
	p := place{epoch: binary.BigEndian.Uint64(b[16:])}
	for i, v := range []*uint32{&p.segment, &p.offset, &p.size, &p.sum} {
		*v = binary.BigEndian.Uint32(b[4*i:])
	}
	if p.size > shard.MaxBlock {
		return place{}, fmt.Errorf("%w: a block of %d bytes", shard.ErrCorrupt, p.size)
	}
	return p, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sumOf is the checksum that guards a large block at rest. It is the kind that the database uses for what lies in it, and
// costs a tenth of hashing the block again.
func sumOf(data []byte) uint32 { return crc32.Checksum(data, castagnoli) }

// entry says how a block is stored.
type entry struct {
	key  []byte
	size int64
	at   *place // nil: in the database itself
}

// find looks for a block without reading it.
func (s *Store) find(c cid.Cid) (e entry, found bool, err error) {
	if at, err := s.placeOf(c); err == nil {
		return entry{placeKey(c), int64(at.size), &at}, true, nil
	} else if !errors.Is(err, pebble.ErrNotFound) {
		return entry{}, false, err
	}
	size, err := s.size(blockKey(c))
	return entry{key: blockKey(c), size: size}, size >= 0, err
}

// placeOf is where a large block lies, or pebble.ErrNotFound.
func (s *Store) placeOf(c cid.Cid) (place, error) {
	v, closer, err := s.db.Get(placeKey(c))
	if err != nil {
		return place{}, err
	}
	at, err := decodePlace(v)
	return at, errors.Join(err, closer.Close())
}
