package collective

import (
	"fmt"
	"unsafe"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/collective/exact"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/xfer"
)

// Service is the number of the collective among the services of xfer.
const Service = 1

// frameVersion of the meta that goes before a chunk's bytes.
const frameVersion = 2

// frameMeta is a Frame without its data, as xfer carries it; the data are in the plan's codec. It is the same
// deterministic CBOR as records, well under xfer.MaxMeta. The piece's round is the key's.
type frameMeta struct {
	Version    int           `cbor:"1,keyasint"`
	Kind       FrameKind     `cbor:"2,keyasint"`
	Job        cid.Cid       `cbor:"3,keyasint"`
	Generation uint32        `cbor:"4,keyasint"`
	Round      uint64        `cbor:"5,keyasint"`
	Attempt    uint32        `cbor:"6,keyasint"`
	Plan       cid.Cid       `cbor:"7,keyasint"`
	Chunk      int           `cbor:"8,keyasint"`
	Made       uint32        `cbor:"9,keyasint,omitempty"`  // attempt that made the piece; 9 to 13 in contributions alone
	Member     record.PeerID `cbor:"10,keyasint,omitempty"` // who made it
	Boot       uint64        `cbor:"11,keyasint,omitempty"`
	Weight     int64         `cbor:"12,keyasint,omitempty"`
	Loss       float64       `cbor:"13,keyasint,omitempty"`
	Codec      exact.Codec   `cbor:"14,keyasint,omitempty"`
	Hash       []byte        `cbor:"15,keyasint,omitempty"` // FrameHeld alone, which has no data
}

func encodeMeta(f *Frame) ([]byte, error) {
	var hash []byte
	if f.Hash != nil {
		hash = f.Hash[:]
	}
	return record.Encode(frameMeta{
		Version: frameVersion, Kind: f.Kind, Job: f.Key.Job, Generation: f.Key.Generation, Round: f.Key.Round,
		Attempt: f.Key.Attempt, Plan: f.Key.Plan, Chunk: f.Chunk, Codec: f.Codec, Hash: hash,
		Made: f.Mark.Attempt, Member: f.Mark.Member, Boot: f.Mark.Boot, Weight: f.Mark.Weight, Loss: f.Mark.Loss,
	})
}

// decodeMeta reads what a peer says its chunk of size bytes is. What it means is the machine's to judge.
func decodeMeta(b []byte, size int) (*Frame, error) {
	var m frameMeta
	if len(b) > xfer.MaxMeta || size < 0 || size > 4*MaxChunkLen {
		return nil, fmt.Errorf("%w: chunk of %d bytes with %d of meta", record.ErrBad, size, len(b))
	}
	if err := record.Decode(b, &m); err != nil {
		return nil, err
	}
	if m.Version != frameVersion {
		return nil, fmt.Errorf("%w: chunk format version %d, this node knows %d", record.ErrBad, m.Version, frameVersion)
	}
	held := m.Kind == FrameHeld
	if n, ok := m.Codec.Elements(size); !m.Codec.Valid() || ok == held || n > MaxChunkLen || held != (size == 0) {
		return nil, fmt.Errorf("%w: chunk of %d bytes in %v", record.ErrBad, size, m.Codec)
	}
	if held && len(m.Hash) != len(Hash{}) || !held && m.Hash != nil {
		return nil, fmt.Errorf("%w: frame of kind %d with a hash of %d bytes", record.ErrBad, m.Kind, len(m.Hash))
	}
	f := &Frame{Codec: m.Codec, Kind: m.Kind, Key: Key{m.Job, m.Generation, m.Round, m.Attempt, m.Plan}, Chunk: m.Chunk}
	if m.Kind == FrameContribution {
		f.Mark = Mark{PieceID{m.Round, m.Made, m.Member, m.Boot}, m.Weight, m.Loss}
	}
	if held {
		f.Hash = (*Hash)(m.Hash)
	}
	return f, nil
}

var bigEndian = func() bool {
	one := uint16(1)
	return *(*byte)(unsafe.Pointer(&one)) == 0
}()

// bytesOf is v's memory as bytes.
func bytesOf(v []float32) []byte {
	if len(v) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&v[0])), 4*len(v))
}

// littleEndian is v as it travels: its own memory, or a converted copy on a big-endian machine.
func littleEndian(v []float32) []byte {
	b := bytesOf(v)
	if bigEndian {
		b = append([]byte(nil), b...)
		swap(b)
	}
	return b
}

// swap turns the bytes of each float32 around.
func swap(b []byte) {
	for i := 0; i+4 <= len(b); i += 4 {
		b[i], b[i+1], b[i+2], b[i+3] = b[i+3], b[i+2], b[i+1], b[i]
	}
}
