package p2p

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/seed-7b27c88a/shoal/p2p/record"
	"github.com/seed-7b27c88a/shoal/p2p/swarm"
)

// Gossip is the swarm's broadcast: small signed messages that reach everybody who subscribed, probably, in no
// order. Equal bytes on one topic are one message: published again within two minutes they go nowhere, so a repeated
// announcement must differ or wait.
type Gossip struct {
	h  *Host
	ps *pubsub.PubSub

	mu     sync.Mutex // guards topics
	topics map[string]*pubsub.Topic
}

func newGossip(h *Host) (*Gossip, error) {
	ours, err := regexp.Compile("^" + regexp.QuoteMeta(swarm.TopicPrefix(h.cfg.Swarm)))
	if err != nil {
		return nil, err
	}
	filter := pubsub.WrapLimitSubscriptionFilter(pubsub.NewRegexpSubscriptionFilter(ours), maxGossipTopics)
	ps, err := pubsub.NewGossipSub(h.ctx, h.host,
		pubsub.WithMessageSignaturePolicy(pubsub.StrictSign),
		pubsub.WithMessageIdFn(gossipID),
		pubsub.WithMaxMessageSize(maxGossipRPC),
		pubsub.WithPeerOutboundQueueSize(128),
		pubsub.WithSubscriptionFilter(filter),
		pubsub.WithFloodPublish(true),
		pubsub.WithPeerExchange(true),
	)
	if err != nil {
		return nil, err
	}
	return &Gossip{h: h, ps: ps, topics: map[string]*pubsub.Topic{}}, nil
}

// gossipID makes equal announcements one message, whoever sends them.
func gossipID(m *pb.Message) string {
	d := sha256.New()
	fmt.Fprintf(d, "%d:%s", len(m.GetTopic()), m.GetTopic())
	d.Write(m.GetData())
	return string(d.Sum(nil))
}

// Publish sends data to all subscribers of the swarm's topic. It does not reach this node's own subscriptions.
func (g *Gossip) Publish(ctx context.Context, topic string, data []byte) error {
	if len(data) > MaxGossip {
		return fmt.Errorf("gossip message of %d bytes, limit %d: publish the CID of a block instead", len(data), MaxGossip)
	}
	t, err := g.join(topic)
	if err != nil {
		return err
	}
	if err := t.Publish(ctx, data); err != nil {
		return fmt.Errorf("publish on %s: %w", topic, err)
	}
	return nil
}

// Subscribe runs fn for every message on topic that validate accepts, one at a time. from is the author, whose
// signature is checked. validate also decides whether the message is passed on to others; it must be quick, keep no state
// and is called concurrently; nil accepts all. stop ends the calls and waits for a running one; not to be called from fn.
func (g *Gossip) Subscribe(topic string, validate func(from record.PeerID, data []byte) error, fn func(from record.PeerID, data []byte)) (stop func(), err error) {
	t, err := g.join(topic)
	if err != nil {
		return nil, err
	}
	if err := g.ps.RegisterTopicValidator(t.String(), g.validator(validate), pubsub.WithValidatorTimeout(time.Second)); err != nil {
		return nil, fmt.Errorf("subscribe to %s twice: %w", topic, err)
	}
	sub, err := t.Subscribe(pubsub.WithBufferSize(256))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("subscribe to %s: %w", topic, err), g.ps.UnregisterTopicValidator(t.String()))
	}
	ctx, cancel := context.WithCancel(g.h.ctx)
	done := make(chan struct{})
	if !g.h.begin() {
		cancel()
		return nil, errors.New("subscribe after Close")
	}
	go func() {
		defer g.h.wg.Done()
		defer close(done)
		g.deliver(ctx, sub, fn)
	}()
	return sync.OnceFunc(func() {
		cancel()
		<-done
		g.ps.UnregisterTopicValidator(t.String()) // fails only after Close
	}), nil
}

func (g *Gossip) deliver(ctx context.Context, sub *pubsub.Subscription, fn func(record.PeerID, []byte)) {
	defer sub.Cancel()
	for {
		m, err := sub.Next(ctx)
		if err != nil {
			return
		}
		if from := record.PeerID(m.GetFrom().String()); from != g.h.id {
			fn(from, m.GetData())
		}
	}
}

func (g *Gossip) validator(validate func(record.PeerID, []byte) error) pubsub.ValidatorEx {
	return func(_ context.Context, _ peer.ID, m *pubsub.Message) pubsub.ValidationResult {
		if len(m.GetData()) > MaxGossip {
			return pubsub.ValidationReject
		}
		if validate != nil && validate(record.PeerID(m.GetFrom().String()), m.GetData()) != nil {
			return pubsub.ValidationReject
		}
		return pubsub.ValidationAccept
	}
}

// join enters a topic once; it stays joined, which costs nothing without a subscription.
func (g *Gossip) join(topic string) (*pubsub.Topic, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t := g.topics[topic]; t != nil {
		return t, nil
	}
	t, err := g.ps.Join(swarm.Topic(g.h.cfg.Swarm, topic))
	if err != nil {
		return nil, fmt.Errorf("join gossip topic %s: %w", topic, err)
	}
	g.topics[topic] = t
	return t, nil
}

// Reach is how many peers are known to be subscribed to topic.
func (g *Gossip) Reach(topic string) int {
	return len(g.ps.ListPeers(swarm.Topic(g.h.cfg.Swarm, topic)))
}
