package hub

import (
	"context"
	"crypto/sha1" // git's blob hash, which the hub lists for small files
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// errUnreachable: the hub did not answer; what was downloaded before may do.
var errUnreachable = errors.New("the hub cannot be reached")

// errWrong: the bytes are not those that the hub lists.
var errWrong = errors.New("the bytes do not match the hash that the hub lists")

// statusError is an answer other than the one asked for.
type statusError struct {
	code  int
	after time.Duration // how long the server asks to wait
}

func (e *statusError) Error() string {
	return fmt.Sprintf("the hub answers %d %s", e.code, http.StatusText(e.code))
}

// passing says that the same request may succeed later.
func passing(err error) bool {
	var s *statusError
	if errors.As(err, &s) {
		return s.code == 429 || s.code == 408 || s.code >= 500
	}
	return !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, errWrong) && !errors.Is(err, errLocal)
}

// errLocal: the disk, not the network.
var errLocal = errors.New("cannot write")

func (c *Client) endpoint() string {
	if c.Endpoint == "" {
		return DefaultEndpoint
	}
	return strings.TrimRight(c.Endpoint, "/")
}

func (c *Client) maxBytes() int64 {
	if c.MaxBytes == 0 {
		return DefaultMaxBytes
	}
	return c.MaxBytes
}

// client makes the HTTP client, once: it keeps connections.
func (c *Client) client() *http.Client {
	c.once.Do(func() {
		if c.HTTP != nil {
			c.http = *c.HTTP
		} else if t, ok := http.DefaultTransport.(*http.Transport); ok {
			c.http.Transport = t.Clone()
		}
		c.http.CheckRedirect = checkRedirect
	})
	return &c.http
}

// checkRedirect gives the token to the hub's own host only, and never goes from encrypted to plain.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("more than 10 redirects")
	}
	if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
		return errors.New("redirected from https to http")
	}
	if req.URL.Host != via[0].URL.Host {
		req.Header.Del("Authorization")
	}
	return nil
}

// ask sends a request; from > 0 asks for the rest of a file.
func (c *Client) ask(ctx context.Context, where string, from int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "shoal")
	req.Header.Set("Accept-Encoding", "identity") // sizes and ranges are those of the file
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	if from > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	res, err := c.client().Do(req)
	if err != nil {
		return nil, unreachable(err)
	}
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusPartialContent {
		res.Body.Close()
		wait, _ := strconv.Atoi(res.Header.Get("Retry-After"))
		return nil, &statusError{res.StatusCode, time.Duration(min(max(wait, 0), 60)) * time.Second}
	}
	return res, nil
}

func unreachable(err error) error {
	var op *net.OpError
	var dns *net.DNSError
	var u *url.Error
	if errors.As(err, &op) || errors.As(err, &dns) || errors.As(err, &u) && u.Timeout() {
		return fmt.Errorf("%w: %w", errUnreachable, err)
	}
	return err
}

// get fetches a small answer.
func (c *Client) get(ctx context.Context, where string, limit int64) (data []byte, err error) {
	err = c.retry(ctx, func() (bool, error) {
		ctx, alive, stop := c.watch(ctx)
		defer stop()
		res, err := c.ask(ctx, where, 0)
		if err != nil {
			return false, silent(ctx, err)
		}
		defer res.Body.Close()
		data, err = io.ReadAll(io.LimitReader(watched{res.Body, alive}, limit+1))
		if err == nil && int64(len(data)) > limit {
			return false, fmt.Errorf("%w: an answer of more than %d bytes", errWrong, limit)
		}
		return false, silent(ctx, err)
	})
	return data, err
}

// errSilent ends a request on which nothing arrives any more.
var errSilent = fmt.Errorf("%w: it is silent", errUnreachable)

// watch returns a context that ends with errSilent when alive is not called for a while.
func (c *Client) watch(parent context.Context) (ctx context.Context, alive, stop func()) {
	limit := c.Silence
	if limit == 0 {
		limit = time.Minute
	}
	ctx, cancel := context.WithCancelCause(parent)
	timer := time.AfterFunc(limit, func() { cancel(errSilent) })
	return ctx, func() { timer.Reset(limit) }, func() { timer.Stop(); cancel(nil) }
}

// silent says so if silence is why a request failed.
func silent(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errSilent) {
		return errSilent
	}
	return err
}

// watched calls alive when bytes arrive.
type watched struct {
	io.Reader
	alive func()
}

func (w watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if n > 0 {
		w.alive()
	}
	return n, err
}

