package collective

import (
	"slices"
	"sync"

	"github.com/seed-7b27c88a/shoal/p2p/collective/exact"
)

// lease lends a vector to the transfers that read it, until it is taken back: its owner may then write to it.
type lease struct {
	mu      sync.RWMutex // held for reading while a part is used
	expired bool         // sent again under another plan: what has begun may end, nothing begins
	gone    bool
}

// lend calls use with the part [lo, hi) of a frame, in bytes as it travels; false: not lent any more. Parts are cut where
// the codec allows. scratch has room for parts that have to be encoded first.
func (l *lease) lend(f *Frame, lo, hi int, scratch *sync.Pool, use func([]byte)) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.gone || l.expired && lo == 0 {
		return false
	}
	switch {
	case f.Wire != nil:
		use(f.Wire[lo:hi])
	case f.Codec != exact.FP32:
		elements, bytes := f.Codec.Unit()
		first := lo / bytes * elements
		n, _ := f.Codec.Elements(hi - lo)
		b, _ := scratch.Get().(*[]byte)
		if b == nil {
			b = new([]byte)
		}
		*b = slices.Grow((*b)[:0], hi-lo)[:hi-lo]
		f.Codec.Encode(*b, f.Data[first:first+n])
		use(*b)
		scratch.Put(b)
	default:
		use(littleEndian(f.Data[lo/4 : hi/4]))
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
