# Cloister: `make run` reads the sample documents, `make check` runs every test. `make help` tells more.
#
# BUILD=DIR    where everything built goes
# SANITIZE=1   AddressSanitizer and UBSan (the sandbox is off in such a build)
# DEVELOPER=1  warnings are errors

BUILD ?= build
CC ?= cc
CFLAGS ?= -O2 -g
VERSION := 0.1.0

PACKAGES_decode := poppler-glib cairo fontconfig libpng libjpeg libtiff-4 libopenjp2 libwebp libarchive libcyaml libqpdf
PACKAGES_tesseract := tesseract lept
PACKAGES_common := jansson nettle libseccomp
PACKAGES_runner := libcyaml

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
endif

ALL_CFLAGS = -std=gnu11 -D_GNU_SOURCE -DCLOISTER_VERSION='"$(VERSION)"' -Irunner -Ipipelines \
	$(WARNINGS) $(HARDENING) $(CFLAGS) -MMD -MP

# Sources. Whatever more than one program uses goes into libcloister.a.
COMMON_SRC := $(wildcard runner/base/*.c) runner/sandbox.c runner/durable.c runner/journal.c \
	pipelines/airlock.c pipelines/pipeline.c
RUNNER_SRC := $(filter-out $(COMMON_SRC),$(wildcard runner/*.c))
DECODE_SRC := $(wildcard pipelines/decode/*.c)
TESSERACT_SRC := $(wildcard pipelines/tesseract/*.c)
WRITE_SRC := $(wildcard pipelines/write/*.c)
UNIT_SRC := $(wildcard tests/unit/*.c)
TOOL_SRC := $(wildcard tests/tools/*.c)

objects = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
pkg = $(shell pkg-config --$(1) $(2) 2>/dev/null)

PROGRAMS := $(BUILD)/cloister $(BUILD)/cloister-decode $(BUILD)/cloister-tesseract \
	$(BUILD)/cloister-write
LIB := $(BUILD)/libcloister.a
UNIT := $(patsubst tests/unit/%.c,$(BUILD)/tests/unit/%,$(UNIT_SRC))
TOOLS := $(patsubst tests/tools/%.c,$(BUILD)/tests/tools/%,$(TOOL_SRC))

.PHONY: all programs help run check unit tests asan bench deps deps-test clean install format tidy

all: programs

programs: $(PROGRAMS)

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

$(LIB): $(call objects,$(COMMON_SRC))
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/cloister: $(call objects,$(RUNNER_SRC)) $(LIB)
	$(CC) $(ALL_CFLAGS) $(LINK_HARDENING) -o $@ $^ $(call pkg,libs,$(PACKAGES_runner) $(PACKAGES_common)) -lm

$(BUILD)/cloister-decode: $(call objects,$(DECODE_SRC)) $(LIB)
	$(CC) $(ALL_CFLAGS) $(LINK_HARDENING) -o $@ $^ $(call pkg,libs,$(PACKAGES_decode) $(PACKAGES_common)) -lm

$(BUILD)/cloister-tesseract: $(call objects,$(TESSERACT_SRC)) $(LIB)
	$(CC) $(ALL_CFLAGS) $(LINK_HARDENING) -o $@ $^ $(call pkg,libs,$(PACKAGES_tesseract) $(PACKAGES_common)) -lm

$(BUILD)/cloister-write: $(call objects,$(WRITE_SRC)) $(LIB)
	$(CC) $(ALL_CFLAGS) $(LINK_HARDENING) -o $@ $^ $(call pkg,libs,$(PACKAGES_common)) -lm

$(BUILD)/obj/pipelines/%.o: pipelines/%.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(call pkg,cflags,$(PACKAGES_decode) $(PACKAGES_tesseract) $(PACKAGES_common)) -c -o $@ $<

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(call pkg,cflags,$(PACKAGES_common) $(PACKAGES_runner)) -c -o $@ $<

# A unit test is one program a module. It may use the decoders too (all but their main).
$(BUILD)/tests/unit/%: tests/unit/%.c $(call objects,$(filter-out %/main.c,$(DECODE_SRC) $(WRITE_SRC) $(TESSERACT_SRC) $(RUNNER_SRC))) $(LIB)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -Ipipelines/decode -Ipipelines/write -Ipipelines/tesseract $(LINK_HARDENING) \
		$(call pkg,cflags,$(PACKAGES_decode) $(PACKAGES_tesseract) $(PACKAGES_common) cmocka) -o $@ $^ \
		$(call pkg,libs,cmocka $(PACKAGES_decode) $(PACKAGES_tesseract) $(PACKAGES_common)) -lm

$(BUILD)/tests/tools/%: tests/tools/%.c $(LIB)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(LINK_HARDENING) $(call pkg,cflags,$(PACKAGES_common)) -o $@ $^ \
		$(call pkg,libs,$(PACKAGES_common)) -lm

unit: $(UNIT)
tests: programs $(UNIT) $(TOOLS)

clean:
	rm -rf $(BUILD)

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
