package collective

import (
	"sync"

	"github.com/seed-7b27c88a/shoal/p2p/collective/exact"
)

// lease lends a vector to the transfers that read it, until it is taken back: its owner may then write to it.
type lease struct {
	mu      sync.RWMutex // held for reading while a part is copied
	expired bool         // sent again under another plan: what has begun may end, nothing begins
	gone    bool
}

// read fills dst with the part of a frame that begins at off bytes, as it travels; false: not lent any more. Parts are
// cut where the codec allows.
func (l *lease) read(dst []byte, f *Frame, off int) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.gone || l.expired && off == 0 {
		return false
	}
	switch {
	case f.Wire != nil:
		copy(dst, f.Wire[off:])
	case f.Codec != exact.FP32:
		elements, bytes := f.Codec.Unit()
		lo := off / bytes * elements
		n, _ := f.Codec.Elements(len(dst))
		f.Codec.Encode(dst, f.Data[lo:lo+n])
	default:
		copy(dst, bytesOf(f.Data)[off:])
		if bigEndian {
			swap(dst)
		}
	}
	return true
}

func (l *lease) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expired = true
}

// take ends the lease; when it returns nobody reads.
func (l *lease) take() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone = true
}
