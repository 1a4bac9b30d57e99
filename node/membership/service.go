package membership

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/seed-7b27c88a/shoal/p2p"
	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/swarm"
)

// Topics, on gossip and on control streams.
const (
	topicMember  = "swarm/member"  // gossip: a chain
	topicRevoked = "swarm/revoked" // gossip and control: a list of tombstones
	topicDigest  = "swarm/digest"  // control: the digest of the sender's tombstones
	topicRenew   = "swarm/renew"   // control, to an admin: nothing; please renew my membership
	topicRenewed = "swarm/renewed" // control: the new chain
)

const (
	announceEvery = 10 * time.Minute    // about how often a member tells all of itself
	sweepEvery    = 20 * time.Second    // how often connections are checked against the roll
	renewAge      = 30 * 24 * time.Hour // a membership this old is renewed
	maxList       = 200 << 10           // bytes of tombstones in one message
	defaultExpiry = 7 * 24 * time.Hour  // of an invite
)

// Service spreads what members of a private swarm must know of each other.
type Service struct {
	f   *Files
	h   *p2p.Host
	log *slog.Logger
	now func() time.Time
}

// Serve starts the exchange with other members; Run does what is due by time.
func Serve(f *Files, h *p2p.Host, log *slog.Logger, now func() time.Time) (s *Service, stop func(), err error) {
	s = &Service{f: f, h: h, log: log, now: now}
	var stops []func()
	stop = func() {
		for _, f := range slices.Backward(stops) {
			f()
		}
	}
	for topic, hear := range map[string]func(record.PeerID, []byte){topicMember: s.hearMember, topicRevoked: s.hearRevoked} {
		off, err := h.Gossip().Subscribe(topic, s.check(topic), hear)
		if err != nil {
			stop()
			return nil, nil, err
		}
		stops = append(stops, off)
	}
	stops = append(stops,
		h.Control().Handle(topicRevoked, s.hearRevoked),
		h.Control().Handle(topicDigest, s.hearDigest),
		h.Control().Handle(topicRenew, s.renew),
		h.Control().Handle(topicRenewed, s.renewed),
		h.Watch(func(id record.PeerID, up bool) {
			if up {
				s.greet(id)
			}
		}))
	return s, stop, nil
}

// Run announces, renews, sweeps and saves until ctx ends.
func (s *Service) Run(ctx context.Context) {
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	announce := time.NewTimer(announceEvery / 20)
	defer announce.Stop()
	for {
		select {
		case <-ctx.Done():
			s.saved(s.f.Save())
			return
		case <-sweep.C:
			s.sweep()
		case <-announce.C:
			s.announce(ctx)
			s.renewSelf()
			s.saved(s.f.Save())
			announce.Reset(announceEvery/2 + rand.N(announceEvery))
		}
	}
}

func (s *Service) saved(err error) {
	if err != nil {
		s.log.Error("what is known of the swarm's members cannot be saved", "why", err)
	}
}

// check is gossip's filter: what is not signed as it must be goes no further.
func (s *Service) check(topic string) func(record.PeerID, []byte) error {
	return func(_ record.PeerID, b []byte) error {
		if topic == topicMember {
			_, err := s.chain(b)
			return err
		}
		ts, err := decodeTombstones(b)
		if err == nil {
			err = s.f.Roll().Vet(ts)
		}
		return err
	}
}

// chain reads a membership and enters it into the roll.
func (s *Service) chain(b []byte) (swarm.Member, error) {
	c, err := swarm.DecodeChain(b)
	if err != nil {
		return swarm.Member{}, err
	}
	m, err := c.Describe(s.f.Identity().Root)
	if err != nil {
		return m, err
	}
	return s.f.Roll().Check(m.ID, c)
}

func (s *Service) hearMember(from record.PeerID, b []byte) {
	if _, err := s.chain(b); err != nil {
		s.log.Debug("membership refused", "from", from, "why", err)
	}
}

// greet tells a new peer which revocations this node knows, and asks an admin for a renewal that is due.
func (s *Service) greet(id record.PeerID) {
	d := s.f.Roll().Digest()
	s.send(id, topicDigest, d[:])
	if s.due() {
		s.askRenewal(id)
	}
}

