# Cloister. `make run` reads the sample documents, `make check` runs every test, `make help` tells all.
#
# BUILD=DIR    where everything built goes
# NVCC=FILE    the CUDA toolkit's compiler, where it is not found; empty: without the GPU's kernels
# SANITIZE=1   AddressSanitizer and UBSan (the sandbox is off in such a build)
# DEVELOPER=1  warnings are errors

## make             build the programs into build/
## make run         install what is missing, build, and read the sample documents
## make check       install what is missing, build, and run every test
## make unit        build and run the unit tests alone
## make asan        the tests, built with AddressSanitizer and UBSan
## make check-crash  kills, power cuts, failing calls and hostile files, the long way (an hour)
## make check-container  build the container image and run the samples in it (podman)
## make check-slurm  two nodes of a Slurm on this machine share a spool
## make fuzz        fuzz every parser of our own (FUZZ_SECONDS=60 each)
## make soak        20 minutes and 20,000 documents: memory, descriptors, nothing left over
## make golden     new random models and images (SEED=N) against transformers (PYTHON=one that has it and torch)
## make bench       the table of figures: speed, errors, memory, beside other programs
## make bench-cuda  how fast the kernels are on this machine's GPU
## make bench-beside  whole models beside transformers (PYTHON=one that has it and torch, BESIDE=--help)
## make bench-llama  text models on the CPU beside llama.cpp (LLAMA=folder of its llama-bench, PYTHON=one that has gguf)
## make install     programs, pipelines, manual and completion below PREFIX (/usr/local)
## make format      lay the sources out with clang-format
## make tidy        look at the sources with clang-tidy
## make clean       remove build/

BUILD ?= build
CC ?= cc
NVCC ?= $(firstword $(wildcard $(shell command -v nvcc 2>/dev/null) /usr/local/cuda/bin/nvcc))
CFLAGS ?= -O2 -g
PREFIX ?= /usr/local
JOBS ?= $(shell nproc)
VERSION := 0.1.0

PACKAGES_decode := poppler-glib cairo fontconfig libpng libjpeg libtiff-4 libopenjp2 libwebp libarchive libcyaml libqpdf
PACKAGES_tesseract := tesseract lept
PACKAGES_web := gumbo md4c-html
PACKAGES_common := jansson nettle libseccomp
PACKAGES_runner := libcyaml
PACKAGES_models := libpcre2-8 libutf8proc gumbo
PACKAGES_folders := libcyaml libarchive

WARNINGS := -Wall -Wextra -Wshadow -Wvla -Wwrite-strings -Wstrict-prototypes -Wmissing-prototypes \
	-Wold-style-definition -Wpointer-arith -Wformat=2 -Wno-format-nonliteral -Wundef
ifdef DEVELOPER
WARNINGS += -Werror
endif
HARDENING := -fstack-protector-strong -fPIE -D_FORTIFY_SOURCE=2
LINK_HARDENING := -pie -Wl,-z,relro -Wl,--as-needed
ifdef SANITIZE
CFLAGS := -O1 -g -fsanitize=address,undefined -fno-omit-frame-pointer -fno-sanitize-recover=undefined
HARDENING := -fPIE
NVCC :=
endif
# What `make fuzz` builds with. decode/oom.c asks by gcc's name for this sanitizer.
ifdef FUZZ
CC := clang
WARNINGS += -Wno-missing-field-initializers
CFLAGS := -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-omit-frame-pointer \
	-fno-sanitize-recover=undefined -D__SANITIZE_ADDRESS__
HARDENING := -fPIE
NVCC :=
# They parse nothing, and clang asks for target options where gcc has intrinsics.
$(BUILD)/obj/models/kernels/%.o: CC := gcc
$(BUILD)/obj/models/kernels/%.o: CFLAGS := -O1 -g
endif

ALL_CFLAGS = -std=gnu11 -D_GNU_SOURCE -DCLOISTER_VERSION='"$(VERSION)"' -Irunner -Ipipelines -Imodels \
	$(WARNINGS) $(HARDENING) $(CFLAGS) -MMD -MP

