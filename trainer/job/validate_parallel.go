package job

import "fmt"

// Values of Parallel.
const (
	AllReduce = "allreduce"
	DiLoCo    = "diloco"
	None      = "none"
	Auto      = "auto"

	OffloadCPU  = "cpu"
	OffloadDisk = "disk"
)

// checkParallel refuses what is unknown and what this version cannot do. A key that is not set means its default.
func (s *Spec) checkParallel() error {
	p := &s.Parallel
	for _, check := range []func(*Parallel) error{(*Parallel).checkSync, (*Parallel).checkZero, (*Parallel).checkStages} {
		if err := check(p); err != nil {
			return err
		}
	}
	if err := s.checkOffload(); err != nil {
		return err
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

func (p *Parallel) checkStages() error {
	switch {
	case p.Pipeline != "" && p.Pipeline != "1":
		return fmt.Errorf("parallel.pipeline is %.40q; this version has one stage alone: leave the key out", p.Pipeline)
	case p.Tensor < 0 || p.Tensor > 1:
		return fmt.Errorf("parallel.tensor is %d; this version has 1 alone: leave the key out", p.Tensor)
	case p.Offload != "" && p.Offload != None && p.Offload != OffloadCPU && p.Offload != OffloadDisk:
		return fmt.Errorf("parallel.offload is %.40q; choose none, cpu or disk", p.Offload)
	}
	return nil
}

// checkOffload: what comes to the device as it is used does not learn yet.
func (s *Spec) checkOffload() error {
	o := s.Parallel.Offload
	switch {
	case o == "" || o == None:
		return nil
	case s.Adapter == AdapterNone || s.Adapter == "":
		return fmt.Errorf("parallel.offload: %s keeps frozen weights away from the device, and without an adapter none are frozen; set adapter, or leave the key out", o)
	case len(s.LoraModulesToSave) > 0:
		return fmt.Errorf("parallel.offload: %s does not go with lora_modules_to_save, which train weights of the model; leave one of the two out", o)
	}
	return nil
}
