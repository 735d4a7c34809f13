# A thin front: everything is in CMake and scripts/. The program is build/bench.
BUILD         ?= build
JOBS          ?= $(shell nproc)
CMAKE_FLAGS   ?=
CTEST_FLAGS   ?=
FUZZ_SECONDS  ?= 60

all: build

setup:
	@scripts/setup

$(BUILD)/CMakeCache.txt: | setup
	cmake -S . -B $(BUILD) $(CMAKE_FLAGS)

build: setup $(BUILD)/CMakeCache.txt
	@cmake --build $(BUILD) -j $(JOBS)

# The main job on the embedded data set, then the report: at most ten minutes on two cores.
demo: build
	@scripts/demo $(BUILD)/bench

test: build
	@scripts/ctest $(BUILD) $(CTEST_FLAGS)

report: build
	$(BUILD)/bench report

install: build
	cmake --install $(BUILD)

# The same tests under sanitizers, in build folders of their own. The few that are for threads need no CUDA, and show that a build without it compiles.
asan:
	@CMAKE_FLAGS="$(CMAKE_FLAGS)" scripts/sanitized build-asan address,undefined $(CTEST_FLAGS)
tsan:
	@CMAKE_FLAGS="-D RM_CUDA=OFF $(CMAKE_FLAGS)" scripts/sanitized build-tsan thread -L tsan $(CTEST_FLAGS)

# Every parser's fuzz target for FUZZ_SECONDS (clang).
fuzz: setup
	@scripts/fuzz $(FUZZ_SECONDS)

format:
	clang-format -i $$(git ls-files '*.c' '*.h')
lint: build
	@scripts/lint $(BUILD)

clean:
	rm -rf $(BUILD) build-asan build-tsan build-fuzz

.PHONY: all setup build demo test report install asan tsan fuzz format lint clean
