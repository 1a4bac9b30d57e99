package report

import (
	"fmt"
	"math"
	"strings"
)

// Spark is a curve in one line of at most width characters; each shows the mean of its share of the values.
func Spark(v []float64, width int) string {
	cells := columns(v, width)
	lo, hi := bounds(cells)
	var b strings.Builder
	for _, x := range cells {
		b.WriteRune([]rune("▁▂▃▄▅▆▇█")[level(x, lo, hi, 8)])
	}
	return b.String()
}

// Plot is a curve of height lines, with its highest and lowest value beside them.
func Plot(v []float64, width, height int) string {
	cells := columns(v, width)
	if len(cells) == 0 {
		return ""
	}
	lo, hi := bounds(cells)
	grid := make([][]rune, height)
	for i := range grid {
		grid[i] = []rune(strings.Repeat(" ", len(cells)))
	}
	for x, y := range cells {
		fine := level(y, lo, hi, 2*height) // two dots to a character
		grid[height-1-fine/2][x] = []rune("․˙")[fine%2]
	}
	var b strings.Builder
	for i, line := range grid {
		label := ""
		switch i {
		case 0:
			label = number(hi)
		case height - 1:
			label = number(lo)
		}
		fmt.Fprintf(&b, "%9s │%s\n", label, strings.TrimRight(string(line), " "))
	}
	return b.String()
}

// columns are at most width means of consecutive values, what is not finite left out.
func columns(v []float64, width int) []float64 {
	var fine []float64
	for _, x := range v {
		if math.Abs(x) < 1e300 {
			fine = append(fine, x)
		}
	}
	n := min(len(fine), max(width, 1))
	out := make([]float64, n)
	for i := range out {
		part := fine[i*len(fine)/n : (i+1)*len(fine)/n]
		for _, x := range part {
			out[i] += x / float64(len(part))
		}
	}
	return out
}

func bounds(v []float64) (lo, hi float64) {
	lo, hi = math.Inf(1), math.Inf(-1)
	for _, x := range v {
		lo, hi = min(lo, x), max(hi, x)
	}
	return lo, hi
}

// level is x's place among n between lo and hi.
func level(x, lo, hi float64, n int) int {
	if !(hi > lo) {
		return 0
	}
	return min(n-1, int((x-lo)/(hi-lo)*float64(n)))
}
