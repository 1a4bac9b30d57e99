package swarm

import (
	"crypto/ed25519"
	"fmt"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

const (
	// Validity is how long a membership holds; members renew it long before.
	Validity = 90 * 24 * time.Hour
	// Skew is how far the clocks of two members may differ.
	Skew = 10 * time.Minute

	maxChain      = 3       // certificates from the root's to the member's
	maxChainBytes = 4 << 10 // of an encoded chain; three certificates take about 1 KiB
)

// Contexts of what the root and admins sign.
const (
	contextMember = "shoal/member"
	contextInvite = "shoal/invite"
	contextRevoke = "shoal/revoke"
	contextProbe  = "shoal/probe" // a member signs it
)

// certificate is the body of a membership: root or an admin says that member belongs to the swarm.
type certificate struct {
	Swarm  record.PeerID `cbor:"1,keyasint"` // the root's
	Member record.PeerID `cbor:"2,keyasint"`
	Role   Role          `cbor:"3,keyasint"`
	From   int64         `cbor:"4,keyasint"` // Unix time, seconds
	Until  int64         `cbor:"5,keyasint"`
}

// Chain proves a membership: certificates from one that the root signed to the member's own; each but the last makes
// an admin, who signed the next. An empty chain stands for the root itself.
type Chain []record.Signed

// Member is a member as its chain tells it.
type Member struct {
	ID     record.PeerID
	Role   Role
	From   time.Time // when the certificate was made
	Until  time.Time // when it expires
	Issuer record.PeerID
}

// EncodeChain writes a chain for the wire and for files.
func EncodeChain(c Chain) ([]byte, error) { return record.Encode(c) }

// DecodeChain reads what EncodeChain wrote; nothing in it is verified yet.
func DecodeChain(data []byte) (Chain, error) {
	if len(data) > maxChainBytes {
		return nil, fmt.Errorf("%w: membership of %d bytes, limit %d", record.ErrBad, len(data), maxChainBytes)
	}
	var c Chain
	if err := record.Decode(data, &c); err != nil {
		return nil, err
	}
	if len(c) > maxChain {
		return nil, fmt.Errorf("%w: membership of %d certificates, limit %d", record.ErrBad, len(c), maxChain)
	}
	return c, nil
}

// verify checks every signature, who may sign what, and that each certificate holds at now. It returns the members
// along the chain, the last being whom it is about.
func (c Chain) verify(root record.PeerID, now time.Time) ([]Member, error) {
	if len(c) == 0 || len(c) > maxChain {
		return nil, fmt.Errorf("%w: membership of %d certificates", record.ErrBad, len(c))
	}
	out := make([]Member, 0, len(c))
	signer, role := root, Admin
	for i := range c {
		m, err := openCertificate(&c[i], root)
		switch {
		case err != nil:
			return nil, err
		case m.Issuer != signer:
			return nil, fmt.Errorf("%w: membership of %s is signed by %s, not by %s", record.ErrBad, m.ID, m.Issuer, signer)
		case role != Admin:
			return nil, fmt.Errorf("%w: membership of %s is signed by a %v", record.ErrBad, m.ID, role)
		}
		if err := m.holds(now); err != nil {
			return nil, err
		}
		out = append(out, m)
		signer, role = m.ID, m.Role
	}
	return out, nil
}

// Describe tells what a chain of one's own says, whether or not it holds now.
func (c Chain) Describe(root record.PeerID) (Member, error) {
	if len(c) == 0 {
		return Member{}, fmt.Errorf("%w: no membership", record.ErrBad)
	}
	return openCertificate(&c[len(c)-1], root)
}

func (m Member) holds(now time.Time) error {
	switch {
	case now.After(m.Until.Add(Skew)):
		return fmt.Errorf("membership of %s expired on %s", m.ID, day(m.Until))
	case now.Before(m.From.Add(-Skew)):
		return fmt.Errorf("membership of %s begins only %s: one of the two clocks is wrong", m.ID, m.From.UTC().Format(time.RFC3339))
	}
	return nil
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02") }

func openCertificate(s *record.Signed, root record.PeerID) (Member, error) {
	var b certificate
	if err := open(s, contextMember, &b); err != nil {
		return Member{}, err
	}
	if _, err := record.PublicKey(b.Member); err != nil {
		return Member{}, err
	}
	switch {
	case b.Swarm != root:
		return Member{}, fmt.Errorf("membership of another swarm (%s)", b.Swarm)
	case !b.Role.valid() || b.From < 0 || b.Until < b.From || b.Until-b.From > int64(2*Validity/time.Second):
		return Member{}, fmt.Errorf("%w: membership with %v from %d until %d", record.ErrBad, b.Role, b.From, b.Until)
	}
	return Member{b.Member, b.Role, time.Unix(b.From, 0), time.Unix(b.Until, 0), s.Signer}, nil
}

// open checks s's signature and context and decodes its body.
func open(s *record.Signed, context string, body any) error {
	if len(s.Record) > maxChainBytes {
		return fmt.Errorf("%w: %s of %d bytes", record.ErrBad, context, len(s.Record))
	}
	r, _, err := record.Open(s)
	if err != nil {
		return err
	}
	if r.Header.Context != context {
		return fmt.Errorf("%w: %q record, want %q", record.ErrBad, r.Header.Context, context)
	}
	return record.Decode(r.Body, body)
}

// Issuer signs in the name of a swarm: with the root key, or with an admin's.
type Issuer struct {
	Key ed25519.PrivateKey
	By  Chain // the admin's membership; empty: Key is the root's
}

func (i Issuer) id() record.PeerID { return record.IDOf(i.Key.Public().(ed25519.PublicKey)) }

func (i Issuer) sign(context string, body any) (record.Signed, error) {
	s, _, err := record.Sign(record.Header{Context: context, Version: record.Version}, body, i.id(), i.Key)
	if err != nil {
		return record.Signed{}, err
	}
	return *s, nil
}

// limit is until when what the issuer signs can hold: no longer than its own membership.
func (i Issuer) limit(root record.PeerID, now time.Time) (time.Time, error) {
	if len(i.By) == 0 {
		if i.id() != root {
			return time.Time{}, fmt.Errorf("this key is not the root of swarm %s", root)
		}
		return now.Add(Validity), nil
	}
	ms, err := i.By.verify(root, now)
	if err != nil {
		return time.Time{}, err
	}
	me := ms[len(ms)-1]
	if me.ID != i.id() || me.Role != Admin {
		return time.Time{}, fmt.Errorf("a %v cannot invite or revoke; ask an admin of the swarm", me.Role)
	}
	until := now.Add(Validity)
	for _, m := range ms {
		if m.Until.Before(until) {
			until = m.Until
		}
	}
	return until, nil
}

// Issue makes id a member with role from now on for Validity.
func (i Issuer) Issue(root, id record.PeerID, role Role, now time.Time) (Chain, error) {
	until, err := i.limit(root, now)
	if err != nil {
		return nil, err
	}
	if len(i.By) == maxChain {
		return nil, fmt.Errorf("this node's membership has %d links already, the most there may be; let an admin closer to the root invite", maxChain)
	}
	s, err := i.sign(contextMember, certificate{root, id, role, now.Unix(), until.Unix()})
	if err != nil {
		return nil, err
	}
	return append(append(Chain{}, i.By...), s), nil
}
