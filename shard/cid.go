package shard

import (
	"crypto/sha256"
	"fmt"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/seed-7b27c88a/shoal/shard/twohash"
)

// Sum names data: CIDv1, sha2-256. codec is cid.Raw for blocks and cid.DagCBOR for manifests and records.
func Sum(codec uint64, data []byte) cid.Cid {
	return named(codec, sha256.Sum256(data))
}

func named(codec uint64, digest [sha256.Size]byte) cid.Cid {
	h, err := mh.Encode(digest[:], mh.SHA2_256)
	if err != nil {
		panic("shard: " + err.Error()) // a digest of 32 bytes always encodes
	}
	return cid.NewCidV1(codec, h)
}

// CheckCID refuses identifiers of a kind that shoal never makes: another version, codec or hash function, or a cut
// digest.
func CheckCID(c cid.Cid) error {
	if !c.Defined() {
		return fmt.Errorf("content identifier is missing")
	}
	p := c.Prefix()
	if p.Version != 1 || p.MhType != mh.SHA2_256 || p.MhLength != sha256.Size || !knownCodec(p.Codec) {
		return fmt.Errorf("content identifier %s is not a CIDv1 of raw or dag-cbor bytes under sha2-256", c)
	}
	return nil
}

// Check is nil if data, which came from elsewhere, is what c names. It is the one hashing that a foreign block gets.
func Check(c cid.Cid, data []byte) error {
	if err := checkable(c, data); err != nil {
		return err
	}
	return compare(c, data, sha256.Sum256(data))
}

// CheckTwo is Check of two blocks at once, which takes half as long where both are of one size.
func CheckTwo(c, d cid.Cid, a, b []byte) (errA, errB error) {
	errA, errB = checkable(c, a), checkable(d, b)
	switch {
	case errA != nil && errB != nil:
		return errA, errB
	case errA != nil:
		return errA, Check(d, b)
	case errB != nil:
		return Check(c, a), errB
	}
	x, y := twohash.Sum(a, b)
	return compare(c, a, x), compare(d, b, y)
}

// checkable is nil if data may be hashed.
func checkable(c cid.Cid, data []byte) error {
	if err := CheckCID(c); err != nil {
		return err
	}
	return checkSize(data)
}

func compare(c cid.Cid, data []byte, digest [sha256.Size]byte) error {
	if !named(c.Prefix().Codec, digest).Equals(c) {
		return fmt.Errorf("%w: %d bytes for %s", ErrCorrupt, len(data), c)
	}
	return nil
}

// Name is Sum for a store's Add: it refuses unknown codecs and blocks that are too large.
func Name(codec uint64, data []byte) (cid.Cid, error) {
	if !knownCodec(codec) {
		return cid.Undef, fmt.Errorf("codec %#x is neither raw nor dag-cbor", codec)
	}
	if err := checkSize(data); err != nil {
		return cid.Undef, err
	}
	return Sum(codec, data), nil
}

func knownCodec(codec uint64) bool { return codec == cid.Raw || codec == cid.DagCBOR }

func checkSize(data []byte) error {
	if len(data) > MaxBlock {
		return fmt.Errorf("%w: %d bytes", ErrTooLarge, len(data))
	}
	return nil
}
