package xfer

import (
	"encoding/binary"
	"fmt"
)

// Limits of the protocol; both sides hold each other to them.
const (
	Protocol    = "/shoal/xfer/1"
	MaxTransfer = 1 << 20 // bytes of payload; larger things are cut by whoever sends them
	MaxMeta     = 1 << 10 // bytes of what precedes the payload

	headerLen   = 16
	maxPart     = 128<<10 - 64 // bytes of a data frame: with its headers one yamux frame of 128 KiB
	maxOpen     = 256          // transfers of a lane without a receipt
	smallWindow = 256 << 10    // bytes without a receipt on a lane for small transfers
	firstWindow = MaxTransfer  // the same on a lane for bulk, until the receiver grants more
	bulkWindow  = 8 << 20      // what a receiver grants a lane for bulk if memory allows
	maxWindow   = 64 << 20     // no receiver grants more
)

type frameType uint8

const (
	frameHello   frameType = 1 // sender, first of a lane: code is the lane's class
	frameOpen    frameType = 2 // sender: transfer id for service code, size bytes; meta bytes follow
	frameData    frameType = 3 // sender: size bytes of the transfer last opened, from offset on, follow
	frameCancel  frameType = 4 // sender: the rest of the transfer last opened will not come
	frameReceipt frameType = 5 // receiver: what became of transfer id; its bytes may be used again
	frameWindow  frameType = 6 // receiver: size bytes may be without a receipt from now on
	frameAlive   frameType = 7 // receiver: bytes arrive, or receipts are still being worked for
)

// header precedes everything on a lane. All numbers are big-endian; fields a type does not use are zero.
//
//	0 type  1 code  2..3 meta  4..7 id  8..11 size  12..15 offset
type header struct {
	typ    frameType
	code   uint8
	meta   uint16
	id     uint32
	size   uint32
	offset uint32
}

func (h header) append(b []byte) []byte {
	b = append(b, byte(h.typ), h.code)
	b = binary.BigEndian.AppendUint16(b, h.meta)
	b = binary.BigEndian.AppendUint32(b, h.id)
	b = binary.BigEndian.AppendUint32(b, h.size)
	return binary.BigEndian.AppendUint32(b, h.offset)
}

// parseHeader reads a header and refuses what no correct peer sends in any state.
func parseHeader(b *[headerLen]byte) (header, error) {
	h := header{
		typ: frameType(b[0]), code: b[1], meta: binary.BigEndian.Uint16(b[2:]), id: binary.BigEndian.Uint32(b[4:]),
		size: binary.BigEndian.Uint32(b[8:]), offset: binary.BigEndian.Uint32(b[12:]),
	}
	var used header
	ok := true
	switch h.typ {
	case frameHello:
		used = header{code: h.code}
		ok = h.code < classes
	case frameOpen:
		used = header{code: h.code, meta: h.meta, id: h.id, size: h.size}
		ok = h.meta <= MaxMeta && h.size <= MaxTransfer
	case frameData:
		used = header{id: h.id, size: h.size, offset: h.offset}
		ok = h.size > 0 && h.size <= maxPart && h.offset < MaxTransfer
	case frameCancel:
		used = header{id: h.id}
	case frameReceipt:
		used = header{code: h.code, id: h.id}
	case frameWindow:
		used = header{size: h.size}
		ok = h.size >= firstWindow && h.size <= maxWindow
	case frameAlive:
	default:
		ok = false
	}
	used.typ = h.typ
	if !ok || h != used {
		return header{}, fmt.Errorf("malformed frame %+v", h)
	}
	return h, nil
}
