package blocks

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
)

const (
	partEnding = ".part"
	maxParts   = 64                    // files kept
	saveSize   = 16 << 10              // bytes, at least, written to one at once
	saveAfter  = 50 * time.Millisecond // a block that arrives faster is not worth a file
)

// partials are the beginnings of blocks that a slow link had brought when a fetch or the process ended, each in a file of
// its own. They are hints: nothing is synced, and the hash of the whole block decides. Without a folder there are none.
type partials struct {
	mu    sync.Mutex // guards the rest
	dir   string
	known map[cid.Cid]bool // there is a file
	busy  map[cid.Cid]bool // somebody reads or writes the file
}

// Resume keeps in dir the beginnings of blocks that take long to arrive, so that a process that ends in mid-block goes on there.
// It takes over what an earlier process left, and is called before the first fetch.
func (x *Exchange) Resume(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	type left struct {
		c  cid.Cid
		at time.Time
	}
	var parts []left
	for _, n := range names {
		text, ok := strings.CutSuffix(n.Name(), partEnding)
		if !ok {
			continue // not ours
		}
		c, err := cid.Decode(text)
		info, ierr := n.Info()
		if has, herr := x.store.Has(ctx, c); err != nil || ierr != nil || herr != nil || has || checkCID(c) != nil {
			os.Remove(filepath.Join(dir, n.Name()))
			continue
		}
		parts = append(parts, left{c, info.ModTime()})
	}
	slices.SortFunc(parts, func(a, b left) int { return cmp.Compare(b.at.UnixNano(), a.at.UnixNano()) })
	p := &x.parts
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dir, p.known, p.busy = dir, map[cid.Cid]bool{}, map[cid.Cid]bool{}
	for i, l := range parts {
		if i >= maxParts {
			os.Remove(p.path(l.c))
			continue
		}
		p.known[l.c] = true
	}
	return nil
}

func (p *partials) path(c cid.Cid) string { return filepath.Join(p.dir, c.String()+partEnding) }

// part is one block on its way.
type part struct {
	p     *partials
	c     cid.Cid
	begin []byte   // what was there when the block was asked for
	file  *os.File // nil: nothing was saved yet
	mine  bool     // nobody else may use the file
	saved int      // bytes in the file
}

// open takes the beginning of a block, if there is one that nobody else uses.
func (p *partials) open(c cid.Cid) *part {
	t := &part{p: p, c: c}
	p.mu.Lock()
	t.mine = p.known[c] && !p.busy[c]
	if t.mine {
		p.busy[c] = true
	}
	p.mu.Unlock()
	if !t.mine {
		return t
	}
	begin, err := os.ReadFile(p.path(c))
	if err != nil || len(begin) >= maxBlock {
		t.drop()
		return t
	}
	t.begin, t.saved = begin, len(begin)
	return t
}

// save appends what data has more than the file. Errors cost only the resumption.
func (t *part) save(data []byte) {
	if !t.claim() || t.saved >= len(data) {
		return
	}
	if t.file == nil {
		f, err := os.OpenFile(t.p.path(t.c), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return
		}
		t.file = f
	}
	n, _ := t.file.Write(data[t.saved:])
	t.saved += n
}

// claim makes the file this part's alone, if it can.
func (t *part) claim() bool {
	if t.mine {
		return true
	}
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	t.mine = t.p.dir != "" && !t.p.busy[t.c] && !t.p.known[t.c] && len(t.p.known) < maxParts
	if t.mine {
		t.p.busy[t.c], t.p.known[t.c] = true, true
	}
	return t.mine
}

// close leaves the file to whoever asks for the block next.
func (t *part) close() { t.end(true) }

// drop removes the file: the block is whole, or what was saved is wrong.
func (t *part) drop() { t.end(false) }

func (t *part) end(keep bool) {
	if t.file != nil {
		t.file.Close()
		t.file = nil
	}
	if !t.mine {
		return
	}
	t.mine = false
	keep = keep && t.saved > 0
	if !keep {
		os.Remove(t.p.path(t.c))
	}
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	delete(t.p.busy, t.c)
	if !keep {
		delete(t.p.known, t.c)
	}
}
