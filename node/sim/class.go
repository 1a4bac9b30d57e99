package sim

import (
	"math"
	"math/rand/v2"
	"time"
)

// class is a kind of home connection. The shares are a guess at a mixed population; up and down in bytes per second.
type class struct {
	name     string
	share    float64
	up, down float64
	delay    time.Duration // of the access line, one way
}

const mbit = 1e6 / 8

var classes = []class{
	{"dsl", 0.15, 10 * mbit, 50 * mbit, 15 * time.Millisecond},
	{"cable", 0.40, 40 * mbit, 250 * mbit, 10 * time.Millisecond},
	{"fibre", 0.35, 300 * mbit, 500 * mbit, 3 * time.Millisecond},
	{"mobile", 0.10, 15 * mbit, 80 * mbit, 30 * time.Millisecond},
}

// pick draws a connection and a speed: the factor by which a member computes faster than a middling one.
func pick(rng *rand.Rand) (class, float64) {
	speed := math.Exp(rng.NormFloat64() * 0.5)
	x := rng.Float64()
	for _, c := range classes {
		if x -= c.share; x < 0 {
			return c, speed
		}
	}
	return classes[0], speed
}
