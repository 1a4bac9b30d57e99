package swarm

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// maxRoll bounds the members remembered.
const maxRoll = 4096

// Roll is what a node knows of the members of its private swarm: whose membership it has seen, and who was revoked. It
// is safe for concurrent use.
type Roll struct {
	root record.PeerID
	now  func() time.Time

	mu     sync.Mutex // guards the rest
	graves map[string]grave
	dead   map[record.PeerID]int64
	seen   map[record.PeerID]sighting
}

type sighting struct {
	chain   Chain
	members []Member
}

// NewRoll makes the roll of the swarm whose root key's id is given; now is the wall clock.
func NewRoll(root record.PeerID, now func() time.Time) *Roll {
	return &Roll{root: root, now: now, graves: map[string]grave{}, dead: map[record.PeerID]int64{}, seen: map[record.PeerID]sighting{}}
}

// Root is the swarm's id.
func (r *Roll) Root() record.PeerID { return r.root }

// Check verifies that chain makes of a member now, and remembers it.
func (r *Roll) Check(of record.PeerID, chain Chain) (Member, error) {
	ms, err := chain.verify(r.root, r.now())
	if err != nil {
		return Member{}, err
	}
	m := ms[len(ms)-1]
	if m.ID != of {
		return Member{}, fmt.Errorf("%s shows the membership of %s", of, m.ID)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.alive(ms); err != nil {
		return Member{}, err
	}
	if old, ok := r.seen[of]; !ok && len(r.seen) < maxRoll || ok && !last(old.members).From.After(m.From) {
		r.seen[of] = sighting{chain, ms}
	}
	return m, nil
}

func last(ms []Member) Member { return ms[len(ms)-1] }

// alive refuses a verified chain that a tombstone voids. The caller holds mu.
func (r *Roll) alive(ms []Member) error {
	id, gone := void(ms, r.dead)
	switch {
	case gone && id == last(ms).ID:
		return fmt.Errorf("membership of %s was revoked%s", id, r.by(id))
	case gone:
		return fmt.Errorf("membership of %s was issued by %s, who was revoked%s; it needs a new invite", last(ms).ID, id, r.by(id))
	}
	return nil
}

// by says when, and by whom, the revocation of id that counts was made. The caller holds mu.
func (r *Roll) by(id record.PeerID) string {
	at := r.dead[id]
	for _, name := range slices.Sorted(maps.Keys(r.graves)) {
		if g := r.graves[name]; g.member == id && g.at == at {
			return fmt.Sprintf(" on %s by %s", time.Unix(at, 0).UTC().Format(time.RFC3339), g.Signed.Signer)
		}
	}
	return ""
}

// Member returns what is known of id; it fails with the reason when id is known not to be a member now.
func (r *Roll) Member(id record.PeerID) (m Member, known bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.seen[id]
	if !ok {
		if _, gone := r.dead[id]; gone {
			return Member{}, false, fmt.Errorf("membership of %s was revoked", id)
		}
		return Member{}, false, nil
	}
	for _, m := range s.members {
		if err := m.holds(r.now()); err != nil {
			return last(s.members), true, err
		}
	}
	return last(s.members), true, r.alive(s.members)
}

// Chain is the membership that id showed, if it holds; nil otherwise.
func (r *Roll) Chain(id record.PeerID) Chain {
	if _, known, err := r.Member(id); !known || err != nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen[id].chain
}

// Members lists those whose membership holds now, ordered by ID.
func (r *Roll) Members() []Member {
	var out []Member
	for _, c := range r.Chains() {
		if ms, err := c.verify(r.root, r.now()); err == nil {
			out = append(out, last(ms))
		}
	}
	return out
}

// Chains lists the memberships that hold now, ordered by member.
func (r *Roll) Chains() []Chain {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Chain
	for _, id := range slices.SortedFunc(maps.Keys(r.seen), cmp.Compare[record.PeerID]) {
		s := r.seen[id]
		if r.alive(s.members) != nil || last(s.members).holds(r.now()) != nil {
			continue
		}
		out = append(out, s.chain)
	}
	return out
}

// Bury takes a tombstone in. It returns the members whose membership it voids; fresh is false for one that is known.
func (r *Roll) Bury(t Tombstone) (gone []record.PeerID, fresh bool, err error) {
	g, err := openTombstone(t, r.root, r.now())
	if err != nil {
		return nil, false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.graves[g.name]; ok {
		return nil, false, nil
	}
	r.forget()
	if len(r.graves) >= maxTombstones {
		return nil, false, fmt.Errorf("%d revocations are kept already", len(r.graves))
	}
	r.graves[g.name] = g
	r.dead = bury(r.graves)
	for id, s := range r.seen {
		if r.alive(s.members) != nil {
			gone = append(gone, id)
		}
	}
	if _, known := r.seen[g.member]; !known {
		gone = append(gone, g.member)
	}
	slices.Sort(gone)
	return gone, true, nil
}

// Revocation is the tombstone that voids a chain which is of's and in order otherwise; false when there is none.
func (r *Roll) Revocation(of record.PeerID, chain Chain) (t Tombstone, ok bool) {
	ms, err := chain.verify(r.root, r.now())
	if err != nil || last(ms).ID != of {
		return t, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	id, gone := void(ms, r.dead)
	if !gone {
		return t, false
	}
	for _, g := range r.graves {
		if g.member == id && g.at == r.dead[id] {
			return g.Tombstone, true // the same second's are as good
		}
	}
	return t, false
}

// Vet checks tombstones without taking them in.
func (r *Roll) Vet(ts []Tombstone) error {
	for _, t := range ts {
		if _, err := openTombstone(t, r.root, r.now()); err != nil {
			return err
		}
	}
	return nil
}

// forget drops tombstones of memberships that have expired by themselves. The caller holds mu.
func (r *Roll) forget() {
	old := r.now().Add(-2*Validity - 2*Skew).Unix()
	maps.DeleteFunc(r.graves, func(_ string, g grave) bool { return g.at < old })
}

// Tombstones lists the revocations, ordered by time.
func (r *Roll) Tombstones() []Tombstone {
	r.mu.Lock()
	defer r.mu.Unlock()
	order := slices.Collect(maps.Values(r.graves))
	slices.SortFunc(order, func(a, b grave) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.name, b.name)) })
	var out []Tombstone
	for _, g := range order {
		out = append(out, g.Tombstone)
	}
	return out
}

// Digest names the set of revocations: members who have the same digest know the same.
func (r *Roll) Digest() [sha256.Size]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(r.graves)) {
		d.Write([]byte(name))
		d.Write([]byte{0})
	}
	return [sha256.Size]byte(d.Sum(nil))
}
