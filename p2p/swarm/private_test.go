package swarm

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// key makes the n-th identity of a test.
func key(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func id(n byte) record.PeerID { return record.IDOf(key(n).Public().(ed25519.PublicKey)) }

var (
	start = time.Unix(1_800_000_000, 0)
	root  = Issuer{Key: key(0)}
	lab   = Identity{Name: "lab", Root: id(0), Secret: make([]byte, SecretSize)}
)

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func issue(t *testing.T, by Issuer, n byte, r Role, at time.Time) Chain {
	t.Helper()
	return must[Chain](t)(by.Issue(id(0), id(n), r, at))
}

func clock(at time.Time) func() time.Time { return func() time.Time { return at } }

func TestChain(t *testing.T) {
	admin := issue(t, root, 1, Admin, start)
	volunteer := issue(t, root, 2, Volunteer, start)
	second := issue(t, Issuer{key(1), admin}, 3, Admin, start)
	third := issue(t, Issuer{key(3), second}, 4, Submitter, start)
	forged := append(Chain{}, second...)
	forged[1].Sig = append([]byte{}, forged[1].Sig...)
	forged[1].Sig[0] ^= 1
	byVolunteer := append(append(Chain{}, volunteer...), must[record.Signed](t)(Issuer{Key: key(2)}.sign(contextMember,
		certificate{id(0), id(5), Admin, start.Unix(), start.Unix() + 100})))
	for _, tc := range []struct {
		name  string
		chain Chain
		of    byte
		at    time.Duration
		want  string // in the error; empty: a member
	}{
		{"admin of the root", admin, 1, 0, ""},
		{"admin of an admin", second, 3, 0, ""},
		{"member of an admin's admin", third, 4, 0, ""},
		{"a clock that is minutes behind", admin, 1, -5 * time.Minute, ""},
		{"a clock that is hours behind", admin, 1, -5 * time.Hour, "clocks is wrong"},
		{"on the last day", admin, 1, Validity - time.Minute, ""},
		{"expired", admin, 1, Validity + time.Hour, "expired"},
		{"somebody else's", admin, 2, 0, "shows the membership of"},
		{"empty", nil, 1, 0, "0 certificates"},
		{"too long", append(append(Chain{}, third...), third...), 4, 0, "6 certificates"},
		{"without its first link", second[1:], 3, 0, "not by"},
		{"forged", forged, 3, 0, "does not verify"},
		{"signed by a volunteer", byVolunteer, 5, 0, "signed by a volunteer"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := NewRoll(id(0), clock(start.Add(tc.at))).Check(id(tc.of), tc.chain)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
	if _, err := (Issuer{key(4), third}).Issue(id(0), id(6), Volunteer, start); err == nil || !strings.Contains(err.Error(), "submitter cannot") {
		t.Errorf("a submitter issued: %v", err)
	}
	if _, err := (Issuer{Key: key(9)}).Issue(id(0), id(6), Volunteer, start); err == nil {
		t.Error("a key that is not the root's issued as the root")
	}
	if b := must[[]byte](t)(EncodeChain(third)); len(b) > 1100 {
		t.Errorf("the longest chain takes %d bytes; offers of jobs have to carry it", len(b))
	}
}

// In whatever order tombstones arrive, all members agree who is out.
func TestRevocationsConverge(t *testing.T) {
	a, b := issue(t, root, 1, Admin, start), issue(t, root, 2, Admin, start)
	v := issue(t, Issuer{key(1), a}, 3, Volunteer, start)
	w := issue(t, root, 4, Volunteer, start)
	late := start.Add(time.Hour)
	tombs := []Tombstone{
		must[Tombstone](t)(Issuer{key(2), b}.Revoke(id(0), id(1), start.Add(time.Minute))),   // b revokes a, and with it v
		must[Tombstone](t)(Issuer{key(1), a}.Revoke(id(0), id(2), start.Add(2*time.Minute))), // too late: a is out
		must[Tombstone](t)(root.Revoke(id(0), id(5), start.Add(3*time.Minute))),
	}
	for _, order := range [][]int{{0, 1, 2}, {1, 0, 2}, {2, 1, 0}, {1, 2, 0}} {
		r := NewRoll(id(0), clock(late))
		for n, c := range map[byte]Chain{1: a, 2: b, 3: v, 4: w} {
			must[Member](t)(r.Check(id(n), c))
		}
		for _, i := range order {
			if _, fresh, err := r.Bury(tombs[i]); err != nil || !fresh {
				t.Fatalf("tombstone %d: %v", i, err)
			}
			if _, fresh, err := r.Bury(tombs[i]); err != nil || fresh {
				t.Fatalf("tombstone %d again: fresh %v, %v", i, fresh, err)
			}
		}
		for n, in := range map[byte]bool{1: false, 2: true, 3: false, 4: true, 5: false} {
			if _, _, err := r.Member(id(n)); (err == nil) != in {
				t.Errorf("order %v: member %d is in: %v", order, n, err)
			}
		}
		if got := len(r.Members()); got != 2 {
			t.Errorf("order %v: %d members", order, got)
		}
	}
	if x, y := NewRoll(id(0), clock(late)), NewRoll(id(0), clock(late)); x.Digest() != y.Digest() {
		t.Error("equal sets have other digests")
	}
}

func TestRevokedMayBeInvitedAgain(t *testing.T) {
	r := NewRoll(id(0), clock(start.Add(time.Hour)))
	old := issue(t, root, 1, Volunteer, start)
	must[Member](t)(r.Check(id(1), old))
	gone, _, err := r.Bury(must[Tombstone](t)(root.Revoke(id(0), id(1), start)))
	if err != nil || len(gone) != 1 || gone[0] != id(1) {
		t.Fatalf("gone %v, %v", gone, err)
	}
	if _, err := r.Check(id(1), old); err == nil || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("revoked membership: %v", err)
	}
	if _, err := r.Check(id(1), issue(t, root, 1, Volunteer, start.Add(time.Second))); err != nil {
		t.Errorf("membership made after the revocation: %v", err)
	}
}

func TestTombstonesOfNonAdmins(t *testing.T) {
	r := NewRoll(id(0), clock(start))
	v := issue(t, root, 1, Volunteer, start)
	if _, err := (Issuer{key(1), v}).Revoke(id(0), id(2), start); err == nil {
		t.Error("a volunteer made a tombstone")
	}
	body := revocation{id(0), id(2), start.Unix()}
	for name, tomb := range map[string]Tombstone{
		"volunteer":  {must[record.Signed](t)(Issuer{Key: key(1)}.sign(contextRevoke, body)), v},
		"nobody":     {must[record.Signed](t)(Issuer{Key: key(1)}.sign(contextRevoke, body)), nil},
		"no record":  {},
		"future":     {must[record.Signed](t)(root.sign(contextRevoke, revocation{id(0), id(2), start.Unix() + 1e6})), nil},
		"an invite":  {must[record.Signed](t)(root.sign(contextInvite, body)), nil},
		"other swam": {must[record.Signed](t)(root.sign(contextRevoke, revocation{id(7), id(2), start.Unix()})), nil},
	} {
		if _, _, err := r.Bury(tomb); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

var addrs = []string{"/ip4/192.0.2.1/tcp/4481/p2p/" + string(id(1))}

func TestToken(t *testing.T) {
	admin := issue(t, root, 1, Admin, start)
	tok, inv, err := Issuer{key(1), admin}.NewToken(lab, Submitter, 3, start.Add(time.Hour), start, addrs)
	if err != nil {
		t.Fatal(err)
	}
	text := must[string](t)(tok.Text())
	got, ginv, err := ParseToken("  "+text+"\n", start)
	if err != nil || got.Swarm.Name != "lab" || got.Addrs[0] != addrs[0] || ginv != inv || inv.Role != Submitter || inv.Uses != 3 {
		t.Errorf("%+v %+v %v", got, ginv, err)
	}
	for name, tc := range map[string]struct {
		text string
		at   time.Duration
		want string
	}{
		"expired":   {text, 2 * time.Hour, "expired"},
		"no token":  {"hello", 0, "begins with"},
		"cut":       {text[:len(text)-9], 0, "damaged"},
		"huge":      {text + strings.Repeat("A", maxToken), 0, "limit"},
		"other end": {text[:20] + "!" + text[21:], 0, "damaged"},
	} {
		if _, _, err := ParseToken(tc.text, start.Add(tc.at)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	for name, bad := range map[string]struct {
		uses  int
		until time.Duration
		addrs []string
	}{"no uses": {0, time.Hour, addrs}, "too many": {MaxUses + 1, time.Hour, addrs}, "past": {1, -time.Hour, addrs}, "years": {1, 5 * Validity, addrs}, "nowhere": {1, time.Hour, nil}} {
		if _, _, err := root.NewToken(lab, Volunteer, bad.uses, start.Add(bad.until), start, bad.addrs); err == nil {
			t.Errorf("%s: made a token", name)
		}
	}
	// A volunteer cannot make one that anybody takes.
	v := issue(t, root, 2, Volunteer, start)
	fake := tok
	fake.By = v
	fake.Invite = must[record.Signed](t)(Issuer{Key: key(2)}.sign(contextInvite, invite{id(0), Admin, start.Unix() + 999, 1, make([]byte, 16), start.Unix()}))
	if _, _, err := ParseToken(must[string](t)(fake.Text()), start); err == nil || !strings.Contains(err.Error(), "volunteer") {
		t.Errorf("a volunteer's invite: %v", err)
	}
}

// once admits each peer, up to the invite's uses, like a real ledger without its file.
type once map[record.PeerID]bool

func (o once) Use(v Invite, id record.PeerID) error {
	if !o[id] && len(o) >= v.Uses {
		return errors.New("used up")
	}
	o[id] = true
	return nil
}

// TestInviteEnds: who made an invite judges its end by the clock that set it, to the second.
func TestInviteEnds(t *testing.T) {
	now := start
	tick := func() time.Time { return now }
	m := must[*Membership](t)(NewMembership(lab, key(1), issue(t, root, 1, Admin, start), &root, NewRoll(id(0), tick), once{}, tick))
	tok, _, err := root.NewToken(lab, Volunteer, 2, start.Add(time.Minute), start, []string{"/ip4/192.0.2.1/tcp/4481"})
	if err != nil {
		t.Fatal(err)
	}
	show := must[[]byte](t)(NewGuest(tok, id(2), tick).Credential(id(2)))
	now = start.Add(time.Minute)
	if _, err := m.Judge(id(2), show); !errors.Is(err, ErrGuest) {
		t.Errorf("in time: %v", err)
	}
	now = now.Add(time.Second)
	if _, err := m.Judge(id(2), show); errors.Is(err, ErrGuest) || err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("a second late: %v", err)
	}
}

func TestRenew(t *testing.T) {
	now := start
	tick := func() time.Time { return now }
	m := must[*Membership](t)(NewMembership(lab, key(1), issue(t, root, 1, Admin, start), &root, NewRoll(id(0), tick), once{}, tick))
	v := must[*Membership](t)(NewMembership(lab, key(2), issue(t, root, 2, Submitter, start), nil, NewRoll(id(0), tick), once{}, tick))
	if _, err := m.Renew(id(2)); err == nil {
		t.Error("renewed a membership nobody has seen")
	}
	must[Member](t)(m.Roll().Check(id(2), v.Own()))
	now = start.Add(Validity / 2)
	fresh := must[Chain](t)(m.Renew(id(2)))
	if err := v.Take(fresh); err != nil || len(v.Own()) != 1 || !bytes.Equal(v.Own()[0].Sig, fresh[0].Sig) {
		t.Errorf("take: %v", err)
	}
	if err := v.Take(issue(t, root, 3, Admin, now)); err == nil {
		t.Error("took another's membership")
	}
	now = start.Add(2 * Validity)
	if _, err := m.Renew(id(2)); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("renewal of a membership that ended: %v", err)
	}
}

func FuzzToken(f *testing.F) {
	tok, _, err := root.NewToken(lab, Volunteer, 1, start.Add(time.Hour), start, addrs)
	if err != nil {
		f.Fatal(err)
	}
	text, _ := tok.Text()
	f.Add(text)
	f.Add("shoal1")
	f.Add("shoal1" + base64.RawURLEncoding.EncodeToString([]byte{0xa1, 1, 0xf6}))
	f.Fuzz(func(t *testing.T, s string) {
		if tok, _, err := ParseToken(s, start); err == nil {
			if _, err := tok.Text(); err != nil {
				t.Error(err)
			}
		}
	})
}

func FuzzChain(f *testing.F) {
	c, err := root.Issue(id(0), id(1), Admin, start)
	if err != nil {
		f.Fatal(err)
	}
	b, _ := EncodeChain(c)
	f.Add(b)
	f.Add([]byte{0x81, 0xa0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := DecodeChain(b); err == nil {
			NewRoll(id(0), clock(start)).Check(id(1), c)
		}
	})
}

func FuzzCredential(f *testing.F) {
	admin, _ := root.Issue(id(0), id(1), Admin, start)
	m, err := NewMembership(lab, key(1), admin, &root, NewRoll(id(0), clock(start)), once{}, clock(start))
	if err != nil {
		f.Fatal(err)
	}
	b, _ := m.Credential(id(1))
	f.Add(b)
	tok, _, _ := root.NewToken(lab, Volunteer, 1, start.Add(time.Hour), start, addrs)
	b, _ = NewGuest(tok, id(2), clock(start)).Credential(id(2))
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		m.Judge(id(2), b)
		m.Welcome(id(1), b)
	})
}

func FuzzTombstone(f *testing.F) {
	tomb, _ := root.Revoke(id(0), id(1), start)
	b, _ := record.Encode(tomb)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var tomb Tombstone
		if record.Decode(b, &tomb) == nil {
			NewRoll(id(0), clock(start)).Bury(tomb)
		}
	})
}
