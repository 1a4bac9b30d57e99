package collective

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/collective/exact"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/xfer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster is some Groups joined by a network, and the leader's part of a round played by the test.
type cluster struct {
	t       testing.TB
	job     cid.Cid
	chunks  []Chunk
	codec   exact.Codec
	members []*member
	haves   chan told[Have]
	dones   chan told[Done]
}

type member struct {
	Member
	x  *xfer.Xfer
	ex *Exchange
	g  *Group
}

// told is an event and whose it is.
type told[T any] struct {
	id record.PeerID
	v  T
}

// join puts n Groups on the network that xfers gives, over an index space of the given sizes of chunks.
func newCluster(t testing.TB, xfers []*xfer.Xfer, ids []record.PeerID, chunks ...int) *cluster {
	c := &cluster{t: t, job: testCID("job"), haves: make(chan told[Have], 1000), dones: make(chan told[Done], 1000)}
	at := 0
	for i, n := range chunks {
		c.chunks = append(c.chunks, Chunk{Lo: at, Hi: at + n, Unit: i / 3})
		at += n
	}
	for i, x := range xfers {
		m := &member{Member: Member{ID: ids[i], Boot: uint64(i)}, x: x, ex: NewExchange(x)}
		c.members = append(c.members, m)
	}
	return c
}

func (c *cluster) join(m *member) {
	g, err := m.ex.Join(c.job, m.Member, Events{
		Have: func(h Have) { c.haves <- told[Have]{m.ID, h} },
		Done: func(d Done) { c.dones <- told[Done]{m.ID, d} },
	})
	if err != nil {
		c.t.Fatal(err)
	}
	m.g = g
}

func (c *cluster) joinAll() {
	for _, m := range c.members {
		c.join(m)
	}
}

func (c *cluster) close() {
	for _, m := range c.members {
		if m.g != nil {
			m.g.Close()
		}
		m.x.Close()
	}
}

// plan gives chunk i to member i and every member of ms a piece; keep are pieces of earlier attempts.
func (c *cluster) plan(round uint64, attempt uint32, ms []*member, keep ...PieceID) *Plan {
	p := &Plan{Key: Key{Job: c.job, Round: round, Attempt: attempt, Plan: testCID("plan", round, attempt)}, Codec: c.codec, Chunks: c.chunks, Pieces: keep}
	for i, m := range ms {
		p.Members = append(p.Members, m.Member)
		if len(keep) == 0 {
			p.Pieces = append(p.Pieces, PieceID{Round: round, Attempt: attempt, Member: ms[i].ID, Boot: ms[i].Boot})
		}
	}
	for i := range c.chunks {
		os := []int{i % len(ms)}
		if len(ms) > 1 {
			os = append(os, (i+1)%len(ms))
		}
		p.Owners = append(p.Owners, os)
	}
	return p
}

func (c *cluster) start(p *Plan, ms []*member) {
	for _, m := range ms {
		m.g.Plan(p)
	}
}

// work is member i's vector.
func (c *cluster) work(i int) []float32 {
	v := make([]float32, c.chunks[len(c.chunks)-1].Hi)
	for k := range v {
		v[k] = float32((k*7+i*13)%101-50) * float32(math.Pow(10, float64((k+i)%5-2)))
	}
	return v
}

func (c *cluster) hand(p *Plan, i int, v []float32) Mark {
	m := c.members[i]
	k := Mark{PieceID: PieceID{Round: p.Round, Attempt: p.Attempt, Member: m.ID, Boot: m.Boot}, Weight: int64(i + 1), Loss: 0.5}
	m.g.Local(k, v)
	return k
}

// agree waits until every owner holds every piece of p, and announces cut and totals.
func (c *cluster) agree(p *Plan, ms []*member) {
	full := map[record.PeerID]Have{}
	owners := map[int]bool{}
	for _, os := range p.Owners {
		owners[os[0]] = true
	}
	for len(full) < len(owners) {
		h := <-c.haves
		if h.v.Key == p.Key && len(h.v.Pieces) == len(p.Pieces) {
			full[h.id] = h.v
		}
	}
	var t Totals
	for _, m := range p.Members {
		t.SumSq += full[m.ID].SumSq
	}
	set := full[p.Members[p.Owners[0][0]].ID].Pieces
	for _, k := range set {
		t.Weight += k.Weight
		t.Loss += k.Loss
	}
	for _, m := range ms {
		m.g.Cut(p.Key, set)
		m.g.Release(p.Key, t)
	}
}

// finish waits for the result of each of ms and commits.
func (c *cluster) finish(p *Plan, ms []*member) []Done {
	out := make([]Done, len(ms))
	for n := 0; n < len(ms); {
		if d := <-c.dones; d.v.Key == p.Key {
			out[slices.IndexFunc(ms, func(m *member) bool { return m.ID == d.id })] = d.v
			n++
		}
	}
	for _, m := range ms {
		m.g.Commit(p.Key)
	}
	return out
}

