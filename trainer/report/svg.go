package report

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
)

// Series is a curve: points in the order of X. What is not finite is left out.
type Series struct {
	Name string
	X, Y []float64
}

// Picture's measures, in pixels.
const (
	width, height            = 640, 320
	left, right, top, bottom = 56, 16, 36, 40
)

// colours of the curves, readable on white and on black, and apart for those who see red and green as one.
func colours() []string {
	return []string{"#2a78d6", "#d9730d", "#12806a", "#b4489b", "#7a6ff0", "#8a8a00"}
}

// SVG draws curves over optimizer steps with axes and a legend. The same numbers give the same bytes.
func SVG(title string, all []Series) []byte {
	f := frameOf(all)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, height)
	fmt.Fprintf(&b, `<text x="%d" y="20" font-size="14">%s</text>`+"\n", left, html.EscapeString(title))
	f.axes(&b)
	for i, s := range all {
		c := colours()[i%len(colours())]
		fmt.Fprintf(&b, `<polyline fill="none" stroke="%s" stroke-width="1.5" points="%s"/>`+"\n", c, f.points(s))
		if y := top + 14 + 16*i; len(all) > 1 && y < height-bottom {
			fmt.Fprintf(&b, `<text x="%d" y="%d" fill="%s" text-anchor="end">%s</text>`+"\n", width-right-6, y, c, html.EscapeString(s.Name))
		}
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// frame is the part of the plane that is shown.
type frame struct{ x0, x1, y0, y1 float64 }

func frameOf(all []Series) frame {
	f := frame{math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)}
	for _, s := range all {
		for i := range s.X {
			if shown(s, i) {
				f.x0, f.x1 = min(f.x0, s.X[i]), max(f.x1, s.X[i])
				f.y0, f.y1 = min(f.y0, s.Y[i]), max(f.y1, s.Y[i])
			}
		}
	}
	if f.x0 > f.x1 { // nothing to show
		return frame{0, 1, 0, 1}
	}
	if f.x1-f.x0 < 1e-12 {
		f.x1 = f.x0 + 1
	}
	pad := 0.05 * (f.y1 - f.y0)
	if pad < 1e-12 {
		pad = max(1e-6, math.Abs(f.y0)/10)
	}
	f.y0, f.y1 = f.y0-pad, f.y1+pad
	return f
}

// shown: what a float64 holds only barely would make the axes useless.
func shown(s Series, i int) bool {
	return i < len(s.Y) && math.Abs(s.X[i]) < 1e300 && math.Abs(s.Y[i]) < 1e300
}

func (f frame) x(v float64) float64 { return left + (v-f.x0)/(f.x1-f.x0)*(width-left-right) }
func (f frame) y(v float64) float64 {
	return height - bottom - (v-f.y0)/(f.y1-f.y0)*(height-top-bottom)
}

func (f frame) points(s Series) string {
	var p []string
	for i := range s.X {
		if shown(s, i) {
			p = append(p, fmt.Sprintf("%.1f,%.1f", f.x(s.X[i]), f.y(s.Y[i])))
		}
	}
	return strings.Join(p, " ")
}

func (f frame) axes(b *strings.Builder) {
	for _, v := range ticks(f.y0, f.y1) {
		fmt.Fprintf(b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/>`, left, width-right, f.y(v), f.y(v))
		fmt.Fprintf(b, `<text x="%d" y="%.1f" text-anchor="end" fill="#555">%s</text>`+"\n", left-6, f.y(v)+4, number(v))
	}
	for _, v := range ticks(f.x0, f.x1) {
		fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle" fill="#555">%s</text>`+"\n", f.x(v), height-bottom+18, number(v))
	}
	fmt.Fprintf(b, `<path d="M%d %dV%dH%d" fill="none" stroke="#555"/>`+"\n", left, top, height-bottom, width-right)
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end" fill="#555">optimizer steps</text>`+"\n", width-right, height-6)
}

// ticks are about five round numbers in [lo, hi].
func ticks(lo, hi float64) (out []float64) {
	unit := math.Pow(10, math.Floor(math.Log10((hi-lo)/5)))
	for _, k := range []float64{1, 2, 5, 10} {
		if (hi-lo)/(k*unit) <= 6 {
			unit *= k
			break
		}
	}
	for i := math.Ceil(lo / unit); i*unit <= hi && len(out) < 12; i++ {
		out = append(out, i*unit)
	}
	return out
}

// number writes a tick without the noise of binary fractions.
func number(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }
