package coord

import (
	"time"

	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/pipe"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/shard"
)

// Pipeline is what coordination knows of a model that is computed in stages.
type Pipeline struct {
	Units int       // of the model: embedding 0, blocks, head
	Of    [][]int   // per chunk of Genesis.Chunks: the units whose gradient it holds (two for tied embeddings)
	Cost  []float64 // per unit, in any measure: what a micro-batch takes there; nil: all the same
	Elems int       // of what a micro-batch hands from stage to stage
	Bytes int       // of the same on the wire

	// Arrange gives nodes that are ready their stages. now is those in force (nil: none), whoever is gone included: where
	// nodes suffice for these, it returns them, with who is there in its place and who is new in one. An error says what is
	// missing. It depends on its arguments alone.
	Arrange func(nodes []Node, now []Stage) ([]Stage, error)
}

// Node is who may hold a stage.
type Node struct {
	ID         record.PeerID
	Boot       uint64
	Capability Capability
	Pace       time.Duration // per micro-batch and unit of mean Cost, both ways, measured; 0: unknown
}

// Stage is the units [Lo, Hi) and the members that hold all of them.
type Stage struct {
	Lo, Hi  int
	Members []record.PeerID
}

// Flow is this member's part in a pipeline, in Start.
type Flow struct {
	Begin  bool            // start afresh: Line.Begin(Pipe), then Lost; else go on, with Lost
	Pipe   pipe.Plan       // its key is that of the attempt that began it
	Micros [][]shard.Range // positions (stream indexes) per micro-batch
	Part   [2]int          // units [Lo, Hi) of this member; its trainer must hold them
	Lost   []record.PeerID // all of them, in every attempt
	Piece  collective.PieceID
}

// Seal: every stage has every micro-batch once. The pipe ends (Line.End), and this member's piece is handed to the
// collective under Piece.
type Seal struct {
	Key   collective.Key // of the plan in force
	Piece collective.PieceID
}

type (
	// FlowDone says that a micro-batch is part of this member's sum (pipe.Events.Finished). Key is the pipe's; Took is what
	// both its passes took here.
	FlowDone struct {
		Key   collective.Key
		Micro uint32
		Took  time.Duration
	}
	// FlowLost says that a frame could not be delivered (pipe.Events.Unreachable): a hint.
	FlowLost struct {
		Key collective.Key
		ID  record.PeerID
	}
)

func (Seal) effect()    {}
func (FlowDone) event() {}
func (FlowLost) event() {}
