//go:build unix

// Roundbench measures rounds of the collective alone among processes, one per peer: cut and totals are given by the lead, and
// nothing is written to a log.
//
//	go run ./p2p/collective/roundbench [-peers 4] [-elements 25000000] [-codec fp32] [-rounds 5] [-kills 0] [-freeze] [-via "netlab exec"]
//
// It prints the median round, the processor time of all peers per GB of a vector, the share of a link of -rate Mbit/s that
// was busy, and the largest error. With -kills it then kills a random peer at a random moment of that many rounds and prints what
// the survivors needed more than the last round without a death; with -freeze it stops them instead. -via starts each peer by a command that is given the peer's
// number first, as `netlab exec` is.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/collective/exact"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

var (
	asPeer   = flag.Bool("peer", false, "be a peer; for the benchmark itself")
	peers    = flag.Int("peers", 4, "processes")
	elements = flag.Int("elements", 25_000_000, "float32 of a vector")
	codec    = flag.String("codec", "fp32", "fp32, bf16 or int8")
	rounds   = flag.Int("rounds", 5, "rounds to measure")
	kills    = flag.Int("kills", 0, "rounds in which a peer is killed")
	via      = flag.String("via", "", "command that starts a peer")
	rate     = flag.Float64("rate", 0, "Mbit/s of each peer's link, for the share that is busy")
	freeze   = flag.Bool("freeze", false, "stop the peers that would be killed; they are given up after -detect, which does not count")
	detect   = flag.Duration("detect", 2*time.Second, "after what silence a stopped peer is given up")
	verbose  = flag.Bool("v", false, "tell of each round and kill")
	seed     = flag.Uint64("seed", 1, "of the moments of death")
)

var job = record.CID([]byte("roundbench"))

func main() {
	flag.Parse()
	run := lead
	if *asPeer {
		run = func() error { return peer(job, *elements) }
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "roundbench:", err)
		os.Exit(1)
	}
}

// process is a peer as the lead sees it.
type process struct {
	number int
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	member collective.Member
	addr   string
	cpu    time.Duration
	sent   uint64 // bytes
}

// news is an event of a peer, or its end.
type news struct {
	from *process
	event
	ended bool
}

type bench struct {
	codec exact.Codec
	all   []*process
	news  chan news
	round uint64
	rng   *rand.Rand
}

func lead() error {
	c, err := exact.Parse(*codec)
	if err != nil {
		return err
	}
	b := &bench{codec: c, news: make(chan news, 1000), rng: rand.New(rand.NewPCG(*seed, 0))}
	defer b.end()
	for i := range *peers {
		if err := b.start(i + 1); err != nil {
			return err
		}
	}
	clean, err := b.clean(*rounds)
	if err != nil || *kills == 0 {
		return err
	}
	return b.deaths(clean)
}

// start starts a peer and connects it with those that run.
func (b *bench) start(number int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := []string{self, "-peer", "-elements", strconv.Itoa(*elements)}
	if *via != "" {
		args = append(append(strings.Fields(*via), strconv.Itoa(number)), args...)
	}
	p := &process{number: number, cmd: exec.Command(args[0], args[1:]...)}
	p.cmd.Stderr = os.Stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go b.listen(p, out)
	first, err := b.wait(func(n news) bool { return n.from == p && n.Addr != "" })
	if err != nil {
		return err
	}
	p.addr, p.member = first.Addr, collective.Member{ID: first.ID}
	var addrs []string
	for _, q := range b.all {
		addrs = append(addrs, q.addr)
	}
	b.all = append(b.all, p)
	if len(addrs) == 0 {
		return nil
	}
	p.tell(order{Connect: addrs})
	_, err = b.wait(func(n news) bool { return n.from == p && n.Ready })
	return err
}

// listen passes on what a peer says.
func (b *bench) listen(p *process, out io.Reader) {
	in := json.NewDecoder(out)
	for {
		n := news{from: p}
		if in.Decode(&n.event) != nil {
			p.cmd.Wait()
			b.news <- news{from: p, ended: true}
			return
		}
		b.news <- n
	}
}

