/* Products of the sizes that training has, by OpenBLAS or oneDNN, as kernels/cpubench measures them: the best of
 * several runs, in processor time with one thread and in wall time with more. Prints "name GFLOP/s" lines.
 *
 *   gcc -O2 -DPEER_OPENBLAS gemm.c -o gemm-openblas -lopenblas
 *   gcc -O2 -DPEER_ONEDNN gemm.c -o gemm-onednn -ldnnl -fopenmp
 *
 * Usage: gemm threads [largest number of multiply-adds]
 */
#define _POSIX_C_SOURCE 200809L
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#ifdef PEER_OPENBLAS
#include <cblas.h>
#define PEER "openblas"
#else
#include <oneapi/dnnl/dnnl.h>
#define PEER "onednn"
#endif

static const long shapes[][3] = {{256, 288, 288}, {1024, 768, 288}, {256, 768, 768}, {256, 2304, 768}, {1024, 3072, 768},
	{1024, 768, 3072}, {1024, 2048, 2048}, {1024, 32000, 288}, {512, 32000, 768}, {2048, 2048, 2048}};

static double now(int threads) {
	struct timespec t;
	clock_gettime(threads == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
	return t.tv_sec + 1e-9 * t.tv_nsec;
}

static float *filled(long n) {
	float *x = NULL;
	if (posix_memalign((void **)&x, 64, n * sizeof *x))
		exit(1);
	for (long i = 0; i < n; i++)
		x[i] = (float)(int32_t)((uint32_t)i * 2654435769u) * 0x1p-31f;
	return x;
}

/* c (m, n) = op(a)·op(b), row-major. */
static void multiply(int ta, int tb, long m, long n, long k, const float *a, const float *b, float *c) {
	long lda = ta ? m : k, ldb = tb ? k : n;
#ifdef PEER_OPENBLAS
	cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, m, n, k, 1, a, lda, b, ldb, 0, c, n);
#else
	dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', m, n, k, 1, a, lda, b, ldb, 0, c, n);
#endif
}

int main(int argc, char **argv) {
	int threads = argc > 1 ? atoi(argv[1]) : 1;
	double most = argc > 2 ? atof(argv[2]) : 1e30;
	static const struct { const char *name; int ta, tb; } layouts[] = {{"nt", 0, 1}, {"nn", 0, 0}, {"tn", 1, 0}};
	for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
		long m = shapes[s][0], n = shapes[s][1], k = shapes[s][2];
		if ((double)m * n * k > most)
			continue;
		float *a = filled(m * k), *b = filled(k * n), *c = filled(m * n);
		for (int l = 0; l < 3; l++) {
			double best = 1e30, total = 0;
			multiply(layouts[l].ta, layouts[l].tb, m, n, k, a, b, c);
			for (int r = 0; r < 2 || total < 0.02; r++) {
				double start = now(threads);
				multiply(layouts[l].ta, layouts[l].tb, m, n, k, a, b, c);
				double d = now(threads) - start;
				total += d;
				if (d < best)
					best = d;
			}
			printf("gemm %ldx%ldx%ld %s f32 %.1f\n", m, n, k, layouts[l].name, 2e-9 * m * n * k / best);
			fflush(stdout);
		}
		free(a), free(b), free(c);
	}
	return 0;
}
