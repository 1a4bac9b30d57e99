package sim

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/seed-7b27c88a/shoal/node/coord"
)

// Result is what a run gave.
type Result struct {
	Config     Config
	Rounds     []Round // committed, in order of their commits
	Gone, Born int     // members
	Partitions int
	Forks      int   // generations after the first
	Computed   int64 // positions computed, in vain or not, those that a member began before it went included
	Bulk       int64 // bytes of contributions and results
	Control    int64 // bytes of agreement: the log, reports, beats
	State      int64 // bytes of state for newcomers
	Peak       int   // members alive
	Virtual    time.Duration
	Wall       time.Duration
	Figures    Figures

	busy, alive time.Duration // of all members
	from        time.Duration // when the newest round began
	counted     int64
}

// Figures are what a run comes to.
type Figures struct {
	Committed   float64       // see Result.Committed
	Utilization float64       // see Result.Utilization
	Lost        float64       // see Result.Lost
	Round       time.Duration // median
	Agreement   time.Duration // median time of a round beside work and transfer
}

// Round is a committed round.
type Round struct {
	Round      uint64
	Generation uint32
	From, To   time.Duration // virtual: the commit before, this commit
	Collect    time.Duration // plan to cut
	Gather     time.Duration // cut to commit
	Agree      time.Duration // beside work and transfer: see marks
	Attempts   uint32
	Members    int  // whose work counted
	Left       int  // who was left out in one of its attempts
	Fresh      bool // the work began anew, or the round was committed before in a generation that lost
}

// reported takes the first member's report of each round.
func (r *Run) reported(n *node, rep coord.RoundReport) {
	for i := len(r.res.Rounds) - 1; i >= 0; i-- {
		if o := r.res.Rounds[i]; o.Round == rep.Round && o.Generation == rep.Generation {
			return
		}
	}
	now := r.net.Now()
	again := slices.ContainsFunc(r.res.Rounds, func(o Round) bool { return o.Round == rep.Round })
	r.res.Rounds = append(r.res.Rounds, Round{
		Round: rep.Round, Generation: rep.Generation, From: r.res.from, To: now, Collect: rep.Collect, Gather: rep.Gather,
		Agree: r.marks.spent(now), Attempts: rep.Attempts, Members: rep.Peers,
		Left: len(rep.Absent), Fresh: again,
	})
	r.res.from, r.marks = now, marks{committed: now}
	r.res.Forks = max(r.res.Forks, int(rep.Generation))
	if !again {
		for _, c := range rep.Counted {
			for _, x := range c.Ranges {
				r.res.counted += int64(x.Len())
			}
		}
	}
	r.res.Peak = max(r.res.Peak, len(r.nodes))
}

func (r *Run) finish() *Result {
	r.res.Virtual, r.res.Wall, r.res.Born = r.net.Now(), time.Since(r.began), r.born
	s := &r.res
	s.alive = s.Virtual * time.Duration(r.cfg.Nodes)
	s.Figures = Figures{s.Committed(), s.Utilization(), s.Lost(), s.median(func(r Round) time.Duration { return r.To - r.From }), s.Agreement()}
	return s
}

// Committed is the part of the rounds that were begun that committed in time: within twice the work of a round and the
// time that the same run usually takes beside it, and in the log that won.
func (s *Result) Committed() float64 {
	if len(s.Rounds) == 0 {
		return 0
	}
	good := 0
	limit := 2*s.Config.Round + s.median(func(r Round) time.Duration { return r.To - r.From })
	for _, r := range s.Rounds[1:] {
		if !r.Fresh && r.To-r.From <= limit {
			good++
		}
	}
	missed := 0 // a round that is overdue at the end has failed as well
	if s.Virtual-s.from > limit {
		missed = 1
	}
	return float64(good) / float64(max(1, len(s.Rounds)-1+missed))
}

func (s *Result) median(of func(Round) time.Duration) time.Duration {
	if len(s.Rounds) < 2 {
		return 0
	}
	var ds []time.Duration
	for _, r := range s.Rounds[1:] { // before the first one the members had to come together
		ds = append(ds, of(r))
	}
	slices.Sort(ds)
	return ds[len(ds)/2]
}

// Agreement is the median time per round beside work and transfer.
func (s *Result) Agreement() time.Duration {
	return s.median(func(r Round) time.Duration { return r.Agree })
}

// Utilization is the part of the members' time in which they computed what counted.
func (s *Result) Utilization() float64 {
	if s.Computed == 0 || s.alive == 0 {
		return 0
	}
	return float64(s.busy) / float64(s.alive) * float64(s.counted) / float64(s.Computed)
}

// Lost is the part of the computed positions that never counted.
func (s *Result) Lost() float64 {
	if s.Computed == 0 {
		return 0
	}
	return 1 - float64(s.counted)/float64(s.Computed)
}

// Print writes the result for people.
func (s *Result) Print(w io.Writer) {
	row := func(k, format string, args ...any) { fmt.Fprintf(w, "%-12s %s\n", k, fmt.Sprintf(format, args...)) }
	n, f, sec := len(s.Rounds), s.Figures, func(d time.Duration) string { return d.Round(10 * time.Millisecond).String() }
	row("swarm", "%d members, %d left, %d joined later, %d partitions, %s", s.Config.Nodes, s.Gone, s.Born-s.Config.Nodes, s.Partitions, s.mode())
	row("rounds", "%d, of which %.1f %% committed in time", n, 100*f.Committed)
	row("a round", "%s, of which %s plan to cut, %s cut to commit, %s agreement (medians)", sec(f.Round),
		sec(s.median(func(r Round) time.Duration { return r.Collect })), sec(s.median(func(r Round) time.Duration { return r.Gather })), sec(f.Agreement))
	row("work", "%.1f %% of the members' time counted, %.1f %% of what was computed was lost", 100*f.Utilization, 100*f.Lost)
	row("forks", "%d", s.Forks)
	per := float64(max(n, 1)) * float64(s.Config.Nodes)
	row("traffic", "per member and round: %.0f KiB of vectors, %.1f KiB of agreement, %.1f KiB of state for newcomers",
		float64(s.Bulk)/per/1024, float64(s.Control)/per/1024, float64(s.State)/per/1024)
	row("invariants", "held")
	row("time", "%s simulated in %s", s.Virtual.Round(time.Second), s.Wall.Round(10*time.Millisecond))
}

// mode is how members work together.
func (s *Result) mode() string {
	if n := s.Config.Inner; n > 0 {
		return fmt.Sprintf("diloco of %d inner steps", n)
	}
	return "allreduce"
}

// marks are moments of the round under way, from which the time of agreement follows: from the commit before until half
// of the members have the plan, from the last report of what is held to the cut, from the last result to the commit.
type marks struct {
	committed, started, held, cut, done time.Duration
	starts                              int
}

func (m *marks) spent(now time.Duration) time.Duration {
	spent := max(0, m.started-m.committed)
	if m.held > 0 { // else the first that reports saw this round as a part of one before
		spent += max(0, m.cut-m.held)
	}
	if m.cut > 0 {
		spent += max(0, now-max(m.done, m.cut))
	}
	return spent
}
