package swarm

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// MaxCredential bounds what one side shows the other before it is admitted, bytes.
const MaxCredential = 8 << 10

// ErrGuest says that the peer showed a good invite: it gets the answer with its new membership, and no connection;
// it comes back as a member.
var ErrGuest = errors.New("joined with an invite")

// ErrRevoked says that this node's own membership was revoked, as a member has proved to it.
var ErrRevoked = errors.New("this node is no longer a member of the swarm")

// Ledger counts the uses of invites where a crash does not lose them.
type Ledger interface {
	// Use notes that id joins with v. It fails when v's uses are up; who used it before may again.
	Use(v Invite, id record.PeerID) error
}

// credential is what the dialing side shows: a membership or an invite.
type credential struct {
	Chain  Chain          `cbor:"1,keyasint,omitempty"`
	Invite *record.Signed `cbor:"2,keyasint,omitempty"`
	By     Chain          `cbor:"3,keyasint,omitempty"` // of the invite's issuer
	Probe  *record.Signed `cbor:"4,keyasint,omitempty"` // beside Chain, when the dialer is not that member itself
}

// probe is a member's word that another identity dials for it: a test of whether others can be reached comes from a
// fresh one, or it would only find the connection that is there already.
type probe struct {
	Swarm record.PeerID `cbor:"1,keyasint"`
	Probe record.PeerID `cbor:"2,keyasint"`
	Until int64         `cbor:"3,keyasint"` // Unix time, seconds
}

// probeLife is how long such a word holds; it is given anew for every connection.
const probeLife = time.Hour

// answer is what the other side shows then.
type answer struct {
	Chain   Chain       `cbor:"1,keyasint"`
	Issued  Chain       `cbor:"2,keyasint,omitempty"` // to who came with an invite
	Revoked []Tombstone `cbor:"3,keyasint,omitempty"` // why the dialer is a member no more; then Chain is empty
}

// Membership is a node's place in its private swarm: it shows its own membership to peers, judges theirs, and admits
// the invited if it is an admin's. It implements Gate. Safe for concurrent use.
type Membership struct {
	id     Identity
	self   record.PeerID
	key    ed25519.PrivateKey
	roll   *Roll
	now    func() time.Time
	ledger Ledger

	mu     sync.Mutex // guards the rest
	own    Chain
	issuer *Issuer // nil: this node can neither invite nor revoke
}

// NewMembership makes the place of the node with identity key, whose chain is own. issuer is nil unless the node holds
// the root key or is an admin. It fails when own is another's or does not hold now.
func NewMembership(id Identity, key ed25519.PrivateKey, own Chain, issuer *Issuer, roll *Roll, ledger Ledger, now func() time.Time) (*Membership, error) {
	self := record.IDOf(key.Public().(ed25519.PublicKey))
	m := &Membership{id: id, self: self, key: key, roll: roll, now: now, ledger: ledger, own: own, issuer: issuer}
	_, err := roll.Check(self, own)
	return m, err
}

// Identity is the swarm's.
func (m *Membership) Identity() Identity { return m.id }

// Self is this node's peer ID.
func (m *Membership) Self() record.PeerID { return m.self }

// Roll is what this node knows of the others.
func (m *Membership) Roll() *Roll { return m.roll }

// Secret hides the swarm from strangers.
func (m *Membership) Secret() []byte { return m.id.Secret }

// Own is this node's membership.
func (m *Membership) Own() Chain {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.own
}

// Issuer signs invites and revocations, if this node may.
func (m *Membership) Issuer() (Issuer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.issuer == nil {
		return Issuer{}, errors.New("this node is no admin of the swarm: it can neither invite nor revoke")
	}
	return *m.issuer, nil
}

// Admit implements Gate: whoever is known not to be a member is refused. Of who is unknown the exchange of memberships
// decides, which every connection begins with.
func (m *Membership) Admit(id record.PeerID) error {
	if id == m.self {
		return nil
	}
	_, _, err := m.roll.Member(id)
	return err
}

