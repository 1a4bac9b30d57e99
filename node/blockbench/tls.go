//go:build unix

package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"time"
)

// chunk is written at once, as bulk protocols do.
const chunk = 256 << 10 // bytes

func sendTLS(_ context.Context, p params) error {
	cert, err := selfSigned()
	if err != nil {
		return err
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13})
	if err != nil {
		return err
	}
	defer l.Close()
	fmt.Println(l.Addr())
	c, err := l.Accept()
	if err != nil {
		return err
	}
	defer c.Close()
	w, err := p.count()
	if err != nil {
		return err
	}
	buf := randomBlock(0)[:chunk]
	for sent := 0; sent < p.mib<<20; sent += len(buf) {
		if _, err := c.Write(buf); err != nil {
			return err
		}
	}
	return w.reportCPU()
}

func receiveTLS(_ context.Context, p params) error {
	raw, err := net.Dial("tcp", p.peer)
	if err != nil {
		return err
	}
	c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}) // it is our own child
	defer c.Close()
	if err := c.Handshake(); err != nil {
		return err
	}
	w, err := p.count()
	if err != nil {
		return err
	}
	buf := make([]byte, chunk)
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.LimitReader(c, int64(p.mib)<<20), buf); err != nil {
		return err
	}
	return w.report()
}

func selfSigned() (tls.Certificate, error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, pub, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
