module github.com/seed-7b27c88a/shoal/kernels/gen

go 1.26.6
