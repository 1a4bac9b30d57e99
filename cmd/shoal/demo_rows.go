package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// writeDates writes text.jsonl (sentences about dates, for the base model) and task.jsonl (questions and answers in
// another form), and returns held-out questions whose dates stand in neither. The dates are drawn from 100 years with
// a fixed seed.
func writeDates(dir string) (held []demoAnswer, err error) {
	days := rand.New(rand.NewPCG(7, 3)).Perm(36500)
	draw := func(n int) []int { part := days[:n]; days = days[n:]; return part }
	r := rand.New(rand.NewPCG(1, 2))
	for _, day := range draw(demoQuestion) {
		held = append(held, question(date(day)))
	}
	var task []any
	for _, day := range draw(2000) {
		q := question(date(day))
		task = append(task, map[string]string{"prompt": q.Question, "completion": q.Want})
	}
	var text []any
	for _, day := range draw(16000) {
		text = append(text, map[string]string{"text": sentence(date(day), r.IntN(3))})
	}
	if err := writeRows(filepath.Join(dir, "task.jsonl"), task); err != nil {
		return nil, err
	}
	return held, writeRows(filepath.Join(dir, "text.jsonl"), text)
}

func date(day int) time.Time { return time.Date(1950, 1, 1+day, 0, 0, 0, 0, time.UTC) }

// question is what the swarm teaches: 2024-03-07 => 7 March 2024.
func question(t time.Time) demoAnswer {
	return demoAnswer{Question: t.Format("2006-01-02") + " => ", Want: t.Format("2 January 2006")}
}

// sentence tells the parts of a date in one of three orders, so that a model has to look them up.
func sentence(t time.Time, order int) string {
	day, month, year := fmt.Sprintf("day %d", t.Day()), "month "+t.Month().String(), fmt.Sprintf("year %d", t.Year())
	parts := [][3]string{{month, day, year}, {year, day, month}, {day, year, month}}[order]
	return fmt.Sprintf("%s; %s; %s; %s", t.Format("2006-01-02"), parts[0], parts[1], parts[2])
}

func writeRows(path string, rows []any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for _, r := range rows {
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}
