package blocks

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
)

const (
	protocol = "/shoal/blocks/1"

	maxBlock  = 1 << 20 // bytes
	maxHaves  = 512     // CIDs in one have
	cidSize   = 36      // bytes of a version 1 CID with sha2-256
	headSize  = 10
	maxQueued = 64 // unanswered requests a donor accepts on one stream
)

type kind uint8

const (
	kindHave   kind = 1
	kindGet    kind = 2
	kindCancel kind = 3
	kindHas    kind = 4
	kindBlock  kind = 5
)

type status uint8

const (
	statusOK        status = 0
	statusNotHere   status = 1
	statusRefused   status = 2
	statusCancelled status = 3
)

func (s status) String() string {
	switch s {
	case statusOK:
		return "ok"
	case statusNotHere:
		return "does not have it"
	case statusRefused:
		return "does not give it to this node"
	case statusCancelled:
		return "cancelled"
	}
	return fmt.Sprintf("status %d", uint8(s))
}

var errFrame = errors.New("malformed block frame")

// header begins every frame.
type header struct {
	kind   kind
	status status
	seq    uint32
	length uint32 // of the body, bytes
}

func (h header) append(b []byte) []byte {
	b = append(b, byte(h.kind), byte(h.status))
	b = binary.BigEndian.AppendUint32(b, h.seq)
	return binary.BigEndian.AppendUint32(b, h.length)
}

// readHeader reads a header whose body is within what its kind allows.
func readHeader(r io.Reader) (header, error) {
	var b [headSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return header{}, err
	}
	h := header{
		kind: kind(b[0]), status: status(b[1]),
		seq: binary.BigEndian.Uint32(b[2:]), length: binary.BigEndian.Uint32(b[6:]),
	}
	if h.length > h.limit() || h.kind != kindBlock && h.status != statusOK || h.status > statusCancelled {
		return header{}, fmt.Errorf("%w: kind %d, status %d, body of %d bytes", errFrame, h.kind, h.status, h.length)
	}
	return h, nil
}

func (h header) limit() uint32 {
	switch h.kind {
	case kindHave:
		return maxHaves * (1 + cidSize)
	case kindGet:
		return cidSize + 4
	case kindHas:
		return maxHaves / 8
	case kindBlock:
		if h.status == statusOK {
			return maxBlock
		}
	}
	return 0
}

// request is what a donor is asked.
type request struct {
	kind kind
	seq  uint32
	cids []cid.Cid // one for get, any number for have, none for cancel
	from uint32    // get: bytes of the block that are here already
}

func (q request) append(b []byte) []byte {
	var body []byte
	for _, c := range q.cids {
		if q.kind == kindHave {
			body = append(body, byte(len(c.Bytes())))
		}
		body = append(body, c.Bytes()...)
	}
	if q.from > 0 {
		body = binary.BigEndian.AppendUint32(body, q.from)
	}
	b = header{kind: q.kind, seq: q.seq, length: uint32(len(body))}.append(b)
	return append(b, body...)
}

// readRequest reads a request and checks it wholly.
func readRequest(r io.Reader) (request, error) {
	h, err := readHeader(r)
	if err != nil {
		return request{}, err
	}
	body := make([]byte, h.length)
	if _, err := io.ReadFull(r, body); err != nil {
		return request{}, err
	}
	q := request{kind: h.kind, seq: h.seq}
	switch h.kind {
	case kindHave:
		q.cids, err = parseCIDs(body)
	case kindGet:
		if len(body) == cidSize+4 {
			q.from, body = binary.BigEndian.Uint32(body[cidSize:]), body[:cidSize]
			if q.from == 0 || q.from > maxBlock {
				return request{}, fmt.Errorf("%w: a block from byte %d", errFrame, q.from)
			}
		}
		var c cid.Cid
		c, err = parseCID(body)
		q.cids = []cid.Cid{c}
	case kindCancel:
	default:
		err = fmt.Errorf("%w: kind %d as a request", errFrame, h.kind)
	}
	return q, err
}

func parseCIDs(b []byte) (out []cid.Cid, err error) {
	for len(b) > 0 {
		n := 1 + int(b[0])
		if n > len(b) || len(out) == maxHaves {
			return nil, fmt.Errorf("%w: list of CIDs", errFrame)
		}
		c, err := parseCID(b[1:n])
		if err != nil {
			return nil, err
		}
		out, b = append(out, c), b[n:]
	}
	return out, nil
}

func parseCID(b []byte) (cid.Cid, error) {
	c, err := cid.Cast(b)
	if err == nil {
		err = checkCID(c)
	}
	if err != nil {
		return cid.Undef, fmt.Errorf("%w: %w", errFrame, err)
	}
	return c, nil
}

func checkCID(c cid.Cid) error {
	if !c.Defined() {
		return errors.New("undefined CID")
	}
	p := c.Prefix()
	if p.Version != 1 || p.MhType != mh.SHA2_256 || p.MhLength != 32 || p.Codec != cid.Raw && p.Codec != cid.DagCBOR {
		return fmt.Errorf("CID %s is not version 1, sha2-256, raw or dag-cbor", c)
	}
	return nil
}
