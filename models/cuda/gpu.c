/* SPDX-License-Identifier: MIT
 *
 * One GPU with the CUDA toolkit: a stream, and products by cuBLASLt, with fp8 in its mode of "outer vector"
 * scales (D[i][j] = scale_a[i] scale_b[j] sum) and without fast accumulation: sums stay fp32.
 *
 * cuBLASLt has many kernels for a shape, and which is best depends on the number of rows; they add up in
 * different orders. Here one is picked for each shape and kind, at a number of rows typical of the kind,
 * and used for any number: what a row gives stays the same. Where any order will do, one is picked for each
 * power of two, and used for what is below. So it has to do for the least and the most rows as well.
 *
 * The depth is parted among blocks (split-K) for few rows alone, who would not busy a GPU otherwise; parts are
 * added up in fp32. What that takes of memory grows with the rows. And only where the depth is a multiple
 * of what any kernel takes at once: there are versions that drop the rest of a part
 * (facebookexperimental/triton issue 2767). Source: cuBLASLt in the toolkit's manual.
 */
#include "cuda/gpu.h"

#include "base/num.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>

/* Scales a row of fp8 came with 12.9. */
#define HAVE_FP8 (CUBLAS_VERSION >= 120900)

enum { WORKSPACE = 32 << 20, PLANS_MAX = 256, CANDIDATES = 32, ALIGNED = 16, WHOLE_DEPTH = 128 };

/* y' [out, n] = w' [in, out] transposed by x' [in, n], all of them column-major. */
struct plan {
	size_t rows, out, in; /* rows: that it is picked for */
	bool wide, fp8;
	bool picked; /* algorithm is there */
	cublasLtMatmulDesc_t product;
	cublasLtMatrixLayout_t w, x, y;
	cublasLtMatmulAlgo_t algorithm;
};

struct gpu {
	cudaStream_t stream;
	cublasLtHandle_t products;
	void *workspace;
	struct plan plans[PLANS_MAX];
	size_t count;
	bool recording;
	char name[300];
	int major, minor; /* compute capability */
};

void gpu_check(const struct gpu *g, int code, const char *what)
{
	if (code)
		die(EX_WORK_REMAINS, "%s: %s: %s", g->name, what, cudaGetErrorString((cudaError_t)code));
}

static void check_product(const struct gpu *g, cublasStatus_t status, const char *what)
{
	if (status != CUBLAS_STATUS_SUCCESS)
		die(EX_WORK_REMAINS, "%s: %s: %s", g->name, what, cublasLtGetStatusString(status));
}

enum rc gpu_open(struct gpu **out, struct err *err)
{
	struct gpu *g = xcalloc(1, sizeof(*g));
	struct cudaDeviceProp about;
	cudaError_t error = cudaSetDevice(0);

	*out = NULL;
	if (!error)
		error = cudaGetDeviceProperties(&about, 0);
	if (error) {
		free(g);
		return err_set(err, RC_FATAL, "gpu", "no GPU can be used: %s", cudaGetErrorString(error));
	}
	snprintf(g->name, sizeof(g->name), "cuda %s", about.name);
	g->major = about.major;
	g->minor = about.minor;
	if (about.major < 8) {
		err_set(err, RC_FATAL, "gpu", "%s is too old: compute capability 8.0 is the least", g->name);
		free(g);
		return RC_FATAL;
	}
	gpu_check(g, cudaStreamCreateWithFlags(&g->stream, cudaStreamNonBlocking), "make a stream");
	gpu_check(g, cudaMalloc(&g->workspace, WORKSPACE), "room for products");
	check_product(g, cublasLtCreate(&g->products), "cuBLASLt");
	*out = g;
	return RC_OK;
}

static void drop_plan(struct plan *p)
{
	cublasLtMatmulDescDestroy(p->product);
	cublasLtMatrixLayoutDestroy(p->w);
	cublasLtMatrixLayoutDestroy(p->x);
	cublasLtMatrixLayoutDestroy(p->y);
}

void gpu_close(struct gpu *g)
{
	gpu_wait(g);
	for (size_t i = 0; i < g->count; i++)
		drop_plan(&g->plans[i]);
	cublasLtDestroy(g->products);
	cudaFree(g->workspace);
	cudaStreamDestroy(g->stream);
	free(g);
}

