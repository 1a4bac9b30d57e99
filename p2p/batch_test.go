package p2p

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"testing"
)

// What is gathered and read ahead arrives whole and in order, whatever the sizes of reads and writes.
func TestBatchedKeepsTheBytes(t *testing.T) {
	near, far := net.Pipe()
	from, to := &batched{Conn: near}, &batched{Conn: far}
	r := rand.New(rand.NewPCG(1, 1))
	sent := make([]byte, 3*writeBatch)
	for i := range sent {
		sent[i] = byte(r.Uint32())
	}
	go func() {
		defer near.Close()
		for rest := sent; len(rest) > 0; {
			from.together(func() (int, error) {
				for range 1 + r.IntN(12) {
					n := min(len(rest), 1+r.IntN(32<<10))
					if _, err := from.Write(rest[:n]); err != nil {
						return 0, err
					}
					rest = rest[n:]
				}
				return 0, nil
			})
		}
	}()
	got, err := io.ReadAll(to)
	if err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d of %d bytes arrived, err %v", len(got), len(sent), err)
	}
}

func TestBatchedTellsOfAFailedWrite(t *testing.T) {
	near, far := net.Pipe()
	far.Close()
	c := &batched{Conn: near}
	if _, err := c.together(func() (int, error) { return c.Write([]byte("x")) }); err == nil {
		t.Error("a write to a closed connection succeeded")
	}
	if _, err := c.Write([]byte("y")); err == nil {
		t.Error("the connection went on after a failed write")
	}
}
