package job

import "fmt"

// checkUnbuilt refuses the keys whose parts do not exist yet. A key that is taken and does nothing would let somebody
// wait hours for a measurement that never comes. Who builds the part removes its line here.
func (s *Spec) checkUnbuilt() error {
	for _, k := range []struct {
		key string
		set bool
	}{
		{"eval.tasks", len(s.Eval.Tasks) > 0},
		{"eval.base_text", s.Eval.BaseText != ""},
		{"eval.samples", len(s.Eval.Samples) > 0},
		{"eval.patience", s.Eval.Patience != 0},
		{"eval.keep_best", s.Eval.KeepBest},
		{"report.tensorboard", s.Report.TensorBoard},
	} {
		if k.set {
			return fmt.Errorf("%s does nothing in this version of shoal; remove it", k.key)
		}
	}
	return nil
}
