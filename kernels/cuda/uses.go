//go:build cuda

package cuda

import "github.com/seed-7b27c88a/shoal/kernels/cuda/internal/driver"

// uses knows when memory that commands name is free to be written from beside the compute stream. What is sent belongs to
// a turn, by number; a buffer remembers the last one that used it. A Run ends its turn with an event.
//
// Invariant: the events of turns [open-len(events), open) are recorded, in this order.
type uses struct {
	events [16]driver.Event // of the last turns, by their number modulo 16
	open   uint64           // the turn that has not ended; from 1
}

func (u *uses) make(ctx *driver.Context) (err error) {
	u.open = 1
	for i := range u.events {
		if u.events[i], err = ctx.NewEvent(false); err != nil {
			return err
		}
	}
	return nil
}

// close ends the turn.
func (u *uses) close(compute driver.Stream) error {
	e := u.events[u.open%uint64(len(u.events))]
	u.open++
	return e.Record(compute)
}

// before lets a stream wait for the end of a turn; 0, or one that is long past, for a later one.
func (u *uses) before(turn uint64, compute, s driver.Stream) error {
	if turn == u.open || turn == 0 {
		turn = u.open
		if err := u.close(compute); err != nil {
			return err
		}
	}
	if kept := uint64(len(u.events)); u.open > kept {
		turn = max(turn, u.open-kept)
	}
	return s.Wait(u.events[turn%uint64(len(u.events))])
}

// small is pinned memory for uploads that are over sooner than streams could be made to wait for each other: token ids,
// positions. Parts are filled one after the other; one is filled anew when what was sent from it is done, so that the
// host gets far ahead of the GPU.
type small struct {
	mem  []byte
	part int // at work
	used int // bytes of it
	sent [smallParts]driver.Event
	busy [smallParts]bool
}

const (
	smallBytes = 64 << 10  // what counts as little: 3 µs of a bus of 25 GB/s
	smallPart  = 256 << 10 // bytes
	smallParts = 8
)

func (m *small) make(ctx *driver.Context) (err error) {
	if m.mem, err = ctx.HostAlloc(smallPart * smallParts); err != nil {
		return err
	}
	for i := range m.sent {
		if m.sent[i], err = ctx.NewEvent(false); err != nil {
			return err
		}
	}
	return nil
}

// upload sends bytes on a stream. src is the caller's again on return.
func (m *small) upload(s driver.Stream, dst driver.Ptr, src []byte) error {
	if len(src) == 0 {
		return nil
	}
	if m.used+len(src) > smallPart {
		if err := m.turn(s); err != nil {
			return err
		}
	}
	lo := m.part*smallPart + m.used
	m.used += (len(src) + 15) &^ 15
	copy(m.mem[lo:], src)
	return s.Upload(dst, len(src), m.mem[lo:lo+len(src)], len(src), 1)
}

// turn goes on to the next part.
func (m *small) turn(s driver.Stream) error {
	if err := m.sent[m.part].Record(s); err != nil {
		return err
	}
	m.busy[m.part] = true
	m.part, m.used = (m.part+1)%smallParts, 0
	if !m.busy[m.part] {
		return nil
	}
	m.busy[m.part] = false
	return m.sent[m.part].Sync()
}
