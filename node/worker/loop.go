package worker

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/seed-7b27c88a/shoal/node/coord"
	"github.com/seed-7b27c88a/shoal/node/task"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/swarm"
)

// post gives the coordination an event; it returns when the loop took it or the job ended.
func (j *Job) post(e coord.Event) {
	select {
	case j.events <- e:
	case <-j.ctx.Done():
	}
}

// loop owns the coord.Machine: it alone steps it and performs what comes out, in order. Nothing it does waits for the
// network, the trainer or a disk sync other than Save's, so that ticks keep coming and a wedged node loses the lead
// only when it is really wedged.
func (j *Job) loop(m *coord.Machine) {
	started := time.Now()
	tick := time.NewTicker(coord.TickEvery)
	defer tick.Stop()
	j.obey(m)
	for {
		select {
		case f := <-j.calls:
			f(m)
		case e := <-j.events:
			j.log.Debug("event", "event", brief{e})
			m.At(time.Since(started))
			j.perform(m.Step(e))
		case <-tick.C:
			now := time.Since(started)
			j.perform(m.Step(coord.Tick{Now: now}))
			j.watchLink(m, now)
		case <-j.ctx.Done():
			return
		}
	}
}

func (j *Job) perform(effects []coord.Effect) {
	j.persist(effects)
	for _, e := range effects {
		j.log.Debug("effect", "effect", brief{e})
		switch e := e.(type) {
		case coord.Send:
			j.send(e.To, topicMessage, e.Msg)
		case coord.SendLog:
			j.sendRaw(e.To, topicLog, e.Payload)
		case coord.Save, coord.Logged: // see persist
		case coord.Publish:
			j.publish(e.Entry)
		case coord.Fetch, coord.WriteCheckpoint, coord.KeepCheckpoint, coord.Rollback:
			j.performState(e)
		case coord.Report, coord.Note, coord.End:
			j.tell(e)
		default:
			j.performRound(e)
		}
	}
}

// brief is an event or effect as the debug log shows it: rendered only when somebody looks, never with its vectors.
type brief struct{ v any }

func (b brief) LogValue() slog.Value {
	switch v := b.v.(type) {
	case coord.Message:
		return slog.StringValue(fmt.Sprintf("%T from %s", v, v.From))
	case coord.Send:
		return slog.StringValue(fmt.Sprintf("%T to %s", v, v.To))
	case coord.Stepped, coord.Restored, coord.Unfetched, coord.Stored, coord.Peer, coord.Fetch, coord.KeepCheckpoint,
		coord.WriteCheckpoint, coord.Rollback, coord.End, coord.Note:
		return slog.StringValue(fmt.Sprintf("%T%+v", v, v))
	}
	return slog.StringValue(fmt.Sprintf("%T", b.v))
}

// performRound passes on what concerns the round in work.
func (j *Job) performRound(e coord.Effect) {
	switch e := e.(type) {
	case coord.Start:
		j.group.Plan(e.Plan)
		j.startFlow(e.Flow)
		j.startRound(e)
		if j.moments != nil {
			j.provide(e.Plan)
		}
	case coord.Seal:
		j.rounds.seal(e.Piece)
		j.flow.End()
	case coord.Cut:
		j.group.Cut(e.Key, e.Set)
		if j.moments != nil && j.rounds.inVain(e) {
			j.state.interrupt() // it has to step; what it computes does not count
		}
	case coord.Release:
		j.group.Release(e.Key, e.Totals)
		j.rounds.release(e)
	case coord.Committed:
		j.group.Commit(e.Key)
		if j.moments != nil {
			j.moments.committed(e.Key, j.rounds.brought())
		}
	case coord.Finish:
		if !j.rounds.finish(e) {
			j.log.Warn("the result of a committed round is not here any more", "round", e.Key.Round)
			go j.post(coord.Unstaged{Commit: e.Commit}) // not by the loop itself
		}
	default:
		j.log.Error("coordination asked for something this node does not know", "effect", e)
	}
}

// fail tells the coordination that this node cannot go on. The loop itself calls it, so it does not wait.
func (j *Job) fail(why string) {
	j.log.Error("leaving the job", "why", why)
	go j.post(coord.Failed{Why: why})
}

