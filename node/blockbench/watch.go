//go:build unix

package main

import (
	"fmt"
	"os"
	"runtime/pprof"
	"syscall"
	"time"
)

// watch measures what moving the bytes takes.
type watch struct {
	began time.Time
	used  time.Duration
	prof  *os.File // nil: no profile
}

// count begins a measurement, and the profile if one is wanted.
func (p params) count() (w watch, err error) {
	if p.prof != "" {
		if w.prof, err = os.Create(fmt.Sprintf("%s-%d.pprof", p.prof, os.Getpid())); err != nil {
			return w, err
		}
		if err := pprof.StartCPUProfile(w.prof); err != nil {
			return w, err
		}
	}
	w.began, w.used = time.Now(), cpuTime()
	return w, nil
}

// report ends it and prints wall and processor time.
func (w watch) report() error {
	wall, cpu := time.Since(w.began), cpuTime()-w.used
	if err := w.close(); err != nil {
		return err
	}
	_, err := fmt.Println(int64(wall), int64(cpu))
	return err
}

func (w watch) reportCPU() error {
	cpu := cpuTime() - w.used
	if err := w.close(); err != nil {
		return err
	}
	_, err := fmt.Println(int64(cpu))
	return err
}

func (w watch) close() error {
	if w.prof == nil {
		return nil
	}
	pprof.StopCPUProfile()
	return w.prof.Close()
}

// cpuTime is what this process has used so far, user and system.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