func (s *Service) send(to record.PeerID, topic string, b []byte) {
	if err := s.h.Control().Send(to, topic, b); err != nil {
		s.log.Debug("not sent", "topic", topic, "to", to, "why", err)
	}
}

// hearDigest answers whoever knows other revocations with all that this node knows.
func (s *Service) hearDigest(from record.PeerID, b []byte) {
	if d := s.f.Roll().Digest(); len(b) != sha256.Size || [sha256.Size]byte(b) == d {
		return
	}
	for _, part := range packTombstones(s.f.Roll().Tombstones()) {
		s.send(from, topicRevoked, part)
	}
}

// packTombstones encodes tombstones in messages of bounded size.
func packTombstones(ts []swarm.Tombstone) (out [][]byte) {
	const each = 2 << 10 // a tombstone with the longest chain takes less
	for part := range slices.Chunk(ts, maxList/each) {
		if b, err := record.Encode(part); err == nil {
			out = append(out, b)
		}
	}
	return out
}

func decodeTombstones(b []byte) (ts []swarm.Tombstone, err error) {
	if len(b) > maxList {
		return nil, fmt.Errorf("%w: revocations of %d bytes", record.ErrBad, len(b))
	}
	return ts, record.Decode(b, &ts)
}

func (s *Service) hearRevoked(from record.PeerID, b []byte) {
	ts, err := decodeTombstones(b)
	if err != nil {
		s.log.Warn("revocations refused", "from", from, "why", err)
		return
	}
	news := false
	for _, t := range ts {
		gone, fresh, err := s.f.Roll().Bury(t)
		if err != nil {
			s.log.Warn("revocation refused", "from", from, "why", err)
		}
		if fresh {
			news = true
			s.log.Info("membership revoked", "peers", gone, "by", t.Signed.Signer)
		}
	}
	if news {
		s.saved(s.f.SaveRevoked())
		s.sweep()
	}
}

// sweep cuts connections to those who are no longer members. Whoever is connected and unknown came as a member's probe,
// which takes no longer than a sweep.
func (s *Service) sweep() {
	for _, p := range s.h.Peers() {
		switch _, known, err := s.f.Roll().Member(p.ID); {
		case err != nil:
			s.log.Warn("connection cut", "peer", p.ID, "why", err)
			s.h.Forget(p.ID)
		case !known:
			s.h.Forget(p.ID)
		}
	}
}

// announce tells all members of this one.
func (s *Service) announce(ctx context.Context) {
	b, err := swarm.EncodeChain(s.f.Own())
	if err == nil {
		err = s.h.Gossip().Publish(ctx, topicMember, b)
	}
	if err != nil {
		s.log.Debug("membership not announced", "why", err)
	}
}

// due tells that this node's membership should be renewed.
func (s *Service) due() bool {
	m, err := s.f.Own().Describe(s.f.Identity().Root)
	return err == nil && (s.now().Sub(m.From) > renewAge || m.Until.Sub(s.now()) < swarm.Validity-renewAge)
}

// renewSelf renews with the root key if it is here, else asks the admins that are connected.
func (s *Service) renewSelf() {
	if !s.due() {
		return
	}
	if i, err := s.f.Issuer(); err == nil && len(i.By) == 0 {
		c, err := s.f.Renew(s.h.ID())
		if err == nil {
			err = s.take(c)
		}
		s.saved(err)
		return
	}
	for _, p := range s.h.Peers() {
		s.askRenewal(p.ID)
	}
}

func (s *Service) askRenewal(id record.PeerID) {
	if m, _, err := s.f.Roll().Member(id); err == nil && m.Role == swarm.Admin {
		s.send(id, topicRenew, nil)
	}
}

// renew answers a member whose membership grows old.
func (s *Service) renew(from record.PeerID, _ []byte) {
	c, err := s.f.Renew(from)
	if err != nil {
		s.log.Debug("membership not renewed", "peer", from, "why", err)
		return
	}
	if b, err := swarm.EncodeChain(c); err == nil {
		s.send(from, topicRenewed, b)
	}
}

