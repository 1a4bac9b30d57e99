// Package sim runs whole swarms in virtual time: the coordination (node/coord with its replicated log) and the
// collective (p2p/collective) of every member are the real machines, the network between them is p2p/simnet, and in
// place of a trainer stands a sum whose result is known beforehand.
//
// A run has a population: members die, leave and come at a stated rate, compute at different speeds, sit behind home
// connections of different bandwidth and latency, and may be partitioned. Everything follows from one seed.
//
// After every entry of a log, every acknowledgement and every new state the invariants are checked: one commit per
// generation and round; each commit counts positions that were free, each once, and in allreduce exactly its round's; whoever acknowledges a result holds
// it; the state after a round has the bits that the commits up to there give. Gradients are small integers, so that their sums
// are exact in any order.
//
// A Run belongs to one goroutine.
package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-7b27c88a/shoal/node/coord"
	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/simnet"
)

// Config of a run. Zero values have the stated defaults.
type Config struct {
	Seed      uint64
	Nodes     int           // population; 30
	For       time.Duration // virtual time; 30 min
	Round     time.Duration // how long the work of a round takes a middling member; 30 s
	Churn     float64       // part of the population that goes per minute, and is replaced; 0: nobody
	Clean     float64       // part of those that say good-bye
	Bytes     int           // of the vector that is added up; 1 MiB
	Chunks    int           // that it is cut into; 16
	Rows      int           // positions per member and round; 8
	Inner     int           // diloco: optimizer steps of a member in a round, which Rows has to hold; 0: allreduce
	Partition time.Duration // every so often a fifth of the members is cut off for a minute; 0: never
	Perfect   bool          // no bandwidth classes: a fast network, members of one speed
}

func (c *Config) fill() error {
	c.Nodes, c.For, c.Round = cmp.Or(c.Nodes, 30), cmp.Or(c.For, 30*time.Minute), cmp.Or(c.Round, 30*time.Second)
	c.Bytes, c.Chunks, c.Rows = cmp.Or(c.Bytes, 1<<20), cmp.Or(c.Chunks, 16), cmp.Or(c.Rows, 8)
	switch {
	case c.Nodes < 1 || c.Nodes > 2000:
		return fmt.Errorf("%d nodes, want 1 to 2000", c.Nodes)
	case c.Churn < 0 || c.Churn > 10 || c.Clean < 0 || c.Clean > 1:
		return fmt.Errorf("churn of %v a minute, of which %v clean", c.Churn, c.Clean)
	case c.Round < time.Second || c.For < c.Round || c.Bytes < c.Chunks || c.Chunks > 4096 || c.Rows > 1<<16:
		return errors.New("rounds are a second or longer, the run longer than a round, at most 4096 chunks, 65536 rows")
	case c.Inner < 0 || c.Inner > 0 && c.Rows%c.Inner != 0:
		return fmt.Errorf("%d positions per round are not for %d inner steps alike; choose a multiple", c.Rows, c.Inner)
	}
	return nil
}

// Run is a simulation under way.
type Run struct {
	cfg   Config
	net   *simnet.Net
	g     coord.Genesis
	nodes []*node // alive
	born  int
	cache *cache
	check check
	res   Result
	marks marks
	began time.Time
}

// New prepares a run.
func New(cfg Config) (*Run, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	r := &Run{cfg: cfg, cache: newCache(), net: simnet.New(cfg.Seed, simnet.Config{
		Latency: 20 * time.Millisecond, Jitter: 10 * time.Millisecond, Detect: time.Second,
	})}
	batch := uint64(cfg.Nodes * cfg.Rows)
	steps := uint64(4 * cfg.For / cfg.Round) // more than there is time for
	r.g = coord.Genesis{
		Job: record.CID([]byte("simulated")), Submitter: name(0), Rows: batch * 4, Batch: batch, MicroBatch: 1,
		Steps: steps, Samples: steps * batch, MinPeers: max(1, cfg.Nodes*9/10), CheckpointEvery: 10,
	}
	if cfg.Inner > 0 { // the same data, in batches of single members
		r.g.Inner, r.g.Batch = uint64(cfg.Inner), uint64(cfg.Rows/cfg.Inner)
		r.g.Steps = r.g.Samples / r.g.Batch
	}
	for i := range cfg.Chunks {
		r.g.Chunks = append(r.g.Chunks, collective.Chunk{Lo: 2 * i, Hi: 2*i + 2, Unit: i})
	}
	r.check.init(&r.g)
	r.res.Config = cfg
	return r, nil
}

