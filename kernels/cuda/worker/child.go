package worker

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// child is one process. Its answers come in the order of the calls.
type child struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	first uint64 // number of its first buffer: smaller ones were another's
	tail  *tail
	ended chan struct{} // closed when the process is gone

	mu      sync.Mutex // guards the rest
	waiting []call
	err     error // why it is gone
}

// call is where the answer to a frame will be.
type call chan answer

type answer struct {
	body []byte
	err  error
}

func failed(err error) call {
	c := make(call, 1)
	c <- answer{err: err}
	return c
}

func (c call) wait() ([]byte, error) {
	a := <-c
	return a.body, a.err
}

func newChild(cmd *exec.Cmd, first uint64) (*child, error) {
	c := &child{cmd: cmd, first: first, tail: &tail{}, ended: make(chan struct{})}
	var err error
	if c.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = c.tail
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go c.listen(out)
	return c, nil
}

// listen hands answers to those who wait for them until the process ends.
func (c *child) listen(out io.Reader) {
	defer close(c.ended)
	r := bufio.NewReaderSize(out, 1<<16)
	var fault error
	for {
		kind, body, err := readFrame(r, nil)
		if err != nil {
			break
		}
		a := answer{body: body}
		switch kind {
		case kindOK:
		case kindFault:
			fault = fmt.Errorf("%w: %s", ErrLost, body)
			a.err = fault
		default:
			a.err = errors.New(string(body))
		}
		c.mu.Lock()
		if len(c.waiting) > 0 {
			c.waiting[0] <- a
			c.waiting = c.waiting[1:]
		}
		c.mu.Unlock()
	}
	c.in.Close()
	err := c.cmd.Wait()
	if fault == nil {
		fault = fmt.Errorf("%w (%s)%s", ErrLost, state(c.cmd, err), c.tail)
	}
	c.fail(fault)
}

func (c *child) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
	for _, w := range c.waiting {
		w <- answer{err: err}
	}
	c.waiting = nil
}

func state(cmd *exec.Cmd, err error) string {
	if cmd.ProcessState != nil {
		return cmd.ProcessState.String()
	}
	return fmt.Sprint(err)
}

// gone is why the process ended, or nil.
func (c *child) gone() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// ask sends a frame that is answered. Frames are sent by one caller at a time.
func (c *child) ask(frame, more []byte) call {
	to := make(call, 1)
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return failed(c.err)
	}
	c.waiting = append(c.waiting, to)
	c.mu.Unlock()
	_ = c.send(frame, more) // one that is not sent is answered with the process's end
	return to
}

// send sends a frame. If it cannot, the process is about to end, and that is the error.
func (c *child) send(frame, more []byte) error {
	_, err := c.in.Write(frame)
	if err == nil && len(more) > 0 {
		_, err = c.in.Write(more)
	}
	if err != nil {
		<-c.ended
		return c.gone()
	}
	return nil
}

// patience is how long a process may take to end after its input did.
const patience = 5 * time.Second

// stop ends the process and waits for it.
func (c *child) stop() error {
	c.in.Close()
	select {
	case <-c.ended:
		return nil
	case <-time.After(patience):
	}
	err := c.cmd.Process.Kill()
	<-c.ended
	return err
}

// tail keeps the end of what a process says on its standard error.
type tail struct {
	mu   sync.Mutex // guards text
	text []byte
}

const tailBytes = 2000

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if n := len(t.text) - tailBytes; n > 0 {
		t.text = append(t.text[:0], t.text[n:]...)
	}
	return len(b), nil
}

// String is the text behind a colon, or nothing.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := strings.TrimSpace(string(t.text)); s != "" {
		return ": " + s
	}
	return ""
}
