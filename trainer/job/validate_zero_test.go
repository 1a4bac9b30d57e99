package job

import (
	"strings"
	"testing"
)

func TestZero(t *testing.T) {
	for _, tc := range []struct {
		p         Parallel
		optimizer string
		want      string // of the error
		level     int    // at 1 GB
	}{
		{p: Parallel{}},
		{p: Parallel{Zero: "0"}},
		{p: Parallel{Zero: "1"}, level: 2},
		{p: Parallel{Zero: "2", MirrorRounds: 3}, level: 2},
		{p: Parallel{Zero: Auto, MirrorRounds: 3}, level: 2},
		{p: Parallel{Zero: Auto}, optimizer: Adafactor},
		{p: Parallel{Zero: "2"}, optimizer: Adafactor, want: "choose adamw8bit"},
		{p: Parallel{Zero: "3"}, level: 3},
		{p: Parallel{Zero: "3", Offload: OffloadDisk}, level: 3},
		{p: Parallel{Zero: "3", MirrorRounds: 1}, level: 3},
		{p: Parallel{Zero: "3"}, optimizer: Adafactor, want: "choose adamw8bit"},
		{p: Parallel{Zero: "3"}, optimizer: Sophia, want: "or zero: 2"},
		{p: Parallel{Zero: "3", Sync: DiLoCo, InnerSteps: 1, OuterLR: new(1.0), OuterMomentum: new(0.0)}, want: "leave zero out"},
		{p: Parallel{Zero: "two"}, want: "choose 0, 1, 2, 3 or auto"},
		{p: Parallel{Zero: "2", MirrorRounds: -1}, want: "0 or more rounds"},
		{p: Parallel{MirrorRounds: 1}, want: "set parallel.zero"},
		{p: Parallel{Zero: "2", Chunks: 100}, level: 2},
		{p: Parallel{Zero: "2", Chunks: -1}, want: "parallel.chunks is -1"},
		{p: Parallel{Chunks: 64}, want: "parallel.chunks belongs to zero: 1 and more"},
	} {
		s := &Spec{Parallel: tc.p, Optimizer: Optimizer{Name: tc.optimizer}}
		switch err := s.checkParallel(); {
		case tc.want == "" && err != nil:
			t.Errorf("%+v: %v", tc.p, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%+v: %v, want an error with %q", tc.p, err, tc.want)
		case tc.want == "" && s.ZeroLevel(1<<30) != tc.level:
			t.Errorf("%+v: level %d", tc.p, s.ZeroLevel(1<<30))
		}
		if s.Parallel.Zero == Auto && s.ZeroLevel(1<<20) != 0 {
			t.Error("auto cuts a small job")
		}
	}
}

// TestSubmitted: what a new job gets is not there in older ones, whose bytes stay as they were.
func TestSubmitted(t *testing.T) {
	for _, tc := range []struct {
		p    Parallel
		want int
	}{{Parallel{}, 0}, {Parallel{Zero: "0"}, 0}, {Parallel{Zero: "2"}, usualChunks}, {Parallel{Zero: Auto, Chunks: 7}, 7}} {
		s := &Spec{Parallel: tc.p}
		_ = s.Validate() // for the rest is missing
		if s.Parallel.Chunks != tc.p.Chunks {
			t.Errorf("%+v: Validate makes it %d chunks", tc.p, s.Parallel.Chunks)
		}
		if s.Submitted(); s.Parallel.Chunks != tc.want {
			t.Errorf("%+v: %d chunks, want %d", tc.p, s.Parallel.Chunks, tc.want)
		}
	}
}
