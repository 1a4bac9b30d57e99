package p2p

import (
	"net"
	"sync"

	"github.com/libp2p/go-libp2p/core/sec"
)

// TLS writes and reads a record of 16 KiB at a time, and each costs a system call. A batched connection gathers the
// records of one write of the muxer, and reads ahead. It saves system calls and copies.
const (
	writeBatch = 128 << 10 // bytes that are gathered at most
	readBatch  = 64 << 10  // bytes that are read ahead at most
)

// batched is a socket under TLS.
type batched struct {
	net.Conn

	ahead []byte // read and not yet taken; only Read uses it
	room  []byte // behind ahead

	mu     sync.Mutex // guards the rest
	corked bool
	buf    []byte
	err    error // of an earlier write
}

func (c *batched) Read(p []byte) (int, error) {
	if len(c.ahead) == 0 {
		if len(p) >= readBatch {
			return c.Conn.Read(p)
		}
		if c.room == nil {
			c.room = make([]byte, readBatch)
		}
		n, err := c.Conn.Read(c.room)
		c.ahead = c.room[:n]
		if n == 0 {
			return 0, err
		}
	}
	n := copy(p, c.ahead)
	c.ahead = c.ahead[n:]
	return n, nil
}

func (c *batched) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	if !c.corked {
		return c.Conn.Write(p)
	}
	if len(c.buf)+len(p) > writeBatch {
		if err := c.flush(); err != nil {
			return 0, err
		}
	}
	c.buf = append(c.buf, p...)
	return len(p), nil
}

// batch secures c, under the meter m, with batches in between.
func batch(m *meter, c net.Conn, secure func(net.Conn) (sec.SecureConn, error)) (sec.SecureConn, error) {
	paced := m.pace(c)
	if m.capped() || paced == c {
		return secure(paced)
	}
	b := &batched{Conn: paced}
	s, err := secure(b)
	if err != nil {
		return nil, err
	}
	return &gathering{SecureConn: s, under: b}, nil
}

// flush writes what was gathered. Called with mu held.
func (c *batched) flush() error {
	if len(c.buf) > 0 && c.err == nil {
		_, c.err = c.Conn.Write(c.buf)
	}
	c.buf = c.buf[:0]
	return c.err
}

// together gathers what write writes.
func (c *batched) together(write func() (int, error)) (int, error) {
	c.mu.Lock()
	c.corked = true
	c.mu.Unlock()
	n, err := write()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked = false
	if ferr := c.flush(); err == nil && ferr != nil {
		return 0, ferr
	}
	return n, err
}

// gathering is a secure connection over a batched one.
type gathering struct {
	sec.SecureConn
	under *batched
}

func (c *gathering) Write(p []byte) (int, error) {
	if len(p) <= 16<<10 {
		return c.SecureConn.Write(p)
	}
	return c.under.together(func() (int, error) { return c.SecureConn.Write(p) })
}
