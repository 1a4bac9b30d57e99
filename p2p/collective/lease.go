package collective

import "sync"

// lease lends a vector to the transfers that read it, until it is taken back: its owner may then write to it.
type lease struct {
	mu      sync.RWMutex // held for reading while a part is copied
	expired bool         // sent again under another plan: what has begun may end, nothing begins
	gone    bool
}

// read copies the part of src that begins at off bytes, as it travels; false: not lent any more. Parts are whole
// elements: xfer cuts at multiples of 8 bytes.
func (l *lease) read(dst []byte, src []float32, off int) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.gone || l.expired && off == 0 {
		return false
	}
	copy(dst, bytesOf(src)[off:])
	if bigEndian {
		swap(dst)
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
