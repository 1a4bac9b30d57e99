package stage

// Task is one micro-batch's pass through a stage.
type Task struct {
	Micro int
	Back  bool
}

// OneFOneB is the order in which stage (from 0) of stages works on micros micro-batches: first enough forward passes to
// fill the pipeline behind it, then one forward and one backward in turn, then the backward passes that are left
// (Narayanan et al. 2019 and 2021, arXiv:1806.03377, arXiv:2104.04473). At most stages-stage micro-batches are alive at
// a time.
func OneFOneB(stage, stages, micros int) []Task {
	warm := min(stages-1-stage, micros)
	order := make([]Task, 0, 2*micros)
	for i := range warm {
		order = append(order, Task{Micro: i})
	}
	for i := range micros {
		if next := warm + i; next < micros {
			order = append(order, Task{Micro: next})
		}
		order = append(order, Task{Micro: i, Back: true})
	}
	return order
}
