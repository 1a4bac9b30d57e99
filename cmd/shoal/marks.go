package main

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/seed-7b27c88a/shoal/trainer/data"
	"github.com/seed-7b27c88a/shoal/trainer/tokenizer"
)

// marks say how the learned and the masked parts of a row are told apart.
type marks struct {
	learned, masked [2]string // before and after
	cut             string    // between rows of a position
	legend          string
}

var (
	bracketed = marks{learned: [2]string{"«", "»"}, cut: "‖", legend: "between « and »"}
	dimmed    = marks{masked: [2]string{"\x1b[2m", "\x1b[0m"}, cut: "\x1b[7m‖\x1b[0m", legend: "not dimmed"}
)

// marked is the row's text, with marks around its parts.
func marked(r shownRow, tok *tokenizer.Tokenizer, m marks) string {
	var b strings.Builder
	cut := map[int]bool{0: true}
	for _, t := range r.Cuts {
		cut[t] = true
	}
	learned := func(i int) bool { return !cut[i] && r.Labels[i] != data.Ignore }
	for lo := 0; lo < len(r.IDs); {
		hi := lo + 1
		for hi < len(r.IDs) && learned(hi) == learned(lo) && !cut[hi] {
			hi++
		}
		around := m.masked
		if learned(lo) {
			around = m.learned
		}
		if lo > 0 && cut[lo] {
			b.WriteString(m.cut)
		}
		b.WriteString(around[0] + harmless(tok.DecodeAll(r.IDs[lo:hi])) + around[1])
		lo = hi
	}
	return b.String()
}

// harmless spells out what would steer a terminal.
func harmless(s string) string {
	var b strings.Builder
	for _, c := range s {
		if unicode.IsControl(c) && c != '\n' && c != '\t' {
			fmt.Fprintf(&b, "\\x%02x", c)
			continue
		}
		b.WriteRune(c)
	}
	return b.String()
}
