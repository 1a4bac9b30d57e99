// Package blocks moves content-addressed blocks between nodes: a fetch names the CIDs it wants, several donors
// are asked at once, every block is verified by the store it is put in, and what the store has is never fetched
// again. So a fetch that was interrupted goes on where it stopped.
//
// # Protocol /shoal/blocks/1
//
// The fetching node opens a stream to a donor and writes requests; the donor answers them in order. Frames, big endian:
//
//	kind u8 | status u8 | seq u32 | length u32 | body
//
//	have    1 →   body: up to 512 times (length u8, CID)        "which of these do you have?"
//	get     2 →   body: a CID; after it, from u32 if not 0: the first so many bytes are here
//	cancel  3 →   body empty, seq of an earlier get             "not any more"; still answered, in its turn
//	has     4 ←   body: one bit per CID asked, lowest first
//	block   5 ←   status 0: body is the block, at most 1 MiB, less its first bytes if asked so; else empty: 1 not here, 2 not for you, 3 cancelled
//
// The first stream to a donor is an ordinary one. While there is plenty to fetch from it, streams for bulk (p2p.Host.OpenBulk) take
// over: each has a TCP connection of its own, so a lost packet holds up less, and a block is opened where it will lie. Every header and every
// 256 KiB of a block, 32 KiB on a slow link, are a record then. Where there can be none, ordinary streams do all.
//
// At most 4 gets are under way on a stream, and 2 streams between two nodes for one fetch. They are the credit: a donor sends
// nothing that was not asked for, so a node that fetches holds at most 16 MiB per donor, and a donor two blocks per stream. A donor resets a stream with more than 64 unanswered requests, with a malformed frame,
// or idle for a minute. CIDs are version 1, sha2-256, raw or dag-cbor; anything else is malformed.
//
// Blocks are given out in order, each to one donor that has it. A donor that runs out of work takes over what a slower one has
// not begun to send (plan.go). A donor that sends wrong bytes is not asked again by the same fetch.
//
// A block is verified in one place, by the store that it is put in. What is there is durable when a fetch returns; before, a
// machine that loses power, or a process that is killed, may have to fetch some of the last 50 ms again if they came faster than
// 60 MB/s; of the block that was on the wire the beginning stays (Resume).
//
// An Exchange is safe for concurrent use. Donors are served without a lock: the store's own reads are all there is.
package blocks

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// Store is where blocks are read from and put. Put verifies that data matches c, and fails if not; Get fails for a
// block that is not there. The bytes that Get returns and Put got are not changed by anybody.
type Store interface {
	Has(ctx context.Context, c cid.Cid) (bool, error)
	Get(ctx context.Context, c cid.Cid) ([]byte, error)
	Put(ctx context.Context, c cid.Cid, data []byte) error
}

// Later is what a Store may have besides, to take blocks faster. Exchange looks for it.
type Later interface {
	// PutLater is Put of a block that need not survive a crash before the next Sync or Put. data belongs to the caller
	// again when it returned, as it does after Put.
	PutLater(ctx context.Context, c cid.Cid, data []byte) error
	// Sync makes all of them durable.
	Sync(ctx context.Context) error
}

// Pairs is what a Store may have besides, to verify blocks faster. Exchange looks for it.
type Pairs interface {
	Later
	// PutTwoLater is PutLater of two blocks. Each has its own error.
	PutTwoLater(ctx context.Context, c, d cid.Cid, a, b []byte) (errA, errB error)
}

// Reader is what a Store may have besides, to be read without new memory for each block. Exchange looks for it.
type Reader interface {
	GetInto(ctx context.Context, c cid.Cid, buf []byte) ([]byte, error)
}

// Dropper is what a Store has that can be healed.
type Dropper interface {
	// Drop removes a block whose bytes cannot be read.
	Drop(ctx context.Context, c cid.Cid) error
}