// retry calls try until it succeeds or fails for good. Attempts that moved something forward do not count.
func (c *Client) retry(ctx context.Context, try func() (moved bool, err error)) error {
	left, wait := c.Retries, c.Wait
	if left == 0 {
		left = 4
	}
	if wait == 0 {
		wait = time.Second
	}
	for failed := 0; ; {
		moved, err := try()
		if err == nil || !passing(err) {
			return err
		}
		if failed++; moved {
			failed = 1
		}
		if failed > left {
			return err
		}
		pause := wait << (failed - 1)
		var s *statusError
		if errors.As(err, &s) {
			pause = max(pause, s.after)
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
	}
}

// transfer brings one file into part and checks it.
type transfer struct {
	c       *Client
	url     string
	file    file
	part    string
	advance func(n int64) // of bytes; negative when they have to come again
}

func (t *transfer) run(ctx context.Context) error {
	f, err := os.OpenFile(t.part, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("%w: %w", errLocal, err)
	}
	defer f.Close()
	have := int64(0)
	if st, err := f.Stat(); err == nil && st.Size() <= t.file.size {
		have = st.Size()
	}
	t.advance(have)
	for again := 0; ; again++ {
		if have, err = t.fill(ctx, f, have); err != nil {
			return err
		}
		if err = t.verify(f); !errors.Is(err, errWrong) || again > 0 {
			break
		}
		t.advance(-have) // what was there from before may be to blame: once more, from the start
		have = 0
	}
	if err != nil {
		os.Remove(t.part)
		return err
	}
	return f.Sync()
}

// fill downloads from byte have to the end, in as many requests as it takes.
func (t *transfer) fill(ctx context.Context, f *os.File, have int64) (int64, error) {
	if have == t.file.size && have > 0 {
		return have, nil
	}
	most := have // a server that begins again and again does not move anything forward
	err := t.c.retry(ctx, func() (bool, error) {
		var err error
		have, err = t.request(ctx, f, have)
		moved := have > most
		most = max(most, have)
		return moved, err
	})
	return have, err
}

// request makes one request and returns how many bytes there are then.
func (t *transfer) request(ctx context.Context, f *os.File, have int64) (int64, error) {
	ctx, alive, stop := t.c.watch(ctx)
	defer stop()
	res, err := t.c.ask(ctx, t.url, have)
	if err != nil {
		var s *statusError
		if errors.As(err, &s) && s.code == http.StatusRequestedRangeNotSatisfiable { // begin again
			t.advance(-have)
			return 0, &statusError{code: http.StatusServiceUnavailable}
		}
		return have, silent(ctx, err)
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusPartialContent && !strings.HasPrefix(res.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", have)) {
		return have, fmt.Errorf("%w: the answer is another part than the one asked for", errWrong)
	}
	if res.StatusCode == http.StatusOK && have > 0 { // the server does not know ranges
		t.advance(-have)
		have = 0
	}
	have, err = t.copy(f, watched{res.Body, alive}, have)
	return have, silent(ctx, err)
}

// copy writes the body to f from byte have on.
func (t *transfer) copy(f *os.File, body io.Reader, have int64) (int64, error) {
	buf := make([]byte, 256<<10)
	for {
		n, err := body.Read(buf)
		if have+int64(n) > t.file.size {
			return have, fmt.Errorf("%w: more than the %d bytes listed", errWrong, t.file.size)
		}
		if _, werr := f.WriteAt(buf[:n], have); werr != nil {
			return have, fmt.Errorf("%w: %w", errLocal, werr)
		}
		have += int64(n)
		t.advance(int64(n))
		switch {
		case errors.Is(err, io.EOF) && have < t.file.size:
			return have, io.ErrUnexpectedEOF
		case errors.Is(err, io.EOF):
			return have, f.Truncate(have)
		case err != nil:
			return have, err
		}
	}
}

// verify hashes the whole file from disk: also the part that was there before.
func (t *transfer) verify(f *os.File) error {
	var h hash.Hash = sha256.New()
	if len(t.file.hash) == 40 {
		h = sha1.New()
		fmt.Fprintf(h, "blob %d\x00", t.file.size)
	}
	n, err := io.Copy(h, io.NewSectionReader(f, 0, t.file.size+1))
	if err != nil {
		return fmt.Errorf("%w: %w", errLocal, err)
	}
	if n != t.file.size || hex.EncodeToString(h.Sum(nil)) != t.file.hash {
		return errWrong
	}
	return nil
}
