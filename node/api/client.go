package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
)

// maxAnswer bounds a JSON answer or a line of one, bytes.
const maxAnswer = 64 << 20

// ErrDown is wrapped by every error that means: no daemon answers there (any more).
var ErrDown = errors.New("no daemon answers")

// Client calls a daemon. It is safe for concurrent use.
type Client struct {
	find func() (addr, token string, err error)
	http *http.Client
}

// NewClient makes a client of the API that find names, as host:port or URL. find is asked before every call, because
// a daemon that was started again may have another port.
func NewClient(find func() (addr, token string, err error)) *Client {
	return &Client{find: find, http: &http.Client{Transport: &http.Transport{}}}
}

// At is the find of a fixed address.
func At(addr, token string) func() (string, string, error) {
	return func() (string, string, error) { return addr, token, nil }
}

func base(addr string) (string, error) {
	if !strings.Contains(addr, "://") {
		addr = "http://" + addr
	}
	u, err := url.Parse(addr)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return "", fmt.Errorf("API address %q: want host:port or a http:// URL", addr)
	}
	return u.Scheme + "://" + u.Host, nil
}

// Info describes the daemon.
func (c *Client) Info(ctx context.Context) (v Info, err error) { return v, c.get(ctx, "node", &v) }

// Peers lists connected nodes.
func (c *Client) Peers(ctx context.Context) (v []Peer, err error) { return v, c.get(ctx, "peers", &v) }

// Doctor runs the daemon's checks.
func (c *Client) Doctor(ctx context.Context) (v []Check, err error) {
	return v, c.get(ctx, "doctor", &v)
}

// Pause stops the daemon's work, for some seconds or until Resume.
func (c *Client) Pause(ctx context.Context, r PauseRequest) (v Info, err error) {
	return v, c.call(ctx, http.MethodPost, "node/pause", r, &v)
}

// Resume lets the daemon work again.
func (c *Client) Resume(ctx context.Context) (v Info, err error) {
	return v, c.call(ctx, http.MethodPost, "node/resume", nil, &v)
}

// Limits are what the daemon may take of its machine.
func (c *Client) Limits(ctx context.Context) (v map[string]string, err error) {
	return v, c.get(ctx, "node/limits", &v)
}

// SetLimits changes some of them and returns all.
func (c *Client) SetLimits(ctx context.Context, changes map[string]string) (v map[string]string, err error) {
	return v, c.call(ctx, http.MethodPatch, "node/limits", changes, &v)
}

// Models lists stored models.
func (c *Client) Models(ctx context.Context) (v []Item, err error) {
	return v, c.get(ctx, "models", &v)
}

// Datasets lists stored data.
func (c *Client) Datasets(ctx context.Context) (v []Item, err error) {
	return v, c.get(ctx, "datasets", &v)
}

// ImportModel takes a model into the daemon's store.
func (c *Client) ImportModel(ctx context.Context, r ImportRequest, p Progress) (v Item, err error) {
	return v, c.long(ctx, "models", r, p, &v)
}

// AddDataset takes rows into the daemon's store.
func (c *Client) AddDataset(ctx context.Context, r ImportRequest, p Progress) (v Item, err error) {
	return v, c.long(ctx, "datasets", r, p, &v)
}

// Submit hands in a job; it returns when the daemon has stored and published it. What the spec leaves out, the daemon
// completes.
func (c *Client) Submit(ctx context.Context, spec job.Spec, p Progress) (v Job, err error) {
	body, err := sparse(spec)
	if err != nil {
		return v, err
	}
	return v, c.long(ctx, "jobs", body, p, &v)
}

// Remove forgets a job that was submitted here and is over.
func (c *Client) Remove(ctx context.Context, id string) (v Removed, err error) {
	return v, c.call(ctx, http.MethodDelete, "jobs/"+url.PathEscape(id), nil, &v)
}

// RemoveModel forgets a stored model.
func (c *Client) RemoveModel(ctx context.Context, name string) (v Removed, err error) {
	return v, c.call(ctx, http.MethodDelete, "models/"+url.PathEscape(name), nil, &v)
}

// RemoveDataset forgets stored data.
func (c *Client) RemoveDataset(ctx context.Context, name string) (v Removed, err error) {
	return v, c.call(ctx, http.MethodDelete, "datasets/"+url.PathEscape(name), nil, &v)
}

