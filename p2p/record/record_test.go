package record

import (
	"crypto/ed25519"
	"errors"
	"testing"

	"github.com/ipfs/go-cid"
)

func testKey(seed byte) (PeerID, ed25519.PrivateKey) {
	key := ed25519.NewKeyFromSeed(append(make([]byte, 31), seed))
	return IDOf(key.Public().(ed25519.PublicKey)), key
}

func TestSignOpen(t *testing.T) {
	id, key := testKey(1)
	type body struct {
		A int `cbor:"1,keyasint"`
	}
	h := Header{Context: "shoal/test", Version: Version, Job: CID([]byte("job")), Round: 3, Boot: 7}
	s, c, err := Sign(h, body{A: 5}, id, key)
	if err != nil {
		t.Fatal(err)
	}
	r, c2, err := Open(s)
	if err != nil {
		t.Fatal(err)
	}
	if !c.Equals(c2) || r.Header != h {
		t.Fatalf("got %v %+v, want %v %+v", c2, r.Header, c, h)
	}
	if r.Header.Parent.Defined() || r.Header.Reset != cid.Undef {
		t.Fatal("absent CIDs must stay undefined")
	}
	var b body
	if err := Decode(r.Body, &b); err != nil || b.A != 5 {
		t.Fatalf("body %+v, %v", b, err)
	}
}

func TestSignaturesLieOutsideTheCID(t *testing.T) {
	h := Header{Context: "shoal/test", Version: Version, Job: CID([]byte("job"))}
	id1, key1 := testKey(1)
	id2, key2 := testKey(2)
	_, c1, _ := Sign(h, 1, id1, key1)
	_, c2, _ := Sign(h, 1, id2, key2)
	if !c1.Equals(c2) {
		t.Fatal("two signers of the same words must name the same record")
	}
}

func TestOpenRefuses(t *testing.T) {
	id, key := testKey(1)
	h := Header{Context: "shoal/test", Version: Version, Job: CID([]byte("job"))}
	for name, spoil := range map[string]func(*Signed){
		"changed record": func(s *Signed) { s.Record = append([]byte{}, s.Record...); s.Record[5] ^= 1 },
		"other signer":   func(s *Signed) { s.Signer, _ = testKey(2) },
		"no signature":   func(s *Signed) { s.Sig = nil },
		"bad peer ID":    func(s *Signed) { s.Signer = "12D3KooWxyz" },
		"too large":      func(s *Signed) { s.Record = make([]byte, MaxRecord+1) },
	} {
		t.Run(name, func(t *testing.T) {
			s, _, err := Sign(h, 1, id, key)
			if err != nil {
				t.Fatal(err)
			}
			spoil(s)
			if _, _, err := Open(s); !errors.Is(err, ErrBad) {
				t.Fatalf("got %v, want ErrBad", err)
			}
		})
	}
}

func FuzzOpen(f *testing.F) {
	id, key := testKey(1)
	s, _, _ := Sign(Header{Context: "shoal/test", Version: Version, Job: CID([]byte("job"))}, 1, id, key)
	f.Add([]byte(s.Record))
	f.Fuzz(func(t *testing.T, rec []byte) {
		_, _, _ = Open(&Signed{Record: rec, Signer: id, Sig: ed25519.Sign(key, append([]byte(sigPrefix), rec...))})
	})
}
