// Package e2e holds shoal to what it promises a person: its tests build the binary, start real daemons as separate
// processes with homes of their own on loopback, submit jobs, kill and freeze nodes, and look at the files that come out.
package e2e
