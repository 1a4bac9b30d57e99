package replog

import (
	"fmt"
	"slices"

	"github.com/ipfs/go-cid"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/seed-7b27c88a/shoal/p2p/record"
)

// envelope is a message as it travels. The transport vouches for the sending peer; from its boot id follows its raft id.
type envelope struct {
	Job        cid.Cid `cbor:"1,keyasint"`
	Generation uint32  `cbor:"2,keyasint"`
	Reset      cid.Cid `cbor:"3,keyasint,omitzero"`
	FromBoot   uint64  `cbor:"4,keyasint"`
	Raft       []byte  `cbor:"5,keyasint"` // raftpb.Message
}

func (m *Machine) seal(msg *pb.Message) (Send, bool) {
	to, ok := m.voters[msg.GetTo()]
	if !ok {
		return Send{}, false
	}
	data, err := proto.Marshal(msg)
	if err != nil {
		return Send{}, false
	}
	payload, err := record.Encode(envelope{m.cfg.Job, m.cfg.Generation, m.cfg.Reset, m.cfg.Self.Boot, data})
	if err != nil || len(payload) > MaxPayload {
		return Send{}, false
	}
	return Send{To: to.ID, Payload: payload}, true
}

// open checks everything that can be checked without raft's state.
func (m *Machine) open(from record.PeerID, payload []byte) (*pb.Message, Voter, error) {
	env, msg, err := decode(payload)
	if err != nil {
		return nil, Voter{}, err
	}
	if env.Job != m.cfg.Job || env.Generation != m.cfg.Generation || env.Reset != m.cfg.Reset {
		return nil, Voter{}, fmt.Errorf("message of another log (generation %d)", env.Generation)
	}
	sender := Voter{from, env.FromBoot}
	if msg.GetFrom() != sender.raftID() || msg.GetTo() != m.self {
		return nil, Voter{}, fmt.Errorf("message of %s is not from it to this voter", from)
	}
	return msg, sender, nil
}

// decode reads a message of a peer, bounded before anything is allocated for it.
func decode(payload []byte) (envelope, *pb.Message, error) {
	var env envelope
	if len(payload) > MaxPayload {
		return env, nil, fmt.Errorf("message of %d bytes, limit %d", len(payload), MaxPayload)
	}
	if err := record.Decode(payload, &env); err != nil {
		return env, nil, err
	}
	msg := &pb.Message{}
	if err := proto.Unmarshal(env.Raft, msg); err != nil {
		return env, nil, fmt.Errorf("%w: raft message: %w", record.ErrBad, err)
	}
	if !travels(msg.GetType()) {
		return env, nil, fmt.Errorf("%w: raft message type %v does not travel", record.ErrBad, msg.GetType())
	}
	return env, msg, nil
}

// travels lists the messages that voters send each other; proposals are made at the leader only.
func travels(t pb.MessageType) bool {
	switch t {
	case pb.MsgApp, pb.MsgAppResp, pb.MsgVote, pb.MsgVoteResp, pb.MsgPreVote, pb.MsgPreVoteResp, pb.MsgSnap,
		pb.MsgHeartbeat, pb.MsgHeartbeatResp, pb.MsgTimeoutNow:
		return true
	}
	return false
}

// state is the content of a snapshot.
type state struct {
	Voters []Voter `cbor:"1,keyasint"`
	State  []byte  `cbor:"2,keyasint"`
}

func (m *Machine) sealState(app []byte) ([]byte, error) {
	data, err := record.Encode(state{m.named(m.store.conf), app})
	if err != nil {
		return nil, err
	}
	if len(data) > MaxProposal {
		return nil, fmt.Errorf("state of %d bytes, limit %d", len(data), MaxProposal)
	}
	return data, nil
}

// named lists the voters of a configuration, those that are about to leave it included.
func (m *Machine) named(cs *pb.ConfState) (vs []Voter) {
	all := slices.Concat(cs.GetVoters(), cs.GetVotersOutgoing())
	slices.Sort(all)
	for _, id := range slices.Compact(all) {
		vs = append(vs, m.voters[id])
	}
	return vs
}

func openState(data []byte) (st state, err error) {
	if len(data) == 0 { // the snapshot that begins a log
		return st, nil
	}
	if err := record.Decode(data, &st); err != nil {
		return st, err
	}
	return st, bound(st.Voters)
}

func decodeVoters(data []byte, vs *[]Voter) error {
	if err := record.Decode(data, vs); err != nil {
		return err
	}
	return bound(*vs)
}

func bound(vs []Voter) error {
	if len(vs) > maxVoters {
		return fmt.Errorf("%w: %d voters, at most %d", record.ErrBad, len(vs), maxVoters)
	}
	return nil
}