# Sources. Whatever more than one program uses goes into libcloister.a.
COMMON_SRC := $(wildcard runner/base/*.c) $(wildcard runner/sandbox*.c) runner/probe.c runner/durable.c runner/journal.c \
	pipelines/airlock.c pipelines/modelfolder.c pipelines/picture.c $(wildcard pipelines/pipeline*.c) models/html.c
RUNNER_SRC := $(filter-out $(COMMON_SRC),$(wildcard runner/*.c))
DECODE_SRC := $(wildcard pipelines/decode/*.c)
TESSERACT_SRC := $(wildcard pipelines/tesseract/*.c)
WRITE_SRC := $(wildcard pipelines/write/*.c)
SERVE_SRC := models/main.c $(wildcard models/serve/*.c)
FOLDERS_SRC := $(wildcard models/folders/*.c)
CUDA_SRC := $(wildcard models/cuda/*.cu)
CUDA_HOST_SRC := $(wildcard models/cuda/*.c)
MODELS_SRC := $(filter-out $(SERVE_SRC) $(FOLDERS_SRC) $(COMMON_SRC) $(CUDA_HOST_SRC),$(wildcard models/*.c models/*/*.c))
UNIT_SRC := $(wildcard tests/unit/*.c)
CUDA_UNIT_SRC := $(wildcard tests/models/test-cuda-*.c)
CUDA_BENCH_SRC := tests/models/bench-cuda.c
EMULATED_SRC := tests/models/cuda-gpu.c tests/models/cuda-stream.c
MODELS_UNIT_SRC := $(filter-out $(CUDA_UNIT_SRC) $(CUDA_BENCH_SRC) $(EMULATED_SRC),$(wildcard tests/models/*.c))
TOOL_SRC := $(wildcard tests/tools/*.c)
FUZZ_SRC := $(wildcard tests/fuzz/fuzz-*.c)
PARTS_SRC := $(filter-out %/main.c,$(DECODE_SRC) $(WRITE_SRC) $(TESSERACT_SRC) $(RUNNER_SRC))

objects = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
pkg = $(shell pkg-config --$(1) $(2) 2>/dev/null)

PROGRAMS := $(BUILD)/cloister $(BUILD)/cloister-decode $(BUILD)/cloister-tesseract \
	$(BUILD)/cloister-model $(BUILD)/cloister-models $(BUILD)/cloister-write
PIPELINES := $(patsubst pipelines/%,$(BUILD)/pipelines/%,$(wildcard pipelines/*.yaml))
LIB := $(BUILD)/libcloister.a
UNIT := $(patsubst tests/unit/%.c,$(BUILD)/tests/unit/%,$(UNIT_SRC))
MODELS_LIB := $(BUILD)/libmodels.a
MODELS_UNIT := $(patsubst tests/models/%.c,$(BUILD)/tests/models/%,$(MODELS_UNIT_SRC))
# The GPU's kernels, where their compiler is; their tests run on the GPU, and, wherever there is a C++ compiler,
# in an emulation.
HAVE_CXX = $(shell command -v $(CXX))
ifeq ($(HAVE_CXX),)
NVCC :=
endif
CUDA_LIB := $(if $(NVCC),$(BUILD)/libcuda-kernels.a)
EMULATED_LIB := $(BUILD)/libcuda-emulated.a
# What asks the emulation itself what it was asked for.
EMULATED_ONLY := test-cuda-memory test-cuda-order test-cuda-steps
# Some of them are the CPU's tests of the whole engine, on that device.
CUDA_WHOLE := test-cuda-golden test-cuda-engine test-cuda-engine-experts test-cuda-drafts test-cuda-sample-model
CUDA_UNIT_NAMES := $(patsubst tests/models/%.c,%,$(CUDA_UNIT_SRC)) $(CUDA_WHOLE)
CUDA_UNIT = $(if $(HAVE_CXX),$(addprefix $(BUILD)/tests/models/,$(CUDA_UNIT_NAMES))) \
	$(if $(NVCC),$(addprefix $(BUILD)/tests/models/gpu/,$(filter-out $(EMULATED_ONLY),$(CUDA_UNIT_NAMES))))
TOOLS := $(patsubst tests/tools/%.c,$(BUILD)/tests/tools/%,$(TOOL_SRC)) \
	$(patsubst tests/tools/preload/%.c,$(BUILD)/tests/tools/%.so,$(wildcard tests/tools/preload/*.c))
FUZZERS := $(patsubst tests/fuzz/%.c,$(BUILD)/tests/fuzz/%,$(FUZZ_SRC))

# The slow ones first, so that the cores are busy to the end.
TEST_PROGRAMS = $(wildcard tests/crash/*.t) $(wildcard tests/fuzz/*.t) $(wildcard tests/e2e/*.t) \
	$(wildcard tests/sandbox/*.t) $(UNIT) $(MODELS_UNIT) $(CUDA_UNIT)

.PHONY: bench-beside bench-cuda bench-llama all help programs tests fuzzers run check check-crash check-container check-slurm fuzz golden soak unit asan bench deps deps-test install format tidy clean

all: programs

help:
	@sed -n 's/^## //p' $(firstword $(MAKEFILE_LIST))

programs: $(PROGRAMS) $(if $(NVCC),$(BUILD)/cloister-model-cuda) $(PIPELINES) $(BUILD)/cloister.1 $(BUILD)/cloister.bash

$(LIB): $(call objects,$(COMMON_SRC))
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/cloister: $(call objects,$(RUNNER_SRC)) $(LIB)
	$(CC) $(ALL_CFLAGS) $(LINK_HARDENING) -o $@ $^ $(call pkg,libs,$(PACKAGES_runner) $(PACKAGES_common)) -lm

$(BUILD)/cloister-decode: $(call objects,$(DECODE_SRC)) $(LIB)
	$(CC) $(ALL_CFLAGS) $(LINK_HARDENING) -o $@ $^ $(call pkg,libs,$(PACKAGES_decode) $(PACKAGES_web) $(PACKAGES_common)) -lm

$(BUILD)/cloister-tesseract: $(call objects,$(TESSERACT_SRC)) $(LIB)
	$(CC) $(ALL_CFLAGS) $(LINK_HARDENING) -o $@ $^ $(call pkg,libs,$(PACKAGES_tesseract) $(PACKAGES_common)) -lm

$(BUILD)/cloister-write: $(call objects,$(WRITE_SRC)) $(LIB)
	$(CC) $(ALL_CFLAGS) $(LINK_HARDENING) -o $@ $^ $(call pkg,libs,$(PACKAGES_common)) -lm

# The engine needs no decoder, no Tesseract and nothing of the runner but runner/base.
$(MODELS_LIB): $(call objects,$(MODELS_SRC))
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/cloister-model: $(call objects,$(SERVE_SRC)) $(MODELS_LIB) $(LIB)
	$(CC) $(ALL_CFLAGS) $(LINK_HARDENING) -o $@ $^ $(call pkg,libs,$(PACKAGES_models) $(PACKAGES_common)) -lm -pthread

# The same with a GPU instead of the CPU, where the toolkit is.
$(BUILD)/obj/cuda/main.o: models/main.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -DCLOISTER_CUDA $(call pkg,cflags,$(PACKAGES_common) $(PACKAGES_runner)) -c -o $@ $<

$(BUILD)/cloister-model-cuda: $(BUILD)/obj/cuda/main.o $(call objects,$(filter-out models/main.c,$(SERVE_SRC))) $(CUDA_LIB) $(MODELS_LIB) $(LIB)
	$(CC) $(ALL_CFLAGS) $(LINK_HARDENING) -Wl,--export-dynamic-symbol=pthread_setname_np -o $@ $^ \
		$(call pkg,libs,$(PACKAGES_models) $(PACKAGES_common)) $(CUDA_LINK) -lm

$(BUILD)/cloister-models: $(call objects,$(FOLDERS_SRC)) $(MODELS_LIB) $(LIB)
	$(CC) $(ALL_CFLAGS) $(LINK_HARDENING) -o $@ $^ $(call pkg,libs,$(PACKAGES_folders) $(PACKAGES_models) $(PACKAGES_common)) -lm -pthread

$(BUILD)/obj/models/%.o: models/%.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(call pkg,cflags,$(PACKAGES_folders) $(PACKAGES_models) $(PACKAGES_common)) -c -o $@ $<

$(BUILD)/tests/models/%: tests/models/%.c $(MODELS_LIB) $(LIB)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(LINK_HARDENING) $(call pkg,cflags,$(PACKAGES_models) $(PACKAGES_common) cmocka) -o $@ $< $(MODELS_LIB) $(LIB) \
		$(call pkg,libs,cmocka $(PACKAGES_models) $(PACKAGES_common)) -lm -pthread

# Machine code for what there is, of what this compiler knows; PTX of the last for what comes after it, and of
# the first for what lies between.
CUDA_ARCHS ?= 80 90a 100 120
CUDA_HOME = $(patsubst %/bin/,%,$(dir $(NVCC)))
CUDA_CODES = $(eval CUDA_CODES := $(shell $(NVCC) --list-gpu-code))$(CUDA_CODES)
CUDA_KNOWN = $(foreach arch,$(CUDA_ARCHS),$(if $(filter sm_$(arch:a=),$(CUDA_CODES)),$(arch)))
$(BUILD)/obj/models/cuda/gpu.o: CFLAGS += -isystem $(CUDA_HOME)/include
CUDA_LINK = -L$(CUDA_HOME)/lib64 -Wl,-rpath,$(CUDA_HOME)/lib64 -lcublasLt -lcudart_static -lstdc++ -ldl -lrt -pthread

$(BUILD)/obj/models/cuda/%.o: models/cuda/%.cu
	@mkdir -p $(@D)
	$(NVCC) -ccbin $(CXX) -std=c++17 -O3 -Irunner -Imodels $(if $(DEVELOPER),-Werror all-warnings) \
		-Xcompiler -fPIE,-Wall,-fno-exceptions -MMD -MP \
		$(foreach arch,$(CUDA_KNOWN),-gencode arch=compute_$(arch),code=sm_$(arch)) \
		$(foreach arch,$(firstword $(CUDA_KNOWN)) $(lastword $(CUDA_KNOWN)),-gencode arch=compute_$(arch),code=compute_$(arch)) -c -o $@ $<

$(BUILD)/libcuda-kernels.a: $(patsubst %.cu,$(BUILD)/obj/%.o,$(CUDA_SRC)) $(call objects,$(CUDA_HOST_SRC))
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/tests/models/gpu/%: tests/models/%.c $(CUDA_LIB) $(MODELS_LIB) $(LIB)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -DCUDA_DEVICE $(LINK_HARDENING) -isystem $(CUDA_HOME)/include \
		$(call pkg,cflags,$(PACKAGES_models) $(PACKAGES_common) cmocka) -o $@ $< $(filter %.o,$^) $(CUDA_LIB) $(MODELS_LIB) $(LIB) \
		$(call pkg,libs,cmocka $(PACKAGES_models) $(PACKAGES_common)) $(CUDA_LINK) -lm

# Without the C++ library, so that the tests are linked as the others are.
EMULATED_CXXFLAGS = -std=gnu++17 -fno-exceptions -fno-rtti -fno-threadsafe-statics -Irunner -Imodels -Itests/models \
	-Wall -Wextra -Wshadow $(if $(DEVELOPER),-Werror) $(HARDENING) $(CFLAGS) -MMD -MP

$(BUILD)/obj/emulated/%.o: models/cuda/%.cu
	@mkdir -p $(@D)
	$(CXX) -x c++ $(EMULATED_CXXFLAGS) -c -o $@ $<

$(BUILD)/obj/emulated/%.o: tests/models/%.cpp
	@mkdir -p $(@D)
	$(CXX) $(EMULATED_CXXFLAGS) -c -o $@ $<

$(EMULATED_LIB): $(patsubst models/cuda/%.cu,$(BUILD)/obj/emulated/%.o,$(CUDA_SRC)) $(BUILD)/obj/emulated/cuda-emulation.o \
		$(call objects,$(filter-out models/cuda/gpu.c,$(CUDA_HOST_SRC)) $(EMULATED_SRC))
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/tests/models/test-cuda-%: tests/models/test-cuda-%.c $(EMULATED_LIB) $(MODELS_LIB) $(LIB)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(LINK_HARDENING) $(call pkg,cflags,$(PACKAGES_models) $(PACKAGES_common) cmocka) -o $@ $< \
		$(filter %.o,$^) $(EMULATED_LIB) $(MODELS_LIB) $(LIB) $(call pkg,libs,cmocka $(PACKAGES_models) $(PACKAGES_common)) \
		-lm -pthread

# What reads requests is no part of the library.
$(BUILD)/tests/models/test-cuda-serve $(BUILD)/tests/models/gpu/test-cuda-serve: \
		$(call objects,$(filter-out models/main.c,$(SERVE_SRC)))

# The CPU's tests of the whole engine, on the GPU and on the emulated one.
$(addprefix $(BUILD)/tests/models/gpu/,$(CUDA_WHOLE)): $(BUILD)/tests/models/gpu/test-cuda-%: \
		tests/models/test-%.c $(CUDA_LIB) $(MODELS_LIB) $(LIB)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -DON_CUDA $(LINK_HARDENING) $(call pkg,cflags,$(PACKAGES_models) $(PACKAGES_common) cmocka) -o $@ $< \
		$(CUDA_LIB) $(MODELS_LIB) $(LIB) $(call pkg,libs,cmocka $(PACKAGES_models) $(PACKAGES_common)) $(CUDA_LINK) -lm

$(addprefix $(BUILD)/tests/models/,$(CUDA_WHOLE)): $(BUILD)/tests/models/test-cuda-%: \
		tests/models/test-%.c $(EMULATED_LIB) $(MODELS_LIB) $(LIB)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -DON_CUDA $(LINK_HARDENING) $(call pkg,cflags,$(PACKAGES_models) $(PACKAGES_common) cmocka) -o $@ $< \
		$(EMULATED_LIB) $(MODELS_LIB) $(LIB) $(call pkg,libs,cmocka $(PACKAGES_models) $(PACKAGES_common)) -lm -pthread

$(BUILD)/obj/pipelines/%.o: pipelines/%.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(call pkg,cflags,$(PACKAGES_decode) $(PACKAGES_tesseract) $(PACKAGES_web) $(PACKAGES_common)) -c -o $@ $<

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(call pkg,cflags,$(PACKAGES_common) $(PACKAGES_runner)) -c -o $@ $<

# A unit test is one program a module. It may use the decoders too (all but their main).
$(BUILD)/tests/unit/%: tests/unit/%.c $(call objects,$(PARTS_SRC)) $(LIB)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -Ipipelines/decode -Ipipelines/write -Ipipelines/tesseract $(LINK_HARDENING) \
		$(call pkg,cflags,$(PACKAGES_decode) $(PACKAGES_tesseract) $(PACKAGES_web) $(PACKAGES_common) cmocka) -o $@ $^ \
		$(call pkg,libs,cmocka $(PACKAGES_decode) $(PACKAGES_tesseract) $(PACKAGES_web) $(PACKAGES_common)) -lm

# A fuzz harness may include the source it is about: the other parts come out of an archive.
$(BUILD)/libparts.a: $(call objects,$(PARTS_SRC) $(COMMON_SRC))
	@rm -f $@
	$(AR) rcs $@ $^

FUZZ_PACKAGES := zlib $(PACKAGES_decode) $(PACKAGES_tesseract) $(PACKAGES_web) $(PACKAGES_models) $(PACKAGES_common)
$(BUILD)/tests/fuzz/%: tests/fuzz/%.c $(if $(FUZZ),,$(BUILD)/obj/tests/fuzz/replay.o) $(MODELS_LIB) $(BUILD)/libparts.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -Ipipelines/decode -Ipipelines/write -Ipipelines/tesseract $(LINK_HARDENING) $(if $(FUZZ),-fsanitize=fuzzer) \
		$(call pkg,cflags,$(FUZZ_PACKAGES)) -o $@ $< $(filter %.o %.a,$^) $(call pkg,libs,$(FUZZ_PACKAGES)) -lm -pthread

$(BUILD)/tests/tools/%: tests/tools/%.c $(MODELS_LIB) $(LIB)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(LINK_HARDENING) $(call pkg,cflags,$(PACKAGES_models) $(PACKAGES_common)) -o $@ $^ \
		$(call pkg,libs,$(PACKAGES_models) $(PACKAGES_common)) -lm

# Preloaded: no sanitizer, and no checks that would call what it stands in for.
$(BUILD)/tests/tools/%.so: tests/tools/preload/%.c
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -O1 -g $(WARNINGS) -U_FORTIFY_SOURCE -shared -fPIC -o $@ $< -ldl

# A pipeline file that its group could write is refused, as a clone under umask 002 has them.
$(BUILD)/pipelines/%.yaml: pipelines/%.yaml
	@mkdir -p $(@D)
	install -m 644 $< $@

$(BUILD)/cloister.1: $(BUILD)/cloister
	$< help --man > $@

$(BUILD)/cloister.bash: $(BUILD)/cloister
	$< completion bash > $@

tests: programs $(UNIT) $(MODELS_UNIT) $(CUDA_UNIT) $(TOOLS) $(FUZZERS)

deps:
	@.ci/deps build

deps-test:
	@.ci/deps test

# The recursive make finds with pkg-config what deps has just installed.
run: deps
	@$(MAKE) --no-print-directory -s -j$(JOBS) programs
	@CLOISTER_BUILD=$(BUILD) samples/run

check: deps-test
	@$(MAKE) --no-print-directory -s -j$(JOBS) tests
	@CLOISTER_BUILD=$(BUILD) tests/run -j $(JOBS) $(TEST_PROGRAMS)

# What follows takes long, or needs more than a machine that builds: by hand, not in `make check`.
LONG = @CLOISTER_BUILD=$(BUILD) CLOISTER_TEST_FULL=1 CLOISTER_TEST_SECONDS=7200 tests/run -j 1

check-crash: deps-test
	@$(MAKE) --no-print-directory -s -j$(JOBS) tests
	$(LONG) $(filter-out tests/crash/soak.t,$(wildcard tests/crash/*.t)) tests/fuzz/hostile.t

# A harness a time, each for FUZZ_SECONDS; FUZZ_ONLY="fuzz-pdf ..." for some of them.
fuzz: deps-test
	@if ! command -v clang >/dev/null; then echo "make fuzz: skipped, install clang and libclang-rt-14-dev"; else \
		$(MAKE) --no-print-directory -s -j$(JOBS) BUILD=$(BUILD)/fuzz FUZZ=1 fuzzers && tests/fuzz/run $(BUILD)/fuzz; fi

fuzzers: $(FUZZERS)

soak: deps-test
	@$(MAKE) --no-print-directory -s -j$(JOBS) tests
	$(LONG) tests/crash/soak.t

check-container: deps-test
	$(LONG) tests/long/container.t

check-slurm: deps-test
	@$(MAKE) --no-print-directory -s -j$(JOBS) tests
	$(LONG) tests/long/slurm.t

# Needs torch, transformers and safetensors; nothing else does.
PYTHON ?= python3
SEED ?= $(shell date +%s)
GOLDEN_TESTS := $(BUILD)/tests/models/test-golden $(BUILD)/tests/models/test-golden-images \
	$(BUILD)/tests/unit/test-golden-pictures
golden: deps-test
	@$(MAKE) --no-print-directory -s -j$(JOBS) $(GOLDEN_TESTS)
	$(PYTHON) tests/golden/make-models.py --seed $(SEED) --out $(BUILD)/golden
	$(PYTHON) tests/golden/make-images.py --seed $(SEED) --out $(BUILD)/golden-images
	@CLOISTER_GOLDEN_MODELS=$(BUILD)/golden CLOISTER_GOLDEN_IMAGES=$(BUILD)/golden-images tests/run $(GOLDEN_TESTS)

unit: deps-test
	@$(MAKE) --no-print-directory -s -j$(JOBS) $(UNIT)
	@CLOISTER_BUILD=$(BUILD) tests/run -j $(JOBS) $(UNIT)

# Without the tests of the sandbox: there is none in such a build.
asan: deps-test
	@$(MAKE) --no-print-directory -s -j$(JOBS) BUILD=$(BUILD)/asan SANITIZE=1 tests
	@CLOISTER_BUILD=$(BUILD)/asan CLOISTER_SANITIZED=1 LSAN_OPTIONS=suppressions=$(CURDIR)/tests/lsan.supp:print_suppressions=0 \
		tests/run -j $(JOBS) $(filter-out tests/sandbox/% tests/e2e/60-confined.t $(BUILD)/asan/tests/models/gpu/%,$(patsubst $(BUILD)/%,$(BUILD)/asan/%,$(TEST_PROGRAMS)))

bench: deps-test
	@$(MAKE) --no-print-directory -s -j$(JOBS) tests
	@CLOISTER_BUILD=$(BUILD) tests/bench/bench

# Given the TFLOP/s of a large product (PRODUCT=), attention is shown as a share of it.
bench-cuda: $(if $(NVCC),$(BUILD)/tests/models/gpu/bench-cuda)
	@$(if $(NVCC),$< $(PRODUCT),echo "make bench-cuda: skipped, install the CUDA toolkit")

bench-beside: programs
	@CLOISTER_BUILD=$(BUILD) $(PYTHON) tests/bench/beside-transformers.py $(BESIDE)

bench-llama: programs
	@CLOISTER_BUILD=$(BUILD) $(PYTHON) tests/bench/beside-llama.py --llama $(LLAMA)

install: programs
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/libexec/cloister \
		$(DESTDIR)$(PREFIX)/share/cloister/pipelines $(DESTDIR)$(PREFIX)/share/man/man1 \
		$(DESTDIR)$(PREFIX)/share/man/man7 \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions
	install $(BUILD)/cloister $(DESTDIR)$(PREFIX)/bin/
	install $(filter-out $(BUILD)/cloister,$(PROGRAMS)) $(DESTDIR)$(PREFIX)/libexec/cloister/
	install -m 644 pipelines/*.yaml $(DESTDIR)$(PREFIX)/share/cloister/pipelines/
	install -m 644 $(BUILD)/cloister.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	install -m 644 pipelines/cloister-airlock.7 $(DESTDIR)$(PREFIX)/share/man/man7/
	install -m 644 $(BUILD)/cloister.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/cloister

format:
	clang-format -i $(wildcard runner/*.[ch] runner/base/*.[ch] pipelines/*.[ch] pipelines/*/*.[ch] models/*.[ch] models/*/*.[ch] models/cuda/*.cu models/cuda/*.cuh tests/*/*.[ch])

tidy:
	clang-tidy --quiet $(COMMON_SRC) $(RUNNER_SRC) $(DECODE_SRC) $(TESSERACT_SRC) $(WRITE_SRC) $(MODELS_SRC) $(SERVE_SRC) $(FOLDERS_SRC) -- $(ALL_CFLAGS)

clean:
	rm -rf $(BUILD)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
