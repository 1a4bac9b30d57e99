package membership

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/swarm"
)

// Names in a home and in a swarm's directory.
const (
	swarmsDir    = "swarms"
	identityFile = "swarm"   // CBOR of swarm.Identity
	memberFile   = "member"  // CBOR of this node's chain
	peersFile    = "peers"   // JSON: addresses to start from
	rootFile     = "root"    // the root key, where the swarm was founded
	rollFile     = "roll"    // CBOR of the members' chains
	revokedFile  = "revoked" // CBOR of the tombstones
	invitesFile  = "invites" // JSON: who used which invite

	maxFile = 16 << 20 // bytes of any of them
)

// Files is a node's place in a private swarm as its files keep it.
type Files struct {
	*swarm.Membership
	dir    dir
	ledger *ledger

	mu   sync.Mutex
	kept []byte // of memberFile, as this process read or wrote it last; guarded by mu
}

// dir is the directory of one swarm.
type dir struct{ path string }

func dirOf(home, name string) dir { return dir{filepath.Join(home, swarmsDir, name)} }

func (d dir) exists() bool {
	_, err := os.Stat(filepath.Join(d.path, memberFile)) // written last
	return err == nil
}

// found writes what makes a directory a swarm's.
func (d dir) found(id swarm.Identity, chain swarm.Chain, addrs []string) error {
	ident, err := record.Encode(id)
	if err != nil {
		return err
	}
	if err := d.write(identityFile, ident); err != nil {
		return err
	}
	if addrs != nil {
		peers, err := json.Marshal(addrs)
		if err != nil {
			return err
		}
		if err := d.write(peersFile, peers); err != nil {
			return err
		}
	}
	return d.setChain(chain)
}

func (d dir) setChain(chain swarm.Chain) error {
	b, err := swarm.EncodeChain(chain)
	if err != nil {
		return err
	}
	return d.write(memberFile, b)
}

func (d dir) identity() (id swarm.Identity, err error) {
	b, err := d.read(identityFile)
	if err == nil {
		err = record.Decode(b, &id)
	}
	if err == nil {
		err = id.Check()
	}
	if err != nil {
		return id, fmt.Errorf("%s: %w; restore it from a backup, or remove the directory and join again", d.path, err)
	}
	return id, nil
}

func (d dir) chain() (swarm.Chain, error) {
	b, err := d.read(memberFile)
	if err != nil {
		return nil, err
	}
	return swarm.DecodeChain(b)
}

// Start lists addresses of members to begin with.
func (f *Files) Start() []string {
	var addrs []string
	if b, err := f.dir.read(peersFile); err == nil {
		json.Unmarshal(b, &addrs) // the worst that damage does is that nobody is dialed
	}
	return addrs
}

// loadRoll fills roll with what was kept. What does not hold any more is left out.
func (f *Files) loadRoll(roll *swarm.Roll) error {
	var tombs []swarm.Tombstone
	var chains []swarm.Chain
	if err := errors.Join(f.dir.decode(revokedFile, &tombs), f.dir.decode(rollFile, &chains)); err != nil {
		return err
	}
	for _, t := range tombs {
		roll.Bury(t)
	}
	for _, c := range chains {
		if m, err := c.Describe(roll.Root()); err == nil {
			roll.Check(m.ID, c)
		}
	}
	return nil
}

// Save keeps what the roll knows, and this node's membership.
func (f *Files) Save() error {
	return errors.Join(f.SaveRevoked(), f.dir.encode(rollFile, f.Roll().Chains()), f.saveOwn())
}

// saveOwn keeps this node's membership, unless another process has joined anew since this one began: that membership is
// the newer one, and holds from the next start.
func (f *Files) saveOwn() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	b, err := swarm.EncodeChain(f.Own())
	if err != nil || bytes.Equal(b, f.kept) {
		return err
	}
	there, err := f.dir.read(memberFile)
	if err == nil && !bytes.Equal(there, f.kept) {
		return nil
	}
	if err := f.dir.write(memberFile, b); err != nil {
		return err
	}
	f.kept = b
	return nil
}

// SaveRevoked keeps the revocations alone.
func (f *Files) SaveRevoked() error { return f.dir.encode(revokedFile, f.Roll().Tombstones()) }

func (d dir) encode(name string, v any) error {
	b, err := record.Encode(v)
	if err != nil {
		return err
	}
	return d.write(name, b)
}

// decode reads a file that may be absent.
func (d dir) decode(name string, v any) error {
	b, err := d.read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = record.Decode(b, v)
	}
	if err != nil {
		return fmt.Errorf("%s: %w; remove the file and start again", filepath.Join(d.path, name), err)
	}
	return nil
}

func (d dir) read(name string) ([]byte, error) {
	f, err := os.Open(filepath.Join(d.path, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", f.Name(), maxFile)
	}
	return b, err
}

// write replaces a file: after a crash it is the old or the new one.
func (d dir) write(name string, b []byte) error {
	f, err := os.CreateTemp(d.path, ".tmp-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when all went well
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(d.path, name))
}

// ledger counts who used which invite, in a file.
type ledger struct {
	path string
	now  func() time.Time
	mu   sync.Mutex // guards the file
}

type used struct {
	Until time.Time       `json:"until"`
	Uses  int             `json:"uses"`
	By    []record.PeerID `json:"by"`
}

// Use implements swarm.Ledger.
func (l *ledger) Use(v swarm.Invite, id record.PeerID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	all, err := l.load()
	if err != nil {
		return err
	}
	u := all[v.ID]
	switch {
	case slices.Contains(u.By, id):
		return nil
	case len(u.By) >= v.Uses:
		return fmt.Errorf("the invite is used up: it was for %d and %d nodes came with it", v.Uses, len(u.By))
	}
	all[v.ID] = used{v.Until, v.Uses, append(u.By, id)}
	b, err := json.Marshal(all)
	if err != nil {
		return err
	}
	return dir{filepath.Dir(l.path)}.write(filepath.Base(l.path), b)
}

// load reads the file and drops invites that expired.
func (l *ledger) load() (map[string]used, error) {
	all := map[string]used{}
	b, err := dir{filepath.Dir(l.path)}.read(filepath.Base(l.path))
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("count of invites: %w", err)
	}
	for id, u := range all {
		if l.now().After(u.Until.Add(2 * swarm.Skew)) {
			delete(all, id)
		}
	}
	return all, nil
}
