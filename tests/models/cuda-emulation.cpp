/* SPDX-License-Identifier: MIT
 *
 * The fibres, and what lanes of a warp do together. See cuda-emulation.h.
 */
#include "cuda-emulation.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#ifndef __x86_64__
#include <ucontext.h>
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

enum {
	LANES = 32,
	THREADS_MAX = 1024,
	STACK = 256 * 1024,
	BLOCK_MEMORY_MAX = 227 * 1024, /* what a block of sm_90 may have */
	COPIES_MAX = 512,
};

enum state { READY, IN_WARP, IN_BLOCK, DONE };

struct copy {
	void *to;
	const void *from; /* NULL: zeros */
	unsigned group;
};

struct fibre {
	enum state state;
	char *stack;
#ifdef __x86_64__
	void *top; /* of its stack, while it waits */
#else
	ucontext_t context;
#endif
	void *fake_stack; /* AddressSanitizer's */
	void (*operation)(void **);
	void *mine; /* its part in the operation */
	struct copy copies[COPIES_MAX];
	unsigned copy_count, group;
};

struct emulation_index threadIdx, blockIdx, blockDim, gridDim;

static struct fibre fibres[THREADS_MAX], host;
static unsigned current, threads, arrived, done, warp_arrived[THREADS_MAX / LANES];
static unsigned char *block_memory;
static void (*entry)(void *);
static void *entry_closure;
static uint64_t drawn = 1;
static bool copies_early;

static void tell_off(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "block %u %u %u, thread %u: ", blockIdx.x, blockIdx.y, blockIdx.z, current);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	abort();
}

