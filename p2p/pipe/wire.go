package pipe

import (
	"fmt"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/collective/exact"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/xfer"
)

// Service is the number of pipelines among the services of xfer.
const Service = 2

// Receipts of parts that were not taken.
const (
	refusedEarly     xfer.Code = 1 // of a plan that is not known here yet: again later
	refusedStale     xfer.Code = 2 // of a plan that is over, or from a member that is lost
	refusedMalformed xfer.Code = 3
	refusedFull      xfer.Code = 4 // again later
	refusedTwice     xfer.Code = 5 // this part is here already
)

// partVersion of the meta that goes before a part's bytes.
const partVersion = 1

// maxLost is how many members an Ask names at most.
const maxLost = 4096

// part is a piece of a frame on its way: elements [At, At+n) of its data, coded, or for an Ask the names of the lost. The
// error of a number that travels is a function of the codec: none in fp32, 2⁻⁸ of itself in bf16, and in int8 the
// 254th part of the largest of its block of 128.
type part struct {
	Frame
	Codec exact.Codec
	Elems int // of the whole frame
	At    int
}

// partMeta is a part without its bytes, as xfer carries it: deterministic CBOR, well under xfer.MaxMeta.
type partMeta struct {
	Version    int         `cbor:"1,keyasint"`
	Kind       Kind        `cbor:"2,keyasint"`
	Job        cid.Cid     `cbor:"3,keyasint"`
	Generation uint32      `cbor:"4,keyasint"`
	Round      uint64      `cbor:"5,keyasint"`
	Attempt    uint32      `cbor:"6,keyasint"`
	Plan       cid.Cid     `cbor:"7,keyasint"`
	Micro      uint32      `cbor:"8,keyasint"`
	From       uint32      `cbor:"9,keyasint"`
	Again      bool        `cbor:"10,keyasint,omitempty"`
	Has        bool        `cbor:"11,keyasint,omitempty"`
	Pace       int64       `cbor:"12,keyasint,omitempty"` // nanoseconds
	Load       uint32      `cbor:"13,keyasint,omitempty"`
	Codec      exact.Codec `cbor:"14,keyasint,omitempty"`
	Elems      int         `cbor:"15,keyasint,omitempty"`
	At         int         `cbor:"16,keyasint,omitempty"`
}

func (p part) meta() ([]byte, error) {
	return record.Encode(partMeta{Version: partVersion, Kind: p.Kind, Job: p.Job, Generation: p.Generation, Round: p.Round, Attempt: p.Attempt,
		Plan: p.Plan, Micro: p.Micro, From: p.From, Again: p.Again, Has: p.Has, Pace: int64(p.Pace), Load: p.Load, Codec: p.Codec, Elems: p.Elems, At: p.At})
}

// decodePart reads what a peer says its size bytes are. limit is how many elements a frame may have here; what the frame
// means is the machine's to judge.
func decodePart(b []byte, size, limit int) (part, error) {
	var m partMeta
	if len(b) > xfer.MaxMeta {
		return part{}, fmt.Errorf("%w: %d bytes of meta", record.ErrBad, len(b))
	}
	if err := record.Decode(b, &m); err != nil {
		return part{}, err
	}
	p := part{Codec: m.Codec, Elems: m.Elems, At: m.At, Frame: Frame{Key: Key{Job: m.Job, Generation: m.Generation, Round: m.Round, Attempt: m.Attempt, Plan: m.Plan},
		Kind: m.Kind, Micro: m.Micro, From: m.From, Again: m.Again, Has: m.Has, Pace: time.Duration(m.Pace), Load: m.Load}}
	switch {
	case m.Version != partVersion:
		return part{}, fmt.Errorf("%w: activations in version %d, this node knows %d", record.ErrBad, m.Version, partVersion)
	case m.Kind < Forward || m.Kind > Answer, m.Pace < 0, !m.Codec.Valid():
		return part{}, fmt.Errorf("%w: activations of kind %d", record.ErrBad, m.Kind)
	case m.Kind >= Ask && (m.Elems != 0 || m.At != 0 || size > 64*maxLost || m.Kind == Answer && size != 0):
		return part{}, fmt.Errorf("%w: %s of %d bytes", record.ErrBad, m.Kind, size)
	case m.Kind <= Backward && !p.fits(size, limit):
		return part{}, fmt.Errorf("%w: part of %d bytes at %d of %d numbers", record.ErrBad, size, m.At, m.Elems)
	}
	return p, nil
}

// fits reports whether size bytes are this part of its frame.
func (p part) fits(size, limit int) bool {
	if p.Elems < 0 || p.Elems > limit || p.At < 0 || p.At > p.Elems || p.At%span(p.Codec) != 0 || p.At > 0 && p.At == p.Elems {
		return false
	}
	return size == sizeOf(p.Codec, p.len())
}

func sizeOf(c exact.Codec, n int) int {
	if n == 0 {
		return 0
	}
	return c.Size(n)
}

// len is how many elements the part has.
func (p part) len() int { return min(p.Elems-p.At, span(p.Codec)) }

// span is how many elements a part has, but for the last: as many as fit a transfer.
func span(c exact.Codec) int {
	elems, bytes := c.Unit()
	return xfer.MaxTransfer / bytes * elems
}

// parts cuts a frame.
func parts(f Frame, c exact.Codec) (ps []part) {
	p := part{Frame: f, Codec: c, Elems: len(f.Data)}
	for {
		ps = append(ps, p)
		if p.At += span(c); p.At >= p.Elems {
			return ps
		}
	}
}

// payload is the part's bytes.
func (p part) payload() ([]byte, error) {
	if p.Kind == Ask {
		return record.Encode(p.Lost[:min(len(p.Lost), maxLost)])
	}
	if p.Elems == 0 {
		return nil, nil
	}
	b := make([]byte, p.Codec.Size(p.len()))
	p.Codec.Encode(b, p.Data[p.At:p.At+p.len()])
	return b, nil
}

// lost reads the names in an Ask.
func lost(b []byte) (ids []record.PeerID, err error) {
	if err := record.Decode(b, &ids); err != nil {
		return nil, err
	}
	if len(ids) > maxLost {
		return nil, fmt.Errorf("%w: %d lost members", record.ErrBad, len(ids))
	}
	return ids, nil
}