const char *gpu_name(const struct gpu *g)
{
	return g->name;
}

cudaStream_t gpu_stream(const struct gpu *g)
{
	return g->stream;
}

size_t gpu_room(const struct gpu *g)
{
	size_t room = 0, all;

	gpu_check(g, cudaMemGetInfo(&room, &all), "ask for free memory");
	return room;
}

void *gpu_alloc(struct gpu *g, size_t size)
{
	void *p = NULL;

	(void)g;
	if (cudaMalloc(&p, size ? size : 1) != cudaSuccess) {
		cudaGetLastError(); /* it is not for the next call */
		return NULL;
	}
	return p;
}

void gpu_free(struct gpu *g, const void *p)
{
	if (!p)
		return;
	gpu_check(g, cudaStreamSynchronize(g->stream), "wait");
	gpu_check(g, cudaFree((void *)p), "free memory");
}

void *gpu_pin(struct gpu *g, size_t size)
{
	void *p = NULL;

	(void)g;
	if (cudaMallocHost(&p, size ? size : 1) != cudaSuccess) {
		cudaGetLastError(); /* it is not for the next call */
		return NULL;
	}
	return p;
}

void gpu_unpin(struct gpu *g, void *p)
{
	if (p)
		gpu_check(g, cudaFreeHost(p), "free pinned memory");
}

void gpu_send(struct gpu *g, void *to, const void *from, size_t size)
{
	if (size)
		gpu_check(g, cudaMemcpyAsync(to, from, size, cudaMemcpyHostToDevice, g->stream),
			  "copy to the GPU");
}

void gpu_fetch(struct gpu *g, void *to, const void *from, size_t size)
{
	if (size)
		gpu_check(g, cudaMemcpyAsync(to, from, size, cudaMemcpyDeviceToHost, g->stream),
			  "copy from the GPU");
}

struct gpu_mark {
	cudaEvent_t event;
};

struct gpu_mark *gpu_mark_new(struct gpu *g)
{
	struct gpu_mark *m = xcalloc(1, sizeof(*m));

	gpu_check(g, cudaEventCreateWithFlags(&m->event, cudaEventDisableTiming), "make an event");
	return m;
}

void gpu_mark_free(struct gpu *g, struct gpu_mark *m)
{
	if (m)
		gpu_check(g, cudaEventDestroy(m->event), "drop an event");
	free(m);
}

void gpu_mark_set(struct gpu *g, struct gpu_mark *m)
{
	gpu_check(g, cudaEventRecord(m->event, g->stream), "set an event");
}

void gpu_mark_wait(struct gpu *g, struct gpu_mark *m)
{
	gpu_check(g, cudaEventSynchronize(m->event), "compute");
}

struct gpu_graph {
	cudaGraphExec_t exec;
};

void gpu_graph_begin(struct gpu *g)
{
	gpu_check(g, cudaStreamBeginCapture(g->stream, cudaStreamCaptureModeThreadLocal), "record a step");
	g->recording = true;
}

struct gpu_graph *gpu_graph_end(struct gpu *g)
{
	struct gpu_graph *graph = xcalloc(1, sizeof(*graph));
	cudaGraph_t recorded;
	cudaError_t error;

	g->recording = false;
	gpu_check(g, cudaStreamEndCapture(g->stream, &recorded), "record a step");
	error = cudaGraphInstantiate(&graph->exec, recorded, 0);
	gpu_check(g, cudaGraphDestroy(recorded), "record a step");
	if (!error) {
		error = cudaGraphUpload(graph->exec, g->stream);
		if (error)
			cudaGraphExecDestroy(graph->exec);
	}
	if (error == cudaErrorMemoryAllocation) {
		cudaGetLastError(); /* it is not for the next call */
		free(graph);
		return NULL;
	}
	gpu_check(g, error, "record a step");
	return graph;
}

void gpu_graph_run(struct gpu *g, struct gpu_graph *graph)
{
	gpu_check(g, cudaGraphLaunch(graph->exec, g->stream), "a recorded step");
}

