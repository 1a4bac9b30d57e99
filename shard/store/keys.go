package store

import (
	"bytes"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"
)

// The database's keys:
//
//	b <CID bytes>              a block, if it is small
//	f <CID bytes>              the place of a large block
//	e                          all epochs of places up to this one are on the disk
//	k <area> 0x00 <key>        an entry of a key-value area
//	p <name> 0x00 <CID bytes>  name pins the CID
//	v                          the format version
const (
	blockPrefix = 'b'
	placePrefix = 'f'
	kvPrefix    = 'k'
	pinPrefix   = 'p'
)

var (
	versionKey = []byte{'v'}
	epochKey   = []byte{'e'}
)

// MaxPinName bounds the name of a pin, bytes.
const MaxPinName = 512

func blockKey(c cid.Cid) []byte { return append([]byte{blockPrefix}, c.Bytes()...) }

func placeKey(c cid.Cid) []byte { return append([]byte{placePrefix}, c.Bytes()...) }

// blockOf is the block of a key of either kind.
func blockOf(key []byte) (cid.Cid, error) { return cid.Cast(key[1:]) }

func pinKey(name string, c cid.Cid) []byte {
	return append(pinRange(name), c.Bytes()...)
}

// pinRange is the common beginning of the keys of a name.
func pinRange(name string) []byte {
	return append(append([]byte{pinPrefix}, name...), 0)
}

func pinOf(key []byte) (name string, c cid.Cid, err error) {
	head, tail, ok := bytes.Cut(key[1:], []byte{0})
	if !ok {
		return "", cid.Undef, fmt.Errorf("bad pin key %x", key)
	}
	c, err = cid.Cast(tail)
	return string(head), c, err
}

// prefixRange bounds an iterator to keys that begin with prefix, which must not end in 0xff.
func prefixRange(prefix ...byte) *pebble.IterOptions {
	return &pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)}
}

// after is the first key behind all that begin with prefix, whose last byte is not 0xff.
func after(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	end[len(end)-1]++
	return end
}

func (s *Store) iter(o *pebble.IterOptions) (*pebble.Iterator, error) { return s.db.NewIter(o) }
