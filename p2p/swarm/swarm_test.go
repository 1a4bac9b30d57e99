package swarm

import (
	"strings"
	"testing"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

func TestCheckName(t *testing.T) {
	for _, ok := range []string{"public", "a", "lab-7", strings.Repeat("x", maxName)} {
		if err := CheckName(ok); err != nil {
			t.Errorf("%q: %v", ok, err)
		}
	}
	for _, bad := range []string{"", "-a", "a-", "A", "a b", "a/b", "ä", strings.Repeat("x", maxName+1)} {
		if CheckName(bad) == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestOpenRefusesOtherKeys(t *testing.T) {
	if err := (Open{}).Admit("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"); err == nil {
		t.Error("an RSA peer ID was admitted")
	}
}

func TestClones(t *testing.T) {
	for _, tc := range []struct {
		name  string
		boots []uint64
		clone bool
	}{
		{"one process", []uint64{1, 1, 1}, false},
		{"restarts", []uint64{1, 2, 3, 4, 5, 6, 7}, false},
		{"a late greeting of the dead process", []uint64{1, 2, 1, 2}, false},
		{"one return only", []uint64{1, 2, 1}, false},
		{"two processes", []uint64{1, 2, 1, 2, 1}, true},
		{"two processes, one restarting", []uint64{1, 2, 1, 3, 1, 3}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var c Clones
			got := false
			for _, b := range tc.boots {
				got = c.Seen("p", b)
			}
			if got != tc.clone {
				t.Errorf("clone = %v after boots %v", got, tc.boots)
			}
		})
	}
}

func TestClonesIsBounded(t *testing.T) {
	var c Clones
	for i := range 3 * maxTracked {
		c.Seen(record.PeerID(rune(i)), 1)
	}
	if len(c.seen) > maxTracked {
		t.Errorf("%d identities remembered", len(c.seen))
	}
}
