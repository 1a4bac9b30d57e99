// Package nettest runs shoal daemons, as processes, on a laboratory network of one machine: network namespaces with
// delays, losses and NAT routers between them. It holds tests alone. They need root and the tool netlab, run with "make
// test-net", and skip with a reason otherwise.
package nettest
