package xfer

import "sync"

// patient sees that bulk transfers marked Later take nothing away from the others, whoever those are for: one begins when
// no other is queued or being written, there is one at a time, and it is taken back when another comes.
type patient struct {
	mu      sync.Mutex     // guards the rest
	urgent  int            // transfers that are not Later, queued or being written
	busy    bool           // a Later one is being written
	waiting map[*peer]bool // peers with Later ones
}

// press counts transfers that are not Later.
func (p *patient) press(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.urgent += n
	p.offer()
}

// wait notes that there is something Later for a peer.
func (p *patient) wait(who *peer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting == nil {
		p.waiting = map[*peer]bool{}
	}
	p.waiting[who] = true
}

// begin says whether a Later transfer may be written now; end follows.
func (p *patient) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.urgent > 0 || p.busy {
		return false
	}
	p.busy = true
	return true
}

func (p *patient) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy = false
	p.offer()
}

// offer tells lanes that it is their turn, if it is: the first that looks begins. Called with mu held.
func (p *patient) offer() {
	if p.urgent > 0 || p.busy {
		return
	}
	for q := range p.waiting { // any of them will do
		delete(p.waiting, q)
		q.signal(bulk)
	}
}

// pressed says whether something that is not Later waits.
func (p *patient) pressed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.urgent > 0
}