// Go runs it to its end, or until ctx ends; tell, if not nil, hears how far it is.
func (r *Run) Go(ctx context.Context, tell func(done time.Duration, rounds int)) (*Result, error) {
	r.began = time.Now()
	for range r.cfg.Nodes {
		r.join()
	}
	r.faults()
	next := time.Minute
	for r.net.Now() < r.cfg.For {
		for range 1000 {
			if !r.net.Step() || r.check.wrong != nil {
				break
			}
		}
		if r.check.wrong != nil {
			return r.finish(), fmt.Errorf("seed %d, at %v: %w", r.cfg.Seed, r.net.Now().Round(time.Millisecond), r.check.wrong)
		}
		if ctx.Err() != nil {
			return r.finish(), ctx.Err()
		}
		if tell != nil && r.net.Now() >= next {
			tell(r.net.Now(), len(r.res.Rounds))
			next += time.Minute
		}
	}
	return r.finish(), nil
}

// faults plans who goes when.
func (r *Run) faults() {
	if r.cfg.Churn > 0 {
		r.net.After(r.nextDeath(), r.churn)
	}
	if r.cfg.Partition > 0 {
		r.net.After(r.cfg.Partition, r.partition)
	}
}

func (r *Run) nextDeath() time.Duration {
	perSecond := r.cfg.Churn * float64(r.cfg.Nodes) / 60
	return time.Duration(r.net.Rand().ExpFloat64() / perSecond * float64(time.Second))
}

// churn lets one member go and another one come soon after.
func (r *Run) churn() {
	r.net.After(r.nextDeath(), r.churn)
	if len(r.nodes) < 2 {
		return
	}
	v := r.nodes[r.net.Rand().IntN(len(r.nodes))]
	if v.leaving {
		return
	}
	r.res.Gone++
	if r.net.Rand().Float64() < r.cfg.Clean {
		v.leaving = true
		v.do(coord.Leave{})
	} else {
		r.kill(v)
	}
	r.net.After(time.Duration(r.net.Rand().Int64N(int64(10*time.Second))), func() { r.join() })
}

func (r *Run) partition() {
	r.net.After(r.cfg.Partition, r.partition)
	var apart []record.PeerID
	for _, n := range r.nodes {
		if r.net.Rand().IntN(5) == 0 {
			apart = append(apart, n.id)
		}
	}
	r.res.Partitions++
	r.net.Partition(apart)
	r.net.After(time.Minute, r.net.Heal)
}

// kill ends a member; what it had computed of a piece is lost.
func (r *Run) kill(v *node) {
	if left := v.busy - r.net.Now(); left > 0 && left < v.piece.took {
		part := 1 - left.Seconds()/v.piece.took.Seconds()
		r.res.Computed += int64(part * float64(v.piece.rows))
		r.res.busy += v.piece.took - left
	}
	r.net.Kill(v.id)
	r.gone(v)
}

func (r *Run) gone(v *node) {
	for i, n := range r.nodes {
		if n == v {
			r.nodes[i] = r.nodes[len(r.nodes)-1]
			r.nodes = r.nodes[:len(r.nodes)-1]
			return
		}
	}
}

func name(i int) record.PeerID { return record.PeerID(fmt.Sprintf("n%d", i)) }
