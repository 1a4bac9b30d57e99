// Package shard is shoal's word for stored state: blocks under content identifiers, and the manifests that
// list them.
//
// A block is at most MaxBlock bytes under a CIDv1 with sha2-256; a manifest is a small deterministic-CBOR record
// under a dag-cbor CID. Stores verify a block's hash once, on its way in, and never serve bytes that do not match
// their CID. Implementations are safe for concurrent use.
package shard

import (
	"context"
	"errors"

	"github.com/ipfs/go-cid"
)

// MaxBlock bounds the bytes of a block or manifest.
const MaxBlock = 1 << 20

var (
	ErrNotFound = errors.New("block not found")
	ErrCorrupt  = errors.New("bytes do not match their content identifier")
	ErrTooLarge = errors.New("block larger than 1 MiB")
	ErrFull     = errors.New("store is full") // quota or disk; the caller pauses and tells the user
)

// Getter reads blocks.
type Getter interface {
	// Get returns the block's bytes, which the caller must not change, or ErrNotFound.
	Get(ctx context.Context, c cid.Cid) ([]byte, error)
}

// Putter stores blocks. When a call returned without error the block survives a crash.
type Putter interface {
	// Add hashes data, stores it and returns its CID. codec is cid.Raw or cid.DagCBOR.
	Add(ctx context.Context, codec uint64, data []byte) (cid.Cid, error)
	// Put stores data that came from elsewhere under c, or returns ErrCorrupt.
	Put(ctx context.Context, c cid.Cid, data []byte) error
}

// Deferrer is what a Putter may have besides, to take many blocks faster.
type Deferrer interface {
	// Deferred returns a putter to the same store whose blocks need not survive a crash yet when its calls return. The
	// next call of the Putter itself that returns without error, such as the Add of their manifest, makes all of them
	// durable.
	Deferred() Putter
}

// Deferred is p's faster path if it has one, else p.
func Deferred(p Putter) Putter {
	if d, ok := p.(Deferrer); ok {
		return d.Deferred()
	}
	return p
}

// Store is a local block store.
type Store interface {
	Getter
	Putter
	Has(ctx context.Context, c cid.Cid) (bool, error)
}

// Range is the half-open interval [Lo, Hi).
type Range struct {
	Lo uint64 `cbor:"1,keyasint" json:"lo"`
	Hi uint64 `cbor:"2,keyasint" json:"hi"`
}

// Len is Hi-Lo.
func (r Range) Len() uint64 { return r.Hi - r.Lo }
