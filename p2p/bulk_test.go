package p2p

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/swarm"
)

// echoBulk answers bulk streams of /test/echo/1 with what they bring.
func echoBulk(h *Host) {
	h.HandleBulk("/test/echo/1", func(s *Stream) {
		io.Copy(s, s)
		s.Close()
	})
}

// checkEcho sends half a megabyte there and back.
func checkEcho(t *testing.T, s *Stream) {
	t.Helper()
	sent := bytes.Repeat([]byte("0123456789"), 50_000)
	go func() {
		s.WriteLent(sent[:16], func(use func([]byte)) bool { use(sent[16:100_000]); return true })
		s.Write(sent[100_000:])
		s.CloseWrite()
	}()
	s.SetReadDeadline(time.Now().Add(20 * time.Second))
	if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d bytes of %d came back: %v", len(got), len(sent), err)
	}
}

func TestBulk(t *testing.T) {
	for _, private := range []bool{false, true} {
		var a, b *Host
		if private {
			f := found(t)
			a, _, _ = f.member(t, swarm.Admin, time.Now(), tcpOnly)
			b, _, _ = f.member(t, swarm.Volunteer, time.Now(), tcpOnly)
		} else {
			a, b = startHost(t, Config{}), startHost(t, Config{})
		}
		connect(t, a, b)
		echoBulk(a)
		echoBulk(b)
		for _, pair := range [][2]*Host{{a, b}, {b, a}} { // also against the direction of libp2p's connection
			eventually(t, "addresses are known", func() bool { return len(pair[0].Known(pair[1].ID())) > 0 })
			before := pair[0].Traffic()["other"].Up
			s, err := pair[0].OpenBulk(within(t), pair[1].ID(), "/test/echo/1")
			if err != nil {
				t.Fatal(err)
			}
			if s.Peer() != pair[1].ID() || s.Protocol() != "/test/echo/1" {
				t.Error(s.Peer(), s.Protocol())
			}
			checkEcho(t, s)
			if n := pair[0].Traffic()["other"].Up - before; n < 500_000 {
				t.Errorf("%d bytes were counted", n)
			}
			s.Close()
		}
	}
}

// A connection for bulk ends with the last connection of libp2p, as when a membership is revoked.
func TestBulkEndsWithItsStream(t *testing.T) {
	a, b := startHost(t, Config{}), startHost(t, Config{})
	connect(t, a, b)
	echoBulk(b)
	s, err := a.OpenBulk(within(t), b.ID(), "/test/echo/1")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Forget(a.ID()); err != nil {
		t.Fatal(err)
	}
	s.SetReadDeadline(time.Now().Add(20 * time.Second))
	var timeout net.Error
	if _, err := s.Read(make([]byte, 1)); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatalf("the stream goes on: %v", err)
	}
}

