// Package api is the daemon's local HTTP interface under /api/v1: the JSON it speaks, the handlers (one file per
// resource), and the Go client that the command line uses.
//
// The handlers know the daemon only through Node, Library and Jobs, which package node implements. A long call
// (import, submit) answers with a stream of JSON lines: any number of {"progress": …}, then one {"result": …} or
// {"error": …}. A job's events are a server-sent event stream that resumes after any sequence number.
//
// Who may call. On a loopback address the Host header must name this machine and Origin, if there, must be the same
// host, so that a web page cannot reach the node through DNS rebinding or a forged form. On any other address every
// call needs the bearer token in the home's api.token. Bodies and answers are bounded. Handlers and Client are safe
// for concurrent use.
package api

import (
	"context"
	"io"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/node/task"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
)

// Node tells about the daemon itself.
type Node interface {
	Info(ctx context.Context) (Info, error)
	Peers(ctx context.Context) ([]Peer, error)
	Doctor(ctx context.Context) ([]Check, error)
	// Pause stops work within a second, for some time or until Resume; the schedule may still hold it back then.
	Pause(ctx context.Context, r PauseRequest) (Info, error)
	Resume(ctx context.Context) (Info, error)
	// Limits are the owner's, as text under the keys of the configuration; SetLimits changes some, also for later starts.
	Limits(ctx context.Context) (map[string]string, error)
	SetLimits(ctx context.Context, changes map[string]string) (map[string]string, error)
}

// PauseRequest says for how long.
type PauseRequest struct {
	For float64 `json:"for,omitempty"` // seconds; 0: until resumed
}

// Library keeps models and data under names.
type Library interface {
	Models(ctx context.Context) ([]Item, error)
	ImportModel(ctx context.Context, r ImportRequest, p Progress) (Item, error)
	Datasets(ctx context.Context) ([]Item, error)
	AddDataset(ctx context.Context, r ImportRequest, p Progress) (Item, error)
	// RemoveModel and RemoveDataset forget what has a name. Jobs that use it keep it until they are over.
	RemoveModel(ctx context.Context, name string) (Removed, error)
	RemoveDataset(ctx context.Context, name string) (Removed, error)
	// Block returns the bytes of what is stored, or shard.ErrNotFound.
	Block(ctx context.Context, c cid.Cid) ([]byte, error)
}

// Jobs runs fine-tune jobs. A job is named by its CID, an unambiguous prefix of it, or its name.
type Jobs interface {
	Submit(ctx context.Context, spec job.Spec, p Progress) (Job, error)
	Jobs(ctx context.Context) ([]Job, error)
	Job(ctx context.Context, id string) (Job, error)
	Cancel(ctx context.Context, id string) (Job, error)
	// Remove forgets an own job that is over, with its log and result, and frees its blocks.
	Remove(ctx context.Context, id string) (Removed, error)
	Rounds(ctx context.Context, id string) ([]Round, error)
	// Metrics returns the lines of metrics.jsonl for steps after since, in step order.
	Metrics(ctx context.Context, id string, since uint64) ([]trainer.StepReport, error)
	// Events calls fn for every event after the sequence number, in order, then waits for more until the job is over,
	// fn fails, or ctx ends.
	Events(ctx context.Context, id string, after uint64, fn func(Event) error) error
	// Result writes what r asks for as a tar archive: a PEFT or Hugging Face directory, and metrics.jsonl.
	Result(ctx context.Context, id string, r ResultRequest, w io.Writer) error
}

// Progress is told how far a long call is: total 0 means unknown.
type Progress func(what string, done, total int64)

// Info is the node on one screen.
type Info struct {
	ID        string   `json:"id"`
	Name      string   `json:"name,omitempty"`
	Version   string   `json:"version"`
	Addresses []string `json:"addresses"` // multiaddrs with /p2p/
	Swarm     string   `json:"swarm"`
	Peers     int      `json:"peers"`
	Relayed   int      `json:"relayed"`            // of those, reached through a relay alone
	Device    string   `json:"device"`             // cpu, cuda:0
	Hardware  string   `json:"hardware,omitempty"` // as the device names itself
	Kernel    string   `json:"kernel,omitempty"`   // microkernel family: avx512, avx2, generic
	Workers   int      `json:"workers,omitempty"`
	API       string   `json:"api"`
	Home      string   `json:"home"`
	Uptime    float64  `json:"uptime"`             // seconds
	Jobs      int      `json:"jobs"`               // running now
	Paused    string   `json:"paused,omitempty"`   // why the node takes no work
	Tried     []Tried  `json:"tried,omitempty"`    // how looking for peers went
	Problems  []Check  `json:"problems,omitempty"` // of the network; the doctor has the rest

	Reachability *Reachability `json:"reachability,omitempty"` // nil: the node does not deal with the internet
}