const patience = 2 * time.Minute // for any one thing to happen

// wait drops news until one is as wanted.
func (b *bench) wait(wanted func(news) bool) (news, error) {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		select {
		case n := <-b.news:
			if wanted(n) {
				return n, nil
			}
			if n.ended {
				return n, fmt.Errorf("peer %d ended", n.from.number)
			}
		case <-limit.C:
			return news{}, fmt.Errorf("nothing happened for %v", patience)
		}
	}
}

func (p *process) tell(o order) { json.NewEncoder(p.stdin).Encode(o) } // a dead one does not hear

func (b *bench) end() {
	for _, p := range b.all {
		p.stdin.Close()
	}
	for range b.all {
		b.wait(func(n news) bool { return n.ended })
	}
}

// clean measures rounds without a death; the first two, which open connections and find memory, do not count.
func (b *bench) clean(n int) (median time.Duration, err error) {
	var took []time.Duration
	var cpu, all time.Duration
	var worst, sent float64
	for i := range n + 2 {
		before, had := b.cpu(), b.sent()
		r := &running{b: b}
		d, err := r.run()
		if err != nil {
			return 0, err
		}
		if *verbose {
			fmt.Printf("first owner ready %v, cut %v, done %v\n", r.firstIn, r.cutAt, r.doneAt)
		}
		if i > 1 {
			took, cpu, worst = append(took, d), cpu+b.cpu()-before, max(worst, r.worst)
			all, sent = all+d, sent+b.sent()-had
		}
	}
	slices.Sort(took)
	median = took[len(took)/2]
	size := 4 * float64(*elements)
	fmt.Printf("%s, %d peers, %.0f MB: median %v of %d, worst %v, %.1f cpu s/GB, largest error %.2g\n", b.codec, len(b.all), size/1e6,
		median.Round(time.Millisecond/10), n, took[n-1].Round(time.Millisecond/10), cpu.Seconds()/float64(n)/size*1e9, worst)
	if *rate > 0 {
		fmt.Printf("each sends %.1f MB: %.2f of a link of %.0f Mbit/s\n", sent/float64(n)/1e6, 8*sent/all.Seconds()/1e6 / *rate, *rate)
	}
	return median, nil
}

// sent is what a peer has sent until its last result was there, in the mean.
func (b *bench) sent() float64 {
	var sum uint64
	for _, p := range b.all {
		sum += p.sent
	}
	return float64(sum) / float64(len(b.all))
}

func (b *bench) cpu() (sum time.Duration) {
	for _, p := range b.all {
		sum += p.cpu
	}
	return sum
}

// deaths kills peers at moments that are uniform over a round.
func (b *bench) deaths(clean time.Duration) error {
	var more []time.Duration
	var worst float64 // of a clean round
	for range *kills {
		victim := b.all[b.rng.IntN(len(b.all))]
		r := &running{b: b, victim: victim, at: time.Duration(b.rng.Float64() * float64(clean))}
		d, err := r.run()
		if err != nil {
			return err
		}
		more, worst = append(more, d-clean), max(worst, float64(d-clean)/float64(clean))
		if *verbose {
			fmt.Printf("killed at %v of %v: %v\n", r.at.Round(time.Millisecond), clean.Round(time.Millisecond), d.Round(time.Millisecond))
		}
		b.all = slices.DeleteFunc(b.all, func(p *process) bool { return p == victim })
		if err := b.start(victim.number); err != nil {
			return err
		}
		for range 3 { // the first two open its connections and find its memory
			if clean, err = (&running{b: b}).run(); err != nil {
				return err
			}
		}
	}
	slices.Sort(more)
	fmt.Printf("%d kills: median %+d ms, worst %+d ms, %.2f of its clean round at most\n", *kills, more[len(more)/2].Milliseconds(),
		more[len(more)-1].Milliseconds(), worst)
	return nil
}
