package collective

import "github.com/seed-7b27c88a/shoal/p2p/record"

// Bounds of a mailbox. Plans reach members a few milliseconds apart, so it holds what may come in that time over a fast
// link, and one peer may fill a quarter of it.
const (
	boxFrames     = 256
	boxBytes      = 32 << 20
	boxPeerFrames = boxFrames / 4
	boxPeerBytes  = boxBytes / 4
)

// mailbox holds frames of plans not yet seen, in order of arrival.
type mailbox struct {
	frames []waiting
	bytes  int
}

type waiting struct {
	from  record.PeerID
	frame *Frame
}

// put keeps a frame if there is room.
func (b *mailbox) put(from record.PeerID, f *Frame) bool {
	if !b.room(from, f.elements()) {
		return false
	}
	b.frames = append(b.frames, waiting{from, f})
	b.bytes += 4 * f.elements()
	return true
}

// room says whether a frame of n elements from a peer would be kept.
func (b *mailbox) room(from record.PeerID, n int) bool {
	size, frames, bytes := 4*n, 0, 0
	for _, w := range b.frames {
		if w.from == from {
			frames++
			bytes += 4 * w.frame.elements()
		}
	}
	return len(b.frames) < boxFrames && b.bytes+size <= boxBytes && frames < boxPeerFrames && bytes+size <= boxPeerBytes
}

func (b *mailbox) takeAll() []waiting {
	ws := b.frames
	*b = mailbox{}
	return ws
}

// openMailbox gives the frames of the plan now in force to the machine and refuses those whose plan will never come.
func (m *Machine) openMailbox(out []Effect) []Effect {
	for _, w := range m.box.takeAll() {
		out = m.take(out, w.from, w.frame)
	}
	return out
}