func (s *Service) renewed(from record.PeerID, b []byte) {
	c, err := swarm.DecodeChain(b)
	if err == nil {
		err = s.take(c)
	}
	if err != nil {
		s.log.Warn("renewal refused", "from", from, "why", err)
	}
}

func (s *Service) take(c swarm.Chain) error {
	if err := s.f.Take(c); err != nil {
		return err
	}
	return s.f.saveOwn()
}

// Invite makes a token. Zero uses means one, zero expires a week.
func (s *Service) Invite(role swarm.Role, uses int, expires time.Duration) (string, swarm.Invite, error) {
	i, err := s.f.Issuer()
	if err != nil {
		return "", swarm.Invite{}, err
	}
	now := s.now()
	until := now.Add(cmp.Or(expires, defaultExpiry))
	t, v, err := i.NewToken(s.f.Identity(), role, cmp.Or(uses, 1), until, now, reachable(s.h.Addrs()))
	if err != nil {
		return "", v, err
	}
	text, err := t.Text()
	return text, v, err
}

// reachable orders addresses for somebody far away: those of this machine alone last, TCP before QUIC.
func reachable(addrs []string) []string {
	rank := func(a string) int {
		n := 0
		if strings.HasPrefix(a, "/ip4/127.") || strings.HasPrefix(a, "/ip6/::1/") {
			n += 2
		}
		if strings.Contains(a, "/udp/") {
			n++
		}
		return n
	}
	out := slices.Clone(addrs)
	slices.SortStableFunc(out, func(a, b string) int { return cmp.Compare(rank(a), rank(b)) })
	return out
}

// Revoke voids a membership everywhere. It returns who is out by it: the member and whom it admitted.
func (s *Service) Revoke(ctx context.Context, id record.PeerID) ([]record.PeerID, error) {
	i, err := s.f.Issuer()
	if err != nil {
		return nil, err
	}
	t, err := i.Revoke(s.f.Identity().Root, id, s.now())
	if err != nil {
		return nil, err
	}
	gone, _, err := s.f.Roll().Bury(t)
	if err != nil {
		return nil, err
	}
	if err := s.f.SaveRevoked(); err != nil {
		return nil, err
	}
	b, err := record.Encode([]swarm.Tombstone{t})
	if err != nil {
		return nil, err
	}
	if err := s.h.Gossip().Publish(ctx, topicRevoked, b); err != nil {
		s.log.Debug("revocation not published", "why", err)
	}
	for _, p := range s.h.Peers() {
		s.send(p.ID, topicRevoked, b)
	}
	s.sweep()
	return gone, nil
}

// MaySubmit checks that a member may submit jobs. proof is its membership, for members that this node never met; it may
// be empty.
func (s *Service) MaySubmit(id record.PeerID, proof []byte) error {
	if len(proof) > 0 {
		c, err := swarm.DecodeChain(proof)
		if err == nil {
			_, err = s.f.Roll().Check(id, c)
		}
		if err != nil {
			return err
		}
	}
	m, known, err := s.f.Roll().Member(id)
	switch {
	case err != nil:
		return err
	case !known:
		return fmt.Errorf("%s shows no membership of swarm %s", id, s.f.Identity().Name)
	case m.Role < swarm.Submitter:
		return fmt.Errorf("%s is a %v in swarm %s and may not submit jobs; an admin can invite it again as submitter", id, m.Role, s.f.Identity().Name)
	}
	return nil
}

// Proof is the membership of a submitter, to send along with its job; empty when unknown.
func (s *Service) Proof(id record.PeerID) []byte {
	c := s.f.Roll().Chain(id)
	if c == nil {
		return nil
	}
	b, err := swarm.EncodeChain(c)
	if err != nil {
		return nil
	}
	return b
}

// Roll is what this node knows of the others.
func (s *Service) Roll() *swarm.Roll { return s.f.Roll() }

// Describe is this node's membership, now.
func (s *Service) Describe() (Joined, error) { return describe(s.f.dir, s.now()) }
