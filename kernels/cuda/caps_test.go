package cuda

import "testing"

// TestRest runs a GPU that draws 100 W idle and 600 W at work against a cap, and expects that it settles below and does
// not idle more than it must.
func TestRest(t *testing.T) {
	const batch = 0.010 // seconds of work between two rests
	for _, c := range []struct {
		caps        Caps
		least, most float64 // watts at the end
	}{{Caps{}, 600, 600}, {Caps{Watts: 300}, 240, 330}, {Caps{Watts: 700}, 600, 600}, {Caps{Celsius: 60}, 300, 480}} {
		var r rest
		watts, celsius := 600.0, 80.0
		sum := 0.0
		for i := range 400 {
			busy := batch / (batch + r.pause.Seconds())
			watts = 100 + 500*busy
			celsius += (20 + watts/10 - celsius) / 20 // 80 °C at 600 W, slowly
			r.see(c.caps, watts, int(celsius))
			if i >= 300 {
				sum += watts / 100
			}
		}
		if sum < c.least || sum > c.most {
			t.Errorf("%+v: %.0f W in the mean, want %.0f to %.0f", c.caps, sum, c.least, c.most)
		}
	}
}
