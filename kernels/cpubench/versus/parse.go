package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/seed-7b27c88a/shoal/kernels/cpubench"
)

// step is what trainer/trainbench and the peers' steps print.
type step struct {
	Tokens     float64 `json:"tokens"`
	Seconds    float64 `json:"seconds"`
	CPUSeconds float64 `json:"cpu_seconds"`
	RSSBefore  float64 `json:"rss_before"`
	RSSPeak    float64 `json:"rss_peak"`
	HeapBytes  float64 `json:"heap_bytes"`
}

// parse finds the numbers in a program's output: a report of shoal bench, a step, or lines of products.
func parse(out []byte, threads int) (map[string]float64, error) {
	if !bytes.HasPrefix(out, []byte("{")) {
		return products(string(out))
	}
	var r cpubench.Report
	if err := json.Unmarshal(out, &r); err == nil && len(r.Figures) > 0 {
		return report(r), nil
	}
	var s step
	if err := json.Unmarshal(out, &s); err != nil || s.Seconds <= 0 {
		return nil, errors.New("output that is no figure: " + lastLine(string(out)))
	}
	seconds := s.Seconds
	if threads == 1 && s.CPUSeconds > 0 {
		seconds = s.CPUSeconds
	}
	return map[string]float64{"tokens": s.Tokens / seconds, "wall": s.Tokens / s.Seconds,
		"added": (s.RSSPeak - s.RSSBefore) / (1 << 20), "heap": s.HeapBytes / (1 << 10)}, nil
}

// report takes geometric means of products, by type, and of their shares of peak; other figures have their own names.
func report(r cpubench.Report) map[string]float64 {
	logs, n, out := map[string]float64{}, map[string]float64{}, map[string]float64{}
	for _, f := range r.Figures {
		typ, ok := product(f.Name)
		if !ok {
			out[f.Name] = f.Value
			continue
		}
		logs[typ] += math.Log(f.Value)
		logs["share"] += math.Log(f.OfPeak)
		n[typ]++
		n["share"]++
	}
	for k, v := range logs {
		out[k] = math.Exp(v / n[k])
	}
	return out
}

// product gives the type of "gemm SHAPE LAYOUT TYPE".
func product(name string) (typ string, ok bool) {
	w := strings.Fields(name)
	if len(w) != 4 || w[0] != "gemm" {
		return "", false
	}
	return w[3], true
}

// products reads lines of "gemm SHAPE LAYOUT TYPE GFLOP/s".
func products(out string) (map[string]float64, error) {
	sum, n := 0.0, 0.0
	for line := range strings.Lines(out) {
		name, value, _ := cutLast(strings.TrimSpace(line))
		v, err := strconv.ParseFloat(value, 64)
		if _, ok := product(name); ok && err == nil && v > 0 {
			sum, n = sum+math.Log(v), n+1
		}
	}
	if n == 0 {
		return nil, errors.New("output without a product: " + lastLine(out))
	}
	return map[string]float64{"f32": math.Exp(sum / n)}, nil
}

// cutLast splits at the last space.
func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, ' ')
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+1:], true
}
