package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// silence is how long an event stream may say nothing, not even a comment, before it counts as dead.
const silence = 4 * keepAlive

// Events calls fn for every event of a job after the sequence number, until the job is over (nil), fn fails, ctx ends,
// or the daemon goes away (ErrDown).
func (c *Client) Events(ctx context.Context, id string, after uint64, fn func(Event) error) error {
	return c.events(ctx, id, after, func() {}, fn)
}

func (c *Client) events(ctx context.Context, id string, after uint64, opened func(), fn func(Event) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	dog := time.AfterFunc(silence, func() { cancel(fmt.Errorf("%w: silent for %v", ErrDown, silence)) })
	defer dog.Stop()
	header := http.Header{"Last-Event-Id": {strconv.FormatUint(after, 10)}}
	resp, err := c.do(ctx, http.MethodGet, "jobs/"+url.PathEscape(id)+"/events", nil, header)
	if err != nil {
		return cause(ctx, err)
	}
	defer resp.Body.Close()
	opened()
	sc := bufio.NewScanner(resp.Body)
	sc.Buffer(nil, MaxBody)
	for kind := ""; sc.Scan(); {
		dog.Reset(silence)
		field, value, _ := strings.Cut(sc.Text(), ": ")
		switch {
		case field == "event":
			kind = value
		case field == "data" && kind == "end":
			return nil
		case field == "data":
			if err := deliver(kind, []byte(value), fn); err != nil {
				return err
			}
		}
	}
	return cause(ctx, fmt.Errorf("%w: the event stream broke off", ErrDown))
}

func deliver(kind string, data []byte, fn func(Event) error) error {
	if kind == "error" {
		var e Error
		if err := json.Unmarshal(data, &e); err != nil {
			return err
		}
		return &e
	}
	var e Event
	if err := json.Unmarshal(data, &e); err != nil {
		return fmt.Errorf("event stream: %w", err)
	}
	return fn(e)
}

// cause prefers the reason that ctx was given to the error that its end brought about.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return c
	}
	return err
}

// retryEvery is the pause between two attempts to reach a daemon.
const retryEvery = 500 * time.Millisecond

// Patience is how long Follow tries to reach a daemon that went away.
const Patience = 60 * time.Second

// Follow is Events that outlives restarts of the daemon: it reconnects for up to patience after each loss, telling
// lost what happened, and goes on where it stopped.
func (c *Client) Follow(ctx context.Context, id string, after uint64, patience time.Duration, lost func(error), fn func(Event) error) error {
	var since time.Time // of the present silence; zero while connected
	opened := func() { since = time.Time{} }
	for {
		err := c.events(ctx, id, after, opened, func(e Event) error {
			after = e.Seq
			return fn(e)
		})
		if !errors.Is(err, ErrDown) {
			return err
		}
		if since.IsZero() {
			since = time.Now()
			lost(err)
		}
		if time.Since(since) > patience {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retryEvery):
		}
	}
}
