// Package metrics shows a node's numbers to Prometheus and to whatever reads its text form, on a registry of its own,
// so that several nodes in one process do not meet. It asks for the numbers when somebody reads them and keeps none.
//
// A Source must be safe for concurrent use; so is what Handler returns.
package metrics

import (
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Peer is a connected node.
type Peer struct {
	ID      string
	Latency time.Duration // 0: not measured yet
	Relayed bool
}

// Job is a job in the node's table.
type Job struct {
	Name, ID, State string
	Step            uint64
	Loss            float64
	Peers           int
}

// Moved counts bytes.
type Moved struct{ Up, Down uint64 }

// Snapshot is a node's numbers at one moment.
type Snapshot struct {
	Version      string
	Uptime       time.Duration
	Peers        []Peer
	Kinds        map[string]Moved // bytes of streams, by what they are for
	Wire         Moved            // bytes on the wire, encryption included
	Paused       string           // why the node does not work; empty: it may
	Jobs         []Job
	StoreBytes   int64 // of stored blocks
	ControlDrops int   // control messages that full queues displaced
	LogDropped   uint64
}

// Source tells the numbers.
type Source interface{ Snapshot() Snapshot }

// maxSeries bounds the peers and jobs shown one by one.
const maxSeries = 512

var (
	build   = desc("info", "version of the node", "version")
	uptime  = desc("uptime_seconds", "time since the node's start")
	peers   = desc("peers", "connected nodes", "path")
	latency = desc("peer_latency_seconds", "smoothed round trip of heartbeats", "peer", "path")
	moved   = desc("bytes_total", "bytes of streams, before encryption", "kind", "dir")
	wire    = desc("wire_bytes_total", "bytes of TCP and QUIC, encryption included", "dir")
	paused  = desc("paused", "1 while the node does not work, with the reason", "reason")
	jobs    = desc("jobs", "jobs in the node's table", "state")
	step    = desc("job_step", "last committed optimizer step of a running job", "job", "name")
	loss    = desc("job_loss", "its loss", "job", "name")
	members = desc("job_peers", "members that worked on it", "job", "name")
	stored  = desc("store_bytes", "size of stored blocks")
	dropped = desc("control_dropped_total", "control messages that full queues displaced")
	silent  = desc("log_suppressed_total", "log lines left out because their cause repeated")
	routine = desc("goroutines", "goroutines of the process")
	memory  = desc("heap_bytes", "memory of Go objects in use")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("shoal_"+name, help, labels, nil)
}

// Handler serves the numbers of s in Prometheus' text form.
func Handler(s Source) http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(collector{s})
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
}

// collector reads a snapshot per scrape.
type collector struct{ s Source }

// Describe implements prometheus.Collector: nothing beforehand, series come and go.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	s := c.s.Snapshot()
	put := func(kind prometheus.ValueType, d *prometheus.Desc, v float64, labels ...string) {
		if m, err := prometheus.NewConstMetric(d, kind, v, labels...); err == nil { // a name that is no UTF-8 is left out
			out <- m
		}
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) { put(prometheus.GaugeValue, d, v, labels...) }
	count := func(d *prometheus.Desc, v float64, labels ...string) { put(prometheus.CounterValue, d, v, labels...) }

	gauge(build, 1, s.Version)
	gauge(uptime, s.Uptime.Seconds())
	collectPeers(s.Peers, gauge)
	for kind, m := range s.Kinds {
		count(moved, float64(m.Up), kind, "up")
		count(moved, float64(m.Down), kind, "down")
	}
	count(wire, float64(s.Wire.Up), "up")
	count(wire, float64(s.Wire.Down), "down")
	if s.Paused == "" {
		gauge(paused, 0, "")
	} else {
		gauge(paused, 1, s.Paused)
	}
	collectJobs(s.Jobs, gauge)
	gauge(stored, float64(s.StoreBytes))
	count(dropped, float64(s.ControlDrops))
	count(silent, float64(s.LogDropped))
	gauge(routine, float64(runtime.NumGoroutine()))
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	gauge(memory, float64(mem.HeapAlloc))
}

func path(relayed bool) string {
	if relayed {
		return "relayed"
	}
	return "direct"
}

func collectPeers(ps []Peer, gauge func(*prometheus.Desc, float64, ...string)) {
	n := map[bool]int{}
	for i, p := range ps {
		n[p.Relayed]++
		if p.Latency > 0 && i < maxSeries {
			gauge(latency, p.Latency.Seconds(), p.ID, path(p.Relayed))
		}
	}
	for _, relayed := range []bool{false, true} {
		gauge(peers, float64(n[relayed]), path(relayed))
	}
}

func collectJobs(js []Job, gauge func(*prometheus.Desc, float64, ...string)) {
	n := map[string]int{}
	for i, j := range js {
		n[j.State]++
		if j.State == "running" && i < maxSeries {
			gauge(step, float64(j.Step), j.ID, j.Name)
			gauge(loss, j.Loss, j.ID, j.Name)
			gauge(members, float64(j.Peers), j.ID, j.Name)
		}
	}
	for state, k := range n {
		gauge(jobs, float64(k), state)
	}
}
