package collective

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"math/big"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p"
	"github.com/seed-7b27c88a/shoal/p2p/collective/exact"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/xfer"
)

// newHosts starts n hosts on loopback that know each other.
func newHosts(tb testing.TB, n int) (xfers []*xfer.Xfer, ids []record.PeerID) {
	var hosts []*p2p.Host
	for range n {
		h, err := p2p.New(p2p.Config{Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			tb.Fatal(err)
		}
		for _, other := range hosts {
			if err := h.Connect(tb.Context(), other.Addrs()[0]); err != nil {
				tb.Fatal(err)
			}
		}
		hosts = append(hosts, h)
		xfers = append(xfers, xfer.Over(h, xfer.Config{}))
		ids = append(ids, h.ID())
		tb.Cleanup(func() { h.Close() })
	}
	return xfers, ids
}

// even cuts n elements into chunks of the largest size.
func even(n int) (chunks []int) {
	for ; n > 0; n -= MaxChunkLen {
		chunks = append(chunks, min(n, MaxChunkLen))
	}
	return chunks
}

// Three rounds over real sockets.
func TestGroupOverSockets(t *testing.T) {
	xfers, ids := newHosts(t, 3)
	c := newCluster(t, xfers, ids, even(3*MaxChunkLen+5)...)
	defer c.close()
	c.joinAll()
	for round := range uint64(3) {
		vs := [][]float32{c.work(0), c.work(1), c.work(2)}
		c.check(vs, 6, c.round(round, vs))
	}
}

func (c *cluster) round(round uint64, vs [][]float32) []Done {
	p := c.plan(round, 1, c.members)
	c.start(p, c.members)
	for i := range c.members {
		c.hand(p, i, vs[i])
	}
	c.agree(p, c.members)
	return c.finish(p, c.members)
}

// BenchmarkAllReduce compares a round of four peers over loopback, cut and totals given at once, with the same bytes in
// the same pattern over plain crypto/tls connections. bytes/s are those of one member's vector.
func BenchmarkAllReduce(b *testing.B) {
	const peers, elements = 4, 25_000_000
	for _, codec := range []exact.Codec{exact.FP32, exact.BF16, exact.Int8} {
		b.Run("shoal/"+codec.String(), func(b *testing.B) { benchmarkRounds(b, codec, peers, elements) })
	}
	b.Run("tls", func(b *testing.B) {
		mesh := newTLSMesh(b, peers)
		b.SetBytes(4 * elements)
		defer reportCPU(b, 4*elements)()
		for b.Loop() {
			mesh.exchange(4*elements/peers, 0)
			mesh.exchange(4*elements/peers, 1)
		}
	})
}

func benchmarkRounds(b *testing.B, codec exact.Codec, peers, elements int) {
	xfers, ids := newHosts(b, peers)
	c := newCluster(b, xfers, ids, even(elements)...)
	c.codec = codec
	defer c.close()
	c.joinAll()
	var vs [][]float32
	for i := range peers {
		vs = append(vs, c.work(i))
	}
	round := uint64(0)
	b.SetBytes(4 * int64(elements))
	defer reportCPU(b, 4*elements)()
	for b.Loop() {
		for i, d := range c.round(round, vs) {
			c.members[i].g.Recycle(d.V)
		}
		round++
	}
}

// reportCPU reports the processor time of all peers per GB of one member's vector.
func reportCPU(b *testing.B, size int) func() {
	b.ResetTimer()
	began := cpuTime(b)
	return func() { b.ReportMetric((cpuTime(b)-began).Seconds()/float64(b.N)/float64(size)*1e9, "cpu-s/GB") }
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSmall is the latency of a round of 1 KB between two peers whose lanes are open; -benchtime 1000x for percentiles that
// mean something.
func BenchmarkSmall(b *testing.B) {
	xfers, ids := newHosts(b, 2)
	c := newCluster(b, xfers, ids, 128, 128)
	defer c.close()
	c.joinAll()
	vs := [][]float32{c.work(0), c.work(1)}
	round := uint64(0)
	for ; round < 20; round++ {
		c.round(round, vs)
	}
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		c.round(round, vs)
		took = append(took, time.Since(began))
		round++
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "median-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

// tlsMesh is a TLS 1.3 connection between every two peers.
type tlsMesh struct {
	b     *testing.B
	conns [][]net.Conn // [from][to]

	mu     sync.Mutex // guards memory
	memory map[memoryKey][]byte
}

func newTLSMesh(b *testing.B, n int) *tlsMesh {
	m := &tlsMesh{b: b, conns: make([][]net.Conn, n), memory: map[memoryKey][]byte{}}
	for i := range m.conns {
		m.conns[i] = make([]net.Conn, n)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{selfSigned(b)}, InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	for i := range n {
		for j := range i {
			accepted := make(chan net.Conn)
			go func() {
				c, err := l.Accept()
				if err == nil {
					err = c.(*tls.Conn).Handshake()
				}
				if err != nil {
					b.Error(err)
				}
				accepted <- c
			}()
			c, err := tls.Dial("tcp", l.Addr().String(), cfg)
			if err != nil {
				b.Fatal(err)
			}
			m.conns[i][j], m.conns[j][i] = c, <-accepted
			b.Cleanup(func() { c.Close(); m.conns[j][i].Close() })
		}
	}
	return m
}

func selfSigned(b *testing.B) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		b.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// exchange sends n bytes from everybody to everybody: first (phase 0) the slices for owners, then (phase 1) results. The copies
// for successors, some of which go while a line is idle, are left out. Both ends use the same memory every time.
func (m *tlsMesh) exchange(n, phase int) {
	var wg sync.WaitGroup
	for i := range m.conns {
		for j := range m.conns {
			if i != j {
				wg.Go(func() { m.write(m.conns[i][j], n) })
				wg.Go(func() { m.read(m.conns[j][i], n, phase) })
			}
		}
	}
	wg.Wait()
}

func (m *tlsMesh) write(c net.Conn, n int) {
	buf := make([]byte, 256<<10)
	for ; n > 0; n -= len(buf) {
		if _, err := c.Write(buf[:min(n, len(buf))]); err != nil {
			m.b.Error(err)
		}
	}
}

// read fills memory as large as what is read, as a reduction must.
func (m *tlsMesh) read(c net.Conn, n, phase int) {
	m.mu.Lock()
	k := memoryKey{c, phase}
	if m.memory[k] == nil {
		m.memory[k] = make([]byte, n)
	}
	dst := m.memory[k]
	m.mu.Unlock()
	if _, err := io.ReadFull(c, dst); err != nil {
		m.b.Error(err)
	}
}

type memoryKey struct {
	conn  net.Conn
	phase int
}
