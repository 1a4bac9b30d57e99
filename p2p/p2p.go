// Package p2p is a node's presence on the network: one Host with its identity, its connections, ordered control
// streams to each peer, and the swarm's gossip. It is a thin layer over libp2p, whose types stay inside this
// package: peers are record.PeerID, addresses are multiaddrs in text.
//
// # Connections
//
// TCP and QUIC, TLS 1.3 before Noise, yamux with 256 KiB frames. TCP is dialed first, because bulk shares the
// connection and QUIC costs several times the CPU. Every connection passes the swarm's gate. Limits stand in limits.go.
//
// Streams for bulk have sealed TCP connections of their own where that is possible, see bulk.go.
//
// # Control streams, /shoal/control/1
//
// Each node opens one stream to each connected peer and sends on it; the peer sends on its own. A stream carries frames
//
//	kind u8 | 0 u8 | topic length u16 | payload length u32 | topic | payload      (big endian)
//
//	hello    first; topic: swarm name; payload: version u8, boot id u64, serial u64 of the stream within that boot
//	message  a payload for whoever handles topic
//	ping     payload: 8 bytes, sent every second, answered on the same stream by a pong with the same bytes
//	pong     see ping; the only kinds that travel backwards are pong, clone and bye
//	clone    your identity is used by two processes at once
//	bye      topic empty, payload: why this stream is refused, at most 256 bytes of text
//
// Delivery is at most once and in the order sent, also across reopened streams: a receiver drops a stream as soon
// as it has greeted a newer one (greater serial of the same boot id, or another boot id). Queues are bounded per peer on
// both sides; when one is full its oldest message goes, because newer control messages supersede older ones. Senders of what
// must arrive repeat it.
//
// A peer is up from its hello until its connection ends or nothing was heard of it for SilenceLimit, on any stream;
// a frozen process so goes down although its kernel keeps the connection, and comes up when it thaws.
//
// # Concurrency
//
// All methods are safe for concurrent use. Callbacks of one registration run one at a time, in order, on a goroutine
// of their own; a slow one delays nobody else. Close waits for all of them, so a callback must not call Close.
package p2p