// Credential is what this node shows when it dials as the given identity, its own or a probe's.
func (m *Membership) Credential(as record.PeerID) ([]byte, error) {
	c := credential{Chain: m.Own()}
	if as != m.self {
		body := probe{m.id.Root, as, m.now().Add(probeLife).Unix()}
		s, err := Issuer{Key: m.key}.sign(contextProbe, body)
		if err != nil {
			return nil, err
		}
		c.Probe = &s
	}
	return record.Encode(c)
}

// checkMember judges a membership, or a probe of a member.
func (m *Membership) checkMember(from record.PeerID, c credential) error {
	if c.Probe != nil {
		var p probe
		if err := open(c.Probe, contextProbe, &p); err != nil {
			return err
		}
		if p.Swarm != m.id.Root || p.Probe != from || m.now().After(time.Unix(p.Until, 0).Add(Skew)) {
			return fmt.Errorf("%w: %s shows a word for %s", record.ErrBad, from, p.Probe)
		}
		from = c.Probe.Signer
	}
	_, err := m.roll.Check(from, c.Chain)
	return err
}

// Judge decides about the credential of a peer that dialed this node, and returns what to show it, also beside an error:
// a guest gets its membership, and who was a member is told by whom and when it was revoked. Nobody else gets anything.
func (m *Membership) Judge(from record.PeerID, data []byte) ([]byte, error) {
	var c credential
	if err := decodeBounded(data, &c); err != nil {
		return nil, err
	}
	a := answer{Chain: m.Own()}
	var guest error
	if c.Invite != nil {
		issued, err := m.join(from, c)
		if err != nil {
			return nil, err
		}
		a.Issued, guest = issued, ErrGuest
	} else if err := m.checkMember(from, c); err != nil {
		return m.obituary(from, c), err
	}
	b, err := record.Encode(a)
	return b, errors.Join(guest, err)
}

// obituary is what a peer is told whose membership is in order but for a revocation: it has proved whose it is and that
// the swarm admitted it once, and the revocation names nobody whom it did not know of. Nil for anybody else.
func (m *Membership) obituary(from record.PeerID, c credential) []byte {
	if c.Probe != nil || c.Invite != nil {
		return nil
	}
	t, ok := m.roll.Revocation(from, c.Chain)
	if !ok {
		return nil
	}
	b, err := record.Encode(answer{Revoked: []Tombstone{t}})
	if err != nil {
		return nil
	}
	return b
}

// learn takes in that this node was revoked, and returns that as the reason. It fails when ts do not say so.
func (m *Membership) learn(from record.PeerID, ts []Tombstone) error {
	if len(ts) > maxChain {
		return fmt.Errorf("%w: %d revocations in an answer", record.ErrBad, len(ts))
	}
	for _, t := range ts {
		if _, _, err := m.roll.Bury(t); err != nil {
			return fmt.Errorf("revocation from %s: %w", from, err)
		}
	}
	if _, err := m.roll.Check(m.self, m.Own()); err != nil {
		return fmt.Errorf("%w: %w; ask an admin for a new invite", ErrRevoked, err)
	}
	return fmt.Errorf("%w: %s shows revocations that do not concern this node", record.ErrBad, from)
}

// Welcome decides about the answer of a peer that this node dialed. It ends in ErrRevoked when the answer proves that
// this node is a member no more; the roll knows then as well.
func (m *Membership) Welcome(from record.PeerID, data []byte) error {
	var a answer
	if err := decodeBounded(data, &a); err != nil {
		return err
	}
	if len(a.Revoked) > 0 {
		return m.learn(from, a.Revoked)
	}
	_, err := m.roll.Check(from, a.Chain)
	return err
}

func decodeBounded(data []byte, v any) error {
	if len(data) > MaxCredential {
		return fmt.Errorf("%w: credential of %d bytes, limit %d", record.ErrBad, len(data), MaxCredential)
	}
	return record.Decode(data, v)
}

