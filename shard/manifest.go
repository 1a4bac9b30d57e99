package shard

import "github.com/ipfs/go-cid"

// Kinds of manifest.
const (
	KindModel      = "model"      // files of a Hugging Face directory
	KindData       = "data"       // materialised positions; Files holds "positions" and "index"
	KindCheckpoint = "checkpoint" // chunks of weights and optimizer state at one commit
	KindAdapter    = "adapter"    // files of a PEFT directory
)

// Manifest lists blocks. Its canonical bytes are deterministic CBOR; their CID (dag-cbor) is its identity.
type Manifest struct {
	Version int               `cbor:"1,keyasint"`           // 1
	Kind    string            `cbor:"2,keyasint"`           // one of the Kind constants
	Name    string            `cbor:"3,keyasint,omitempty"` // what a person called it; not unique
	Files   []File            `cbor:"4,keyasint"`           // sorted by Path
	Meta    map[string]string `cbor:"5,keyasint,omitempty"` // small facts of the kind, documented by its package
}

// File is a named byte sequence cut into blocks of MaxBlock (the last may be shorter).
type File struct {
	Path   string    `cbor:"1,keyasint"` // relative, slash-separated, clean
	Size   uint64    `cbor:"2,keyasint"` // bytes
	Blocks []cid.Cid `cbor:"3,keyasint"`
}
