package p2p

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// lowWater is how many bytes a reader of a large record lets come together before it is woken. Over a slow line bytes come
// in by the packet, and to wake up for each of them costs more processor time than all the rest.
const lowWater = 32 << 10

// waker sets when a socket wakes its reader.
type waker struct {
	raw syscall.RawConn // nil: it cannot be set
	at  int             // bytes
}

func newWaker(c net.Conn) *waker {
	w := &waker{at: 1}
	if s, ok := c.(syscall.Conn); ok {
		w.raw, _ = s.SyscallConn()
	}
	return w
}

// expect says that n more bytes are needed.
func (w *waker) expect(n int) {
	at := 1
	if n >= lowWater {
		at = lowWater
	}
	if w.raw == nil || at == w.at {
		return
	}
	w.raw.Control(func(fd uintptr) {
		unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT, at) // best effort
	})
	w.at = at
}
