package p2p

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/seed-7b27c88a/shoal/p2p/swarm"
)

const (
	controlProtocol = "/shoal/control/1"
	controlVersion  = 1

	headerSize = 8
	maxBye     = 256
)

type kind uint8

const (
	kindHello   kind = 1
	kindMessage kind = 2
	kindPing    kind = 3
	kindPong    kind = 4
	kindClone   kind = 5
	kindBye     kind = 6
)

// errFrame is wrapped by every error about bytes that are no frame.
var errFrame = errors.New("malformed control frame")

// frame is one unit of a control stream; the package comment has its layout.
type frame struct {
	kind    kind
	topic   string
	payload []byte
}

func (f frame) size() int { return headerSize + len(f.topic) + len(f.payload) }

func (f frame) append(b []byte) []byte {
	b = append(b, byte(f.kind), 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(f.topic)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(f.payload)))
	b = append(b, f.topic...)
	return append(b, f.payload...)
}

// readFrame reads one frame. It allocates only what the kind allows.
func readFrame(r io.Reader) (frame, error) {
	var hd [headerSize]byte
	if _, err := io.ReadFull(r, hd[:]); err != nil {
		return frame{}, err
	}
	f := frame{kind: kind(hd[0])}
	topic, payload := int(binary.BigEndian.Uint16(hd[2:])), int64(binary.BigEndian.Uint32(hd[4:]))
	if err := checkSizes(f.kind, hd[1], topic, payload); err != nil {
		return frame{}, err
	}
	b := make([]byte, topic+int(payload))
	if _, err := io.ReadFull(r, b); err != nil {
		return frame{}, noEOF(err)
	}
	f.topic, f.payload = string(b[:topic]), b[topic:]
	return f, nil
}

// checkSizes refuses a header before anything is allocated for it.
func checkSizes(k kind, zero byte, topic int, payload int64) error {
	ok := false
	switch k {
	case kindHello:
		ok = topic <= 64 && payload == helloSize
	case kindMessage:
		ok = topic > 0 && topic <= MaxTopic && payload <= MaxPayload
	case kindPing, kindPong:
		ok = topic == 0 && payload == 8
	case kindClone:
		ok = topic == 0 && payload == 0
	case kindBye:
		ok = topic == 0 && payload <= maxBye
	}
	if !ok || zero != 0 {
		return fmt.Errorf("%w: kind %d, topic of %d bytes, payload of %d", errFrame, k, topic, payload)
	}
	return nil
}

// noEOF makes an end in the middle of a frame an error.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

const helloSize = 1 + 8 + 8

// hello opens a control stream.
type hello struct {
	swarm  string
	boot   uint64
	serial uint64 // of the stream among those of this boot id
}

func (h hello) frame() frame {
	p := []byte{controlVersion}
	p = binary.BigEndian.AppendUint64(p, h.boot)
	p = binary.BigEndian.AppendUint64(p, h.serial)
	return frame{kind: kindHello, topic: h.swarm, payload: p}
}

// parseHello reads the greeting of a node that should be in our swarm.
func parseHello(f frame, ours string) (hello, error) {
	if f.kind != kindHello {
		return hello{}, fmt.Errorf("%w: kind %d before hello", errFrame, f.kind)
	}
	if v := f.payload[0]; v != controlVersion {
		return hello{}, fmt.Errorf("control version %d, this node speaks %d", v, controlVersion)
	}
	h := hello{
		swarm:  f.topic,
		boot:   binary.BigEndian.Uint64(f.payload[1:]),
		serial: binary.BigEndian.Uint64(f.payload[9:]),
	}
	if swarm.CheckName(h.swarm) != nil || h.swarm != ours {
		return hello{}, fmt.Errorf("swarm %q, this node is in %q", h.swarm, ours)
	}
	if h.boot == 0 {
		return hello{}, fmt.Errorf("%w: boot id 0", errFrame)
	}
	return h, nil
}
