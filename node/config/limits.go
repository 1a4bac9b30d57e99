package config

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// LimitsFile is what "shoal limits set" writes in a home; it overrides config.yaml.
const LimitsFile = "limits.yaml"

// Limits is what a node may take of its machine. What changes in them while the node runs holds at once, but for
// MaxDisk.
type Limits struct {
	MaxUp     Rate     `yaml:"max_up"`     // sent over all connections together; 0: no limit
	MaxDown   Rate     `yaml:"max_down"`   // received
	MaxCPU    Percent  `yaml:"max_cpu"`    // of the machine's processors, rounded up to whole ones; 0: all
	MaxJobs   int      `yaml:"max_jobs"`   // jobs of others that run at the same time; 0: none
	MaxMemory Bytes    `yaml:"max_memory"` // a job that needs more is not accepted; 0: no limit
	MaxDisk   Bytes    `yaml:"max_disk"`   // quota of the block store; 0: no limit
	Schedule  Schedule `yaml:"schedule"`   // when the node works; empty: always

	MaxGPUMemory Bytes `yaml:"max_gpu_memory"` // of each GPU; 0: all it has
	MaxGPUPower  int   `yaml:"max_gpu_power"`  // watts; the GPU rests to stay below; 0: no limit
	MaxGPUTemp   int   `yaml:"max_gpu_temp"`   // °C, likewise
}

// limitKeys are the keys of Limits, with each value as text.
var limitKeys = map[string]func(*Limits) string{
	"max_up":         func(l *Limits) string { return l.MaxUp.String() },
	"max_down":       func(l *Limits) string { return l.MaxDown.String() },
	"max_cpu":        func(l *Limits) string { return l.MaxCPU.String() },
	"max_jobs":       func(l *Limits) string { return strconv.Itoa(l.MaxJobs) },
	"max_memory":     func(l *Limits) string { return orNone(l.MaxMemory) },
	"max_disk":       func(l *Limits) string { return orNone(l.MaxDisk) },
	"max_gpu_memory": func(l *Limits) string { return orNone(l.MaxGPUMemory) },
	"max_gpu_power":  func(l *Limits) string { return orNoneInt(l.MaxGPUPower) },
	"max_gpu_temp":   func(l *Limits) string { return orNoneInt(l.MaxGPUTemp) },
	"schedule":       func(l *Limits) string { return l.Schedule.String() },
}

func orNone(b Bytes) string {
	if b == 0 {
		return "none"
	}
	return b.String()
}

func orNoneInt(n int) string {
	if n == 0 {
		return "none"
	}
	return strconv.Itoa(n)
}

// Text shows every limit under its key.
func (l Limits) Text() map[string]string {
	out := map[string]string{}
	for k, show := range limitKeys {
		out[k] = show(&l)
	}
	return out
}

// With returns the limits with some changed, given as text under their keys; "none" lifts one.
func (l Limits) With(changes map[string]string) (Limits, error) {
	c := Config{Limits: l}
	for k, v := range changes {
		if limitKeys[k] == nil {
			return l, fmt.Errorf("no limit %q; there are %s", k, strings.Join(slices.Sorted(maps.Keys(limitKeys)), ", "))
		}
		for _, s := range settings {
			if s.key != k {
				continue
			}
			if err := s.set(&c, []string{unNone(k, v)}); err != nil {
				return l, fmt.Errorf("%s: %w", k, err)
			}
		}
	}
	return c.Limits, c.Limits.validate()
}

func unNone(key, v string) string {
	switch {
	case v != "none":
		return v
	case key == "schedule":
		return ""
	}
	return "0"
}

