package job

import "fmt"

func (s *Spec) checkSwarm() error {
	switch {
	case s.Swarm.MinPeers < 1 || s.Swarm.MinPeers > 1<<16:
		return fmt.Errorf("swarm.min_peers is %d; choose 1 to 65536", s.Swarm.MinPeers)
	case s.Swarm.MaxPeers < 0 || s.Swarm.MaxPeers > 1<<16:
		return fmt.Errorf("swarm.max_peers is %d; choose 1 to 65536, or 0 for no limit", s.Swarm.MaxPeers)
	case s.Swarm.MaxPeers > 0 && s.Swarm.MaxPeers < s.Swarm.MinPeers:
		return fmt.Errorf("swarm.max_peers %d is below swarm.min_peers %d; raise the first or lower the second", s.Swarm.MaxPeers, s.Swarm.MinPeers)
	case s.Wire.Gradients != FP32 && s.Wire.Gradients != BF16 && s.Wire.Gradients != Int8:
		return fmt.Errorf("wire.gradients is %.40q; choose fp32, bf16 or int8", s.Wire.Gradients)
	case s.Wire.Activations != "" && !s.Parallel.Staged():
		return fmt.Errorf("wire.activations belongs to jobs of several stages; leave the key out, or set parallel.pipeline")
	case s.Parallel.Staged() && s.Wire.Activations != FP32 && s.Wire.Activations != BF16 && s.Wire.Activations != Int8:
		return fmt.Errorf("wire.activations is %.40q; choose bf16, int8 or fp32", s.Wire.Activations)
	case s.Checkpoint.EverySteps < 1:
		return fmt.Errorf("checkpoint.every_steps is %d; choose 1 or more", s.Checkpoint.EverySteps)
	}
	return nil
}
