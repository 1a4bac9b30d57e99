package worker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/seed-7b27c88a/shoal/kernels"
	"github.com/seed-7b27c88a/shoal/kernels/cuda"
)

// Serve does what the parent asks of a device until in ends, or the device is of no use any more.
func Serve(dev kernels.Device, in io.Reader, out io.Writer) error {
	s := &server{dev: dev, out: out, buffers: map[uint64]*kernels.Buffer{}}
	r := bufio.NewReaderSize(in, 1<<16)
	for {
		kind, body, err := readFrame(r, s.body)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		s.body = body
		if err := s.handle(kind, &decoder{b: body}); err != nil {
			return err
		}
	}
}

// limited is a device that keeps caps.
type limited interface{ Limit(c cuda.Caps) error }

type server struct {
	dev     kernels.Device
	out     io.Writer
	buffers map[uint64]*kernels.Buffer
	body    []byte // of the last frame, used again
	cmds    []kernels.Cmd
	reply   encoder
	failed  error // of a call without an answer
}

// handle does one call. An error ends the worker.
func (s *server) handle(kind byte, d *decoder) error {
	switch kind {
	case kindFree:
		n := d.u64()
		if b := s.buffers[n]; b != nil {
			kernels.Free(s.dev, b)
			delete(s.buffers, n)
		}
		return d.err
	case kindRun, kindWrite, kindCache:
		if s.failed == nil {
			s.failed = s.send(kind, d)
		}
		return nil
	case kindInfo, kindAlloc, kindRead, kindSync, kindLimit:
		s.reply.start(kindOK)
		err := s.answer(kind, d)
		if s.failed != nil {
			err, s.failed = s.failed, nil
		}
		return s.finish(err)
	}
	return errFrame
}

// send does a call that is not answered.
func (s *server) send(kind byte, d *decoder) error {
	switch kind {
	case kindRun:
		if s.cmds = d.commands(s.cmds[:0], s.buffers); d.err != nil {
			return d.err
		}
		return s.dev.Run(s.cmds)
	case kindWrite:
		if t := d.tensor(s.buffers); d.err == nil {
			return s.dev.Write(t, d.b)
		}
		return d.err
	}
	kernels.PackCache(s.dev, d.size())
	return d.err
}

// answer appends what a call asks for to the reply.
func (s *server) answer(kind byte, d *decoder) error {
	switch kind {
	case kindInfo:
		i := s.dev.Info()
		s.reply.text(i.Name)
		s.reply.text(i.Model)
		s.reply.text(i.Kernel)
		s.reply.u64(uint64(i.Workers))
		s.reply.u64(uint64(i.MemBytes))
		return nil
	case kindAlloc:
		n, bytes := d.u64(), d.size()
		if d.err != nil || s.buffers[n] != nil {
			return errFrame
		}
		b, err := s.dev.Alloc(bytes)
		if err == nil {
			s.buffers[n] = b
		}
		return err
	case kindLimit:
		c := cuda.Caps{Bytes: int64(d.size()), Watts: d.size(), Celsius: d.size()}
		if l, ok := s.dev.(limited); ok && d.err == nil {
			return l.Limit(c)
		}
		return d.err
	case kindRead:
		t := d.tensor(s.buffers)
		if d.err != nil {
			return d.err
		}
		n, at := t.Rows*t.Type.Bytes(t.Cols), len(s.reply.b)
		s.reply.b = append(s.reply.b, make([]byte, n)...)
		return s.dev.Read(s.reply.b[at:], t)
	}
	return s.dev.Sync(context.Background())
}

// finish sends the reply, or why there is none. After a fault the worker ends: only a new process can use the GPU again.
func (s *server) finish(err error) error {
	fault := errors.Is(err, cuda.ErrFault)
	if err != nil {
		kind := kindError
		if fault {
			kind = kindFault
		}
		s.reply.start(kind)
		s.reply.b = append(s.reply.b, err.Error()...)
	}
	if _, werr := s.out.Write(s.reply.finish(0)); werr != nil {
		return fmt.Errorf("answer: %w", werr)
	}
	if fault {
		return err
	}
	return nil
}
