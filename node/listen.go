package node

import (
	"errors"
	"fmt"
	"net"
	"strings"
)

// checkListen tries the addresses that peers are to be accepted on, and fails where none of them can be had: the
// network itself tells that in many lines and without a way out. Addresses of another form are left to it.
func checkListen(addrs []string) error {
	var errs []error
	for _, a := range addrs {
		if err := tryListen(a); err != nil {
			errs = append(errs, fmt.Errorf("listen on %s: %w", a, err))
		}
	}
	if len(errs) == 0 || len(errs) < len(addrs) {
		return nil
	}
	return fmt.Errorf("%w; choose an address of this machine and a free port with --listen, as /ip4/0.0.0.0/tcp/4481, or port 0 for any", errs[0])
}

// tryListen opens and closes a multiaddr of the form /ip4/HOST/tcp/PORT, also ip6 and udp, with anything behind.
func tryListen(addr string) error {
	parts := strings.Split(addr, "/")
	if len(parts) < 5 || parts[1] != "ip4" && parts[1] != "ip6" {
		return nil
	}
	host := net.JoinHostPort(parts[2], parts[4])
	var err error
	switch parts[3] {
	case "tcp":
		var l net.Listener
		if l, err = net.Listen("tcp", host); err == nil {
			err = l.Close()
		}
	case "udp":
		var l net.PacketConn
		if l, err = net.ListenPacket("udp", host); err == nil {
			err = l.Close()
		}
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err // without the address once more
	}
	return err
}