// join makes a member of who shows an invite that this node issued.
func (m *Membership) join(from record.PeerID, c credential) (Chain, error) {
	issuer, err := m.Issuer()
	if err != nil {
		return nil, err
	}
	v, err := openInvite(c.Invite, c.By, m.id.Root, m.now())
	switch {
	case err != nil:
		return nil, err
	case m.now().After(v.Until): // made and judged by one clock, so nothing is allowed for a difference
		return nil, fmt.Errorf("the invite expired %s; ask for a new one", v.Until.UTC().Format(time.RFC3339))
	case v.Issuer != issuer.id():
		return nil, fmt.Errorf("the invite was issued by %s, who alone counts its uses", v.Issuer)
	case v.From.Unix() <= m.roll.deadUntil(from):
		return nil, fmt.Errorf("membership of %s was revoked after the invite was made; it needs a new one", from)
	}
	if err := m.ledger.Use(v, from); err != nil {
		return nil, err
	}
	return m.admit(issuer, from, v.Role)
}

// admit issues a membership that no earlier revocation voids.
func (m *Membership) admit(issuer Issuer, id record.PeerID, role Role) (Chain, error) {
	from := time.Unix(max(m.now().Unix(), m.roll.deadUntil(id)+1), 0)
	chain, err := issuer.Issue(m.id.Root, id, role, from)
	if err != nil {
		return nil, err
	}
	_, err = m.roll.Check(id, chain)
	return chain, err
}

// Renew issues a member's membership again, with the same role.
func (m *Membership) Renew(id record.PeerID) (Chain, error) {
	issuer, err := m.Issuer()
	if err != nil {
		return nil, err
	}
	old, known, err := m.roll.Member(id)
	switch {
	case err != nil:
		return nil, err
	case !known:
		return nil, fmt.Errorf("%s never showed a membership here", id)
	}
	return m.admit(issuer, id, old.Role)
}

// lastDays is when a node takes a renewal also from an admin farther from the root than who admitted it.
const lastDays = 15 * 24 * time.Hour

// Take makes chain this node's membership, if it holds longer than the present one, and is not also longer, which would
// put one more admin between the root and this node.
func (m *Membership) Take(chain Chain) error {
	fresh, err := m.roll.Check(m.self, chain)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	old, err := openCertificate(&m.own[len(m.own)-1], m.id.Root)
	if err == nil && (!fresh.Until.After(old.Until) || len(chain) > len(m.own) && old.Until.Sub(m.now()) > lastDays) {
		return nil
	}
	m.own = chain
	if m.issuer != nil && len(m.issuer.By) > 0 {
		m.issuer.By = chain
	}
	return nil
}

// deadUntil is when the latest revocation of id was made, Unix seconds; 0: never.
func (r *Roll) deadUntil(id record.PeerID) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dead[id]
}

// Guest is a node on its way into a private swarm: it shows an invite, and takes the membership that comes back. It is
// safe for concurrent use: a dial may try several addresses at once.
type Guest struct {
	token Token
	self  record.PeerID
	now   func() time.Time

	mu  sync.Mutex // guards own
	own Chain
}

// NewGuest makes a guest with the identity self.
func NewGuest(t Token, self record.PeerID, now func() time.Time) *Guest {
	return &Guest{token: t, self: self, now: now}
}

// Secret hides the swarm from strangers.
func (g *Guest) Secret() []byte { return g.token.Swarm.Secret }

// Admit implements Gate.
func (g *Guest) Admit(record.PeerID) error { return nil }

// Credential is the invite.
func (g *Guest) Credential(record.PeerID) ([]byte, error) {
	return record.Encode(credential{Invite: &g.token.Invite, By: g.token.By})
}

// Judge refuses everybody: a guest waits for no visitors.
func (g *Guest) Judge(record.PeerID, []byte) ([]byte, error) {
	return nil, errors.New("this node is not in the swarm yet")
}

// Welcome takes the membership out of the answer; it ends in ErrGuest when that is well.
func (g *Guest) Welcome(from record.PeerID, data []byte) error {
	var a answer
	if err := decodeBounded(data, &a); err != nil {
		return err
	}
	roll := NewRoll(g.token.Swarm.Root, g.now)
	if _, err := roll.Check(from, a.Chain); err != nil {
		return err
	}
	if _, err := roll.Check(g.self, a.Issued); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.own = a.Issued
	return ErrGuest
}

// Chain is the membership that the guest got; nil: none yet.
func (g *Guest) Chain() Chain {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.own
}
