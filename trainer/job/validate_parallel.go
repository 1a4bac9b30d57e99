package job

import (
	"fmt"
	"strconv"
)

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
	if err := s.checkApart(); err != nil {
		return err
	}
	for _, check := range []func(*Parallel) error{(*Parallel).checkSync, (*Parallel).checkZero, (*Parallel).checkStages} {
		if err := check(p); err != nil {
			return err
		}
	}
	if err := s.checkOffload(); err != nil {
		return err
	}
	if err := s.checkPipeline(); err != nil {
		return err
	}
	return s.checkOwners()
}

func (p *Parallel) checkSync() error {
	switch p.Sync {
	case "", AllReduce:
	case DiLoCo:
		return p.checkOuter()
	default:
		return fmt.Errorf("parallel.sync is %.40q; choose allreduce or diloco", p.Sync)
	}
	if p.InnerSteps != 0 || p.OuterLR != nil || p.OuterMomentum != nil {
		return fmt.Errorf("parallel.inner_steps, outer_lr and outer_momentum belong to sync: diloco")
	}
	return nil
}

const maxInner = 1 << 16 // steps

func (p *Parallel) checkOuter() error {
	switch lr, mu := *p.OuterLR, *p.OuterMomentum; {
	case p.InnerSteps < 1 || p.InnerSteps > maxInner:
		return fmt.Errorf("parallel.inner_steps is %d; choose 1 to %d, 50 is usual", p.InnerSteps, maxInner)
	case !finite(lr) || lr <= 0 || lr > 10:
		return fmt.Errorf("parallel.outer_lr is %v; choose more than 0 and at most 10, 0.7 is usual", lr)
	case !finite(mu) || mu < 0 || mu >= 1:
		return fmt.Errorf("parallel.outer_momentum is %v; choose 0 to below 1, 0.9 is usual", mu)
	}
	return nil
}

// fill writes the defaults of diloco in.
func (p *Parallel) fill() {
	if p.Sync != DiLoCo {
		return
	}
	or(&p.InnerSteps, 50)
	if p.OuterLR == nil {
		p.OuterLR = new(0.7)
	}
	if p.OuterMomentum == nil {
		p.OuterMomentum = new(0.9)
	}
}

// checkApart refuses what members cannot do by themselves.
func (s *Spec) checkApart() error {
	switch {
	case s.Parallel.Sync != DiLoCo:
	case s.DType == FP16:
		return fmt.Errorf("dtype: fp16 has a loss scale that members agree on, and those of a diloco job do not; choose bf16 or fp32")
	case s.Parallel.Pipeline != "" && s.Parallel.Pipeline != "1":
		return fmt.Errorf("parallel.pipeline is %.40q, and members of a diloco job hold the whole model in this version; leave pipeline or sync out", s.Parallel.Pipeline)
	case s.Optimizer.Name == Sophia:
		return fmt.Errorf("optimizer.name: sophia estimates its curvature together with others, and members of a diloco job step alone; choose another")
	}
	return nil
}

func (p *Parallel) checkStages() error {
	switch {
	case p.Staged() && p.Pipeline != Auto && !stages(p.Pipeline):
		return fmt.Errorf("parallel.pipeline is %.40q; choose auto, or 1 to %d stages", p.Pipeline, maxStages)
	case p.Tensor < 0 || p.Tensor > 1:
		return fmt.Errorf("parallel.tensor is %d; this version has 1 alone: leave the key out", p.Tensor)
	case p.Offload != "" && p.Offload != None && p.Offload != OffloadCPU && p.Offload != OffloadDisk:
		return fmt.Errorf("parallel.offload is %.40q; choose none, cpu or disk", p.Offload)
	}
	return nil
}

// maxStages of a pipeline.
const maxStages = 256

func stages(text string) bool {
	n, err := strconv.Atoi(text)
	return err == nil && n >= 1 && n <= maxStages && strconv.Itoa(n) == text
}

// Staged tells whether members compute parts of the model, and hand activations to each other.
func (p *Parallel) Staged() bool { return p.Pipeline != "" && p.Pipeline != "1" }

// checkPipeline refuses what takes the whole model on each member.
func (s *Spec) checkPipeline() error {
	p := &s.Parallel
	if !p.Staged() {
		return nil
	}
	switch {
	case p.Zero == "3":
		return fmt.Errorf("parallel.zero is 3, and parallel.pipeline is %s: a stage's weights lie whole on its members in this version; leave one of the two out", p.Pipeline)
	case p.Offload != "" && p.Offload != None:
		return fmt.Errorf("parallel.offload: %s goes with the whole model on each member; leave it or pipeline out", p.Offload)
	case s.Optimizer.Name == Sophia:
		return fmt.Errorf("optimizer.name: sophia estimates its curvature over the whole model, and a stage has a part of it; choose another, or leave parallel.pipeline out")
	case s.Optimizer.Name == Adafactor:
		return fmt.Errorf("optimizer.name: adafactor looks at whole tensors, and in a pipeline owners step chunks of them; choose adamw8bit, or leave parallel.pipeline out")
	case s.DType == FP16:
		return fmt.Errorf("dtype: fp16 has a loss scale that the last stage alone would know; choose bf16 or fp32, or leave parallel.pipeline out")
	}
	return nil
}

// checkOffload: what comes to the device as it is used learns with zero: 3 alone.
func (s *Spec) checkOffload() error {
	o := s.Parallel.Offload
	switch {
	case o == "" || o == None:
		return nil
	case (s.Adapter == AdapterNone || s.Adapter == "") && s.Parallel.Zero != "3":
		return fmt.Errorf("parallel.offload: %s keeps frozen weights away from the device, and without an adapter none are frozen; set adapter, or zero: 3, or leave the key out", o)
	case len(s.LoraModulesToSave) > 0:
		return fmt.Errorf("parallel.offload: %s does not go with lora_modules_to_save, which train weights of the model; leave one of the two out", o)
	}
	return nil
}
