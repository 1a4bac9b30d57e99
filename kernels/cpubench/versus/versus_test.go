package main

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		name, out string
		threads   int
		key       string
		want      float64
	}{
		{"peer's products", "gemm 1x2x3 nt f32 50\ngemm 1x2x3 nn f32 200\n", 1, "f32", 100},
		{"ours", `{"figures":[{"name":"gemm 1x2x3 nt f32","value":50,"of_peak":0.4},{"name":"gemm 1x2x3 nn f32","value":200,"of_peak":0.9}]}`, 1, "share", 0.6},
		{"another figure", `{"figures":[{"name":"peak f32","value":7}]}`, 1, "peak f32", 7},
		{"processor time", `{"tokens":100,"seconds":2,"cpu_seconds":4}`, 1, "tokens", 25},
		{"wall time", `{"tokens":100,"seconds":2,"cpu_seconds":4}`, 2, "tokens", 50},
		{"memory", `{"tokens":100,"seconds":2,"rss_before":1048576,"rss_peak":3145728}`, 2, "added", 2},
	} {
		got, err := parse([]byte(tc.out), tc.threads)
		if err != nil || math.Abs(got[tc.key]-tc.want) > 1e-9 {
			t.Errorf("%s: %v (%v), want %s = %v", tc.name, got, err, tc.key, tc.want)
		}
	}
	for _, out := range []string{"", "nothing", "{", "{}", `{"seconds":0}`, "gemm 1x2x3 nt f32 none"} {
		if got, err := parse([]byte(out), 1); err == nil {
			t.Errorf("%q gives %v", out, got)
		}
	}
}

// TestTurns: programs take turns, each as often as it may; one that fails or is not there says why, and the others go on.
func TestTurns(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"shoal": "echo gemm 1x2x3 nt f32 $1", "openblas": "echo gemm 1x2x3 nt f32 8", "onednn": "echo out of luck >&2; exit 1"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var log strings.Builder
	b := bench{dir: dir, threads: 1, log: &log, built: map[string]error{"shoal": nil, "openblas": nil, "onednn": nil, "torch": errors.New("no torch")}}
	got := b.measure(t.Context(), []side{{name: "ours", build: "shoal", args: "4"}, {name: "again", build: "shoal", args: "4"},
		{name: "peer", build: "openblas", most: 1}, {name: "broken", build: "onednn"}, {name: "missing", build: "torch"}}, 3, time.Hour)
	for name, rounds := range map[string]int{"ours": 3, "again": 3, "peer": 1, "broken": 0, "missing": 0} {
		if n := len(got[name].rounds); n != rounds {
			t.Errorf("%s ran %d times, want %d: %v\n%s", name, n, rounds, got[name].err, &log)
		}
	}
	if err := got["broken"].err; err == nil || !strings.Contains(err.Error(), "out of luck") {
		t.Errorf("a program that fails gives %v", err)
	}
	if n := strings.Count(log.String(), "round"); n != 5 {
		t.Errorf("%d turns, want 5:\n%s", n, &log)
	}
}

// TestRows: every row names sides and keys that are there, and a table of made-up results says what is missed.
func TestRows(t *testing.T) {
	got := results{}
	for _, s := range sides {
		if builds[s.build] == "" {
			t.Errorf("side %s has no build %q", s.name, s.build)
		}
		keys := map[string]float64{}
		for _, k := range []string{"share", "f32", "bf16", "peak f32", "tokens", "wall", "added", "heap", "optimizer AdamW", "memory 4 in 3 out"} {
			keys[k] = 2
		}
		got[s.name] = &outcome{rounds: []map[string]float64{keys, keys}}
	}
	for _, r := range rows {
		if _, _, _, err := r.value(got); err != nil {
			t.Errorf("row %s: %v", r.id, err)
		}
	}
	got["openblas"].rounds[1] = map[string]float64{"f32": 8}
	got["onednn"].err = errors.New("no such library")
	var out strings.Builder
	table(&out, rows[:3], got)
	for _, want := range []string{"2.000  ≥ 0.90\n", "2.0        5.0    0.625  ≥ 1.00 MISSED\n", "left out: onednn: no such library\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
	if _, err := choose(rows, []string{"peak", "speed"}); err == nil {
		t.Error("an unknown row is chosen")
	}
}