void gpu_graph_free(struct gpu *g, struct gpu_graph *graph)
{
	if (!graph)
		return;
	gpu_check(g, cudaStreamSynchronize(g->stream), "wait");
	gpu_check(g, cudaGraphExecDestroy(graph->exec), "drop a recorded step");
	free(graph);
}

void gpu_copy(struct gpu *g, void *to, const void *from, size_t size)
{
	gpu_check(g, cudaMemcpyAsync(to, from, size, cudaMemcpyDeviceToDevice, g->stream),
		  "copy within the GPU");
}

bool gpu_mark_passed(struct gpu *g, struct gpu_mark *m)
{
	cudaError_t error = cudaEventQuery(m->event);

	if (error == cudaErrorNotReady)
		return false;
	gpu_check(g, error, "compute");
	return true;
}

void gpu_wait(struct gpu *g)
{
	gpu_check(g, cudaStreamSynchronize(g->stream), "compute");
}

/* GPUs that read any of the host's memory by themselves may not have taken a copy before. */
void gpu_write(struct gpu *g, void *to, const void *from, size_t size)
{
	gpu_send(g, to, from, size);
	gpu_wait(g);
}

void gpu_read(struct gpu *g, void *to, const void *from, size_t size)
{
	gpu_check(g, cudaMemcpyAsync(to, from, size, cudaMemcpyDeviceToHost, g->stream),
		  "copy from the GPU");
	gpu_check(g, cudaStreamSynchronize(g->stream), "compute");
}

static void set_rows(const struct gpu *g, struct plan *p, size_t n)
{
	uint64_t columns = n;

	check_product(g, cublasLtMatrixLayoutSetAttribute(p->x, CUBLASLT_MATRIX_LAYOUT_COLS, &columns,
							  sizeof(columns)), "rows of a product");
	check_product(g, cublasLtMatrixLayoutSetAttribute(p->y, CUBLASLT_MATRIX_LAYOUT_COLS, &columns,
							  sizeof(columns)), "rows of a product");
}

/* A scale for each row of w and of x. A library older than 12.9 knows of none. */
static cublasStatus_t set_scales(struct plan *p, const float *w, const float *x)
{
#if HAVE_FP8
	static const int32_t a_row = CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
	const struct {
		cublasLtMatmulDescAttributes_t what;
		const void *value;
		size_t size;
	} scales[] = {
		{CUBLASLT_MATMUL_DESC_A_SCALE_MODE, &a_row, sizeof(a_row)},
		{CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &a_row, sizeof(a_row)},
		{CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &w, sizeof(w)},
		{CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &x, sizeof(x)},
	};
	cublasStatus_t status = CUBLAS_STATUS_SUCCESS;

	for (size_t i = 0; i < ARRAY_SIZE(scales) && status == CUBLAS_STATUS_SUCCESS; i++)
		status = cublasLtMatmulDescSetAttribute(p->product, scales[i].what, scales[i].value,
							scales[i].size);
	return status;
#else
	(void)p, (void)w, (void)x;
	return CUBLAS_STATUS_NOT_SUPPORTED;
#endif
}

static void make_plan(struct gpu *g, struct plan *p)
{
	cublasOperation_t turned = CUBLAS_OP_T;
	cudaDataType_t from = p->fp8 ? CUDA_R_8F_E4M3 : CUDA_R_16BF, to = p->wide ? CUDA_R_32F : CUDA_R_16BF;

	check_product(g, cublasLtMatmulDescCreate(&p->product, CUBLAS_COMPUTE_32F, CUDA_R_32F), "a product");
	check_product(g, cublasLtMatmulDescSetAttribute(p->product, CUBLASLT_MATMUL_DESC_TRANSA, &turned,
							sizeof(turned)), "a product");
	check_product(g, cublasLtMatrixLayoutCreate(&p->w, from, p->in, p->out, (int64_t)p->in),
		      "weights of a product");
	check_product(g, cublasLtMatrixLayoutCreate(&p->x, from, p->in, p->rows, (int64_t)p->in),
		      "rows of a product");
	check_product(g, cublasLtMatrixLayoutCreate(&p->y, to, p->out, p->rows, (int64_t)p->out),
		      "rows of a product");
}

