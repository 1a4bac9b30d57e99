package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// keepAlive is how often an event stream says that it is still there, so that a dead daemon is told from a quiet job.
const keepAlive = 5 * time.Second

// events streams a job's events as server-sent events. Last-Event-ID or ?after= resumes; the stream ends with an
// "end" event when the job is over.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if _, err := s.Jobs.Job(r.Context(), id); err != nil {
		writeError(w, err)
		return
	}
	from := r.Header.Get("Last-Event-ID")
	if from == "" {
		from = r.URL.Query().Get("after")
	}
	after, err := number(from, "after")
	if err != nil {
		writeError(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	sse := &sseWriter{w: w, flush: http.NewResponseController(w)}
	stop := sse.keepAlive(r.Context())
	err = s.Jobs.Events(r.Context(), id, after, sse.event)
	stop()
	switch {
	case err == nil:
		sse.send("event: end\ndata: {}\n\n")
	case errors.Is(err, context.Canceled): // the caller went away or the daemon stops: no end, so that callers come back
	default:
		msg, _ := json.Marshal(asError(err))
		sse.send("event: error\ndata: " + string(msg) + "\n\n")
	}
}

type sseWriter struct {
	mu    sync.Mutex // guards w
	w     io.Writer
	flush *http.ResponseController
}

func (s *sseWriter) event(e Event) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return s.send(fmt.Sprintf("id: %d\nevent: %s\ndata: %s\n\n", e.Seq, e.Kind, data))
}

func (s *sseWriter) send(text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := io.WriteString(s.w, text); err != nil {
		return err
	}
	return s.flush.Flush()
}

// keepAlive writes comments until the returned function is called, which waits for the last one.
func (s *sseWriter) keepAlive(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	s.send(": shoal\n\n")
	go func() {
		defer close(done)
		t := time.NewTicker(keepAlive)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				s.send(": still here\n\n")
			}
		}
	}()
	return func() { cancel(); <-done }
}
