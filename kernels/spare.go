package kernels

// Spare is slabs that arenas of one stream hand to each other: what one needs for the time of a pass alone, the next
// takes over. Commands that still use a slab come before those of its next user. The zero Spare is ready.
type Spare struct{ slabs []*Buffer }

// take gives the smallest slab of at least n bytes, or nil.
func (s *Spare) take(n int) *Buffer {
	if s == nil {
		return nil
	}
	best := -1
	for i, b := range s.slabs {
		if b.Size >= n && (best < 0 || b.Size < s.slabs[best].Size) {
			best = i
		}
	}
	if best < 0 {
		return nil
	}
	b := s.slabs[best]
	s.slabs = append(s.slabs[:best], s.slabs[best+1:]...)
	return b
}

// Free gives the slabs back to the device.
func (s *Spare) Free(dev Device) {
	Free(dev, s.slabs...)
	s.slabs = nil
}

// Join makes the arena take slabs that others have handed over, before it takes new ones.
func (a *Arena) Join(s *Spare) { a.spare = s }

// Trim hands slabs in which nothing lies to the others.
func (a *Arena) Trim() {
	n := a.cur + 1
	if a.used == 0 {
		n = a.cur
	}
	if a.spare == nil || n >= len(a.slabs) {
		return
	}
	a.spare.slabs = append(a.spare.slabs, a.slabs[n:]...)
	a.slabs = a.slabs[:n]
}
