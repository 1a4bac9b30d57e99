package nettest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// homeLine is the line that the tests of blocks run on: node 1 fetches from nodes 2 to 4.
var homeLine = []string{"--rate", "100mbit", "--delay", "25ms", "--loss", "0.5%", "--public"}

const linkRate = 100e6 / 8 // bytes per second

// Three donors on a lossy line, one killed half-way: the fetch is as fast as iperf3 with four connections to each of three
// servers one of which is killed half-way, and fetches nothing twice.
func TestBlocksFromThreeDonors(t *testing.T) {
	l := bareLab(t, 4, homeLine...)
	bench := blockbench(t)
	attempts(t, func() error { return l.threeDonors(bench) })
}

func (l *lab) threeDonors(bench string) error {
	l.t.Helper()
	const mib = 192
	reference := l.iperf3(9*time.Second, 3)
	var addrs []string
	var donors []*exec.Cmd
	for i := 2; i <= 4; i++ {
		c, addr := l.donor(i, bench, mib)
		donors, addrs = append(donors, c), append(addrs, addr)
	}
	before := l.received(1)
	r := l.receiver(bench, mib, strings.Join(addrs, ","), "")
	r.until(mib / 2)
	donors[2].Process.Kill()
	wall := r.wall()
	rate, wire := float64(mib<<20)/wall.Seconds(), l.received(1)-before
	for _, d := range donors {
		d.Process.Kill()
	}
	l.t.Logf("%.1f MB/s, %.2f of iperf3 (%.1f MB/s), %.2f of the link; %.3f bytes on the wire per byte",
		rate/1e6, rate/reference, reference/1e6, rate/linkRate, float64(wire)/(mib<<20))
	if rate < 0.85*reference || rate < 0.8*linkRate {
		return fmt.Errorf("the bars are 0.85 of iperf3 and 0.8 of the link")
	}
	if float64(wire) > 1.1*(mib<<20) {
		return fmt.Errorf("%d bytes came for %d", wire, mib<<20)
	}
	return nil
}

// A receiver that is killed twenty times ends with everything, and brought little of it twice. Its link goes down with it, as
// when a machine loses power: what was on its way then, up to 2 MB in the queues of a line that three donors have filled, never
// comes, and is not what it fetched twice. With SHOAL_NETLAB_DRAIN the link stays and all of it counts.
func TestBlocksThroughTwentyKills(t *testing.T) {
	const mib = 256
	l := bareLab(t, 4, homeLine...)
	bench := blockbench(t)
	var addrs []string
	for i := 2; i <= 4; i++ {
		_, addr := l.donor(i, bench, mib)
		addrs = append(addrs, addr)
	}
	attempts(t, func() error { return l.twentyKills(bench, mib, strings.Join(addrs, ",")) })
}

func (l *lab) twentyKills(bench string, mib int, donors string) error {
	t := l.t
	t.Helper()
	const kills = 20
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	home, before := t.TempDir(), l.received(1)
	for range kills {
		r := l.receiver(bench, mib, donors, home)
		r.until(0) // it fetches now
		timer := time.NewTimer(time.Duration(dice.Int64N(int64(1600 * time.Millisecond))))
		select {
		case <-timer.C:
		case <-r.ended:
			return errors.New("complete before the last kill: the machine is too busy to kill in time")
		}
		if os.Getenv("SHOAL_NETLAB_DRAIN") == "" {
			l.netlab("cut", "1")
		}
		r.kill()
		l.netlab("heal", "1")
	}
	r := l.receiver(bench, mib, donors, home)
	r.wall()
	ratio := float64(l.received(1)-before) / float64(mib<<20)
	t.Logf("%.3f bytes on the wire per byte", ratio)
	if ratio > 1.1 {
		return fmt.Errorf("%.3f bytes on the wire per byte, the bar is 1.1", ratio)
	}
	return nil
}

// blockbench builds the sender and receiver.
func blockbench(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "blockbench")
	if out, err := exec.Command("go", "build", "-o", bin, "github.com/seed-7b27c88a/shoal/node/blockbench").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

// received is the bytes that came down a node's link, without the 52 of each packet's IP and TCP headers.
func (l *lab) received(at int) int64 {
	l.t.Helper()
	out, err := l.netlab("status", "--json")
	var s struct {
		Nodes []struct {
			ID   int
			Link struct {
				Rx      int64 `json:"rx_bytes"`
				Packets int64 `json:"rx_pkts"`
			}
		}
	}
	if err == nil {
		err = json.Unmarshal([]byte(out), &s)
	}
	for _, n := range s.Nodes {
		if n.ID == at {
			return n.Link.Rx - 52*n.Link.Packets
		}
	}
	l.t.Fatalf("netlab status: no node %d (%v)", at, err)
	return 0
}