// check compares results with the sum in plan order.
func (c *cluster) check(vs [][]float32, weight int64, dones []Done) {
	c.t.Helper()
	want := slices.Clone(vs[0])
	for _, v := range vs[1:] {
		exact.Add(want, v)
	}
	exact.Divide(want, want, weight)
	for _, d := range dones {
		if !slices.Equal(d.V, want) || !slices.Equal(d.Units, dones[0].Units) {
			c.t.Fatal("results differ")
		}
	}
}

// pipes is a network of unbuffered streams in memory.
type pipes struct {
	xfers map[record.PeerID]*xfer.Xfer
	serve sync.WaitGroup
	mu    sync.Mutex
	down  map[record.PeerID]bool
	conns []net.Conn
}

type pipe struct {
	net.Conn
	peer record.PeerID
}

func (p pipe) Peer() record.PeerID { return p.peer }
func (p pipe) Reset() error        { return p.Close() }

func newPipes(n int) (w *pipes, xfers []*xfer.Xfer, ids []record.PeerID) {
	w = &pipes{xfers: map[record.PeerID]*xfer.Xfer{}, down: map[record.PeerID]bool{}}
	for i := range n {
		id := record.PeerID(fmt.Sprintf("peer%d", i))
		x := xfer.New(xfer.Config{Open: func(_ context.Context, to record.PeerID) (xfer.Stream, error) { return w.open(id, to) }})
		w.xfers[id] = x
		xfers, ids = append(xfers, x), append(ids, id)
	}
	return w, xfers, ids
}

func (w *pipes) open(from, to record.PeerID) (xfer.Stream, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down[to] || w.down[from] {
		return nil, errors.New("host unreachable")
	}
	near, far := net.Pipe()
	w.conns = append(w.conns, near)
	w.serve.Go(func() { w.xfers[to].Serve(pipe{far, from}) })
	return pipe{near, to}, nil
}

// cut breaks every connection and, until mended, those to come to or from id.
func (w *pipes) cut(id record.PeerID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down[id] = true
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}

func (w *pipes) mend(id record.PeerID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down[id] = false
}

func TestGroupRounds(t *testing.T) {
	for _, chunks := range [][]int{{1}, {5, 9, 2, 30}, {MaxChunkLen, 100, MaxChunkLen - 1, 70_000, 3}} {
		for n := 1; n <= 4; n++ {
			synctest.Test(t, func(t *testing.T) {
				w, xfers, ids := newPipes(n)
				c := newCluster(t, xfers, ids, chunks...)
				c.joinAll()
				for round := range uint64(3) {
					p := c.plan(round, 1, c.members)
					c.start(p, c.members)
					var vs [][]float32
					for i := range c.members {
						vs = append(vs, c.work(i))
						k := c.hand(p, i, vs[i])
						if round == 1 {
							if err := c.members[i].g.Delivered(t.Context(), k.PieceID); err != nil {
								t.Fatal(err)
							}
						}
					}
					c.agree(p, c.members)
					c.check(vs, int64(n*(n+1)/2), c.finish(p, c.members))
					for _, v := range vs {
						clear(v) // after Commit they are the trainer's again; the race detector watches
					}
				}
				c.close()
				w.serve.Wait()
			})
		}
	}
}

// A member joins after the others began to send to it, and gets its plan even later.
func TestGroupLateJoinAndLatePlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, xfers, ids := newPipes(3)
		c := newCluster(t, xfers, ids, 40, MaxChunkLen, 40, 40)
		p := c.plan(1, 1, c.members)
		vs := [][]float32{c.work(0), c.work(1), c.work(2)}
		for i := range 2 {
			c.join(c.members[i])
			c.members[i].g.Plan(p)
			c.hand(p, i, vs[i])
		}
		time.Sleep(10 * time.Second) // virtual
		c.join(c.members[2])
		time.Sleep(100 * time.Second) // virtual: now chunks wait in its mailbox
		synctest.Wait()
		c.members[2].g.Plan(p)
		c.hand(p, 2, vs[2])
		c.agree(p, c.members)
		c.check(vs, 6, c.finish(p, c.members))
		c.close()
		w.serve.Wait()
	})
}

// Connections break while pieces travel; they are sent again when the peer is back.
func TestGroupSendsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, xfers, ids := newPipes(3)
		c := newCluster(t, xfers, ids, MaxChunkLen, MaxChunkLen, MaxChunkLen)
		c.joinAll()
		p := c.plan(1, 1, c.members)
		c.start(p, c.members)
		vs := [][]float32{c.work(0), c.work(1), c.work(2)}
		for i := range vs {
			c.hand(p, i, vs[i])
		}
		w.cut(ids[1])
		time.Sleep(3 * time.Second) // virtual
		w.mend(ids[1])
		c.members[0].g.Reachable(ids[1])
		c.agree(p, c.members)
		w.cut(ids[2]) // and results
		time.Sleep(time.Second)
		w.mend(ids[2])
		c.check(vs, 6, c.finish(p, c.members))
		c.close()
		w.serve.Wait()
	})
}

