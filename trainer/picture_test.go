package trainer_test

import (
	"flag"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/seed-7b27c88a/shoal/shard/safetensors"
	"github.com/seed-7b27c88a/shoal/trainer"
	"github.com/seed-7b27c88a/shoal/trainer/job"
	"github.com/seed-7b27c88a/shoal/trainer/model/modeltest"
)

var picture = flag.String("picture", "", "write the curves of fp32, bf16 and fp16 to this SVG file")

// TestPicture draws 50 steps in each type: the losses above, below how far they are from fp32's.
func TestPicture(t *testing.T) {
	if *picture == "" {
		t.Skip("-picture names no file to draw to")
	}
	data := modeltest.File(t, modeltest.Data(t, "reference", "stories260K", "data.safetensors"))
	loss := map[string][]float64{}
	for _, typ := range []string{job.FP32, job.BF16, job.FP16} {
		spec := fullSpec()
		spec.DType, spec.MicroBatchSize = typ, 4
		tr := newTrainer(t, trainer.Config{Spec: valid(t, spec), Model: safetensors.Dir(modeltest.Data(t, "models", "stories260K")),
			Rows: rows(modeltest.Rows(t, data, "train_ids"))})
		for _, r := range train(t, tr, 50) {
			loss[typ] = append(loss[typ], r.Loss)
		}
	}
	if err := os.WriteFile(*picture, []byte(draw(loss)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// draw makes a picture of 640 x 420.
func draw(loss map[string][]float64) string {
	var b strings.Builder
	b.WriteString(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 420" font-family="sans-serif" font-size="12">` + "\n")
	b.WriteString(`<rect width="640" height="420" fill="white"/>` + "\n")
	colour := map[string]string{job.FP32: "#222", job.BF16: "#d55e00", job.FP16: "#0072b2"}
	axis(&b, 20, 200, []float64{3, 3.5, 4}, func(v float64) string { return fmt.Sprint(v) }, place(20, 200, 2.6, 4.4), "loss over 50 steps, full fine-tuning of stories260K")
	axis(&b, 250, 380, []float64{-5, -4, -3, -2}, func(v float64) string { return fmt.Sprintf("1e%.0f", v) }, place(250, 380, -5.5, -1.5), "difference to fp32")
	for i, typ := range []string{job.FP32, job.BF16, job.FP16} {
		line(&b, loss[typ], colour[typ], place(20, 200, 2.6, 4.4))
		fmt.Fprintf(&b, `<text x="560" y="%d" fill="%s">%s</text>`+"\n", 40+16*i, colour[typ], typ)
		if typ != job.FP32 {
			var off []float64
			for k, v := range loss[typ] {
				off = append(off, math.Log10(max(math.Abs(v-loss[job.FP32][k]), 1e-5)))
			}
			line(&b, off, colour[typ], place(250, 380, -5.5, -1.5))
		}
	}
	return b.String() + "</svg>\n"
}

// place maps [lo, hi] to heights from bottom to top.
func place(top, bottom, lo, hi float64) func(v float64) float64 {
	return func(v float64) float64 { return bottom - (v-lo)/(hi-lo)*(bottom-top) }
}

func axis(b *strings.Builder, top, bottom float64, ticks []float64, name func(float64) string, y func(float64) float64, title string) {
	fmt.Fprintf(b, `<text x="60" y="%.0f">%s</text><path d="M60 %.0fV%.0fH620" fill="none" stroke="#999"/>`+"\n", top-5, title, top, bottom)
	for _, v := range ticks {
		fmt.Fprintf(b, `<text x="52" y="%.1f" text-anchor="end">%s</text><path d="M60 %.1fH620" stroke="#eee"/>`+"\n", y(v)+4, name(v), y(v))
	}
	fmt.Fprintf(b, `<text x="60" y="%.0f">1</text><text x="620" y="%.0f" text-anchor="end">50</text>`+"\n", bottom+15, bottom+15)
}

func line(b *strings.Builder, v []float64, colour string, y func(float64) float64) {
	fmt.Fprintf(b, `<polyline fill="none" stroke="%s" points="`, colour)
	for i, x := range v {
		fmt.Fprintf(b, "%.1f,%.1f ", 60+560*float64(i)/float64(len(v)-1), y(x))
	}
	b.WriteString(`"/>` + "\n")
}
