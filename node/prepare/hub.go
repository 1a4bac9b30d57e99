package prepare

import (
	"context"
	"path"

	"github.com/seed-7b27c88a/shoal/trainer/hub"
)

// download fetches what is missing of a model on the hub, following HF_ENDPOINT and HF_TOKEN.
func (s *Sources) download(ctx context.Context, ref string, p Progress) (*Model, error) {
	r, err := hub.Parse(ref)
	if err != nil {
		return nil, err
	}
	dir, err := hub.FromEnv(s.Hub).Download(ctx, r, func(file string, done, total int64) {
		if p != nil {
			p("download "+file, done, total)
		}
	})
	if err != nil {
		return nil, err
	}
	m := fromDir(dir)
	m.Name = path.Base(r.Repo)
	return m, nil
}