// donor starts a sender on a node and returns its address.
func (l *lab) donor(at int, bench string, mib int) (*exec.Cmd, string) {
	l.t.Helper()
	c := l.command(context.Background(), "exec", strconv.Itoa(at), bench, "-role", "blocks-send", "-mib", strconv.Itoa(mib),
		"-listen", fmt.Sprintf("44.77.0.%d", at))
	in, err := c.StdinPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	out := l.launch(c)
	l.t.Cleanup(func() { in.Close(); c.Process.Kill(); c.Wait() })
	addr, err := out.ReadString('\n')
	if err != nil {
		l.t.Fatal(err)
	}
	return c, strings.TrimSpace(addr)
}

func (l *lab) launch(c *exec.Cmd) *bufio.Reader {
	l.t.Helper()
	out, err := c.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		l.t.Fatal(err)
	}
	return bufio.NewReader(out)
}

// receiver is a process that fetches on node 1.
type receiver struct {
	t     *testing.T
	cmd   *exec.Cmd
	ended chan struct{} // closed at the end of its output

	mu    sync.Mutex
	moved *sync.Cond // on mu: done or last changed, or the output ended
	done  int        // blocks; -1: none told
	last  string     // line
	over  bool
}

func (l *lab) receiver(bench string, mib int, from, home string) *receiver {
	l.t.Helper()
	r := &receiver{t: l.t, ended: make(chan struct{}), done: -1}
	r.moved = sync.NewCond(&r.mu)
	r.cmd = l.command(context.Background(), "exec", "1", bench, "-role", "blocks-receive", "-mib", strconv.Itoa(mib), "-peer", from, "-home", home, "-steps")
	out := l.launch(r.cmd)
	go r.read(out)
	l.t.Cleanup(r.kill)
	return r
}

func (r *receiver) read(out io.Reader) {
	defer close(r.ended)
	s := bufio.NewScanner(out)
	for s.Scan() {
		r.mu.Lock()
		r.last = s.Text()
		if n, err := strconv.Atoi(r.last); err == nil {
			r.done = n
		}
		r.moved.Broadcast()
		r.mu.Unlock()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	r.moved.Broadcast()
}

// until waits until the receiver has n blocks.
func (r *receiver) until(n int) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.done < n && !r.over {
		r.moved.Wait()
	}
	if r.done < n {
		r.t.Fatalf("the receiver ended at %d blocks", r.done)
	}
}

// wall waits for the end and returns how long the fetch took.
func (r *receiver) wall() time.Duration {
	r.t.Helper()
	<-r.ended
	var wall, cpu int64
	if _, err := fmt.Sscan(r.last, &wall, &cpu); err != nil {
		r.t.Fatalf("the receiver ends with %q: %v", r.last, err)
	}
	return time.Duration(wall)
}

// kill ends the receiver as a crash would; netlab execs it, so the process is the receiver itself.
func (r *receiver) kill() {
	r.cmd.Process.Kill()
	<-r.ended
	r.cmd.Wait()
}

// iperf3 receives on node 1 from the next n nodes over four connections each for d, the last server killed half-way, and
// returns bytes per second.
func (l *lab) iperf3(d time.Duration, n int) float64 {
	l.t.Helper()
	if _, err := exec.LookPath("iperf3"); err != nil {
		l.t.Skip("iperf3 is not here to compare with")
	}
	var clients []*exec.Cmd
	var outs []*bytes.Buffer
	var last *exec.Cmd
	for i := 2; i < 2+n; i++ {
		server := l.command(context.Background(), "exec", strconv.Itoa(i), "iperf3", "-s", "--forceflush")
		out := l.launch(server)
		l.t.Cleanup(func() { server.Process.Kill(); server.Wait() })
		for line := ""; !strings.Contains(line, "listening"); {
			var err error
			if line, err = out.ReadString('\n'); err != nil {
				l.t.Fatal(err)
			}
		}
		go io.Copy(io.Discard, out)
		c := l.command(context.Background(), "exec", "1", "iperf3", "-J", "-R", "-P", "4", "-c", fmt.Sprintf("44.77.0.%d", i), "-t", strconv.Itoa(int(d.Seconds())))
		b := &bytes.Buffer{}
		c.Stdout = b
		clients, outs, last = append(clients, c), append(outs, b), server
	}
	for _, c := range clients {
		if err := c.Start(); err != nil {
			l.t.Fatal(err)
		}
	}
	timer := time.AfterFunc(d/2, func() { last.Process.Kill() })
	defer timer.Stop()
	sum := 0.0
	for i, c := range clients {
		c.Wait() // the killed server's client reports an error
		var r struct {
			Intervals []struct{ Sum struct{ Bytes float64 } }
		}
		if err := json.Unmarshal(outs[i].Bytes(), &r); err != nil {
			l.t.Fatalf("iperf3: %v\n%s", err, outs[i])
		}
		for _, v := range r.Intervals {
			sum += v.Sum.Bytes
		}
	}
	return sum / d.Seconds()
}
