package xfer

import (
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// tape is a Stream whose peer says what is on it and takes everything.
type tape struct{ io.Reader }

func (tape) Write(b []byte) (int, error)      { return len(b), nil }
func (tape) Close() error                     { return nil }
func (tape) Reset() error                     { return nil }
func (tape) Peer() record.PeerID              { return "hostile" }
func (tape) SetReadDeadline(time.Time) error  { return nil }
func (tape) SetWriteDeadline(time.Time) error { return nil }

func frames(hs ...header) (b []byte) {
	for _, h := range hs {
		b = h.append(b)
		b = append(b, make([]byte, h.meta)...)
		if h.typ == frameData {
			b = append(b, make([]byte, h.size)...)
		}
	}
	return b
}

// FuzzServe feeds a receiver anything: it must end, hand out no more than the window, and give its memory back.
func FuzzServe(f *testing.F) {
	hello := header{typ: frameHello, code: bulk}
	open := header{typ: frameOpen, code: service, meta: 3, id: 1, size: 100}
	data := header{typ: frameData, id: 1, size: 100}
	f.Add(frames(hello, open, data))
	f.Add(frames(header{typ: frameHello}, open, header{typ: frameData, id: 1, size: 40}, header{typ: frameCancel, id: 1}))
	f.Add(frames(hello, open, open))
	f.Add(frames(hello, header{typ: frameOpen, code: 3, size: 100}, header{typ: frameData, size: 100}))
	f.Add(frames(hello, open, header{typ: frameData, id: 1, size: 60}, header{typ: frameData, id: 1, size: 60, offset: 60}))
	f.Add(frames(hello, header{typ: frameOpen, code: service, size: MaxTransfer}, header{typ: frameReceipt}))
	f.Add(frames(hello, hello))
	f.Add(frames(open))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		x := New(Config{Memory: 2 * bulkWindow})
		s := &shelf{hold: true}
		x.Handle(service, s)
		x.Serve(tape{bytes.NewReader(b)})
		for _, r := range s.kept {
			r(Taken)
		}
		total := 0
		for _, g := range s.got {
			total += len(g)
		}
		if total > bulkWindow || x.free != x.cfg.Memory {
			t.Fatalf("%d bytes taken, %d of memory free", total, x.free)
		}
		x.Close()
	})
}

func FuzzHeader(f *testing.F) {
	for typ := range frameAlive + 2 {
		f.Add(header{typ: typ, size: firstWindow}.append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < headerLen {
			return
		}
		h, err := parseHeader((*[headerLen]byte)(b))
		if err == nil && !bytes.Equal(h.append(nil), b[:headerLen]) {
			t.Fatalf("%x parses as %+v", b[:headerLen], h)
		}
	})
}

// FuzzListen lets a hostile receiver say anything to a sender: the transfer must end, once.
func FuzzListen(f *testing.F) {
	f.Add(frames(header{typ: frameReceipt, id: 0}))
	f.Add(frames(header{typ: frameWindow, size: bulkWindow}, header{typ: frameAlive}, header{typ: frameReceipt, code: 9}))
	f.Add(frames(header{typ: frameReceipt, id: 0}, header{typ: frameReceipt, id: 0}))
	f.Add(frames(header{typ: frameOpen}))
	f.Fuzz(func(t *testing.T, b []byte) {
		x := New(Config{Open: func(context.Context, record.PeerID) (Stream, error) { return tape{bytes.NewReader(b)}, nil }})
		done := make(chan error, 2)
		x.Send("b", &Transfer{Size: 100, Read: func([]byte, int) bool { return true }, Done: func(err error) { done <- err }})
		<-done
		x.Close()
		if len(done) != 0 {
			t.Fatal("ended twice")
		}
	})
}
