package prepare

import (
	"fmt"
	"io"
	"os"

	"github.com/seed-7b27c88a/shoal/trainer/exam"
	"github.com/seed-7b27c88a/shoal/trainer/job"
)

// ExamFile is the file of a manifest of kind KindExam.
const (
	ExamFile = "exam.json"
	KindExam = "exam"
)

// exam reads the files that the evaluation asks; nil: it asks none.
func (in *Inputs) exam(spec *job.Spec) (*exam.Exam, error) {
	e := spec.Eval
	if len(e.Tasks) == 0 && e.BaseText == "" && len(e.Samples) == 0 {
		return nil, nil
	}
	tok, err := in.Model.Tokenizer()
	if err != nil {
		return nil, err
	}
	return exam.Build(e, openRegular, tok, in.Model.Config.MaxPos-spec.Before())
}

func openRegular(path string) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("is no file; name a file of text")
	}
	return f, nil
}
