package config

import (
	"strings"
	"testing"
	"time"
)

func TestSchedule(t *testing.T) {
	for _, tc := range []struct {
		schedule, at string
		works        bool
	}{
		{"", "12:00", true},
		{"22:00-07:00", "23:30", true}, {"22:00-07:00", "06:59", true}, {"22:00-07:00", "07:00", false}, {"22:00-07:00", "12:00", false},
		{"09:00-17:30", "09:00", true}, {"09:00-17:30", "17:30", false}, {"09:00-17:30", "03:00", false},
	} {
		s, err := ParseSchedule(tc.schedule)
		at, err2 := time.Parse("15:04", tc.at)
		if err != nil || err2 != nil || s.Works(at) != tc.works {
			t.Errorf("%q at %s: works %v, %v", tc.schedule, tc.at, s.Works(at), err)
		}
		if tc.schedule != "" && s.String() != tc.schedule {
			t.Errorf("%q is shown as %q", tc.schedule, s)
		}
	}
	for _, bad := range []string{"22-7", "22:00", "25:00-07:00", "night", "07:00-07:00"} {
		if _, err := ParseSchedule(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestRate(t *testing.T) {
	for text, want := range map[string]Rate{"10Mbit": 1250000, "1.5 Gbit": 187500000, "2MB": 2e6, "1MiB/s": 1 << 20, "0": 0, "500kbit": 62500} {
		if got, err := ParseRate(text); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, bad := range []string{"fast", "-1Mbit", "NaNMbit", "1e300Gbit", "10Mbps!"} {
		if _, err := ParseRate(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	for want, r := range map[string]Rate{"10Mbit": 1250000, "1MiB": 1 << 20, "96KiB": 96 << 10, "16Mbit": 2e6, "525kbit": minRate, "1.5Gbit": 187500000} {
		if s := r.String(); s != want {
			t.Errorf("%d is shown as %s, want %s", r, s, want)
		} else if again, err := ParseRate(s); err != nil || again != r {
			t.Errorf("%s reads as %d, %v; want %d", s, again, err, r)
		}
	}
}

func TestPercent(t *testing.T) {
	for text, want := range map[string]Percent{"50%": 50, "7": 7, "100%": 100, "0": 0} {
		if got, err := ParsePercent(text); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, bad := range []string{"0%", "101%", "-1", "half", "", "%"} { // 0% would otherwise mean all of it
		if _, err := ParsePercent(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestLimitsLayer(t *testing.T) {
	home := t.TempDir()
	for _, changes := range []map[string]string{{"max_up": "10Mbit", "max_cpu": "50%", "schedule": "22:00-07:00"}, {"max_up": "20Mbit", "schedule": "none"}} {
		if err := SaveLimits(home, changes); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Load(home, env(nil), map[string][]string{"max_jobs": {"3"}})
	if err != nil || c.MaxUp != 2500000 || c.MaxCPU != 50 || c.Schedule != (Schedule{}) || c.MaxJobs != 3 {
		t.Errorf("%+v, %v", c.Limits, err)
	}
	l, err := c.Limits.With(map[string]string{"max_down": "1Gbit", "max_up": "none"})
	if err != nil || l.MaxUp != 0 || l.MaxDown != 125000000 || l.Text()["max_cpu"] != "50%" || l.Text()["max_up"] != "none" {
		t.Errorf("%+v, %v", l, err)
	}
	for key, v := range map[string]string{"max_up": "1kbit", "max_cpu": "200%", "name": "x", "max_jobs": "-1", "schedule": "never", "max_memory": "1", "max_disk": "5kB", "max_gpu_memory": "16"} {
		if _, err := c.Limits.With(map[string]string{key: v}); err == nil || !strings.Contains(err.Error(), key) && key != "name" {
			t.Errorf("%s %s: %v", key, v, err)
		}
	}
}
