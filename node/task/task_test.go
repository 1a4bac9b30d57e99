package task

import (
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/trainer/job"
)

func key(seed byte) (record.PeerID, ed25519.PrivateKey) {
	k := ed25519.NewKeyFromSeed(append(make([]byte, 31), seed))
	return record.IDOf(k.Public().(ed25519.PublicKey)), k
}

func terms(t testing.TB, change func(*Terms)) Terms {
	t.Helper()
	spec, err := job.Parse([]byte("version: shoal/v1\nbase_model: cid:m\nadapter: lora\ndatasets: [{path: 'cid:d'}]\noptimizer: {lr: 0.001}\nmax_steps: 3\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := spec.Validate(); err != nil {
		t.Fatal(err)
	}
	canonical, err := spec.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := key(1)
	v := Terms{Submitter: id, Spec: canonical, Model: record.CID([]byte("m")), Data: record.CID([]byte("d")), Rows: 10, Params: 5}
	if change != nil {
		change(&v)
	}
	return v
}

func TestSignOpen(t *testing.T) {
	_, k := key(1)
	made, err := Sign(terms(t, nil), 7, k)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Open(made.Signed)
	if err != nil {
		t.Fatal(err)
	}
	got.Mine = true
	if d := cmp.Diff(made, got, cmp.Comparer(func(a, b cid.Cid) bool { return a == b })); d != "" {
		t.Error(d)
	}
	if got.Spec.MaxSteps != 3 || got.Terms.Adapter.Defined() {
		t.Errorf("got %+v", got)
	}
	other, err := Sign(terms(t, func(v *Terms) { v.Nonce = 1 }), 7, k)
	if err != nil || other.ID == made.ID {
		t.Errorf("a nonce must give another job: %v, %v", other.ID, err)
	}
}

func TestRefused(t *testing.T) {
	_, k := key(1)
	raw := cid.NewCidV1(cid.Raw, record.CID(nil).Hash())
	for name, change := range map[string]func(*Terms){
		"other signer":  func(v *Terms) { v.Submitter, _ = key(2) },
		"no rows":       func(v *Terms) { v.Rows = 0 },
		"absurd rows":   func(v *Terms) { v.Rows = 1 << 60 },
		"no parameters": func(v *Terms) { v.Params = 0 },
		"raw model":     func(v *Terms) { v.Model = raw },
		"raw adapter":   func(v *Terms) { v.Adapter = raw },
		"raw held":      func(v *Terms) { v.Held = raw },
		"empty spec":    func(v *Terms) { v.Spec = nil },
		"garbage spec":  func(v *Terms) { v.Spec = []byte("version: shoal/v1") },
		"long":          func(v *Terms) { v.Spec = []byte(strings.Repeat("x", MaxSigned)) },
	} {
		t.Run(name, func(t *testing.T) {
			v := terms(t, change)
			body, err := record.Encode(v)
			if err != nil {
				t.Fatal(err)
			}
			id, _ := key(1)
			s, _, err := record.Sign(record.Header{Context: Context, Version: record.Version, Job: record.CID(body)}, v, id, k)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Open(s); !errors.Is(err, record.ErrBad) {
				t.Errorf("got %v, want ErrBad", err)
			}
		})
	}
}

func FuzzOpen(f *testing.F) {
	id, k := key(1)
	made, err := Sign(terms(f, nil), 7, k)
	if err != nil {
		f.Fatal(err)
	}
	body, err := record.Encode(made.Terms)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Add([]byte{0xa0})
	f.Fuzz(func(t *testing.T, body []byte) { // the signature is honest: what matters is the body
		s, _, err := record.Sign(record.Header{Context: Context, Version: record.Version, Job: record.CID(body)}, raw(body), id, k)
		if err == nil {
			_, _ = Open(s)
		}
	})
}

// raw is CBOR that is already encoded.
type raw []byte

func (r raw) MarshalCBOR() ([]byte, error) { return r, nil }
