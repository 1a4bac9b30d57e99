package main

import (
	"bufio"
	"errors"
	"fmt"
	"html"
	"io"
	"os"
	"slices"

	"github.com/seed-7b27c88a/shoal/node/api"
	"github.com/seed-7b27c88a/shoal/node/task"
)

func writePicture(path string, draw func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := errors.Join(draw(f), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// roundsPicture draws a line per member over the time that the rounds took: blue where its work counted (dark up to the
// cut, light up to the commit), red where it was left out: of the work, or what came after it; pointing at a field tells
// why. A dot marks the leader.
func roundsPicture(w io.Writer, rounds []api.Round) error {
	const left, plot, line, top = 120, 900, 18, 34
	var peers []string
	total := 0.0
	for _, r := range rounds {
		total += r.Seconds
		for _, m := range r.Members {
			if !slices.Contains(peers, string(m.Peer)) {
				peers = append(peers, string(m.Peer))
			}
		}
	}
	row := func(id string) int { return top + line*slices.Index(peers, id) }
	b := bufio.NewWriter(w)
	high := top + line*len(peers) + 12
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", left+plot+12, high)
	fmt.Fprintf(b, `<rect width="%d" height="%d" fill="#fff"/><text x="%d" y="20">%s, %.1f s</text>`+"\n", left+plot+12, high, left, plural(len(rounds), "round"), total)
	for _, id := range peers {
		fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", left-8, row(id)+line-5, html.EscapeString(short(id)))
	}
	at, scale := float64(left), plot/max(total, 1e-9)
	for _, r := range rounds {
		collect, all := min(r.Collect, r.Seconds)*scale, r.Seconds*scale
		field := func(id string, x, wide float64, fill, text string) {
			fmt.Fprintf(b, `<rect x="%.2f" y="%d" width="%.2f" height="%d" fill="%s"><title>%s</title></rect>`+"\n",
				x, row(id)+1, max(wide*0.96, 0.3), line-3, fill, html.EscapeString(text))
		}
		for _, m := range r.Members {
			id := string(m.Peer)
			text := fmt.Sprintf("round %d: %s", r.Round, member(m.Positions, id))
			if m.Left == "" {
				field(id, at, collect, "#3182bd", text)
				field(id, at+collect, all-collect, "#9ecae1", text)
				continue
			}
			from := at
			if slices.ContainsFunc(r.Members, func(o task.RoundMember) bool { return o.Peer == m.Peer && o.Left == "" }) {
				from += collect
			}
			field(id, from, at+all-from, "#de2d26", fmt.Sprintf("round %d: %s: %s", r.Round, short(id), m.Left))
		}
		if k := row(string(r.Leader)); k >= top {
			fmt.Fprintf(b, `<circle cx="%.2f" cy="%d" r="2" fill="#000"/>`+"\n", at+all/2, k+line/2)
		}
		at += all
	}
	fmt.Fprintln(b, "</svg>")
	return b.Flush()
}