// Reachability is whether and how others open connections to the node.
type Reachability struct {
	Verdict  string   `json:"verdict"`            // the rest in one line, for people
	State    string   `json:"state"`              // public | private | unknown
	Forced   bool     `json:"forced,omitempty"`   // configured, not tested
	NAT      string   `json:"nat,omitempty"`      // none | cone | symmetric; empty: too few peers to tell
	Seen     []string `json:"seen,omitempty"`     // where peers see the node
	Relays   []string `json:"relays,omitempty"`   // peers through which it is reached
	Carries  bool     `json:"carries,omitempty"`  // it is a relay itself
	DHT      string   `json:"dht"`                // server | client
	Table    int      `json:"table"`              // nodes in the DHT's routing table
	Rejected []string `json:"rejected,omitempty"` // interfaces not told to others
}

// Tried is one address or service that was asked for peers, and what came of it.
type Tried struct {
	What  string `json:"what"`
	Error string `json:"error,omitempty"`
	Fix   string `json:"fix,omitempty"` // what to do about the error
}

// Peer is a connected node.
type Peer struct {
	ID        string   `json:"id"`
	Addresses []string `json:"addresses"`
	Latency   float64  `json:"latency"` // seconds, 0: not measured yet
	Path      string   `json:"path"`    // direct | relayed
	Direction string   `json:"direction"`
}

// Check is one line of the doctor's report.
type Check struct {
	Name   string `json:"name"`
	Part   string `json:"part,omitempty"` // net, gpu: shown by "doctor net", "doctor gpu" too
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`        // what was found
	Fix    string `json:"fix,omitempty"` // what to try when not ok
}

// Item is a stored model or dataset.
type Item struct {
	Name    string `json:"name"`
	CID     string `json:"cid"`
	Kind    string `json:"kind"`
	Bytes   int64  `json:"bytes"`
	Detail  string `json:"detail,omitempty"` // "llama, 260,032 parameters" or "200 rows, tokens"
	Skipped int    `json:"skipped,omitempty"`

	Replaced string `json:"replaced,omitempty"` // CID of what had the name before this import
}

// ImportRequest names something to take in.
type ImportRequest struct {
	Path string `json:"path"`           // directory, file, or hf:owner/name[@rev]
	Name string `json:"name,omitempty"` // default: the last element of Path
	Type string `json:"type,omitempty"` // of data rows; empty: detected by keys
}

// ResultRequest says how a job's weights are wanted.
type ResultRequest struct {
	As      string // a form of job.Spec.Forms; empty: what the spec lists, or the plain one
	Partial bool   // the newest settled checkpoint of a job that is not over will do
}

// MetricsFile is the name of a job's metrics inside its result.
const MetricsFile = "metrics.jsonl"

// EvalFile is the same for measurements on held-out rows; absent where nothing was held out.
const EvalFile = "eval.jsonl"

// States of a job.
const (
	Waiting   = "waiting" // for peers, or for its turn
	Running   = "running"
	Done      = "done"
	Failed    = "failed"
	Cancelled = "cancelled"
	Left      = "left" // this node left; the job may go on elsewhere
)

// Job is a job as this node knows it.
type Job struct {
	ID        string    `json:"id"` // CID of the signed job record
	Name      string    `json:"name"`
	State     string    `json:"state"`
	Why       string    `json:"why,omitempty"`
	Mine      bool      `json:"mine"` // submitted here
	Submitter string    `json:"submitter"`
	Created   time.Time `json:"created"`
	Step      uint64    `json:"step"`  // last committed
	Steps     uint64    `json:"steps"` // in all
	Loss      float64   `json:"loss,omitempty"`
	Peers     int       `json:"peers"`
	Settled   uint64    `json:"settled"`                // step of the newest settled checkpoint
	State256  string    `json:"state_sha256,omitempty"` // of weights and moments at Step on this node; equal on all members
	Model     string    `json:"model"`
	Events    uint64    `json:"events"` // sequence number of the newest event
	Spec      job.Spec  `json:"spec"`
}

// Removed says what became of a job, a model or data that is forgotten.
type Removed struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Freed int64  `json:"freed"`           // bytes of disk
	Later bool   `json:"later,omitempty"` // they are freed when no job runs any more
}

// Over tells that nothing more will happen to the job on this node.
func (j Job) Over() bool { return Final(j.State) }

// Final tells that a job in this state goes no further here.
func Final(state string) bool {
	return state == Done || state == Failed || state == Cancelled || state == Left
}

// Round is the report of a committed round.
type Round = task.RoundReport

// Kinds of event.
const (
	EventStep  = "step"  // an optimizer step is committed: Step
	EventBack  = "back"  // the job continues from step To; later steps are void
	EventEval  = "eval"  // the weights of a step were measured on the held-out rows: Eval
	EventNote  = "note"  // something a person should see: Text
	EventState = "state" // the job's state changed: State, Text says why
)

// Event is one line of a job's log.
type Event struct {
	Seq   uint64              `json:"seq"` // from 1, without gaps
	Time  time.Time           `json:"time"`
	Kind  string              `json:"kind"`
	Step  *trainer.StepReport `json:"step,omitempty"`
	Eval  *trainer.EvalReport `json:"eval,omitempty"`
	To    uint64              `json:"to,omitempty"`
	State string              `json:"state,omitempty"`
	Text  string              `json:"text,omitempty"`
}

// Files in a node's home.
const (
	AddrFile  = "api"       // the API's real address, while a daemon runs
	TokenFile = "api.token" // bearer token
)
