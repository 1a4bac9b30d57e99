package replog

import (
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// storage is raft's storage in memory. See the package comment for why memory is enough.
type storage struct {
	*raft.MemoryStorage
	conf  *pb.ConfState // as of the last applied entry
	stale bool          // the snapshot is of other voters than conf
	asked bool          // raft wants a newer snapshot
}

func newStorage() *storage {
	return &storage{MemoryStorage: raft.NewMemoryStorage(), conf: &pb.ConfState{}}
}

// begin writes the snapshot every log starts with: index 1, term 1, and the first voters.
func (s *storage) begin(voters []uint64) {
	s.conf = &pb.ConfState{Voters: voters}
	if err := s.ApplySnapshot(&pb.Snapshot{Metadata: &pb.SnapshotMetadata{
		ConfState: s.conf, Index: new(uint64(1)), Term: new(uint64(1)),
	}}); err != nil {
		panic("replog: " + err.Error()) // the storage is empty
	}
	hs := &pb.HardState{Term: new(uint64(1)), Commit: new(uint64(1))}
	if err := s.SetHardState(hs); err != nil {
		panic("replog: " + err.Error())
	}
}

func (s *storage) save(rd raft.Ready) error {
	if !raft.IsEmptySnap(rd.Snapshot) {
		if err := s.ApplySnapshot(rd.Snapshot); err != nil {
			return err
		}
	}
	if err := s.Append(rd.Entries); err != nil {
		return err
	}
	if raft.IsEmptyHardState(rd.HardState) {
		return nil
	}
	return s.SetHardState(rd.HardState)
}

func (s *storage) first() uint64 {
	i, _ := s.FirstIndex() // MemoryStorage has no errors here
	return i
}

// compact replaces the entries up to index by data. Both errors say that this has been done before.
func (s *storage) compact(index uint64, data []byte) {
	if _, err := s.CreateSnapshot(index, s.conf, data); err != nil {
		return
	}
	s.stale, s.asked = false, false
	_ = s.Compact(index)
}

// Snapshot is what raft sends to a voter that is too far behind. A new voter accepts only one that counts it in.
func (s *storage) Snapshot() (*pb.Snapshot, error) {
	if s.stale {
		s.asked = true
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	return s.MemoryStorage.Snapshot()
}

// quiet drops raft's log lines; what matters of them comes out as Ready or an error. Panics must stay panics: guard
// catches them.
type quiet struct{}

func (quiet) Debug(...any)              {}
func (quiet) Debugf(string, ...any)     {}
func (quiet) Error(...any)              {}
func (quiet) Errorf(string, ...any)     {}
func (quiet) Info(...any)               {}
func (quiet) Infof(string, ...any)      {}
func (quiet) Warning(...any)            {}
func (quiet) Warningf(string, ...any)   {}
func (quiet) Fatal(v ...any)            { panic(v) }
func (quiet) Fatalf(f string, v ...any) { panic(f) }
func (quiet) Panic(v ...any)            { panic(v) }
func (quiet) Panicf(f string, v ...any) { panic(f) }
