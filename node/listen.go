package node

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
)

// checkListen tries the addresses that peers are to be accepted on. It lists those that another program has, and fails where
// none of all can be had: the network itself tells that in many lines and without a way out. That a machine lacks IPv6 or
// IPv4 is no finding while it has the other; addresses of another form are left to the network.
func checkListen(addrs []string) (taken []string, err error) {
	var errs []error
	for _, a := range addrs {
		err := tryListen(a)
		if errors.Is(err, syscall.EADDRINUSE) {
			taken = append(taken, a)
			err = errors.New("another program uses this port (a second shoal?)")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("listen on %s: %w", a, err))
		}
	}
	if len(errs) == 0 || len(errs) < len(addrs) {
		return taken, nil
	}
	return taken, fmt.Errorf("%w; choose an address of this machine and a free port with --listen, as /ip4/0.0.0.0/tcp/4481, or port 0 for any", errs[0])
}

// tryListen opens and closes a multiaddr of the form /ip4/HOST/tcp/PORT, also ip6 and udp, with anything behind.
func tryListen(addr string) error {
	parts := strings.Split(addr, "/")
	if len(parts) < 5 || parts[1] != "ip4" && parts[1] != "ip6" {
		return nil
	}
	host := net.JoinHostPort(parts[2], parts[4])
	var err error
	version := parts[1][2:] // 4 or 6: [::] is not to stand for both
	switch parts[3] {
	case "tcp":
		var l net.Listener
		if l, err = net.Listen("tcp"+version, host); err == nil {
			err = l.Close()
		}
	case "udp":
		var l net.PacketConn
		if l, err = net.ListenPacket("udp"+version, host); err == nil {
			err = l.Close()
		}
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err // without the address once more
	}
	return err
}
