package node

import (
	"context"
	"errors"

	"github.com/ipfs/go-cid"

	"github.com/seed-7b27c88a/shoal/node/task"
)

// runtime is what runs this node's jobs.
func (n *Node) runtime() (task.Runtime, error) {
	if n.testRuntime != nil {
		return n.testRuntime, nil
	}
	return absent{}, nil
}

// absent stands where the swarm runtime goes.
type absent struct{}

var errAbsent = errors.New("this build cannot take part in jobs; use \"shoal train --local\"")

func (absent) Run(context.Context, task.Task, func(task.Event)) error  { return errAbsent }
func (absent) Cancel(context.Context, cid.Cid) error                   { return errAbsent }
func (absent) Export(context.Context, task.Task, string, string) error { return errAbsent }
