package coord

import (
	"fmt"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// ResetHeld is a Reset with the signatures that make it hold.
type ResetHeld struct {
	Reset  record.Signed   `cbor:"1,keyasint"`
	Others []record.Signed `cbor:"2,keyasint"`
}
type standing struct{ A int }
type signAsk struct{ A int }

func (s *standing) check() error { return nil }
func (s *signAsk) check() error  { return nil }

func (r *ResetHeld) check() error {
	if len(r.Others) > maxSigs {
		return fmt.Errorf("%d signatures", len(r.Others))
	}
	return nil
}

func (r *ResetHeld) verify(m *Machine) error { return nil }

type court struct{}

func (m *Machine) beginCourt()                         {}
func (m *Machine) tickCourt()                          {}
func (m *Machine) performReset(e *Entry, r *ResetHeld) {}
func (m *Machine) takeStanding(o *opened, s *standing) {}
func (m *Machine) takeAsk(o *opened, s *signAsk)       {}
func (m *Machine) otherLog(o *opened) bool {
	return o.header.Generation != m.job.gen || o.header.Reset != m.job.reset
}
func (m *Machine) closeJob() {}
