package swarm

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

const (
	tokenPrefix = "shoal1"
	maxToken    = 12 << 10 // characters
	maxAddrs    = 8        // addresses in a token
	maxAddr     = 512      // bytes of one
	// MaxUses bounds how many nodes one invite can admit.
	MaxUses = 1000
)

// Identity is what all members of a private swarm share.
type Identity struct {
	Name   string        `cbor:"1,keyasint"`
	Root   record.PeerID `cbor:"2,keyasint"` // the swarm's id: its root key signs memberships
	Secret []byte        `cbor:"3,keyasint"` // SecretSize bytes that strangers do not know; it hides the swarm and admits nobody
}

// SecretSize is the length of a swarm's secret, bytes.
const SecretSize = 32

// NewSecret draws a swarm's secret.
func NewSecret() []byte {
	b := make([]byte, SecretSize)
	rand.Read(b) // never fails
	return b
}

// Check refuses an identity that cannot be one.
func (id Identity) Check() error {
	if err := CheckName(id.Name); err != nil {
		return err
	}
	if len(id.Secret) != SecretSize {
		return fmt.Errorf("%w: swarm secret of %d bytes", record.ErrBad, len(id.Secret))
	}
	_, err := record.PublicKey(id.Root)
	return err
}

// invite is what the issuer signed: whoever shows it to the issuer becomes a member.
type invite struct {
	Swarm record.PeerID `cbor:"1,keyasint"`
	Role  Role          `cbor:"2,keyasint"`
	Until int64         `cbor:"3,keyasint"` // Unix time, seconds
	Uses  int           `cbor:"4,keyasint"` // how many nodes it admits
	Nonce []byte        `cbor:"5,keyasint"` // 16 random bytes: the invite's id
	From  int64         `cbor:"6,keyasint"` // when it was made
}

// Invite is an invite as its issuer and its holder see it.
type Invite struct {
	ID     string // hex
	Role   Role
	From   time.Time
	Until  time.Time
	Uses   int
	Issuer record.PeerID // root or admin, who alone counts the uses
}

// Token is what travels to the invited: how to find the swarm, and the invite.
type Token struct {
	Swarm  Identity      `cbor:"1,keyasint"`
	Invite record.Signed `cbor:"2,keyasint"`
	By     Chain         `cbor:"3,keyasint,omitempty"` // of an admin who invites; empty: the root does
	Addrs  []string      `cbor:"4,keyasint"`           // of the node that counts the uses, ending in /p2p/<id>
}

// NewToken makes a token for uses nodes until the given time. addrs are where the issuer's node can be reached.
func (i Issuer) NewToken(id Identity, role Role, uses int, until, now time.Time, addrs []string) (Token, Invite, error) {
	limit, err := i.limit(id.Root, now)
	switch {
	case err != nil:
		return Token{}, Invite{}, err
	case uses < 1 || uses > MaxUses:
		return Token{}, Invite{}, fmt.Errorf("an invite for %d uses: want 1 to %d", uses, MaxUses)
	case !until.After(now) || until.After(limit):
		return Token{}, Invite{}, fmt.Errorf("an invite must expire in the future, and here by %s at the latest", day(limit))
	case len(addrs) == 0:
		return Token{}, Invite{}, fmt.Errorf("this node has no address that others could join at")
	}
	nonce := make([]byte, 16)
	rand.Read(nonce)
	s, err := i.sign(contextInvite, invite{id.Root, role, until.Unix(), uses, nonce, now.Unix()})
	if err != nil {
		return Token{}, Invite{}, err
	}
	t := Token{Swarm: id, Invite: s, By: i.By, Addrs: addrs[:min(len(addrs), maxAddrs)]}
	v, err := openInvite(&t.Invite, t.By, id.Root, now)
	return t, v, err
}

// Text is the token as people pass it on.
func (t Token) Text() (string, error) {
	b, err := record.Encode(t)
	if err != nil {
		return "", err
	}
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(b), nil
}

// ParseToken reads and checks a token; it refuses one that has expired. Only its issuer knows whether it is used up.
func ParseToken(text string, now time.Time) (Token, Invite, error) {
	text = strings.TrimSpace(text)
	if len(text) > maxToken {
		return Token{}, Invite{}, fmt.Errorf("invite of %d characters, limit %d", len(text), maxToken)
	}
	b64, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok {
		return Token{}, Invite{}, fmt.Errorf("an invite begins with %q; copy the whole line that \"shoal swarm invite\" printed", tokenPrefix)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(b64)
	if err != nil {
		return Token{}, Invite{}, fmt.Errorf("the invite is damaged; copy the whole line that \"shoal swarm invite\" printed")
	}
	var t Token
	if err := record.Decode(b, &t); err != nil {
		return Token{}, Invite{}, fmt.Errorf("the invite is damaged: %w", err)
	}
	if err := t.check(); err != nil {
		return Token{}, Invite{}, err
	}
	v, err := openInvite(&t.Invite, t.By, t.Swarm.Root, now)
	return t, v, err
}

func (t Token) check() error {
	if len(t.Addrs) == 0 || len(t.Addrs) > maxAddrs {
		return fmt.Errorf("%w: invite with %d addresses", record.ErrBad, len(t.Addrs))
	}
	for _, a := range t.Addrs {
		if len(a) > maxAddr {
			return fmt.Errorf("%w: invite with an address of %d bytes", record.ErrBad, len(a))
		}
	}
	return t.Swarm.Check()
}

// openInvite checks an invite and who signed it.
func openInvite(s *record.Signed, by Chain, root record.PeerID, now time.Time) (Invite, error) {
	var b invite
	if err := open(s, contextInvite, &b); err != nil {
		return Invite{}, err
	}
	switch {
	case b.Swarm != root:
		return Invite{}, fmt.Errorf("invite into another swarm (%s)", b.Swarm)
	case !b.Role.valid() || b.Uses < 1 || b.Uses > MaxUses || len(b.Nonce) != 16:
		return Invite{}, fmt.Errorf("%w: invite as %v for %d uses", record.ErrBad, b.Role, b.Uses)
	}
	if err := mayAdmit(by, s.Signer, root, now); err != nil {
		return Invite{}, err
	}
	v := Invite{hex.EncodeToString(b.Nonce), b.Role, time.Unix(b.From, 0), time.Unix(b.Until, 0), b.Uses, s.Signer}
	if now.After(v.Until.Add(Skew)) {
		return v, fmt.Errorf("the invite expired %s; ask for a new one", v.Until.UTC().Format(time.RFC3339))
	}
	return v, nil
}

// mayAdmit checks that signer is the root, or the admin whom by proves.
func mayAdmit(by Chain, signer, root record.PeerID, now time.Time) error {
	if len(by) == 0 {
		if signer != root {
			return fmt.Errorf("%w: signed by %s, who is not the root and shows no membership", record.ErrBad, signer)
		}
		return nil
	}
	ms, err := by.verify(root, now)
	if err != nil {
		return err
	}
	if m := ms[len(ms)-1]; m.ID != signer || m.Role != Admin {
		return fmt.Errorf("%w: signed by %s with the membership of %s, a %v", record.ErrBad, signer, m.ID, m.Role)
	}
	return nil
}
