package coord

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// TestHostileRecords changes well-formed records field by field, signs them anew as if a member had said so, and gives
// them to a member as messages and as committed entries. Whatever they say, nothing panics and nothing grows.
func TestHostileRecords(t *testing.T) {
	for _, flow := range []bool{false, true} {
		hostileRecords(t, flow)
	}
}

func hostileRecords(t *testing.T, flow bool) {
	entries, messages := recorded(t, flow)
	rng := rand.New(rand.NewPCG(1, 5))
	all := append(entries, messages...)
	var s *swarm
	rounds := 6000
	if raceEnabled {
		rounds /= 10
	}
	for i := range rounds {
		if i%100 == 0 { // what was said may have ended the job
			s = newSwarm(t, uint64(i+1), options{nodes: 4, steps: 6, batch: 5, min: 3, every: 2, flow: flow})
			s.startAll()
			s.net.Run(time.Duration(rng.IntN(2000)) * time.Millisecond)
		}
		src := all[rng.IntN(len(all))]
		from := s.nodes[rng.IntN(len(s.nodes))].id
		signed := mutate(t, rng, src, from)
		if signed == nil {
			continue
		}
		m := s.nodes[rng.IntN(len(s.nodes))].run.m
		m.Step(Message{From: from, Msg: signed})
		if data, err := record.Encode(signed); err == nil {
			m.commitData(data)
		}
		m.Step(Tick{m.now + TickEvery})
		if len(m.job.spine) > maxPush || len(m.job.recent) > maxRecent || len(m.peers.peers) > maxPeers {
			t.Fatalf("the job grew to %d and %d entries, %d peers", len(m.job.spine), len(m.job.recent), len(m.peers.peers))
		}
	}
}

// mutate returns src with a few fields changed and signed by from, or nil when it cannot be encoded any more.
func mutate(t *testing.T, rng *rand.Rand, src *record.Signed, from record.PeerID) *record.Signed {
	rec, _, err := plainKeys{}.Open(src)
	if err != nil {
		t.Fatal(err)
	}
	body := entryBody(rec.Header.Context)
	if body == nil {
		body = messageBody(rec.Header.Context)
	}
	if err := record.Decode(rec.Body, body); err != nil {
		t.Fatal(err)
	}
	for range 1 + rng.IntN(3) {
		spoil(rng, reflect.ValueOf(body).Elem(), 0)
	}
	if rng.IntN(4) == 0 {
		spoil(rng, reflect.ValueOf(&rec.Header).Elem(), 0)
	}
	s, _, err := plainKeys{from}.Sign(rec.Header, body)
	if err != nil {
		return nil
	}
	return s
}

// spoil changes something inside v.
func spoil(rng *rand.Rand, v reflect.Value, depth int) {
	if !v.CanSet() || depth > 6 {
		return
	}
	if c, ok := v.Interface().(cid.Cid); ok {
		if c.Defined() && rng.IntN(2) == 0 {
			v.Set(reflect.ValueOf(record.CID([]byte{byte(rng.IntN(4))})))
		} else {
			v.Set(reflect.ValueOf(cid.Undef))
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		spoil(rng, v.Field(rng.IntN(v.NumField())), depth+1)
	case reflect.Pointer:
		if v.IsNil() || rng.IntN(8) == 0 {
			v.SetZero()
			return
		}
		spoil(rng, v.Elem(), depth+1)
	case reflect.Slice:
		spoilSlice(rng, v, depth)
	case reflect.Array:
		spoil(rng, v.Index(rng.IntN(v.Len())), depth+1)
	case reflect.String:
		v.SetString([]string{"", "n1", "nobody", string(make([]byte, 300))}[rng.IntN(4)])
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Float64:
		v.SetFloat([]float64{0, -1, math.MaxFloat64, math.Inf(1), math.NaN()}[rng.IntN(5)])
	case reflect.Int, reflect.Int64:
		v.SetInt([]int64{0, 1, -1, v.Int() + 1, math.MaxInt64, math.MinInt64}[rng.IntN(6)])
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		v.SetUint([]uint64{0, 1, v.Uint() + 1, math.MaxUint64}[rng.IntN(4)])
	}
}

func spoilSlice(rng *rand.Rand, v reflect.Value, depth int) {
	n := v.Len()
	switch {
	case n == 0 || rng.IntN(4) == 0:
		v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
	case rng.IntN(3) == 0:
		v.Set(v.Slice(0, n-1))
	case rng.IntN(3) == 0:
		v.Set(reflect.AppendSlice(v, v))
	default:
		spoil(rng, v.Index(rng.IntN(n)), depth+1)
	}
}
