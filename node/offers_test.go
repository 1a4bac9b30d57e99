package node

import (
	"crypto/ed25519"
	"errors"
	"testing"

	"github.com/seed-7b27c88a/shoal/node/task"
	"github.com/seed-7b27c88a/shoal/p2p"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/trainer/job"
)

func signedTask(t testing.TB) task.Task {
	t.Helper()
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	spec := tinySpec("/", "offered")
	if err := spec.Validate(); err != nil {
		t.Fatal(err)
	}
	canonical, err := spec.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	made, err := task.Sign(task.Terms{
		Submitter: record.IDOf(key.Public().(ed25519.PublicKey)), Spec: canonical,
		Model: record.CID([]byte("m")), Data: record.CID([]byte("d")), Rows: 1, Params: 1,
	}, 1, key)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func TestHostileOffers(t *testing.T) {
	good := signedTask(t)
	if data, err := record.Encode(offer{Signed: good.Signed, Beat: 1}); err != nil {
		t.Fatal(err)
	} else if got, _, err := openOffer(data); err != nil || got.ID != good.ID || got.Spec.Adapter != job.AdapterLora {
		t.Fatalf("good offer: %v", err)
	}
	forged := *good.Signed
	forged.Sig = append([]byte{}, forged.Sig...)
	forged.Sig[5] ^= 1
	for name, v := range map[string]any{
		"no job":    offer{},
		"forged":    offer{Signed: &forged},
		"no object": "offer",
		"too large": offer{Signed: &record.Signed{Record: append([]byte{0x59, 0xff, 0xff}, make([]byte, 0xffff)...), Signer: "x"}},
	} {
		data, err := record.Encode(v)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := openOffer(data); !errors.Is(err, record.ErrBad) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := openOffer(make([]byte, p2p.MaxGossip+1)); !errors.Is(err, record.ErrBad) {
		t.Errorf("oversized: %v", err)
	}
}

func FuzzOffer(f *testing.F) {
	data, err := record.Encode(offer{Signed: signedTask(f).Signed, Beat: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte{0xa1, 0x01, 0xf6})
	f.Fuzz(func(t *testing.T, data []byte) { openOffer(data) })
}
