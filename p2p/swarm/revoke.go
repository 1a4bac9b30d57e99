package swarm

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// maxTombstones bounds the revocations kept; only admins can make one.
const maxTombstones = 4096

// revocation is the body of a tombstone: memberships of Member made at At or before are void, and so is whatever such
// a membership admitted.
type revocation struct {
	Swarm  record.PeerID `cbor:"1,keyasint"`
	Member record.PeerID `cbor:"2,keyasint"`
	At     int64         `cbor:"3,keyasint"` // Unix time, seconds
}

// Tombstone is a signed revocation with the proof that its signer is an admin.
type Tombstone struct {
	Signed record.Signed `cbor:"1,keyasint"`
	By     Chain         `cbor:"2,keyasint,omitempty"` // empty: the root signed
}

// grave is an opened tombstone.
type grave struct {
	Tombstone
	name   string // CID of the record
	member record.PeerID
	at     int64
	by     []Member // along the signer's chain
}

// Revoke voids id's present membership.
func (i Issuer) Revoke(root, id record.PeerID, now time.Time) (Tombstone, error) {
	if _, err := i.limit(root, now); err != nil {
		return Tombstone{}, err
	}
	if _, err := record.PublicKey(id); err != nil {
		return Tombstone{}, err
	}
	s, err := i.sign(contextRevoke, revocation{root, id, now.Unix()})
	return Tombstone{s, i.By}, err
}

// openTombstone checks a tombstone from anywhere. The signer's membership must have held at the time of the signing,
// not now: a revocation outlives the one who made it.
func openTombstone(t Tombstone, root record.PeerID, now time.Time) (grave, error) {
	var b revocation
	if err := open(&t.Signed, contextRevoke, &b); err != nil {
		return grave{}, err
	}
	if b.Swarm != root {
		return grave{}, fmt.Errorf("revocation in another swarm (%s)", b.Swarm)
	}
	if _, err := record.PublicKey(b.Member); err != nil {
		return grave{}, err
	}
	at := time.Unix(b.At, 0)
	if at.After(now.Add(Skew)) {
		return grave{}, fmt.Errorf("revocation of %s lies in the future: one of the two clocks is wrong", b.Member)
	}
	if err := mayAdmit(t.By, t.Signed.Signer, root, at); err != nil {
		return grave{}, err
	}
	g := grave{t, record.CID(t.Signed.Record).String(), b.Member, b.At, nil}
	if len(t.By) > 0 {
		g.by, _ = t.By.verify(root, at) // mayAdmit did
	}
	return g, nil
}

// bury returns, for each revoked member, until when its memberships are void. The result depends on the set alone: in
// order of time, a tombstone counts unless its signer was void already, so that all members agree whatever came first.
func bury(graves map[string]grave) map[record.PeerID]int64 {
	order := make([]grave, 0, len(graves))
	for _, g := range graves {
		order = append(order, g)
	}
	slices.SortFunc(order, func(a, b grave) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.name, b.name)) })
	dead := map[record.PeerID]int64{}
	for _, g := range order {
		if _, void := void(g.by, dead); !void {
			dead[g.member] = g.at
		}
	}
	return dead
}

// void tells whether one of the memberships along a chain is revoked, and whose.
func void(chain []Member, dead map[record.PeerID]int64) (record.PeerID, bool) {
	for _, m := range chain {
		if at, ok := dead[m.ID]; ok && m.From.Unix() <= at {
			return m.ID, true
		}
	}
	return "", false
}
