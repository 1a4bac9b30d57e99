package prepare

import (
	"context"
	"path"

	"github.com/seed-7b27c88a/shoal/trainer/hub"
	"github.com/seed-7b27c88a/shoal/trainer/job"
)

// download fetches what is missing of a model on the hub, following HF_ENDPOINT and HF_TOKEN.
func (s *Sources) download(ctx context.Context, ref string, p Progress) (*Model, error) {
	r, err := hub.Parse(ref)
	if err != nil {
		return nil, err
	}
	dir, err := hub.FromEnv(s.Hub).Download(ctx, r, told(p))
	if err != nil {
		return nil, err
	}
	m := fromDir(dir)
	m.Name = path.Base(r.Repo)
	return m, nil
}

// downloadRows fetches what is missing of a data set's split and returns its files.
func (s *Sources) downloadRows(ctx context.Context, d job.Dataset, p Progress) ([]string, error) {
	r, err := hub.Parse(d.Path)
	if err != nil {
		return nil, err
	}
	return hub.FromEnv(s.Hub).Dataset(ctx, r, hub.Split{Name: d.Split, Subset: d.Name}, told(p))
}

// told tells p about a download.
func told(p Progress) hub.Progress {
	return func(file string, done, total int64) {
		if p != nil {
			p("download "+file, done, total)
		}
	}
}