// Block reads one of the daemon's blocks, and checks it.
func (c *Client) Block(ctx context.Context, id cid.Cid) ([]byte, error) {
	resp, err := c.do(ctx, http.MethodGet, "blocks/"+id.String(), nil, nil)
	if e, ok := errors.AsType[*Error](err); ok && e.Status == http.StatusNotFound {
		return nil, fmt.Errorf("%w: %w", shard.ErrNotFound, err)
	} else if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, shard.MaxBlock+1))
	if err != nil {
		return nil, fmt.Errorf("block %s: %w: %w", id, ErrDown, err)
	}
	return data, shard.Check(id, data)
}

// Jobs lists the jobs that the daemon knows.
func (c *Client) Jobs(ctx context.Context) (v []Job, err error) { return v, c.get(ctx, "jobs", &v) }

// Job returns one of them.
func (c *Client) Job(ctx context.Context, id string) (v Job, err error) {
	return v, c.get(ctx, "jobs/"+url.PathEscape(id), &v)
}

// Cancel ends a job that was submitted here.
func (c *Client) Cancel(ctx context.Context, id string) (v Job, err error) {
	return v, c.call(ctx, http.MethodPost, "jobs/"+url.PathEscape(id)+"/cancel", nil, &v)
}

// Rounds reports a job's committed rounds.
func (c *Client) Rounds(ctx context.Context, id string) (v []Round, err error) {
	return v, c.get(ctx, "jobs/"+url.PathEscape(id)+"/rounds", &v)
}

// Metrics returns the steps after since.
func (c *Client) Metrics(ctx context.Context, id string, since uint64) (v []trainer.StepReport, err error) {
	return v, c.get(ctx, "jobs/"+url.PathEscape(id)+"/metrics?since="+strconv.FormatUint(since, 10), &v)
}

// Result returns the tar archive of the job's weights; the caller closes it.
func (c *Client) Result(ctx context.Context, id string, r ResultRequest) (io.ReadCloser, error) {
	q := url.Values{"as": {r.As}, "partial": {strconv.FormatBool(r.Partial)}}
	resp, err := c.do(ctx, http.MethodGet, "jobs/"+url.PathEscape(id)+"/result?"+q.Encode(), nil, nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

func (c *Client) get(ctx context.Context, path string, v any) error {
	return c.call(ctx, http.MethodGet, path, nil, v)
}

func (c *Client) call(ctx context.Context, method, path string, body, v any) error {
	resp, err := c.do(ctx, method, path, body, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(v); err != nil {
		return fmt.Errorf("%s %s: %w: %w", method, path, ErrDown, err)
	}
	return nil
}

// long calls a route that answers with lines.
func (c *Client) long(ctx context.Context, path string, body any, p Progress, v any) error {
	resp, err := c.do(ctx, http.MethodPost, path, body, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	sc := bufio.NewScanner(resp.Body)
	sc.Buffer(nil, maxAnswer)
	for sc.Scan() {
		var l line
		switch err := json.Unmarshal(sc.Bytes(), &l); {
		case err != nil:
			return fmt.Errorf("%s: %w", path, err)
		case l.Error != nil:
			return &Error{l.Status, l.Error.Message}
		case l.Result != nil:
			return json.Unmarshal(l.Result, v)
		case l.Progress != nil && p != nil:
			p(l.Progress.What, l.Progress.Done, l.Progress.Total)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%s: the answer broke off: %w", path, ErrDown)
}

// do sends a request and returns the response of a success; a refusal comes back as *Error.
func (c *Client) do(ctx context.Context, method, path string, body any, header http.Header) (*http.Response, error) {
	addr, token, err := c.find()
	if err != nil {
		return nil, err
	}
	root, err := base(addr)
	if err != nil {
		return nil, err
	}
	req, err := request(ctx, method, root+"/api/v1/"+path, body)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.http.Do(req)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // without the whole URL
		}
		return nil, fmt.Errorf("%w at %s: %w", ErrDown, root, err)
	case resp.StatusCode < 300:
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, refusal(resp)
}

func request(ctx context.Context, method, url string, body any) (*http.Request, error) {
	if body == nil {
		return http.NewRequestWithContext(ctx, method, url, nil)
	}
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(data))
	if err == nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, err
}

func refusal(resp *http.Response) error {
	var f failure
	data, _ := io.ReadAll(io.LimitReader(resp.Body, MaxBody))
	if json.Unmarshal(data, &f) != nil || f.Error.Message == "" {
		f.Error.Message = resp.Status
	}
	return &Error{resp.StatusCode, f.Error.Message}
}