static void prefer(const struct gpu *g, cublasLtMatmulPreference_t to,
		   cublasLtMatmulPreferenceAttributes_t what, const void *value, size_t size)
{
	check_product(g, cublasLtMatmulPreferenceSetAttribute(to, what, value, size), "a product");
}

static cublasLtMatmulPreference_t preference_for(const struct gpu *g, const struct plan *p)
{
	static const cublasLtMatmulPreferenceAttributes_t alignments[] = {
		CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
		CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
	const bool parted = p->rows <= GPU_FEW_MOST && !p->fp8 && p->in % WHOLE_DEPTH == 0;
	const uint32_t schemes = parted ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE : CUBLASLT_REDUCTION_SCHEME_NONE,
		       aligned = ALIGNED;
	const uint64_t room = WORKSPACE;
	cublasLtMatmulPreference_t preference;

	check_product(g, cublasLtMatmulPreferenceCreate(&preference), "a product");
	prefer(g, preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &room, sizeof(room));
	prefer(g, preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof(schemes));
	for (size_t i = 0; i < ARRAY_SIZE(alignments); i++)
		prefer(g, preference, alignments[i], &aligned, sizeof(aligned));
	return preference;
}

/* Does the algorithm do for n rows? */
static bool does(struct gpu *g, struct plan *p, size_t n)
{
	cublasLtMatmulHeuristicResult_t checked;

	set_rows(g, p, n);
	return cublasLtMatmulAlgoCheck(g->products, p->product, p->w, p->x, p->y, p->y, &p->algorithm,
				       &checked) == CUBLAS_STATUS_SUCCESS &&
	       checked.workspaceSize <= WORKSPACE;
}

/* The most rows that a product is asked for whose plan is for so many. No page that models take has more patches
 * than 65,536. */
static size_t most_rows(size_t rows)
{
	if (rows == gpu_rows_like(GPU_FEW, 1))
		return GPU_FEW_MOST;
	return rows == gpu_rows_like(GPU_MANY, 1) ? 1 << 16 : rows;
}

/* What is best for `rows` rows of those that do. */
static bool pick_for(struct gpu *g, struct plan *p, size_t rows)
{
	cublasLtMatmulPreference_t preference = preference_for(g, p);
	cublasLtMatmulHeuristicResult_t found[CANDIDATES];
	cublasStatus_t status;
	int count = 0;

	set_rows(g, p, rows);
	status = cublasLtMatmulAlgoGetHeuristic(g->products, p->product, p->w, p->x, p->y, p->y, preference,
						CANDIDATES, found, &count);
	cublasLtMatmulPreferenceDestroy(preference);
	if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE ||
	    status == CUBLAS_STATUS_ARCH_MISMATCH)
		return false;
	check_product(g, status, "pick a kernel");
	for (int i = 0; i < count; i++) {
		p->algorithm = found[i].algo;
		if (found[i].state == CUBLAS_STATUS_SUCCESS && does(g, p, 1) && does(g, p, most_rows(p->rows)))
			return true;
	}
	return false;
}

/* False: there is no kernel for it. With fp8 there may be none for few rows: one for many has to do. */
static bool pick(struct gpu *g, struct plan *p)
{
	size_t many = gpu_rows_like(GPU_MANY, 1);

	return pick_for(g, p, p->rows) || (p->rows < many && pick_for(g, p, many));
}

static struct plan *plan_for(struct gpu *g, const struct plan *wanted)
{
	struct plan *p;

	for (size_t i = 0; i < g->count; i++) {
		p = &g->plans[i];
		if (p->rows == wanted->rows && p->out == wanted->out && p->in == wanted->in &&
		    p->wide == wanted->wide && p->fp8 == wanted->fp8)
			return p;
	}
	if (g->count == PLANS_MAX)
		BUG("a model with more than %d shapes of products", PLANS_MAX);
	if (g->recording)
		BUG("a product of %zu by %zu is recorded before one was done", wanted->out, wanted->in);
	p = &g->plans[g->count++];
	*p = *wanted;
	make_plan(g, p);
	return p;
}

