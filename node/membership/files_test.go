package membership

import (
	"bytes"
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/swarm"
)

// TestSaveKeepsWhatAnotherProcessJoined: a daemon that ends must not put the membership that it began with over the one
// that "shoal swarm join" wrote meanwhile.
func TestSaveKeepsWhatAnotherProcessJoined(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	home, at := t.TempDir(), time.Now()
	now := func() time.Time { return at }
	if _, err := Create(home, "lab", key, at); err != nil {
		t.Fatal(err)
	}
	f, err := Open(home, "lab", key, now)
	if err != nil {
		t.Fatal(err)
	}
	renewed := func() swarm.Chain {
		at = at.Add(time.Hour)
		c, err := f.Renew(idOf(key))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	hold := func(want swarm.Chain) {
		t.Helper()
		b, err := swarm.EncodeChain(want)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Save(); err != nil {
			t.Fatal(err)
		}
		if got, err := f.dir.read(memberFile); err != nil || !bytes.Equal(got, b) {
			t.Errorf("another membership is kept (%v)", err)
		}
	}

	own := renewed()
	if err := f.Take(own); err != nil {
		t.Fatal(err)
	}
	hold(own)
	joined := renewed()
	if err := f.dir.setChain(joined); err != nil {
		t.Fatal(err)
	}
	hold(joined)
	if err := f.Take(renewed()); err != nil {
		t.Fatal(err)
	}
	hold(joined)
}
