package sim

import (
	"bufio"
	"fmt"
	"io"
	"time"
)

// Size of the picture, pixels.
const (
	wide, high = 960, 360
	left, top  = 56, 40
	plotWide   = wide - left - 16
	plotHigh   = high - top - 40
)

// SVG draws the run: a bar per round over the virtual time, as high as the round took; its colour tells how many attempts
// it needed, the light part at its foot the time of agreement.
func (s *Result) SVG(w io.Writer) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", wide, high)
	fmt.Fprintf(b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", wide, high)
	fmt.Fprintf(b, `<text x="%d" y="22" font-size="15">%d members, %.0f %% leave per minute, %d rounds, seed %d</text>`+"\n",
		left, s.Config.Nodes, 100*s.Config.Churn, len(s.Rounds), s.Config.Seed)
	fmt.Fprintf(b, `<text x="%d" y="22" text-anchor="end" fill="#555">%s: %.1f %% in time, %.0f %% of the members' time counted, %.1f %% of the work lost, %d forks</text>`+"\n",
		wide-16, s.mode(), 100*s.Figures.Committed, 100*s.Figures.Utilization, 100*s.Figures.Lost, s.Forks)
	longest := time.Second
	for _, r := range s.Rounds {
		longest = max(longest, r.To-r.From)
	}
	x := func(t time.Duration) float64 { return left + plotWide*t.Seconds()/max(s.Virtual.Seconds(), 1) }
	y := func(d time.Duration) float64 { return top + plotHigh*(1-d.Seconds()/longest.Seconds()) }
	for i := range 5 {
		d := longest * time.Duration(i) / 4
		fmt.Fprintf(b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end" fill="#555">%.0f s</text>`+"\n",
			left, left+plotWide, y(d), y(d), left-6, y(d)+4, d.Seconds())
		t := s.Virtual * time.Duration(i) / 4
		fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle" fill="#555">%.0f min</text>`+"\n", x(t), top+plotHigh+18, t.Minutes())
	}
	for _, r := range s.Rounds {
		bar := func(d time.Duration, fill string) {
			fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`, x(r.From), y(d), max(x(r.To)-x(r.From)-1, 0.5), top+plotHigh-y(d), fill)
		}
		fmt.Fprintf(b, `<g><title>round %d: %v, %d attempts, %d members, %d left out</title>`, r.Round,
			(r.To - r.From).Round(time.Millisecond), r.Attempts, r.Members, r.Left)
		bar(r.To-r.From, r.colour())
		bar(min(r.Agree, r.To-r.From), "#c6dbef")
		fmt.Fprintln(b, "</g>")
	}
	for i, c := range []struct{ fill, text string }{{"#3182bd", "first attempt"}, {"#fd8d3c", "second"}, {"#e6550d", "more"}, {"#756bb1", "again after a fork"}, {"#c6dbef", "agreement"}} {
		at := left + i*140
		fmt.Fprintf(b, `<rect x="%d" y="%d" width="10" height="10" fill="%s"/><text x="%d" y="%d">%s</text>`+"\n", at, high-16, c.fill, at+14, high-7, c.text)
	}
	fmt.Fprintln(b, "</svg>")
	return b.Flush()
}

func (r Round) colour() string {
	switch {
	case r.Fresh:
		return "#756bb1"
	case r.Attempts <= 1:
		return "#3182bd"
	case r.Attempts == 2:
		return "#fd8d3c"
	}
	return "#e6550d"
}