static cublasStatus_t multiply(struct gpu *g, struct plan *p, const void *w, const void *x, size_t n, void *y)
{
	const float one = 1, zero = 0;

	if (!p->picked && !pick(g, p))
		return CUBLAS_STATUS_NOT_SUPPORTED;
	p->picked = true;
	set_rows(g, p, n);
	return cublasLtMatmul(g->products, p->product, &one, w, p->w, x, p->x, &zero, y, p->y, y, p->y,
			      &p->algorithm, g->workspace, WORKSPACE, g->stream);
}

static void multiply_or_die(struct gpu *g, struct plan *p, const void *w, const void *x, size_t n, void *y)
{
	cublasStatus_t status = multiply(g, p, w, x, n, y);

	if (!p->picked)
		die(EX_CONFIGURATION, "%s: no kernel for %sproducts of %zu by %zu", g->name,
		    p->fp8 ? "fp8 " : "", p->out, p->in);
	check_product(g, status, "a product");
}

void gpu_product(struct gpu *g, enum gpu_rows kind, const uint16_t *w, size_t out, size_t in,
		 const uint16_t *x, size_t n, void *y, bool wide)
{
	const struct plan wanted = {.rows = gpu_rows_like(kind, n), .out = out, .in = in, .wide = wide};

	multiply_or_die(g, plan_for(g, &wanted), w, x, n, y);
}

void gpu_product_fp8(struct gpu *g, enum gpu_rows kind, struct gpu_fp8 w, size_t out, size_t in,
		     struct gpu_fp8 x, size_t n, uint16_t *y)
{
	const struct plan wanted = {.rows = gpu_rows_like(kind, n), .out = out, .in = in, .fp8 = true};
	struct plan *p = plan_for(g, &wanted);

	check_product(g, set_scales(p, w.scale, x.scale), "scales of a product");
	multiply_or_die(g, p, w.codes, x.codes, n, y);
}

/* Of one kind, with the fewest rows and the most that are usual. What is picked stays for its use. */
static cublasStatus_t try_fp8(struct gpu *g, enum gpu_rows kind, size_t out, size_t in, char *memory)
{
	const struct plan wanted = {.rows = gpu_rows_like(kind, 1), .out = out, .in = in, .fp8 = true};
	struct plan *p = plan_for(g, &wanted);
	const float *scale = (const float *)(void *)memory;
	cublasStatus_t status = set_scales(p, scale, scale);

	if (status == CUBLAS_STATUS_SUCCESS)
		status = multiply(g, p, memory, memory, 1, memory);
	if (status == CUBLAS_STATUS_SUCCESS)
		status = multiply(g, p, memory, memory, p->rows, memory);
	gpu_wait(g);
	return status;
}

/* The header does not say which GPUs have scales a row, and cuBLASLt may refuse them only when it is to multiply:
 * it is asked to. Operands and result are zeros, in one place. */
enum rc gpu_has_fp8(struct gpu *g, size_t out, size_t in, struct err *err)
{
	size_t rows = gpu_rows_like(GPU_MANY, 1), size = max_u64(out * in, rows * max_u64(in, 2 * out));
	char *memory = HAVE_FP8 ? gpu_alloc(g, size) : NULL;
	cublasStatus_t status = CUBLAS_STATUS_NOT_SUPPORTED;

	if (HAVE_FP8 && !memory)
		return err_set(err, RC_FATAL, "memory", "%s: no room to try a product of fp8", g->name);
	if (memory) {
		gpu_check(g, cudaMemsetAsync(memory, 0, size, g->stream), "clear memory");
		status = try_fp8(g, GPU_FEW, out, in, memory);
		if (status == CUBLAS_STATUS_SUCCESS)
			status = try_fp8(g, GPU_MANY, out, in, memory);
		gpu_free(g, memory);
	}
	if (status == CUBLAS_STATUS_SUCCESS)
		return RC_OK;
	return err_set(err, RC_FATAL, "gpu",
		       "%s, of compute capability %d.%d, has no products of fp8 with a scale a row, of %zu by "
		       "%zu, in cuBLASLt %zu (built with %d): weights: bf16",
		       g->name, g->major, g->minor, out, in, cublasLtGetVersion(), CUBLAS_VERSION);
}
