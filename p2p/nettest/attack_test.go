package nettest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p"
	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// TestTrainsUnderAttack floods both ports of a node that trains, for a minute: a thousand connections of garbage over
// TCP, a thousand senders of garbage over UDP, 64 streams that dribble a message and 64 connections that dribble a
// handshake. Loopback has no limit of connections per second, so the node gets all of it.
func TestTrainsUnderAttack(t *testing.T) {
	if os.Getenv("SHOAL_FULL") == "" {
		t.Skip("takes two minutes: set SHOAL_FULL=1")
	}
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("reads memory from /proc")
	}
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, bin: bin}
	args := []string{"--no-mdns", "--device", "cpu:generic", "--api-addr", "127.0.0.1:0", "--listen", "/ip4/127.0.0.1/tcp/0", "--listen", "/ip4/127.0.0.1/udp/0/quic-v1"}
	a := l.start(1, args...)
	b := l.start(2, append(args, "--bootstrap", a.up().Addresses[0])...)
	const job = "attacked"
	if _, err := a.shoal(time.Minute, "train", "--detach", "-f", attackedJob(t)); err != nil {
		t.Fatal(err)
	}
	l.eventually(time.Minute, "the job runs", func() error {
		n, err := committed(a, job)
		if err == nil && n < 20 {
			err = fmt.Errorf("at step %d", n)
		}
		return err
	})

	start, startB := resident(t, a), resident(t, b)
	before := stepTime(t, a, job, 20*time.Second)
	calm, calmB := resident(t, a), resident(t, b)
	ctx, stop := context.WithCancel(t.Context())
	under := attack(ctx, t, a, time.Minute)
	during := stepTime(t, a, job, 50*time.Second)
	peak := resident(t, a)
	peakB := resident(t, b)
	stop()
	under.Wait()
	after := stepTime(t, a, job, 10*time.Second)
	t.Logf("step before %v, under attack %v, after %v; resident %d → %d → %d → %d MiB; of the other node %d → %d → %d → %d", before, during, after,
		start, calm, peak, resident(t, a), startB, calmB, peakB, resident(t, b))
	if during > 4*before { // the attackers share the processor with both nodes
		t.Errorf("a step took %v under attack, %v before", during, before)
	}
	if grown := (peak - calm) - (peakB - calmB); grown > 48 { // a job grows too, on both nodes
		t.Errorf("resident memory grew by %d MiB more than the other node's", grown)
	}
	if path, err := b.path(a.up().ID); err != nil || path != "direct" {
		t.Errorf("the nodes are connected at the end: path %q %v", path, err)
	}
}

// attackedJob writes a job for two members that does not end by itself.
func attackedJob(t *testing.T) (spec string) {
	t.Helper()
	rows, model := jobInputs(t)
	spec = filepath.Join(t.TempDir(), "job.yaml")
	text := fmt.Sprintf("version: shoal/v1\nname: attacked\nbase_model: %s\nadapter: lora\ndatasets: [{path: %s, type: tokens}]\n"+
		"sequence_len: 64\nmax_steps: 1000000\noptimizer: {lr: 0.0001}\ngradient_accumulation_steps: 2\nswarm: {min_peers: 2}\n", model, rows)
	if err := os.WriteFile(spec, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return spec
}

// committed is the last step of a job.
func committed(d *daemon, job string) (uint64, error) {
	out, err := d.shoal(10*time.Second, "--json", "job", "show", job)
	var s struct{ Step uint64 }
	if err == nil {
		err = json.Unmarshal([]byte(out), &s)
	}
	return s.Step, err
}

// stepTime is the mean over a while.
func stepTime(t *testing.T, d *daemon, job string, while time.Duration) time.Duration {
	t.Helper()
	step := func() (n uint64, at time.Time) {
		n, err := committed(d, job)
		if err != nil {
			t.Fatal(err)
		}
		return n, time.Now()
	}
	first, began := step()
	timer := time.NewTimer(while)
	defer timer.Stop()
	<-timer.C
	last, end := step()
	if last == first {
		t.Errorf("no step in %v", while)
		return while
	}
	return end.Sub(began) / time.Duration(last-first)
}

// resident is the memory of a daemon in MiB.
func resident(t *testing.T, d *daemon) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	kb, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kb >> 10
}

// attack begins; it goes on until ctx ends, the flood for a while at most.
func attack(ctx context.Context, t *testing.T, d *daemon, while time.Duration) *sync.WaitGroup {
	t.Helper()
	s, err := d.status()
	if err != nil {
		t.Fatal(err)
	}
	var tcp, udp string
	for _, addr := range s.Addresses { // /ip4/127.0.0.1/tcp/1234/p2p/…
		switch part := strings.Split(addr, "/"); part[3] {
		case "tcp":
			tcp = net.JoinHostPort(part[2], part[4])
		case "udp":
			udp = net.JoinHostPort(part[2], part[4])
		}
	}
	var wg sync.WaitGroup
	const flood = 1000
	wg.Go(func() {
		tick := time.NewTicker(while / flood)
		defer tick.Stop()
		for i := range flood {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			wg.Go(func() { garbage("tcp", tcp, i) })
			wg.Go(func() { garbage("udp", udp, i) })
		}
	})
	const loris = 64
	for range loris {
		wg.Go(func() {
			if c, err := net.Dial("tcp", tcp); err == nil {
				defer c.Close()
				dribble(ctx, c.Write, []byte("\x13/multistream/1.0.0\n\x0b/tls/1.0.0\n"))
			}
		})
	}
	hosts := make([]*p2p.Host, 16)
	for i := range hosts {
		if hosts[i], err = p2p.New(p2p.Config{Listen: []string{}}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { hosts[i].Close() })
		if err := hosts[i].Connect(ctx, s.Addresses[0]); err != nil {
			t.Fatal(err)
		}
	}
	for i := range loris {
		s, err := hosts[i%len(hosts)].Open(ctx, record.PeerID(s.ID), "/shoal/control/1")
		if err != nil {
			t.Log("stream refused: ", err) // the node's limits hold
			continue
		}
		wg.Go(func() {
			defer s.Reset()
			message := append([]byte{2, 0, 0, 1, 0, 1, 0, 0, 't'}, make([]byte, 64<<10)...)
			dribble(ctx, s.Write, message)
		})
	}
	return &wg
}

// garbage sends junk that begins like something the port could expect.
func garbage(network, addr string, i int) {
	c, err := net.Dial(network, addr)
	if err != nil {
		return // refused is fine
	}
	defer c.Close()
	junk := make([]byte, 1+i*97%4096)
	if network == "udp" {
		junk = make([]byte, 1200)
	}
	rand.Read(junk)
	heads := []string{"", "GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02\x00\x01", "\x13/multistream/1.0.0\n", "\xc3\x00\x00\x00\x01\x08", "\x40"}
	c.Write(append([]byte(heads[i%len(heads)]), junk...)[:len(junk)])
	c.SetReadDeadline(time.Now().Add(2 * time.Second))
	c.Read(junk)
}

// dribble writes a byte a second.
func dribble(ctx context.Context, write func([]byte) (int, error), b []byte) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for i := range b {
		if _, err := write(b[i : i+1]); err != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
