package cuda

import "time"

// Caps is what a GPU's owner lets shoal take of it. Zeros are no limits.
type Caps struct {
	Bytes   int64 // of memory
	Watts   int
	Celsius int
}

// Options of a device. The zero value takes what the GPU has.
type Options struct {
	Caps
	Apart bool // each buffer is memory of its own, so that a wrong address is noticed: for tests
}

// warm tells whether watts or degrees are to be watched.
func (c Caps) warm() bool { return c.Watts > 0 || c.Celsius > 0 }

// rest is how long the GPU idles between two batches of commands so that it stays below its caps. It grows while the GPU
// is above and shrinks while it is clearly below, so power and temperature settle near the cap.
type rest struct{ pause time.Duration }

const (
	leastRest = time.Millisecond
	mostRest  = time.Second
)

// see takes a reading into account.
func (r *rest) see(c Caps, watts float64, celsius int) {
	switch {
	case !c.warm():
		r.pause = 0
	case c.Watts > 0 && watts > float64(c.Watts) || c.Celsius > 0 && celsius > c.Celsius:
		r.pause = min(mostRest, max(leastRest, r.pause*3/2))
	case (c.Watts == 0 || watts < 0.97*float64(c.Watts)) && (c.Celsius == 0 || celsius < c.Celsius-1):
		if r.pause = r.pause * 4 / 5; r.pause < leastRest {
			r.pause = 0
		}
	}
}
