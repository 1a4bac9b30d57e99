package cpu

import "golang.org/x/sys/cpu"

// families lists what this processor runs, the fastest first.
func families() []*family {
	var out []*family
	x := &cpu.X86
	if x.HasAVX512F && x.HasAVX512DQ && x.HasAVX512BW && x.HasAVX512VL {
		f := newAVX512()
		if !x.HasAVX512BF16 {
			f.pairs, f.slimPairs, f.peakPairs = microkernel{}, microkernel{}, nil
		}
		out = append(out, f)
	}
	if x.HasAVX2 && x.HasFMA {
		out = append(out, newAVX2())
	}
	return append(out, newGeneric())
}