// Exchange serves this node's blocks and fetches others.
type Exchange struct {
	h     *p2p.Host
	store Store
	allow func(peer record.PeerID, c cid.Cid) bool
	log   *slog.Logger
	parts partials
	bufs  sync.Pool // of *[]byte with room for a block and its header
	syncs syncs
	heal  sync.Mutex // held by Heal: two readers of one bad block heal it once

	mu      sync.Mutex // guards serving
	serving map[record.PeerID]int
	streams int
}

// New serves blocks of store to peers whom allow lets have them; nil lets everybody. allow is called concurrently for
// every block asked for, and must be quick.
func New(h *p2p.Host, store Store, allow func(peer record.PeerID, c cid.Cid) bool) *Exchange {
	if allow == nil {
		allow = func(record.PeerID, cid.Cid) bool { return true }
	}
	x := &Exchange{h: h, store: store, allow: allow, log: h.Log(), serving: map[record.PeerID]int{}}
	h.Handle(protocol, func(s *p2p.Stream) { x.serve(s, false) })
	h.HandleBulk(protocol, func(s *p2p.Stream) { x.serve(s, true) })
	return x
}

// Close stops serving. Fetches under way go on until their context ends.
func (x *Exchange) Close() {
	x.h.Unhandle(protocol)
	x.h.UnhandleBulk(protocol)
}

// Get returns a block, fetching it first if the store lacks it.
func (x *Exchange) Get(ctx context.Context, c cid.Cid, from []record.PeerID) ([]byte, error) {
	if err := x.Fetch(ctx, []cid.Cid{c}, func() []record.PeerID { return from }, nil); err != nil {
		return nil, err
	}
	return x.store.Get(ctx, c)
}

// Heal replaces a block that the store has but cannot read by one of from's, and returns it. The rest of the store is
// untouched; where nobody has the block it stays away, and a later fetch gets it.
func (x *Exchange) Heal(ctx context.Context, c cid.Cid, from []record.PeerID) ([]byte, error) {
	d, ok := x.store.(Dropper)
	if !ok {
		return nil, fmt.Errorf("heal block %s: the store cannot drop it", c)
	}
	x.heal.Lock()
	defer x.heal.Unlock()
	if data, err := x.store.Get(ctx, c); err == nil {
		return data, nil // somebody else healed it meanwhile
	}
	if err := d.Drop(ctx, c); err != nil {
		return nil, fmt.Errorf("heal block %s: %w", c, err)
	}
	x.log.Warn("a block could not be read and is fetched anew", "block", c)
	return x.Get(ctx, c, from)
}

// Fetch brings the blocks cids into the store and returns when all are there. from is asked again and again for peers
// that may have them, at least every second; it may grow and shrink. progress, if not nil, is called one call at a time with the
// number of blocks present of total. When nobody has delivered anything for a minute, or ctx ends, the error says who
// was asked and what is missing; what was fetched stays, so a later call fetches only the rest.
func (x *Exchange) Fetch(ctx context.Context, cids []cid.Cid, from func() []record.PeerID, progress func(done, total int)) error {
	f, err := x.newFetch(ctx, cids, progress)
	if err != nil {
		return fmt.Errorf("fetch blocks: %w", err)
	}
	if err := f.run(ctx, from); err != nil {
		return fmt.Errorf("fetch blocks: %w", err)
	}
	if l, ok := x.store.(Later); ok {
		if err := l.Sync(ctx); err != nil {
			return fmt.Errorf("fetch blocks: %w", err)
		}
	}
	return nil
}

// aligned is where a block lies in its memory, behind its header: the system copies to other places at half the speed.
const aligned = 4 << 10

// buffer is n bytes of memory with room for a block and its header. recycle takes it back.
func (x *Exchange) buffer(n int) []byte {
	if b, ok := x.bufs.Get().(*[]byte); ok {
		return (*b)[:n]
	}
	return make([]byte, n, aligned+maxBlock)
}

func (x *Exchange) recycle(b []byte) {
	if cap(b) == aligned+maxBlock {
		b = b[:0]
		x.bufs.Put(&b)
	}
}