// tell passes on what people see.
func (j *Job) tell(e coord.Effect) {
	switch e := e.(type) {
	case coord.Report:
		r := roundReport(e.Round)
		if j.flow != nil {
			r.Waited = j.flow.Waited(r.Round).Seconds()
		}
		j.report(task.Round{RoundReport: r})
	case coord.Note:
		j.note(e.Text)
	case coord.End:
		j.rounds.end()
		j.dropKeeps(slices.Max(append(slices.Collect(maps.Keys(j.keeps)), 0))) // the last one is the result
		select {
		case j.over <- task.Ended{State: e.State, Why: e.Why}:
		default: // it ended before
		}
	}
}

func (j *Job) send(to record.PeerID, topic string, msg *record.Signed) {
	b, err := record.Encode(msg)
	if err != nil {
		j.log.Error("encode a control message", "err", err)
		return
	}
	j.sendRaw(to, topic, b)
}

// sendRaw does not report errors: delivery is at most once by contract, and the machine repeats what must arrive.
func (j *Job) sendRaw(to record.PeerID, topic string, payload []byte) {
	if err := j.Host.Control().Send(to, j.topic(topic), payload); err != nil {
		j.log.Debug("control message not sent", "to", to, "topic", topic, "err", err)
	}
}

// publish repeats an entry on the swarm's gossip, for those who are not connected to a keeper.
func (j *Job) publish(entry *record.Signed) {
	b, err := record.Encode(entry)
	if err == nil {
		err = j.Host.Gossip().Publish(j.ctx, swarm.Topic(j.Host.Swarm(), "entries"), b)
	}
	if err != nil {
		j.log.Debug("entry not published", "err", err)
	}
}

// receive hands what comes from peers to the loop until stop is called. What does not decode is dropped here.
func (j *Job) receive() (stop func()) {
	control := j.Host.Control()
	stops := []func(){
		control.Handle(j.topic(topicMessage), j.receiveMessage),
		control.Handle(j.topic(topicLog), func(from record.PeerID, payload []byte) {
			j.post(coord.LogMessage{From: from, Payload: payload})
		}),
		control.Handle(j.topic(topicStateAsk), j.answer),
		control.Handle(j.topic(topicStateAnswer), j.asks.answered),
		control.Handle(j.topic(topicBest), j.heardBest),
		j.Host.Watch(j.peerChanged),
	}
	if m := j.moments; m != nil {
		m.join(j.task.ID, m)
		stops = append(stops, func() { m.leave(j.task.ID) },
			control.Handle(j.topic(topicMomentsAsk), j.asked), control.Handle(j.topic(topicMomentsAnswer), m.answered),
			control.Handle(j.topic(topicPartAsk), j.askedForPart), control.Handle(j.topic(topicPartAnswer), j.parts.asks.answered))
	}
	return func() {
		j.stop() // first: a handler may be waiting to post
		for _, f := range stops {
			f()
		}
	}
}

func (j *Job) receiveMessage(from record.PeerID, payload []byte) {
	var msg record.Signed
	if err := record.Decode(payload, &msg); err != nil {
		j.log.Warn("dropped a malformed control message", "from", from, "err", err)
		return
	}
	j.post(coord.Message{From: from, Msg: &msg})
}

func (j *Job) peerChanged(id record.PeerID, up bool) {
	if up {
		j.group.Reachable(id)
		if j.task.Spec.Eval.KeepBest {
			j.greetBest(id)
		}
	}
	j.post(coord.Peer{ID: id, Up: up})
}

// roundReport is r as people read it.
func roundReport(r coord.RoundReport) task.RoundReport {
	out := task.RoundReport{Round: r.Round, Generation: r.Generation, Commit: r.Commit.String(), Attempts: r.Attempts, Tokens: r.Totals.Weight, Seconds: (r.Collect + r.Gather).Seconds()}
	out.Collect, out.Leader = r.Collect.Seconds(), r.Leader
	for _, c := range r.Counted {
		m := task.RoundMember{Peer: c.Peer, Stage: c.Stage}
		for _, p := range c.Ranges {
			m.Positions = append(m.Positions, [2]uint64{p.Lo, p.Hi})
		}
		out.Members = append(out.Members, m)
	}
	for _, a := range r.Absent {
		n := int(a.Attempt) + 1 // people count from one
		out.Members = append(out.Members, task.RoundMember{
			Peer: a.Peer, Left: fmt.Sprintf("attempt %d, %s: %s", n, a.Phase, a.Why), Attempt: n, Phase: a.Phase, Why: a.Why,
		})
	}
	return out
}
