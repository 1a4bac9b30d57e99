package api

import (
	"encoding/json"
	"mime"
	"net/http"
	"sync"
	"time"
)

// MaxBody bounds a request's body, bytes.
const MaxBody = 1 << 20

// Server serves the API. Node, Swarm, Library and Jobs are required.
type Server struct {
	Node    Node
	Swarm   Swarm
	Library Library
	Jobs    Jobs

	Checkpoints Checkpoints

	Web     http.Handler // pages at /; nil: none
	Metrics http.Handler // at /metrics; nil: none
	Token   string       // bearer token; accepted everywhere, required when Remote
	Remote  bool         // the listener is reachable from other machines
}

// Handler returns the routes behind the guard.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	s.nodeRoutes(mux)
	s.swarmRoutes(mux)
	s.libraryRoutes(mux)
	s.jobRoutes(mux)
	s.checkpointRoutes(mux)
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, NotFound("no route %s %s", r.Method, r.URL.Path))
	})
	if s.Metrics != nil {
		mux.Handle("GET /metrics", s.Metrics)
	}
	if s.Web != nil {
		mux.Handle("/", s.Web)
	}
	return s.guard(mux)
}

// HTTP returns a server with limits that suit a local API. WriteTimeout is absent: event streams live long.
func (s *Server) HTTP() *http.Server {
	return &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
}

// answer wraps a call whose result is one JSON value.
func answer[T any](call func(*http.Request) (T, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := call(r)
		if err != nil {
			writeError(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(v)
	}
}

// line is one line of a long call's answer; exactly one field is set.
type line struct {
	Progress *progress       `json:"progress,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	Error    *Error          `json:"error,omitempty"`
	Status   int             `json:"status,omitempty"` // beside Error: the HTTP status it would have had
}

type progress struct {
	What  string `json:"what"`
	Done  int64  `json:"done"`
	Total int64  `json:"total"`
}

// long wraps a call that reports progress while it runs, at most ten times a second. A refusal in its first moments has the
// HTTP status that fits; later the answer has begun, and the status stands beside the error.
func long[T any](call func(*http.Request, Progress) (T, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		out := &lines{w: w, flush: http.NewResponseController(w), begun: time.Now()}
		v, err := call(r, out.progress)
		var data []byte
		if err == nil {
			data, err = json.Marshal(v)
		}
		switch {
		case err == nil:
			out.write(line{Result: data})
		case out.hasStarted():
			e := asError(err)
			out.write(line{Error: e, Status: e.Status})
		default:
			writeError(w, err)
		}
	}
}

// lines writes the lines of a long call; progress may be told from several goroutines.
type lines struct {
	mu    sync.Mutex // guards all below
	w     http.ResponseWriter
	flush *http.ResponseController
	last  time.Time
	what  string

	begun   time.Time
	held    []line // of the first moments, while the answer may still become a refusal
	started bool   // something was written
}

// moments is how long progress is held back, and maxHeld how much of it.
const (
	moments = 200 * time.Millisecond
	maxHeld = 16
)

func (l *lines) hasStarted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.started
}

// start writes what was held. The caller holds mu.
func (l *lines) start() {
	l.started = true
	l.w.Header().Set("Content-Type", "application/x-ndjson")
	enc := json.NewEncoder(l.w)
	for _, v := range l.held {
		enc.Encode(v)
	}
	l.held = nil
}

func (l *lines) progress(what string, done, total int64) {
	l.mu.Lock()
	now := time.Now()
	skip := what == l.what && done < total && now.Sub(l.last) < 100*time.Millisecond
	if !skip {
		l.last, l.what = now, what
	}
	v := line{Progress: &progress{what, done, total}}
	if !l.started && !skip && now.Sub(l.begun) < moments && len(l.held) < maxHeld {
		l.held, skip = append(l.held, v), true
	}
	l.mu.Unlock()
	if !skip {
		l.write(v)
	}
}

func (l *lines) write(v line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.started {
		l.start()
	}
	json.NewEncoder(l.w).Encode(v)
	l.flush.Flush()
}

// wantJSON refuses other media types, which keeps the forms of web pages out.
func wantJSON(r *http.Request) error {
	if mt, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mt != "application/json" {
		return &Error{http.StatusUnsupportedMediaType, "send Content-Type: application/json"}
	}
	return nil
}
