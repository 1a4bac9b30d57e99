package plan

import "fmt"

// refusal says why nothing fits, with numbers.
func refusal(j Job, nodes []Node, w Want) error {
	most := byMemory(nodes)[0]
	unit, bytes := 0, int64(0)
	for i := range j.Units {
		if n := need(j, Stage{Lo: i, Hi: i + 1, Live: 1}, nil, 1, w); n > bytes {
			unit, bytes = i, n
		}
	}
	if bytes > most.Memory {
		return fmt.Errorf("%w: %s alone needs %s, the largest node, %q, has %s; %s", ErrInfeasible, name(j, unit), MB(bytes), most.Name,
			MB(most.Memory), hint(j, w))
	}
	var have int64
	for _, n := range nodes {
		have += n.Memory
	}
	whole := need(j, Stage{Lo: 0, Hi: len(j.Units), Live: 1}, nil, 1, w)
	at := "any number of stages"
	if w.Stages != 0 {
		at = fmt.Sprintf("%d stages", w.Stages)
	}
	return fmt.Errorf("%w: in one piece the model needs %s, and no cut into %s fits the nodes, which have %s together and %s at most; %s",
		ErrInfeasible, MB(whole), at, MB(have), MB(most.Memory), hint(j, w))
}

// hint is what else could be tried.
func hint(j Job, w Want) string {
	switch {
	case !j.Rerun:
		return "gradient_checkpointing: true, a smaller micro_batch_size or sequence_len, or more nodes may help"
	case w.Stages == 1:
		return "parallel.pipeline: auto, or an adapter in place of all weights, may help"
	}
	return "a smaller micro_batch_size or sequence_len, dtype: bf16, an adapter in place of all weights, or more nodes may help"
}

func name(j Job, unit int) string {
	switch unit {
	case 0:
		return "the embedding"
	case len(j.Units) - 1:
		return "the head"
	}
	return fmt.Sprintf("block %d", unit-1)
}

// MB is a number of bytes for people.
func MB(n int64) string {
	if n >= 10e9 {
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	}
	return fmt.Sprintf("%d MB", (n+999999)/1000000)
}
