package job

import "fmt"

// Values of Parallel.
const (
	AllReduce = "allreduce"
	DiLoCo    = "diloco"
	None      = "none"
	Auto      = "auto"
)

// checkParallel refuses what is unknown and what this version cannot do. A key that is not set means its default.
func (s *Spec) checkParallel() error {
	p := &s.Parallel
	for _, check := range []func(*Parallel) error{(*Parallel).checkSync, (*Parallel).checkZero, (*Parallel).checkStages} {
		if err := check(p); err != nil {
			return err
		}
	}
	return s.checkOwners()
}

func (p *Parallel) checkSync() error {
	switch p.Sync {
	case "", AllReduce:
	case DiLoCo:
		return fmt.Errorf("parallel.sync: this version has allreduce alone; leave the key out")
	default:
		return fmt.Errorf("parallel.sync is %.40q; choose allreduce", p.Sync)
	}
	if p.InnerSteps != 0 || p.OuterLR != 0 || p.OuterMomentum != 0 {
		return fmt.Errorf("parallel.inner_steps, outer_lr and outer_momentum belong to sync: diloco")
	}
	return nil
}

func (p *Parallel) checkZero() error {
	switch p.Zero {
	case "", "0", "1", "2", Auto:
	case "3":
		return fmt.Errorf("parallel.zero is 3; this version has 0, 1 and 2")
	default:
		return fmt.Errorf("parallel.zero is %.40q; choose 0, 1, 2 or auto", p.Zero)
	}
	if p.MirrorRounds < 0 {
		return fmt.Errorf("parallel.mirror_rounds is %d, want 0 or more rounds", p.MirrorRounds)
	}
	if p.MirrorRounds != 0 && (p.Zero == "" || p.Zero == "0") {
		return fmt.Errorf("parallel.mirror_rounds belongs to zero: 1 and more; set parallel.zero")
	}
	return nil
}

// checkOwners refuses what owners cannot step chunk by chunk.
func (s *Spec) checkOwners() error {
	if z := s.Parallel.Zero; (z == "1" || z == "2") && s.Optimizer.Name == Adafactor {
		return fmt.Errorf("optimizer.name: adafactor looks at whole tensors, and owners step chunks of them; set parallel.zero: 0 or choose adamw8bit")
	}
	return nil
}

// zeroFrom is the size of what is trained from which on zero: auto cuts it among members, bytes.
const zeroFrom = 64 << 20

// ZeroLevel is how much is cut among members: 0, or 2 where each chunk has one owner who alone has its optimizer state
// and its reduced gradient. bytes is the size of what is trained, in float32. 1 would let all have the gradient; nobody
// needs it, so it is 2.
func (s *Spec) ZeroLevel(bytes int64) int {
	switch z := s.Parallel.Zero; {
	case z == "1", z == "2", z == Auto && bytes >= zeroFrom && s.Optimizer.Name != Adafactor:
		return 2
	}
	return 0
}

func (p *Parallel) checkStages() error {
	switch {
	case p.Pipeline != "" && p.Pipeline != "1":
		return fmt.Errorf("parallel.pipeline is %.40q; this version has one stage alone: leave the key out", p.Pipeline)
	case p.Tensor < 0 || p.Tensor > 1:
		return fmt.Errorf("parallel.tensor is %d; this version has 1 alone: leave the key out", p.Tensor)
	case p.Offload != "" && p.Offload != None:
		return fmt.Errorf("parallel.offload is %.40q; this version has none alone: leave the key out", p.Offload)
	}
	return nil
}
