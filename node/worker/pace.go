package worker

import (
	"sync"
	"time"

	"github.com/seed-7b27c88a/shoal/node/coord"
	"github.com/seed-7b27c88a/shoal/trainer"
)

// pace measures how fast this node computes, in sequences per second, from work handed out to piece handed in.
type pace struct {
	mu     sync.Mutex // guards the rest
	began  time.Time
	rows   uint64
	done   uint64        // of them, as far as it is known
	looked time.Duration // after began: when the pace was last measured within the work
	rate   float64       // smoothed; 0: nothing measured yet
	told   float64       // what the others know
}

// Weight of a new measurement, and how far the rate must move before the others are told. Guesses: plans should follow
// a change within a few rounds and not follow noise.
const (
	paceWeight = 0.3
	paceMove   = 0.2
)

func (p *pace) start(w trainer.Work) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.began, p.rows, p.done, p.looked = time.Now(), 0, 0, 0
	for _, r := range w.Positions {
		p.rows += r.Len()
	}
}

// stop ends the measurement and returns the rate if the others should hear of it.
func (p *pace) stop() (rate float64, news bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rows == 0 {
		return 0, false
	}
	now := float64(p.rows) / max(time.Since(p.began).Seconds(), 1e-6)
	p.rows = 0
	return p.sample(now)
}

// sample takes a measurement and tells whether the others should hear of the rate. Called with mu held.
func (p *pace) sample(now float64) (rate float64, news bool) {
	if p.rate == 0 {
		p.rate = now
	}
	p.rate += paceWeight * (now - p.rate)
	if d := p.rate/p.told - 1; p.told != 0 && d < paceMove && d > -paceMove {
		return 0, false
	}
	p.told = p.rate
	return p.rate, true
}

func (j *Job) announce() {
	j.tellPace(j.pace.stop())
}

func (j *Job) tellPace(rate float64, news bool) {
	if news {
		j.post(coord.Measured{Capability: j.capability(rate)})
	}
}

// announced is the rate that the others know.
func (p *pace) announced() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.told
}