func TestBulkIsRefused(t *testing.T) {
	a, b := startHost(t, Config{}), startHost(t, Config{})
	connect(t, a, b)
	open := func() error {
		s, err := a.OpenBulk(within(t), b.ID(), "/test/none/1")
		if err == nil {
			s.Reset()
		}
		return err
	}
	echoBulk(b)
	if err := open(); !errors.Is(err, errNoBulk) {
		t.Error("a protocol nobody handles:", err)
	}
	if err := open(); err != errNoBulk {
		t.Error("a peer that could not be reached is asked again:", err)
	}
	quiet := startHost(t, Config{Listen: []string{quicOnly}})
	echoBulk(quiet)
	connect(t, a, quiet)
	if _, err := a.OpenBulk(within(t), quiet.ID(), "/test/echo/1"); !errors.Is(err, errNoBulk) {
		t.Error("a peer without TCP:", err)
	}
	if err := a.SetCaps(Caps{Up: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.OpenBulk(within(t), b.ID(), "/test/echo/1"); err != errNoBulk {
		t.Error("under a cap:", err)
	}
}

// Who comes to the port with a wrong ticket, or with none, is hung up on; in a private swarm already who does not know
// the protocol's name.
func TestRawStrangers(t *testing.T) {
	open := startHost(t, Config{Listen: []string{tcpOnly}})
	echoBulk(open)
	f := found(t)
	private, _, _ := f.member(t, swarm.Admin, time.Now(), tcpOnly)
	echoBulk(private)
	stranger := startHost(t, Config{Listen: []string{tcpOnly}})
	for _, h := range []*Host{open, private} {
		c, err := stranger.dialRaw(within(t), h.host.Network().ListenAddresses())
		if h == private {
			if err == nil {
				t.Error("a stranger was let in")
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		c.Write(make([]byte, ticketLen))
		if _, err := io.ReadFull(c, make([]byte, 1)); err == nil {
			t.Error("a wrong ticket was answered")
		}
	}
}

// sealedPair are the ends of one connection. limit is the records of a key.
func sealedPair(t testing.TB, limit uint64) (a, b *sealed) {
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	secret, ticket := bytes.Repeat([]byte{1}, 2*secretLen), make([]byte, ticketLen)
	a, errA := newSealed(near, secret, ticket, true)
	b, errB := newSealed(far, secret, ticket, false)
	if err := errors.Join(errA, errB); err != nil {
		t.Fatal(err)
	}
	for _, x := range []*sealing{&a.in, &a.out, &b.in, &b.out} {
		x.limit = limit
	}
	return a, b
}

func TestSealed(t *testing.T) {
	a, b := sealedPair(t, 3)
	sent := bytes.Repeat([]byte("abcdefg"), 1000)
	go func() {
		for lo := 0; lo < len(sent); lo += 500 { // 14 records, so 5 keys
			if _, err := a.Write(sent[lo : lo+500]); err != nil {
				t.Error(err)
			}
		}
		a.CloseWrite()
	}()
	var got []byte
	for size := 1; ; size = size*2%1300 + 1 { // smaller and larger than records
		p := make([]byte, size)
		n, err := b.Read(p)
		got = append(got, p[:n]...)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, sent) {
		t.Errorf("%d bytes of %d arrived", len(got), len(sent))
	}
}

func TestSealedRefuses(t *testing.T) {
	genuine := func() []byte {
		a, _ := sealedPair(t, keyRecords)
		b, err := a.out.seal(nil, []byte("genuine"))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}()
	flipped := bytes.Clone(genuine)
	flipped[7] ^= 1
	for name, tc := range map[string]struct {
		bytes []byte
		want  error
	}{
		"a changed byte":        {flipped, errRecord},
		"the same record twice": {append(bytes.Clone(genuine), genuine...), errRecord},
		"too long":              {[]byte{0, 8, 0, 0}, errRecord},
		"too short":             {[]byte{0, 0, 0, 15}, errRecord},
		"cut off":               {genuine[:len(genuine)-1], io.ErrUnexpectedEOF},
		"no end":                {genuine, io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := sealedPair(t, keyRecords)
			go func() {
				a.Conn.Write(tc.bytes)
				a.Conn.Close()
			}()
			if _, err := io.ReadAll(b); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

// FuzzSealed: whatever comes, nothing but genuine records is read.
func FuzzSealed(f *testing.F) {
	a, _ := sealedPair(f, keyRecords)
	one, err := a.out.seal(nil, []byte("one"))
	if err != nil {
		f.Fatal(err)
	}
	both, err := a.out.seal(bytes.Clone(one), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(one)
	f.Add(both)
	f.Add([]byte{0, 4, 0, 16, 1, 2, 3})
	f.Fuzz(func(t *testing.T, data []byte) {
		a, b := sealedPair(t, keyRecords)
		go func() {
			a.Conn.Write(data)
			a.Conn.Close()
		}()
		got, err := io.ReadAll(b)
		if want := bytes.HasPrefix(data, one); (string(got) == "one") != want || !want && len(got) > 0 {
			t.Errorf("read %q of %x", got, data)
		}
		if err == nil && !bytes.HasPrefix(data, both) {
			t.Error("an end was read that nobody sealed")
		}
	})
}

// FuzzChoose: what the other side of a negotiation answers is not trusted.
func FuzzChoose(f *testing.F) {
	f.Add([]byte("\x13/multistream/1.0.0\n\x0e/shoal/bulk/1\n"))
	f.Add([]byte("\x13/multistream/1.0.0\n\x03na\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		err := choose(struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(data), io.Discard}, "/shoal/bulk/1")
		if good := bytes.HasPrefix(data, []byte("\x13/multistream/1.0.0\n\x0e/shoal/bulk/1\n")); (err == nil) != good {
			t.Errorf("%q: %v", data, err)
		}
	})
}

func TestBulkGivesUp(t *testing.T) {
	a, b := startHost(t, Config{}), startHost(t, Config{})
	connect(t, a, b)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := a.OpenBulk(ctx, b.ID(), "/test/echo/1"); err == nil {
		t.Error("a canceled call succeeded")
	}
	if a.bulk.isBarred(b.ID()) {
		t.Error("a canceled call says nothing about the peer")
	}
}
