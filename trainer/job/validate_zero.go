package job

import "fmt"

func (p *Parallel) checkZero() error {
	switch p.Zero {
	case "", "0", "1", "2", "3", Auto:
	default:
		return fmt.Errorf("parallel.zero is %.40q; choose 0, 1, 2, 3 or auto", p.Zero)
	}
	if p.MirrorRounds < 0 {
		return fmt.Errorf("parallel.mirror_rounds is %d, want 0 or more rounds", p.MirrorRounds)
	}
	if p.MirrorRounds != 0 && !p.ownersStep() {
		return fmt.Errorf("parallel.mirror_rounds belongs to zero: 1 and more; set parallel.zero")
	}
	return p.checkChunks()
}

// ownersStep tells whether chunks have owners who step them, at least where that is worth it. In a pipeline they always do.
func (p *Parallel) ownersStep() bool { return p.Zero != "" && p.Zero != "0" || p.Staged() }

// Values of Parallel.Chunks.
const (
	usualChunks = 64 // eight for each of eight members
	maxChunks   = 1 << 12
)

func (p *Parallel) checkChunks() error {
	switch {
	case p.Chunks < 0 || p.Chunks > maxChunks:
		return fmt.Errorf("parallel.chunks is %d; choose 1 to %d, or leave the key out", p.Chunks, maxChunks)
	case p.Chunks > 0 && !p.ownersStep():
		return fmt.Errorf("parallel.chunks belongs to zero: 1 and more; set parallel.zero")
	}
	return nil
}

// Submitted completes a spec that becomes a job. Validate must not do that: in jobs which are older than a key its absence
// means what they did then.
func (s *Spec) Submitted() {
	if p := &s.Parallel; p.ownersStep() {
		or(&p.Chunks, usualChunks)
	}
}

// checkOwners refuses what owners cannot step chunk by chunk.
func (s *Spec) checkOwners() error {
	p := &s.Parallel
	switch {
	case p.Zero != "1" && p.Zero != "2" && p.Zero != "3":
	case s.Optimizer.Name == Adafactor:
		return fmt.Errorf("optimizer.name: adafactor looks at whole tensors, and owners step chunks of them; set parallel.zero: 0 or choose adamw8bit")
	case p.Sync == DiLoCo:
		return fmt.Errorf("parallel.zero is %s, but with sync: diloco every member needs its own optimizer state; leave zero out", p.Zero)
	}
	return s.checkAway()
}

// checkAway refuses what needs all weights on the device at once.
func (s *Spec) checkAway() error {
	switch {
	case s.Parallel.Zero != "3":
	case s.Optimizer.Name == Sophia:
		return fmt.Errorf("optimizer.name: sophia keeps a second gradient of all weights on the device, and parallel.zero: 3 keeps none there; choose adamw, or zero: 2")
	case len(s.LoraModulesToSave) > 0:
		return fmt.Errorf("parallel.zero: 3 does not go with lora_modules_to_save, which train weights of the model beside an adapter; leave one of the two out, or choose zero: 2")
	}
	return nil
}

// zeroFrom is the size of what is trained from which on zero: auto cuts it among members, bytes.
const zeroFrom = 64 << 20

// ZeroLevel is how much is cut among members: 0, or 2 where each chunk has one owner who alone has its optimizer state
// and its reduced gradient, or 3 where besides no member keeps what is trained in memory. bytes is the size of what is trained, in float32. 1 would let all have the gradient; nobody
// needs it, so it is 2. auto is 0 too where owners cannot step.
func (s *Spec) ZeroLevel(bytes int64) int {
	p := s.Parallel
	if p.Zero == Auto && bytes >= zeroFrom {
		p.Zero = "2"
	}
	switch {
	case p.Zero != "1" && p.Zero != "2" && p.Zero != "3":
	case (&Spec{Parallel: p, Optimizer: s.Optimizer}).checkOwners() != nil:
	case p.Zero == "3":
		return 3
	default:
		return 2
	}
	return 0
}
