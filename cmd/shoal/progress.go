package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/seed-7b27c88a/shoal/trainer"
)

// progress shows how far training is: a bar that is redrawn on a terminal, else plain lines, at most one a second.
type progress struct {
	a     *app
	steps uint64
	width int // of the terminal; 0: plain lines

	drawn bool      // a bar is on the screen
	lastT time.Time // of the last plain line
	prev  trainer.StepReport
	rate  float64 // target tokens per second, smoothed
}

func (a *app) progress(steps uint64) *progress {
	return &progress{a: a, steps: steps, width: a.width()}
}

// step shows a committed step.
func (p *progress) step(r trainer.StepReport) {
	if dt := r.Time - p.prev.Time; dt > 0 && r.Step > p.prev.Step {
		if now := float64(r.Tokens) / dt; p.rate == 0 {
			p.rate = now
		} else {
			p.rate += 0.2 * (now - p.rate)
		}
	}
	p.prev = r
	loss := fmt.Sprintf("%.4f", r.Loss)
	if r.Skipped && r.Loss == 0 && r.Tokens > 0 { // as metrics write it
		loss = "not finite"
	}
	line := fmt.Sprintf("step %d/%d  loss %s  %s tokens/s  %s", r.Progress(), p.steps, loss, count(p.rate), plural(r.Peers, "peer"))
	if r.Skipped {
		line += fmt.Sprintf("  (skipped, %d so far)", max(1, r.Passed))
	}
	switch {
	case p.width > 0:
		p.draw(bar(r.Progress(), p.steps, min(24, p.width/4)) + " " + line)
	case r.Progress() == p.steps || r.Step == 1 || time.Since(p.lastT) >= time.Second:
		p.lastT = time.Now()
		p.a.say("%s", line)
	}
}

// note shows a line for people without tearing the bar.
func (p *progress) note(format string, args ...any) {
	p.end()
	p.a.say(format, args...)
}

// long shows the progress of a call to the daemon; it is an api.Progress.
func (p *progress) long(what string, done, total int64) {
	if p.width == 0 {
		if done == total || time.Since(p.lastT) >= 2*time.Second {
			p.lastT = time.Now()
			p.a.say("%s%s", what, part(done, total))
		}
		return
	}
	p.draw(what + part(done, total))
}

// draw puts text in place of the last line of a terminal; a line that wraps could not be replaced.
func (p *progress) draw(text string) {
	if r := []rune(text); len(r) >= p.width {
		text = string(r[:p.width-1])
	}
	fmt.Fprintf(p.a.err, "\r%s\x1b[K", text)
	p.drawn = true
}

// end leaves the bar where it is and goes to the next line.
func (p *progress) end() {
	if p.drawn {
		fmt.Fprintln(p.a.err)
		p.drawn = false
	}
}

func bar(done, total uint64, width int) string {
	n := 0
	if total > 0 {
		n = int(uint64(width) * min(done, total) / total)
	}
	return "[" + strings.Repeat("#", n) + strings.Repeat(".", width-n) + "]"
}

func part(done, total int64) string {
	switch {
	case total <= 0 && done <= 0:
		return ""
	case total <= 0:
		return "  " + count(float64(done))
	}
	return fmt.Sprintf("  %s of %s", count(float64(done)), count(float64(total)))
}

// count writes a number with a decimal unit: 950, 12.3k, 4.5M.
func count(v float64) string {
	switch {
	case v >= 1e9:
		return fmt.Sprintf("%.1fG", v/1e9)
	case v >= 1e6:
		return fmt.Sprintf("%.1fM", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.1fk", v/1e3)
	}
	return fmt.Sprintf("%.0f", v)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
