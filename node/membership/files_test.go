package membership

import (
	"bytes"
	"crypto/ed25519"
	"log/slog"
	"strings"
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

// Members say nothing to whom they refuse; that the invite has expired, by a few minutes that clocks may differ, the invited says.
func TestJoinWithExpiredInvite(t *testing.T) {
	key, guest := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))
	home, at := t.TempDir(), time.Now().Add(-time.Hour)
	if _, err := Create(home, "lab", key, at); err != nil {
		t.Fatal(err)
	}
	f, err := Open(home, "lab", key, func() time.Time { return at })
	if err != nil {
		t.Fatal(err)
	}
	i, err := f.Issuer()
	if err != nil {
		t.Fatal(err)
	}
	nobody := []string{"/ip4/127.0.0.1/tcp/1/p2p/" + string(idOf(key))}
	token, _, err := i.NewToken(f.Identity(), swarm.Volunteer, 1, time.Now().Add(-swarm.Skew/2), at, nobody)
	if err != nil {
		t.Fatal(err)
	}
	text, err := token.Text()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Join(t.Context(), t.TempDir(), text, guest, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "the invite expired") {
		t.Error(err)
	}
}
