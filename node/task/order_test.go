package task

import (
	"crypto/ed25519"
	"errors"
	"testing"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// An order counts when the job's submitter signed it for this job, and only the newest.
func TestOrder(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	other := ed25519.NewKeyFromSeed(append(make([]byte, 31), 1))
	id := func(k ed25519.PrivateKey) record.PeerID { return record.IDOf(k.Public().(ed25519.PublicKey)) }
	mine := Task{ID: record.CID([]byte("a")), Terms: Terms{Submitter: id(key)}}
	sign := func(job Task, n uint64, k ed25519.PrivateKey) *record.Signed {
		job.Terms.Submitter = id(k)
		s, err := SignOrder(job, n, 7, k)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	got, err := mine.WithOrder(sign(mine, 2, key))
	if err != nil || got.Order.Number != 2 || got.Ordered == nil {
		t.Fatalf("order %+v, %v", got.Order, err)
	}
	if got, err = got.WithOrder(sign(mine, 1, key)); err != nil || got.Order.Number != 2 {
		t.Errorf("an older order: %+v, %v", got.Order, err)
	}
	if got, err = got.WithOrder(nil); err != nil || got.Order.Number != 2 {
		t.Errorf("no order: %+v, %v", got.Order, err)
	}
	forged := sign(mine, 3, key)
	forged.Sig[0]++
	another := Task{ID: record.CID([]byte("b")), Terms: mine.Terms}
	for name, s := range map[string]*record.Signed{
		"forged": forged, "another job's": sign(another, 3, key), "a stranger's": sign(mine, 3, other), "long": {Record: make([]byte, 2000)},
	} {
		if got, err := mine.WithOrder(s); !errors.Is(err, record.ErrBad) || got.Order.Number != 0 {
			t.Errorf("%s order: %+v, %v", name, got.Order, err)
		}
	}
}
