package worker

import (
	"context"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/xfer"
	"github.com/seed-7b27c88a/shoal/shard/layout"
	"github.com/seed-7b27c88a/shoal/trainer"
)

// follower is node b of a job in which a owns both chunks and b follows it.
func follower(t testing.TB) (*moments, cid.Cid) {
	job := record.CID([]byte("job"))
	m := &moments{Vectors: &Vectors{jobs: map[cid.Cid]*moments{}}, job: job, self: "b", changed: make(chan struct{}),
		chunks:  []layout.Chunk{{Lo: 0, Hi: 8}, {Lo: 8, Hi: 12}},
		mirrors: map[int]trainer.Moments{}, pending: map[int]tentative{}, passed: map[int]passed{}, coming: map[coming]*assembly{}, asks: map[uint64]*request{},
		sent: map[int]mirrored{}, lent: map[int]uint64{}}
	m.Vectors.join(job, m)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	m.begin(ctx, planOf(job, 5, "a", "b", "c"))
	return m, job
}

func planOf(job cid.Cid, round uint64, owners ...record.PeerID) *collective.Plan {
	p := &collective.Plan{Key: collective.Key{Job: job, Round: round, Plan: record.CID([]byte{byte(round)})}}
	var order []int
	for i, o := range owners {
		p.Members, order = append(p.Members, collective.Member{ID: o}), append(order, i)
	}
	p.Owners = [][]int{order, order}
	return p
}