// SaveLimits adds changes to the home's limits file.
func SaveLimits(home string, changes map[string]string) error {
	c := Default()
	path := filepath.Join(home, LimitsFile)
	if err := c.readFile(path); err != nil {
		return err
	}
	had, err := readLimits(path)
	if err != nil {
		return err
	}
	maps.Copy(had, changes)
	var b strings.Builder
	b.WriteString("# Written by \"shoal limits set\"; overrides config.yaml.\n")
	for _, k := range slices.Sorted(maps.Keys(had)) {
		fmt.Fprintf(&b, "%s: %q\n", k, unNone(k, had[k]))
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, []byte(b.String()), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// readLimits reads the file that SaveLimits writes, line by line.
func readLimits(path string) (map[string]string, error) {
	out := map[string]string{}
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return out, nil
	}
	for _, line := range strings.Split(string(data), "\n") {
		k, v, ok := strings.Cut(line, ":")
		if !ok || strings.HasPrefix(k, "#") {
			continue
		}
		if limitKeys[k] == nil {
			return nil, fmt.Errorf("%s: no limit %q", path, k)
		}
		out[k] = strings.Trim(strings.TrimSpace(v), `"`)
	}
	return out, err
}

func (l *Limits) validate() error {
	for key, r := range map[string]Rate{"max_up": l.MaxUp, "max_down": l.MaxDown} {
		if r != 0 && r < minRate {
			return fmt.Errorf("%s: %v is too little to stay connected; give %v or more", key, r, Rate(minRate))
		}
	}
	switch {
	case l.MaxJobs < 0:
		return fmt.Errorf("max_jobs %d: want 0 or more", l.MaxJobs)
	case l.MaxMemory > 0 && l.MaxMemory < minMemory:
		return fmt.Errorf("max_memory %v: no job fits into that; give %v or more, or none", l.MaxMemory, Bytes(minMemory))
	case l.MaxDisk > 0 && l.MaxDisk < minMemory:
		return fmt.Errorf("max_disk %v: no model fits into that; give %v or more, or none", l.MaxDisk, Bytes(minMemory))
	case l.MaxGPUMemory > 0 && l.MaxGPUMemory < minMemory:
		return fmt.Errorf("max_gpu_memory %v: no job fits into that; give %v or more, or none", l.MaxGPUMemory, Bytes(minMemory))
	case l.MaxGPUPower < 0 || l.MaxGPUPower > 0 && l.MaxGPUPower < 30:
		return fmt.Errorf("max_gpu_power %d: want watts, 30 or more; a GPU draws that much doing nothing", l.MaxGPUPower)
	case l.MaxGPUTemp < 0 || l.MaxGPUTemp > 0 && l.MaxGPUTemp < 40:
		return fmt.Errorf("max_gpu_temp %d: want degrees Celsius, 40 or more", l.MaxGPUTemp)
	case l.MaxCPU < 0 || l.MaxCPU > 100:
		return fmt.Errorf("max_cpu %d: want 1%% to 100%%", l.MaxCPU)
	}
	return nil
}

// minRate is p2p.MinCap, rounded up to whole kbit.
const minRate = 525e3 / 8

// minMemory is less than the smallest job takes, bytes: who gives less meant another unit.
const minMemory = 1 << 20

// Rate is a bandwidth in bytes per second; as text "10Mbit" or "2MB" (per second).
type Rate int64

var bits = []struct {
	suffix string
	n      float64 // bytes
}{{"Gbit", 1e9 / 8}, {"Mbit", 1e6 / 8}, {"kbit", 1e3 / 8}, {"Kbit", 1e3 / 8}}

// ParseRate reads a bandwidth.
func ParseRate(s string) (Rate, error) {
	text := strings.TrimSuffix(strings.TrimSpace(s), "/s")
	for _, u := range bits {
		num, ok := strings.CutSuffix(text, u.suffix)
		if !ok {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(num), 64)
		if err != nil || v < 0 || math.IsNaN(v) || v*u.n > math.MaxInt64/2 {
			return 0, fmt.Errorf("rate %q: want for example 10Mbit or 2MB", s)
		}
		return Rate(v * u.n), nil
	}
	b, err := ParseBytes(text)
	if err != nil {
		return 0, fmt.Errorf("rate %q: want for example 10Mbit or 2MB", s)
	}
	return Rate(b), nil
}

func (r Rate) String() string {
	if r == 0 {
		return "none"
	}
	if r%1024 == 0 && r%125 != 0 { // it was given in such units
		return strings.Replace(Bytes(r).exact(), " ", "", 1)
	}
	for _, u := range bits[:3] {
		if float64(r) >= u.n {
			return strconv.FormatFloat(math.Round(float64(r)/u.n*100)/100, 'f', -1, 64) + u.suffix
		}
	}
	return strconv.FormatInt(int64(r), 10) + "B"
}

// UnmarshalYAML accepts a number of bytes per second and a text with a unit.
func (r *Rate) UnmarshalYAML(data []byte) (err error) {
	*r, err = ParseRate(strings.Trim(strings.TrimSpace(string(data)), `"'`))
	return err
}

// Percent is a share; as text "50%" or "50".
type Percent int

// ParsePercent reads a share.
func ParsePercent(s string) (Percent, error) {
	num, sign := strings.CutSuffix(strings.TrimSpace(s), "%")
	n, err := strconv.Atoi(num)
	if err != nil || n < 0 || n > 100 {
		return 0, fmt.Errorf("share %q: want for example 50%%", s)
	}
	if n == 0 && sign { // a plain 0 is no limit, which is the opposite of what this asks for
		return 0, fmt.Errorf("share %q: want 1%% to 100%%, or none; to stop all work there is \"shoal pause\"", s)
	}
	return Percent(n), nil
}

func (p Percent) String() string {
	if p == 0 {
		return "none"
	}
	return strconv.Itoa(int(p)) + "%"
}

// UnmarshalYAML accepts a number and a text with %.
func (p *Percent) UnmarshalYAML(data []byte) (err error) {
	*p, err = ParsePercent(strings.Trim(strings.TrimSpace(string(data)), `"'`))
	return err
}

// Schedule is a part of each day, in local time; as text "22:00-07:00". The zero value is the whole day.
type Schedule struct {
	From, To time.Duration // since midnight; From > To goes over midnight
}

// ParseSchedule reads a part of the day; empty is the whole of it.
func ParseSchedule(s string) (Schedule, error) {
	if s = strings.TrimSpace(s); s == "" {
		return Schedule{}, nil
	}
	bad := fmt.Errorf("schedule %q: want for example 22:00-07:00", s)
	from, to, ok := strings.Cut(s, "-")
	a, err1 := time.Parse("15:04", strings.TrimSpace(from))
	b, err2 := time.Parse("15:04", strings.TrimSpace(to))
	if !ok || err1 != nil || err2 != nil || a.Equal(b) {
		return Schedule{}, bad
	}
	clock := func(t time.Time) time.Duration {
		return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
	}
	return Schedule{clock(a), clock(b)}, nil
}

func (s Schedule) String() string {
	if s == (Schedule{}) {
		return "always"
	}
	clock := func(d time.Duration) string { return fmt.Sprintf("%02d:%02d", int(d.Hours()), int(d.Minutes())%60) }
	return clock(s.From) + "-" + clock(s.To)
}

// Works reports whether t, in its own zone, lies within the schedule.
func (s Schedule) Works(t time.Time) bool {
	if s == (Schedule{}) {
		return true
	}
	now := time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute + time.Duration(t.Second())*time.Second
	if s.From < s.To {
		return s.From <= now && now < s.To
	}
	return s.From <= now || now < s.To
}

// UnmarshalYAML reads the text form.
func (s *Schedule) UnmarshalYAML(data []byte) (err error) {
	*s, err = ParseSchedule(strings.Trim(strings.TrimSpace(string(data)), `"'`))
	return err
}
