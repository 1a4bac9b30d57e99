package worker

import (
	"context"
	"time"

	"github.com/seed-7b27c88a/shoal/node/coord"
	"github.com/seed-7b27c88a/shoal/p2p/record"
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
func (j *Job) loop(m *coord.Machine, first []coord.Effect) {
	started := time.Now()
	tick := time.NewTicker(coord.TickEvery)
	defer tick.Stop()
	j.perform(first)
	for {
		select {
		case e := <-j.events:
			j.perform(m.Step(e))
		case <-tick.C:
			j.perform(m.Step(coord.Tick{Now: time.Since(started)}))
		case <-j.ctx.Done():
			return
		}
	}
}

func (j *Job) perform(effects []coord.Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case coord.Send:
			j.send(e.To, topicMessage, e.Msg)
		case coord.SendLog:
			j.sendRaw(e.To, topicLog, e.Payload)
		case coord.Save, coord.Logged:
			j.persist(e)
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

// performRound passes on what concerns the round in work.
func (j *Job) performRound(e coord.Effect) {
	switch e := e.(type) {
	case coord.Start:
		j.group.Plan(e.Plan)
		j.rounds.start(e)
	case coord.Cut:
		j.group.Cut(e.Key, e.Set)
	case coord.Release:
		j.group.Release(e.Key, e.Totals)
		j.rounds.release(e)
	case coord.Committed:
		j.group.Commit(e.Key)
	case coord.Finish:
		j.rounds.finish(e)
	default:
		j.log.Error("coordination asked for something this node does not know", "effect", e)
	}
}

// tell passes on what people see.
func (j *Job) tell(e coord.Effect) {
	switch e := e.(type) {
	case coord.Report:
		j.observe(Round{e.Round})
	case coord.Note:
		j.observe(Note{e.Text})
	case coord.End:
		j.rounds.end()
		j.observe(Ended{State: e.State, Why: e.Why})
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
	if err := j.net.Send(to, j.topic(topic), payload); err != nil {
		j.log.Debug("control message not sent", "to", to, "topic", topic, "err", err)
	}
}

// receive hands control messages to the machine. A message that does not decode is dropped where it came from.
func (j *Job) receive() {
	j.net.Handle(j.topic(topicMessage), func(from record.PeerID, payload []byte) {
		var msg record.Signed
		if err := record.Decode(payload, &msg); err != nil {
			j.log.Warn("dropped a malformed control message", "from", from, "err", err)
			return
		}
		j.post(coord.Message{From: from, Msg: &msg})
	})
	j.net.Handle(j.topic(topicLog), func(from record.PeerID, payload []byte) {
		j.post(coord.LogMessage{From: from, Payload: payload})
	})
}

// train runs the trainer until the job is over: it restarts it whenever this member's state was replaced.
func (j *Job) train(ctx context.Context) error {
	for {
		err := j.trainer.Run(ctx, j.rounds, j.rounds, j.stepped)
		if !excluded(err) {
			return err
		}
		if err := j.restored(ctx); err != nil {
			return err
		}
	}
}