static uint64_t draw(void)
{
	uint64_t z = drawn += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/* --- Fibres --- */

#ifdef __x86_64__
extern "C" void emulation_switch(void **from, void *to);
__asm__(".text\n"
	".type emulation_switch, @function\n"
	"emulation_switch:\n"
	"	pushq %rbp\n	pushq %rbx\n	pushq %r12\n	pushq %r13\n	pushq %r14\n	pushq %r15\n"
	"	movq %rsp, (%rdi)\n"
	"	movq %rsi, %rsp\n"
	"	popq %r15\n	popq %r14\n	popq %r13\n	popq %r12\n	popq %rbx\n	popq %rbp\n"
	"	ret\n"
	".size emulation_switch, . - emulation_switch\n");
#endif

#ifdef __SANITIZE_ADDRESS__
static const void *host_stack;
static size_t host_size;
#endif

static void change(struct fibre *from, struct fibre *to, bool for_good)
{
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_start_switch_fiber(for_good ? NULL : &from->fake_stack, to == &host ? host_stack : to->stack,
				       to == &host ? host_size : (size_t)STACK);
#endif
	(void)for_good;
#ifdef __x86_64__
	emulation_switch(&from->top, to->top);
#else
	swapcontext(&from->context, &to->context);
#endif
#ifdef __SANITIZE_ADDRESS__
	if (from == &host)
		__sanitizer_finish_switch_fiber(from->fake_stack, NULL, NULL);
	else
		__sanitizer_finish_switch_fiber(from->fake_stack, &host_stack, &host_size);
#endif
}

static void wait_as(enum state state)
{
	struct fibre *self = &fibres[current];

	self->state = state;
	change(self, &host, false);
}

static void fibre_main(void)
{
	struct fibre *self = &fibres[current];

#ifdef __SANITIZE_ADDRESS__
	__sanitizer_finish_switch_fiber(NULL, &host_stack, &host_size);
#endif
	entry(entry_closure);
	if (self->copy_count > 0)
		tell_off("left before its copies arrived");
	self->state = DONE;
	done++;
	change(self, &host, true);
}

static void fibre_start(struct fibre *f)
{
	f->state = READY;
	f->copy_count = f->group = 0;
	if (!f->stack) {
		f->stack = (char *)mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (f->stack == MAP_FAILED)
			tell_off("no memory for its stack");
	}
#ifdef __x86_64__
	/* What emulation_switch() takes off: six registers and where to go on. */
	void **top = (void **)(f->stack + STACK) - 8;

	top[6] = (void *)fibre_main;
	f->top = top;
#else
	getcontext(&f->context);
	f->context.uc_stack.ss_sp = f->stack;
	f->context.uc_stack.ss_size = STACK;
	makecontext(&f->context, fibre_main, 0);
#endif
}

/* Its lanes in one order or the other, until all wait for the block or are done: a warp gets as far ahead of
 * the others as it ever could. */
static bool run_warp(unsigned warp)
{
	unsigned flip = draw() % 2 ? LANES - 1 : 0;
	bool ran = false, runs;

	do {
		runs = false;
		for (unsigned i = 0; i < LANES; i++) {
			unsigned next = warp * LANES + (i ^ flip);

			if (fibres[next].state != READY)
				continue;
			runs = ran = true;
			current = next;
			threadIdx.x = next;
			change(&host, &fibres[next], false);
		}
	} while (runs);
	return ran;
}

static void run_block(void)
{
	unsigned warps = threads / LANES;

	arrived = done = 0;
	copies_early = draw() % 2;
	memset(warp_arrived, 0, sizeof(warp_arrived));
	for (unsigned i = 0; i < threads; i++)
		fibre_start(&fibres[i]);
	while (done < threads) {
		unsigned first = (unsigned)(draw() % warps);
		bool ran = false;

		for (unsigned i = 0; i < warps; i++)
			ran |= run_warp((first + i) % warps);
		for (current = 0; !ran && current < threads; current++)
			if (fibres[current].state == IN_WARP)
				tell_off("waits for ever: its warp is not together");
		for (current = 0; !ran && current < threads; current++)
			if (fibres[current].state == IN_BLOCK)
				tell_off("waits for ever: not all of the block come to a barrier");
	}
}

bool emulation_fits(dim3 blocks, unsigned count, size_t memory)
{
	return count != 0 && count <= THREADS_MAX && count % LANES == 0 && memory <= BLOCK_MEMORY_MAX &&
	       blocks.x != 0 && blocks.y != 0 && blocks.z != 0 && blocks.y <= 65535 && blocks.z <= 65535;
}

void emulation_run(dim3 blocks, unsigned count, size_t memory, void (*kernel)(void *), void *closure)
{
	threads = count;
	entry = kernel;
	entry_closure = closure;
	blockDim = { count, 1, 1 };
	gridDim = { blocks.x, blocks.y, blocks.z };
	if (memory && posix_memalign((void **)&block_memory, 128, memory) != 0)
		tell_off("no memory for the block's");
	for (blockIdx.z = 0; blockIdx.z < blocks.z; blockIdx.z++) {
		for (blockIdx.y = 0; blockIdx.y < blocks.y; blockIdx.y++) {
			for (blockIdx.x = 0; blockIdx.x < blocks.x; blockIdx.x++) {
				if (memory)
					memset(block_memory, 0xff, memory);
				run_block();
			}
		}
	}
	free(block_memory);
	block_memory = NULL;
}

unsigned char *emulation_block_memory(void)
{
	return block_memory;
}

/* --- Together --- */

void emulation_sync_block(void)
{
	if (++arrived < threads) {
		wait_as(IN_BLOCK);
		return;
	}
	arrived = 0;
	for (unsigned i = 0; i < threads; i++)
		if (fibres[i].state == IN_BLOCK)
			fibres[i].state = READY;
}

static void together(void (*operation)(void **), void *mine)
{
	unsigned warp = current / LANES;
	struct fibre *lanes = &fibres[warp * LANES];
	void *all[LANES];

	fibres[current].operation = operation;
	fibres[current].mine = mine;
	if (++warp_arrived[warp] < LANES) {
		wait_as(IN_WARP);
		return;
	}
	warp_arrived[warp] = 0;
	for (int i = 0; i < LANES; i++) {
		if (lanes[i].operation != operation)
			tell_off("does another thing than lane %d of its warp", i);
		all[i] = lanes[i].mine;
		lanes[i].state = READY;
	}
	if (operation)
		operation(all);
}

void emulation_sync_warp(void)
{
	together(NULL, NULL);
}

struct shuffle {
	uint32_t x, result;
	unsigned lane;
};

static void shuffle_all(void **lanes)
{
	for (int i = 0; i < LANES; i++) {
		struct shuffle *s = (struct shuffle *)lanes[i];

		s->result = ((struct shuffle *)lanes[s->lane % LANES])->x;
	}
}

uint32_t emulation_shuffle(uint32_t x, unsigned lane)
{
	struct shuffle s = { x, 0, lane };

	together(shuffle_all, &s);
	return s.result;
}

static void any_of_all(void **lanes)
{
	bool any = false;

	for (int i = 0; i < LANES; i++)
		any |= *(bool *)lanes[i];
	for (int i = 0; i < LANES; i++)
		*(bool *)lanes[i] = any;
}

bool emulation_any(bool condition)
{
	together(any_of_all, &condition);
	return condition;
}

static float half_of(uint32_t both, int high)
{
	uint32_t bits = high ? both & 0xffff0000u : both << 16;
	float f;

	memcpy(&f, &bits, sizeof(f));
	return f;
}

struct mma {
	float *c;
	const uint32_t *a, *b;
};

static void mma_all(void **lanes)
{
	float a[16][16], b[16][8], c[16][8];

	for (int lane = 0; lane < LANES; lane++) {
		const struct mma *m = (const struct mma *)lanes[lane];
		int g = lane / 4, t = lane % 4;

		for (int i = 0; i < 2; i++) {
			for (int far = 0; far < 2; far++) {
				a[g][2 * t + 8 * far + i] = half_of(m->a[2 * far], i);
				a[g + 8][2 * t + 8 * far + i] = half_of(m->a[2 * far + 1], i);
				b[2 * t + 8 * far + i][g] = half_of(m->b[far], i);
			}
			c[g][2 * t + i] = m->c[i];
			c[g + 8][2 * t + i] = m->c[2 + i];
		}
	}
	for (int i = 0; i < 16; i++)
		for (int k = 0; k < 16; k++)
			for (int j = 0; j < 8; j++)
				c[i][j] += a[i][k] * b[k][j];
	for (int lane = 0; lane < LANES; lane++) {
		const struct mma *m = (const struct mma *)lanes[lane];

		for (int i = 0; i < 4; i++)
			m->c[i] = c[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
	}
}

void emulation_mma(float *c, const uint32_t *a, const uint32_t *b)
{
	struct mma m = { c, a, b };

	together(mma_all, &m);
}

struct matrices {
	uint32_t *m;
	const unsigned char *row;
	bool transposed;
};

static void load_all(void **lanes)
{
	for (int lane = 0; lane < LANES; lane++) {
		struct matrices *x = (struct matrices *)lanes[lane];

		for (int i = 0; i < 4; i++) {
			unsigned char *to = (unsigned char *)&x->m[i];

			for (int k = 0; k < 2; k++) {
				int row = x->transposed ? lane % 4 * 2 + k : lane / 4;
				int column = x->transposed ? lane / 4 : lane % 4 * 2 + k;

				memcpy(to + 2 * k, ((struct matrices *)lanes[8 * i + row])->row + 2 * column, 2);
			}
		}
	}
}

void emulation_load_matrices(uint32_t *m, const void *row, bool transposed)
{
	struct matrices x = { m, (const unsigned char *)row, transposed };

	if ((uintptr_t)row % 16)
		tell_off("loads a matrix from an address that is not aligned");
	together(load_all, &x);
}

/* --- Copies --- */

static void copy_arrive(const struct copy *c)
{
	if (c->from)
		memcpy(c->to, c->from, 16);
	else
		memset(c->to, 0, 16);
}

void emulation_copy_async(void *to, const void *from, bool there)
{
	struct fibre *f = &fibres[current];

	if ((uintptr_t)to % 16 || (uintptr_t)from % 16)
		tell_off("copies from or to an address that is not aligned");
	if (f->copy_count == COPIES_MAX)
		tell_off("has too many copies under way");
	f->copies[f->copy_count++] = { to, there ? from : NULL, f->group };
	if (copies_early)
		copy_arrive(&f->copies[f->copy_count - 1]);
}

void emulation_copies_end_group(void)
{
	fibres[current].group++;
}

void emulation_copies_wait(int but)
{
	struct fibre *f = &fibres[current];
	unsigned left = 0;

	for (unsigned i = 0; i < f->copy_count; i++) {
		struct copy c = f->copies[i];

		if (c.group + (unsigned)but >= f->group)
			f->copies[left++] = c;
		else if (!copies_early)
			copy_arrive(&c);
	}
	f->copy_count = left;
}

uint16_t emulated_bf16(float f)
{
	uint32_t bits;

	memcpy(&bits, &f, sizeof(bits));
	if ((bits & 0x7fffffff) > 0x7f800000)
		return 0x7fff;
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
