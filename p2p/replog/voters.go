package replog

import (
	"slices"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// changeTicks is how long a leader waits before it proposes a change of voters again.
const changeTicks = ElectionTicks / 2

// SetVoters says who should vote. Whoever leads brings it about, by one joint change at a time, so that neither the
// old nor the new voters alone can decide in between. It may be said again and by every voter.
func (m *Machine) SetVoters(vs []Voter) {
	if len(vs) == 0 || len(vs) > maxVoters || slices.Equal(m.want, vs) {
		return
	}
	m.want, m.change = slices.Clone(vs), 0
	for _, v := range vs {
		m.voters[v.raftID()] = v
	}
	if m.Leads() {
		m.guard(func() error { m.proposeVoters(); return nil })
	}
}

// proposeVoters brings the voters one step nearer to those wanted. raft refuses while another change is on its way.
func (m *Machine) proposeVoters() {
	if m.want == nil || m.change > 0 || m.joint {
		return
	}
	changes := diff(m.conf, ids(m.want))
	if len(changes) == 0 {
		return
	}
	ctx, err := record.Encode(m.want)
	if err != nil {
		return
	}
	m.change = changeTicks
	// An error means that raft takes no proposals just now; the next tick after changeTicks tries again.
	_ = m.node.ProposeConfChange(&pb.ConfChangeV2{Changes: changes, Context: ctx})
}

func diff(have, want []uint64) (cs []*pb.ConfChangeSingle) {
	for _, id := range want {
		if !slices.Contains(have, id) {
			cs = append(cs, &pb.ConfChangeSingle{Type: pb.ConfChangeAddNode.Enum(), NodeId: new(id)})
		}
	}
	for _, id := range have {
		if !slices.Contains(want, id) {
			cs = append(cs, &pb.ConfChangeSingle{Type: pb.ConfChangeRemoveNode.Enum(), NodeId: new(id)})
		}
	}
	return cs
}

// learn reads the names of voters that a change brings. The change that leaves a joint configuration has none.
func (m *Machine) learn(ctx []byte) error {
	if len(ctx) == 0 {
		return nil
	}
	var vs []Voter
	if err := decodeVoters(ctx, &vs); err != nil {
		return err
	}
	for _, v := range vs {
		m.voters[v.raftID()] = v
	}
	return nil
}

func ids(vs []Voter) []uint64 {
	out := make([]uint64, len(vs))
	for i, v := range vs {
		out[i] = v.raftID()
	}
	slices.Sort(out)
	return out
}
