/* A training step of GPT-2 124M by llm.c on the processor, with random weights and tokens. llm.c itself is not here; with
 * a checkout of github.com/karpathy/llm.c in DIR:
 *
 *   gcc -Ofast -march=native -fopenmp -IDIR llmc.c -o llmc -lm
 *   OMP_NUM_THREADS=1 ./llmc batch tokens [steps]
 *
 * Writes a checkpoint of random weights to a temporary file, as llm.c takes weights from nowhere else. Prints one JSON
 * line with the keys of trainer/trainbench: seconds and processor seconds of a step, medians, the first left out.
 */
#define _GNU_SOURCE
#define TESTING
#include "train_gpt2.c"

#define LAYERS 12
#define HEADS 12
#define DIM 768
#define VOCAB 50257
#define PADDED 50304
#define CONTEXT 1024
#define MOST 64 /* steps */

static uint32_t state = 1;

static float noise(void) {
	state = state * 1664525u + 1013904223u;
	return ((float)(state >> 8) / 16777216.0f - 0.5f) * 0.07f;
}

/* Writes the file that gpt2_build_from_checkpoint reads: 256 words of header, then all parameters. */
static void checkpoint(const char *path) {
	int header[256] = {20240326, 3, CONTEXT, VOCAB, LAYERS, HEADS, DIM, PADDED};
	size_t block = 12UL * DIM * DIM + 13UL * DIM, n = (PADDED + CONTEXT) * (size_t)DIM + LAYERS * block + 2 * DIM;
	FILE *f = fopen(path, "wb");
	if (!f || fwrite(header, sizeof header, 1, f) != 1)
		exit(1);
	for (size_t i = 0; i < n; i++) {
		float v = noise();
		if (fwrite(&v, sizeof v, 1, f) != 1)
			exit(1);
	}
	fclose(f);
}

static double now(clockid_t clock) {
	struct timespec t;
	clock_gettime(clock, &t);
	return t.tv_sec + 1e-9 * t.tv_nsec;
}

static int rising(const void *a, const void *b) { return (*(double *)a > *(double *)b) - (*(double *)a < *(double *)b); }

static double median(double *v, int n) {
	qsort(v, n, sizeof *v, rising);
	return v[n / 2];
}

int main(int argc, char **argv) {
	int B = argc > 1 ? atoi(argv[1]) : 4, T = argc > 2 ? atoi(argv[2]) : 64, steps = argc > 3 ? atoi(argv[3]) : 2;
	if (B < 1 || T < 1 || T > CONTEXT || steps < 1 || steps > MOST)
		return 1;
	char path[] = "/tmp/llmc-XXXXXX";
	int fd = mkstemp(path);
	if (fd < 0)
		return 1;
	close(fd);
	checkpoint(path);
	FILE *answer = fdopen(dup(1), "w"); /* what llm.c prints goes elsewhere */
	if (!answer || !freopen("/dev/null", "w", stdout))
		return 1;
	GPT2 model;
	gpt2_build_from_checkpoint(&model, path);
	unlink(path);
	int *ids = malloc((B * T + 1) * sizeof *ids);
	for (int i = 0; i <= B * T; i++)
		ids[i] = (int)(((uint64_t)(uint32_t)(i + 1) * 2654435769u % (1ull << 32)) * VOCAB >> 32);
	double wall[MOST], cpu[MOST];
	for (int s = -1; s < steps; s++) {
		double w = now(CLOCK_MONOTONIC), c = now(CLOCK_PROCESS_CPUTIME_ID);
		gpt2_forward(&model, ids, ids + 1, B, T);
		gpt2_zero_grad(&model);
		gpt2_backward(&model);
		gpt2_update(&model, 1e-4f, 0.9f, 0.999f, 1e-8f, 0.0f, s + 2);
		if (s >= 0)
			wall[s] = now(CLOCK_MONOTONIC) - w, cpu[s] = now(CLOCK_PROCESS_CPUTIME_ID) - c;
	}
	fprintf(answer, "{\"name\": \"gpt2 B%d T%d fp32\", \"tokens\": %d, \"seconds\": %g, \"cpu_seconds\": %g, \"loss\": %g}\n",
		B, T, B * T, median(wall, steps), median(cpu, steps), model.mean_loss);
	return 0;
}
