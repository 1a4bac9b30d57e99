package worker

import (
	"context"
	"errors"
	"time"

	"github.com/seed-7b27c88a/shoal/node/coord"
	"github.com/seed-7b27c88a/shoal/node/task"
	"github.com/seed-7b27c88a/shoal/p2p/collective"
	"github.com/seed-7b27c88a/shoal/p2p/collective/exact"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/shard"
	"github.com/seed-7b27c88a/shoal/shard/layout"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
)

// leaveTime is what a clean leave may take; a node ends within 5 s of being asked to.
const leaveTime = 2 * time.Second

// lingerTime is how long a node goes on telling about a job that is over. A guess: a submitter who was away for a
// night finds the result in the morning.
const lingerTime = 24 * time.Hour

// Topics of a job's control messages.
const (
	topicMessage     = "coord"
	topicLog         = "log"
	topicStateAsk    = "state?"
	topicStateAnswer = "state"

	topicMomentsAsk    = "moments?"
	topicMomentsAnswer = "moments"
	topicPartAsk       = "part?"
	topicPartAnswer    = "part"
)

func (j *Job) topic(name string) string { return "job/" + j.task.ID.String() + "/" + name }

// run gets what the job needs, takes part, and returns when the job is over here or ctx asked for a leave. lingers says
// that the job's coordination goes on.
func (j *Job) run(ctx context.Context) (lingers bool, err error) {
	m, err := j.materials(ctx)
	if err != nil {
		return false, j.startFailed(ctx, err)
	}
	if err := j.openScratch(); err != nil {
		return false, j.startFailed(ctx, err)
	}
	if err := j.openFlow(m); err != nil {
		return false, j.startFailed(ctx, err)
	}
	defer j.flow.close()
	if j.trainer, err = j.newTrainer(m); err != nil {
		return false, j.startFailed(ctx, err)
	}
	defer j.trainer.Close()
	if j.task.Mine { // the one who wants to know
		if err := j.findMeasure(ctx, m); err != nil {
			return false, j.startFailed(ctx, err)
		}
	}
	if err := j.loadBest(); err != nil {
		return false, j.startFailed(ctx, err)
	}
	machine, err := j.join()
	if err != nil {
		return false, j.startFailed(ctx, err)
	}
	return j.takePart(ctx, machine)
}

func (j *Job) newTrainer(m *materials) (*trainer.Trainer, error) { return trainer.New(j.config(m)) }

// idleTrainer is a trainer beside the one that works: it has no second copy of the frozen weights.
func (j *Job) idleTrainer(m *materials) (*trainer.Trainer, error) {
	c := j.config(m)
	c.Idle = true
	return trainer.New(c)
}

func (j *Job) config(m *materials) trainer.Config {
	c := trainer.Config{Spec: &j.task.Spec, Model: m.model, Adapter: m.adapter, Rows: m.rows, Device: j.Device, Scratch: j.scratch, Owners: true}
	if j.flow != nil {
		c.Whole, c.Line = true, j.flow
	}
	return c
}

// startFailed ends a job that could not begin here.
func (j *Job) startFailed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil // asked to leave before it began; it begins again at the next start
	}
	if errors.Is(err, shard.ErrFull) {
		return err // it begins again when there is room
	}
	j.report(task.Ended{State: "failed", Why: err.Error()})
	return err
}

// join makes this node's part of the job's coordination, as it was when it was last saved.
func (j *Job) join() (*coord.Machine, error) {
	spine, err := j.loadSpine()
	if err != nil {
		return nil, err
	}
	self := coord.Self{ID: j.Host.ID(), Boot: j.Host.Boot(), Signer: coord.Keys{ID: j.Host.ID(), Key: j.Host.Key()}}
	g, err := j.genesis()
	if err != nil {
		return nil, err
	}
	g.Ordered = j.task.Order.Number
	return coord.New(g, self, j.capability(0), spine)
}

// genesis is what the job's terms fix for its coordination.
func (j *Job) genesis() (coord.Genesis, error) {
	l, err := j.trainer.Layout()
	if err != nil {
		return coord.Genesis{}, err
	}
	s := &j.task.Spec
	g := coord.Genesis{
		Job:             j.task.ID,
		Submitter:       j.task.Terms.Submitter,
		Rows:            j.task.Terms.Rows,
		Batch:           uint64(s.GlobalBatchSize),
		MicroBatch:      s.MicroBatchSize,
		Steps:           j.trainer.Steps(),
		MinPeers:        s.Swarm.MinPeers,
		MaxPeers:        s.Swarm.MaxPeers,
		CheckpointEvery: uint64(s.Checkpoint.EverySteps),
		BadRounds:       badRounds,
		Again:           s.DType != job.FP16,
	}
	if s.DType == job.FP16 {
		g.BadRounds = badRoundsFP16
	}
	if j.trainer.OwnersStep() {
		g.OwnersStep = true
		if s.Parallel.Chunks > 0 {
			g.Slack = 2 * layout.Slack
		}
		if n := j.trainer.Weights(); n < len(l.Chunks) {
			g.Weights = n
		}
	}
	if g.Codec, err = exact.Parse(s.Wire.Gradients); err != nil {
		return coord.Genesis{}, err
	}
	_, g.Samples = s.Batch(g.Rows, g.Steps)
	if s.Parallel.Sync == job.DiLoCo {
		g.Inner = uint64(s.Parallel.InnerSteps)
	}
	if j.flow != nil {
		g.Pipeline = j.flow.pipeline(len(l.Chunks))
	}
	for _, c := range l.Chunks {
		g.Chunks = append(g.Chunks, collective.Chunk{Lo: c.Lo, Hi: c.Hi, Unit: c.Unit})
	}
	return g, nil
}

