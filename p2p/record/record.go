// Package record is what everything signed in shoal looks like: a header that says which job, generation,
// round and attempt it speaks of and what came before it, a body, and beside them a signature.
//
// The CID of a record is the hash of header and body alone: signatures lie outside it, so two honest signers of the
// same words name the same record. Durations stand in records, never wall-clock times, except where something expires
// (memberships and invites of a swarm). Everything is deterministic CBOR (RFC 8949 §4.2), and decoding is bounded before it allocates. The package has no state and no dependency
// on libp2p: a PeerID is text.
package record

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
	"github.com/ipfs/go-cid"
	mbase "github.com/multiformats/go-multibase"
	mh "github.com/multiformats/go-multihash"
)

// Version of the record format. A node refuses records of a version it does not know.
const Version = 1

// MaxRecord bounds an encoded record, bytes. Long parts are blocks named by CID.
const MaxRecord = 256 << 10

// ErrBad is wrapped by every error about a record that is malformed, too large or wrongly signed.
var ErrBad = errors.New("bad record")

// PeerID is a libp2p peer ID in its text form (12D3KooW…). For Ed25519 keys it contains the public key.
type PeerID string

// Header is common to log entries, control messages and frames.
type Header struct {
	Context    string  `cbor:"1,keyasint"`          // what this is: "shoal/plan", "shoal/cut", …; stops replay in another place
	Version    int     `cbor:"2,keyasint"`          // format version
	Job        cid.Cid `cbor:"3,keyasint,omitzero"` // CID of the job's signed spec manifest; undefined: of no job
	Generation uint32  `cbor:"4,keyasint"`          // number of the generation, 0 from the start
	Reset      cid.Cid `cbor:"5,keyasint,omitzero"` // CID of the generation's Reset record; undefined in generation 0
	Round      uint64  `cbor:"6,keyasint"`
	Attempt    uint32  `cbor:"7,keyasint"`
	Parent     cid.Cid `cbor:"8,keyasint,omitzero"` // the log's head this follows; undefined at genesis
	Boot       uint64  `cbor:"9,keyasint"`          // boot id of the signer
}

// Record is a header and its body, which is itself deterministic CBOR of the type that Context names.
type Record struct {
	Header Header          `cbor:"1,keyasint"`
	Body   cbor.RawMessage `cbor:"2,keyasint"`
}

// Signed is a record as it travels.
type Signed struct {
	Record cbor.RawMessage `cbor:"1,keyasint"` // canonical bytes of a Record; their hash is its CID
	Signer PeerID          `cbor:"2,keyasint"`
	Sig    []byte          `cbor:"3,keyasint"` // Ed25519 over "shoal-record-1\x00" and Record
}

const sigPrefix = "shoal-record-1\x00"

// Encode returns v's deterministic CBOR.
func Encode(v any) ([]byte, error) { return enc.Marshal(v) }

// Decode reads bounded, strict CBOR: no duplicate or unknown keys, no indefinite lengths, no trailing bytes.
func Decode(data []byte, v any) error {
	if err := dec.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%w: %w", ErrBad, err)
	}
	return nil
}

// CID names canonical CBOR bytes (CIDv1, dag-cbor, sha2-256).
func CID(canonical []byte) cid.Cid {
	sum := sha256.Sum256(canonical)
	h, err := mh.Encode(sum[:], mh.SHA2_256)
	if err != nil {
		panic("record: " + err.Error())
	}
	return cid.NewCidV1(cid.DagCBOR, h)
}

// Sign makes the record of h and body and signs it with key, whose peer ID is id.
func Sign(h Header, body any, id PeerID, key ed25519.PrivateKey) (*Signed, cid.Cid, error) {
	b, err := Encode(body)
	if err != nil {
		return nil, cid.Undef, err
	}
	rec, err := Encode(Record{Header: h, Body: b})
	if err != nil {
		return nil, cid.Undef, err
	}
	if len(rec) > MaxRecord {
		return nil, cid.Undef, fmt.Errorf("%w: %d bytes, limit %d", ErrBad, len(rec), MaxRecord)
	}
	sig := ed25519.Sign(key, append([]byte(sigPrefix), rec...))
	return &Signed{Record: rec, Signer: id, Sig: sig}, CID(rec), nil
}

// Open checks s's size, signature and version and returns its record and CID.
func Open(s *Signed) (*Record, cid.Cid, error) {
	if len(s.Record) > MaxRecord {
		return nil, cid.Undef, fmt.Errorf("%w: %d bytes, limit %d", ErrBad, len(s.Record), MaxRecord)
	}
	pub, err := PublicKey(s.Signer)
	if err != nil {
		return nil, cid.Undef, err
	}
	if !ed25519.Verify(pub, append([]byte(sigPrefix), s.Record...), s.Sig) {
		return nil, cid.Undef, fmt.Errorf("%w: signature of %s does not verify", ErrBad, s.Signer)
	}
	var r Record
	if err := Decode(s.Record, &r); err != nil {
		return nil, cid.Undef, err
	}
	if r.Header.Version != Version {
		return nil, cid.Undef, fmt.Errorf("%w: format version %d, this node knows %d", ErrBad, r.Header.Version, Version)
	}
	return &r, CID(s.Record), nil
}

// An Ed25519 peer ID is the identity multihash of this prefix and the 32 key bytes (libp2p peer-ids spec).
var idPrefix = []byte{0x00, 0x24, 0x08, 0x01, 0x12, 0x20}

// IDOf is the peer ID of an Ed25519 public key.
func IDOf(pub ed25519.PublicKey) PeerID {
	s, err := mbase.Encode(mbase.Base58BTC, append(append([]byte{}, idPrefix...), pub...))
	if err != nil {
		panic("record: " + err.Error())
	}
	return PeerID(s[1:]) // peer IDs are written without the multibase letter
}

// PublicKey is the key inside id.
func PublicKey(id PeerID) (ed25519.PublicKey, error) {
	if len(id) > 64 {
		return nil, fmt.Errorf("%w: peer ID of %d characters", ErrBad, len(id))
	}
	_, b, err := mbase.Decode("z" + string(id))
	if err != nil || len(b) != len(idPrefix)+ed25519.PublicKeySize || string(b[:len(idPrefix)]) != string(idPrefix) {
		return nil, fmt.Errorf("%w: %q is not an Ed25519 peer ID", ErrBad, id)
	}
	return ed25519.PublicKey(b[len(idPrefix):]), nil
}

var enc, dec = modes()

func modes() (cbor.EncMode, cbor.DecMode) {
	e, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err)
	}
	d, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   16,
		MaxArrayElements:  1 << 16,
		MaxMapPairs:       1 << 12,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return e, d
}
