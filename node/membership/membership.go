// Package membership is a node's part in a private swarm beside the connection gate: the files that keep it, how a
// swarm is founded and joined, and the service that spreads revocations, renews memberships and cuts off those who are
// no longer members.
//
// A home keeps each private swarm in a directory swarms/NAME. Create, Join, List and Leave work on these files, with or
// without a daemon; a Service belongs to the daemon. A membership that Join writes while one runs is the newer one: the
// daemon does not overwrite it, and the next one starts with it. A Service is safe for
// concurrent use.
package membership

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/swarm"
)

// Joined is a private swarm of this home.
type Joined struct {
	swarm.Identity
	Member  swarm.Member // this node; its Until may lie in the past
	HasRoot bool         // this home has the swarm's root key
}

// Create founds a private swarm and makes the node whose identity is key its first admin.
func Create(home, name string, key ed25519.PrivateKey, now time.Time) (Joined, error) {
	if err := swarm.CheckName(name); err != nil {
		return Joined{}, err
	}
	d := dirOf(home, name)
	if d.exists() {
		return Joined{}, fmt.Errorf("this node is in a private swarm %q already; \"shoal swarm leave %s\" first, or choose another name", name, name)
	}
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		return Joined{}, err
	}
	root, err := p2p.LoadIdentity(filepath.Join(d.path, rootFile)) // makes it
	if err != nil {
		return Joined{}, err
	}
	id := swarm.Identity{Name: name, Root: idOf(root), Secret: swarm.NewSecret()}
	chain, err := swarm.Issuer{Key: root}.Issue(id.Root, idOf(key), swarm.Admin, now)
	if err != nil {
		return Joined{}, err
	}
	if err := d.found(id, chain, nil); err != nil {
		return Joined{}, err
	}
	return describe(d, now)
}

// Join shows an invite at the node that issued it and keeps the membership that comes back. A node that is a member
// already may join again, for another role.
func Join(ctx context.Context, home, token string, key ed25519.PrivateKey, log *slog.Logger) (Joined, error) {
	t, v, err := swarm.ParseToken(token, time.Now())
	if err != nil {
		return Joined{}, err
	}
	d := dirOf(home, t.Swarm.Name)
	if d.exists() {
		id, err := d.identity()
		if err != nil {
			return Joined{}, err
		}
		if id.Root != t.Swarm.Root {
			return Joined{}, fmt.Errorf("this node is in another private swarm named %q; \"shoal swarm leave %s\" first", id.Name, id.Name)
		}
	}
	chain, err := p2p.Join(ctx, key, t, log)
	if err != nil && time.Now().After(v.Until) { // by this clock; members say nothing to whom they refuse
		return Joined{}, fmt.Errorf("join swarm %s: the invite expired %s; ask for a new one", t.Swarm.Name, v.Until.UTC().Format(time.RFC3339))
	}
	if err != nil {
		return Joined{}, fmt.Errorf("join swarm %s: %w", t.Swarm.Name, err)
	}
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		return Joined{}, err
	}
	if err := d.found(t.Swarm, chain, t.Addrs); err != nil {
		return Joined{}, err
	}
	return describe(d, time.Now())
}

// List describes the private swarms of a home, ordered by name.
func List(home string) ([]Joined, error) {
	entries, err := os.ReadDir(filepath.Join(home, swarmsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var out []Joined
	for _, e := range entries {
		d := dirOf(home, e.Name())
		if !d.exists() {
			continue
		}
		j, err := describe(d, time.Now())
		if err != nil {
			return nil, err
		}
		out = append(out, j)
	}
	return out, nil
}

// Has tells that a home is in a private swarm of that name.
func Has(home, name string) bool { return swarm.CheckName(name) == nil && dirOf(home, name).exists() }

// Leave forgets a private swarm: the membership, and the root key if this home has it.
func Leave(home, name string) error {
	if !Has(home, name) {
		return fmt.Errorf("this node is in no private swarm %q; \"shoal swarm ls\" lists them", name)
	}
	return os.RemoveAll(dirOf(home, name).path)
}

func describe(d dir, now time.Time) (Joined, error) {
	id, err := d.identity()
	if err != nil {
		return Joined{}, err
	}
	chain, err := d.chain()
	if err != nil {
		return Joined{}, err
	}
	m, err := chain.Describe(id.Root)
	_, rooterr := os.Stat(filepath.Join(d.path, rootFile))
	return Joined{Identity: id, Member: m, HasRoot: rooterr == nil}, err
}

func idOf(key ed25519.PrivateKey) record.PeerID {
	return record.IDOf(key.Public().(ed25519.PublicKey))
}

// Open loads the place of the node with identity key in a private swarm of the home.
func Open(home, name string, key ed25519.PrivateKey, now func() time.Time) (*Files, error) {
	d := dirOf(home, name)
	id, err := d.identity()
	if err != nil {
		return nil, err
	}
	kept, err := d.read(memberFile)
	if err != nil {
		return nil, err
	}
	chain, err := swarm.DecodeChain(kept)
	if err != nil {
		return nil, err
	}
	f := &Files{dir: d, kept: kept, ledger: &ledger{path: filepath.Join(d.path, invitesFile), now: now}}
	roll := swarm.NewRoll(id.Root, now)
	if err := f.loadRoll(roll); err != nil {
		return nil, err
	}
	issuer, err := f.issuer(key, chain, id.Root)
	if err != nil {
		return nil, err
	}
	if m, err := chain.Describe(id.Root); err != nil || m.ID != idOf(key) {
		return nil, fmt.Errorf("private swarm %s: the membership is of %s, but this node is %s; join again with a new invite", name, m.ID, idOf(key))
	}
	f.Membership, err = swarm.NewMembership(id, key, chain, issuer, roll, f.ledger, now)
	if err != nil {
		return nil, fmt.Errorf("private swarm %s: %w; ask an admin for a new invite and \"shoal swarm join\" again", name, err)
	}
	return f, nil
}

// issuer is the root where its key is, else this node if it is an admin.
func (f *Files) issuer(key ed25519.PrivateKey, own swarm.Chain, root record.PeerID) (*swarm.Issuer, error) {
	path := filepath.Join(f.dir.path, rootFile)
	if _, err := os.Stat(path); err == nil {
		k, err := p2p.LoadIdentity(path)
		if err != nil {
			return nil, err
		}
		return &swarm.Issuer{Key: k}, nil
	}
	m, err := own.Describe(root)
	if err != nil || m.Role != swarm.Admin {
		return nil, err
	}
	return &swarm.Issuer{Key: key, By: own}, nil
}