// How many steps in a row may not be finite before the job goes back. In fp16 such steps are normal until the loss scale
// fits: from its usual start, 2^16, it takes 40 halvings to its floor of 2^-24 (trainer.LossScale).
const (
	badRounds     = 5
	badRoundsFP16 = 40
)

// takePart starts everything that belongs to the job and waits for its end.
func (j *Job) takePart(ctx context.Context, m *coord.Machine) (lingers bool, err error) {
	self := collective.Member{ID: j.Host.ID(), Boot: j.Host.Boot()}
	j.state = newStateKeeper(j.trainer)
	j.rounds = newRounds(self, j.pace.start, func(k collective.Mark, v []float32) {
		j.group.Local(k, v)
		j.announce()
	})
	j.rounds.told = func(rows int) { j.tellPace(j.pace.progress(rows)) }
	if j.trainer.OwnersStep() {
		if j.Vectors == nil {
			return false, errors.New("this node was made without a way to hand optimizer state over")
		}
		if j.moments, err = newMoments(j.Vectors, j.task.ID, self.ID, j.trainer); err != nil {
			return false, err
		}
		j.rounds.owners = true
		if j.task.Spec.Parallel.MirrorRounds == 1 {
			j.rounds.secure = j.secure
		}
	}
	if j.scratch != nil {
		j.rounds.recycle = func(v []float32) { j.group.Recycle(v) }
	}
	j.rounds.bring = func(k collective.Key, own []collective.Mean) { j.group.Stepped(k, own) }
	if j.group, err = j.Groups.Join(j.task.ID, self, collective.Events{
		Room: j.room(),
		Have: func(h collective.Have) { j.post(coord.Held{Have: h}) },
		Done: func(d collective.Done) {
			j.rounds.stage(d)
			j.post(coord.Reduced{Done: d})
		},
		Step: j.rounds.ask,
	}); err != nil {
		return false, err
	}
	hangUp := j.receive()
	j.loops.Go(func() { j.loop(m) })
	if j.moments != nil {
		j.loops.Go(j.mirror)
	}
	j.evaluate(trainer.StepReport{})
	j.work.Go(j.runTrainer)
	ended, err := j.wait(ctx)
	if ended == nil {
		j.rounds.end()
		j.close(hangUp)
		return false, err
	}
	j.work.Wait() // the trainer, and checkpoints being written
	j.runtime.linger(j)
	j.report(*ended)
	go func() {
		defer j.runtime.leave(j)
		defer j.close(hangUp)
		j.linger()
	}()
	return true, nil
}

// close ends what belongs to the job and waits for it.
func (j *Job) close(hangUp func()) {
	hangUp()
	j.group.Close()
	j.work.Wait()
	j.loops.Wait()
}

// runTrainer says why when training cannot go on.
func (j *Job) runTrainer() {
	if err := j.train(); err != nil {
		j.post(coord.Failed{Why: err.Error()})
	}
}

// wait returns when the job is over here, with its last word; or after a clean leave, because ctx ended or because this
// node cannot go on for now, which is the error.
func (j *Job) wait(ctx context.Context) (_ *task.Ended, err error) {
	select {
	case e := <-j.over:
		return &e, nil
	case err = <-j.hindered:
	case <-ctx.Done():
		j.state.interrupt() // a pause acts at once, in the middle of a batch; others do the work again
	}
	limit, cancel := context.WithTimeout(j.ctx, leaveTime)
	defer cancel()
	go j.post(coord.Leave{})
	select {
	case <-j.over:
		if j.moments != nil {
			j.moments.handOver(limit)
		}
	case <-limit.Done():
		j.log.Warn("left without the others' word")
	}
	return nil, err
}

// hinder makes this node leave the job for now: the disk is full, say.
func (j *Job) hinder(err error) {
	j.log.Error("leaving the job for now", "err", err)
	select {
	case j.hindered <- err:
	default: // one reason is enough
	}
}

// linger keeps the job's coordination running after its end, so that members that were away learn how it ended and
// where the result is.
func (j *Job) linger() {
	select {
	case <-time.After(lingerTime):
	case <-j.hushed:
	case <-j.runtime.closed:
	}
}

// checkpointDue says whether coordination will ask for a checkpoint of this step.
func (j *Job) checkpointDue(r trainer.StepReport) bool {
	every := uint64(j.task.Spec.Checkpoint.EverySteps)
	return j.finished(r) || every > 0 && r.Step%every == 0
}

// capability is what this node says of itself; rowsPerSec 0 means not measured yet.
func (j *Job) capability(rowsPerSec float64) coord.Capability {
	up, relayed := j.link.announced()
	return coord.Capability{
		RowsPerSec: rowsPerSec, BytesPerSec: up, Relayed: relayed,
		MemBytes: j.Device.Info().MemBytes, Versions: []int{record.Version},
	}
}

// reportSteps tells people of committed steps, each once and in order, whoever learns of them first: the trainer that
// did them, or state that came from elsewhere with its history. state is the hash after the last one, if known.
func (j *Job) reportSteps(steps []trainer.StepReport, state string) {
	j.telling.Lock()
	defer j.telling.Unlock()
	for i, r := range steps {
		if !j.state.tell(r.Step) {
			continue
		}
		e := task.Stepped{StepReport: portable(r)}
		if i == len(steps)-1 {
			e.State = state
		}
		j.report(e)
	}
}

func (j *Job) note(text string) { j.report(task.Note{Text: text}) }