// A member dies; the others go on in a further attempt with the pieces they have.
func TestGroupDeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, xfers, ids := newPipes(3)
		c := newCluster(t, xfers, ids, MaxChunkLen, 50, 60, MaxChunkLen)
		c.joinAll()
		p := c.plan(1, 1, c.members)
		c.start(p, c.members)
		vs := [][]float32{c.work(0), c.work(1)}
		for i := range vs {
			c.hand(p, i, vs[i])
		}
		synctest.Wait()
		w.cut(ids[2])
		c.members[2].g.Close()
		living := c.members[:2]
		second := c.plan(1, 2, living, p.Pieces[:2]...)
		c.start(second, living)
		c.agree(second, living)
		c.check(vs, 3, c.finish(second, living))
		c.close()
		w.serve.Wait()
	})
}

// Part of the pieces is reported without waiting for the rest, but not at once.
func TestGroupPartialHave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, xfers, ids := newPipes(2)
		c := newCluster(t, xfers, ids, MaxChunkLen, MaxChunkLen)
		c.joinAll()
		p := c.plan(1, 1, c.members)
		c.start(p, c.members)
		v := c.work(0)
		c.hand(p, 0, v)
		synctest.Wait()
		if len(c.haves) != 0 {
			t.Fatal("a partial Have came at once")
		}
		for range 2 {
			if h := <-c.haves; len(h.v.Pieces) != 1 || h.v.SumSq == 0 {
				t.Fatalf("%+v", h)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := c.members[1].g.Delivered(ctx, p.Pieces[1]); err != ctx.Err() {
			t.Fatal(err)
		}
		c.close()
		w.serve.Wait()
	})
}

func TestJoinTwice(t *testing.T) {
	w, xfers, ids := newPipes(1)
	c := newCluster(t, xfers, ids, 4)
	c.joinAll()
	if _, err := c.members[0].ex.Join(c.job, c.members[0].Member, Events{}); err == nil {
		t.Error("joined twice")
	}
	c.members[0].g.Close()
	c.members[0].g.Close()
	c.join(c.members[0])
	c.members[0].g.Reset()
	c.close()
	w.serve.Wait()
}

// FuzzOffer gives a member's door any meta.
func FuzzOffer(f *testing.F) {
	_, xfers, ids := newPipes(2)
	c := newCluster(f, xfers, ids, 4, 4)
	c.joinAll()
	f.Cleanup(c.close)
	p := c.plan(3, 2, c.members)
	c.members[0].g.Plan(p)
	add := func(fr Frame, size int) {
		b, err := encodeMeta(&fr)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, size)
	}
	mark := Mark{PieceID: PieceID{3, 2, ids[1], 1}, Weight: 5, Loss: 2.5}
	add(Frame{Kind: FrameContribution, Key: p.Key, Mark: mark, Chunk: 0}, 16)
	add(Frame{Kind: FrameContribution, Key: p.Key, Mark: mark, Chunk: 1}, 16)
	add(Frame{Kind: FrameResult, Key: p.Key, Chunk: 1}, 16)
	add(Frame{Kind: FrameResult, Key: p.Key, Chunk: 1 << 40}, 1<<20)
	add(Frame{Kind: FrameHeld, Key: p.Key, Chunk: 1, Hash: &Hash{1}}, 0)
	add(Frame{Kind: FrameHeld, Key: p.Key, Chunk: 1}, 16)
	add(Frame{Kind: 9, Key: p.Key, Mark: mark, Chunk: -1}, 3)
	late := p.Key
	late.Round++
	add(Frame{Kind: FrameContribution, Key: late, Mark: mark}, 16)
	f.Fuzz(func(t *testing.T, meta []byte, size int) {
		fr, err := decodeMeta(meta, size)
		d, code := c.members[0].ex.Offer(ids[1], meta, size)
		if err != nil && code != xfer.Code(RefusedMalformed) {
			t.Fatalf("%v got code %d", err, code)
		}
		if d != nil {
			if len(d.Buffer()) != size || size > 4*MaxChunkLen {
				t.Fatalf("buffer of %d bytes for %d", len(d.Buffer()), size)
			}
			d.Done(func(xfer.Code) {})
		}
		if err == nil {
			if b, err := encodeMeta(fr); err != nil || len(b) > xfer.MaxMeta {
				t.Fatalf("%+v: %d bytes, %v", fr, len(b), err)
			}
		}
	})
}