func encode(t testing.TB, v any) []byte {
	b, err := record.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// give offers a vector and, if it is wanted, delivers it.
func give(t testing.TB, m *moments, from record.PeerID, v vectorMeta, values ...float32) xfer.Code {
	d, code := m.Vectors.Offer(from, encode(t, v), 4*len(values))
	if d == nil {
		return code
	}
	copy(d.(*arriving).v, values)
	d.Done(func(c xfer.Code) { code = c })
	return code
}

// TestMirrors: a follower keeps what its owner sends, and nothing else.
func TestMirrors(t *testing.T) {
	m, job := follower(t)
	good := vectorMeta{Version: vectorVersion, Job: job, Chunk: 1, Slot: slotM, All: 1 << slotM, Step: 4, Count: 4}
	for _, tc := range []struct {
		name string
		from record.PeerID
		edit func(*vectorMeta)
		n    int
		want xfer.Code
	}{
		{"of the owner", "a", func(*vectorMeta) {}, 4, xfer.Taken},
		{"of somebody else", "c", func(*vectorMeta) {}, 4, vectorUnwanted},
		{"of another length", "a", func(*vectorMeta) {}, 5, vectorMalformed},
		{"of no chunk", "a", func(v *vectorMeta) { v.Chunk = 2 }, 4, vectorMalformed},
		{"of another job", "a", func(v *vectorMeta) { v.Job = record.CID([]byte("x")) }, 4, vectorUnwanted},
		{"of another plan", "a", func(v *vectorMeta) { v.Plan = record.CID([]byte("x")) }, 4, vectorUnwanted},
		{"nobody asked", "a", func(v *vectorMeta) { v.Ask = 7 }, 4, vectorUnwanted},
		{"not one of its own set", "a", func(v *vectorMeta) { v.All = 1 << slotV }, 4, vectorMalformed},
		{"of an unknown slot", "a", func(v *vectorMeta) { v.Slot = slots }, 4, vectorMalformed},
		{"of another version", "a", func(v *vectorMeta) { v.Version = 9 }, 4, vectorMalformed},
	} {
		v := good
		tc.edit(&v)
		if got := give(t, m, tc.from, v, make([]float32, tc.n)...); got != tc.want {
			t.Errorf("a vector %s: code %d, want %d", tc.name, got, tc.want)
		}
	}
	if x := m.mirrors[1]; x.Step != 4 || len(x.M) != 4 || len(m.mirrors) != 1 {
		t.Errorf("mirrors %+v", m.mirrors)
	}
}

// TestTentativeMirror: state of a step that is not committed yet counts with the commit of its plan, and no other.
func TestTentativeMirror(t *testing.T) {
	m, job := follower(t)
	plan := m.plan.Key
	v := vectorMeta{Version: vectorVersion, Job: job, Chunk: 0, All: 1<<slotM | 1<<slotV, Step: 5, Count: 5, Plan: plan.Plan}
	give(t, m, "a", v, 1, 2, 3, 4, 5, 6, 7, 8)
	v.Slot = slotV
	give(t, m, "a", v, 8, 7, 6, 5, 4, 3, 2, 1)
	if len(m.mirrors) != 0 || len(m.coming) != 0 {
		t.Fatalf("mirrors %v, coming %v", m.mirrors, m.coming)
	}
	m.committed(plan, collective.Key{})
	if x := m.mirrors[0]; x.Step != 5 || !slices.Equal(x.V, []float32{8, 7, 6, 5, 4, 3, 2, 1}) {
		t.Errorf("mirror %+v", x)
	}
	v.Plan, v.Step, v.All, v.Slot = record.CID([]byte{6}), 6, 1<<slotM, slotM
	m.begin(t.Context(), planOf(job, 6, "a", "b"))
	give(t, m, "a", v, make([]float32, 8)...)
	m.begin(t.Context(), planOf(job, 7, "a", "b")) // a further attempt
	m.committed(m.plan.Key, collective.Key{})
	if x := m.mirrors[0]; x.Step != 5 {
		t.Errorf("a mirror of an attempt that was given up counts: step %d", x.Step)
	}
}

// TestArrivingIsBounded: a peer that begins chunks and does not end them takes no more than its bound.
func TestArrivingIsBounded(t *testing.T) {
	m, job := follower(t)
	for i := range 2 * maxArriving {
		m.asks[uint64(i+1)] = &request{to: "c", chunks: map[int]bool{0: true}, got: make(chan trainer.Moments, 1)}
		v := vectorMeta{Version: vectorVersion, Job: job, All: 1<<slotM | 1<<slotV, Ask: uint64(i + 1)}
		want := xfer.Taken
		if i >= maxArriving {
			want = vectorBusy
		}
		if got := give(t, m, "c", v, make([]float32, 8)...); got != want {
			t.Fatalf("chunk %d: code %d, want %d", i, got, want)
		}
	}
}

func FuzzVector(f *testing.F) {
	_, job := follower(f)
	good := vectorMeta{Version: vectorVersion, Job: job, Chunk: 1, Slot: slotM, All: 1 << slotM, Step: 4}
	f.Add(encode(f, good), 16, "a")
	good.Ask = 3
	f.Add(encode(f, good), 16, "c")
	good.Plan = job
	f.Add(encode(f, good), 1<<30, "")
	f.Add([]byte{}, -4, "a")
	f.Fuzz(func(t *testing.T, meta []byte, size int, from string) {
		m, _ := follower(t)
		d, _ := m.Vectors.Offer(record.PeerID(from), meta, size)
		if d == nil {
			return
		}
		if len(d.Buffer()) != size || size > 32 {
			t.Fatalf("%d bytes for a vector of %d", len(d.Buffer()), size)
		}
		d.Done(func(xfer.Code) {})
	})
}

// FuzzMomentsMessages: requests and answers of strangers are judged without harm.
func FuzzMomentsMessages(f *testing.F) {
	f.Add(encode(f, momentsAsk{ID: 1, Step: 4, Chunks: []int{0, 1}, Send: true}))
	f.Add(encode(f, momentsAnswer{ID: 1, Have: []momentsOf{{Chunk: 1, Step: 3}}}))
	f.Add(encode(f, partAsk{ID: 1, Round: 3, Commit: record.CID([]byte("x"))}))
	f.Add(encode(f, partAnswer{ID: 1, Manifest: record.CID([]byte("x"))}))
	f.Fuzz(func(t *testing.T, payload []byte) {
		m, _ := follower(t)
		m.asks[1] = &request{to: "a", chunks: map[int]bool{1: true}, answer: make(chan momentsAnswer, 1), got: make(chan trainer.Moments, 2)}
		var q momentsAsk
		if record.Decode(payload, &q) == nil && m.fits("a", q) && len(q.Chunks) > len(m.chunks) {
			t.Fatalf("a request for %d chunks of %d", len(q.Chunks), len(m.chunks))
		}
		m.answered("a", payload)
		select {
		case a := <-m.asks[1].answer:
			if len(a.Have) > 1 {
				t.Fatalf("an answer of %d chunks to a request for one", len(a.Have))
			}
		default:
		}
		var ps parts
		ps.asks.answered("a", payload)
	})
}
