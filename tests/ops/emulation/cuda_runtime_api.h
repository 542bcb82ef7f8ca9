// Stands in for CUDA's runtime on a machine without a GPU: runs kernels on the host, one warp after
// the other, each lane as a fiber that waits at the warp's barriers.
//
// Only what the kernels use. A lane that misses a barrier stops the program; a missing barrier
// shows as a result that depends on the order of the lanes.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __launch_bounds__(...)

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorInvalidConfiguration = 9 };
using cudaStream_t = void*;

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

struct cudaLaunchConfig_t {
  dim3 gridDim;
  dim3 blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
};

inline dim3 blockIdx;
inline dim3 threadIdx;

namespace emulation {

constexpr int kLanes = 32;
constexpr size_t kStack = 256 * 1024;

inline bool lane_order_reversed = false;
inline std::function<void()> body;
inline int lane;
inline bool started[kLanes];
inline bool finished[kLanes];
inline int64_t arrivals[kLanes];
inline uint64_t slots[kLanes];
inline ucontext_t entries[kLanes];
inline jmp_buf lanes[kLanes];
inline jmp_buf scheduler;

// Jumps, because swapcontext asks the system for the signal mask every time.
inline void run_lane() {
  body();
  finished[lane] = true;
  _longjmp(scheduler, 1);
}

inline void barrier() {
  ++arrivals[lane];
  if (_setjmp(lanes[lane]) == 0) _longjmp(scheduler, 1);
}

// Runs a lane up to its next barrier, or to its end.
inline void resume(int which) {
  lane = which;
  if (_setjmp(scheduler) != 0) return;
  if (started[which]) _longjmp(lanes[which], 1);
  started[which] = true;
  setcontext(&entries[which]);
}

inline void run_warp(unsigned first_thread) {
  static std::vector<char> stacks(kLanes * kStack);
  for (int i = 0; i < kLanes; ++i) {
    started[i] = finished[i] = false;
    arrivals[i] = 0;
    getcontext(&entries[i]);
    entries[i].uc_stack.ss_sp = stacks.data() + i * kStack;
    entries[i].uc_stack.ss_size = kStack;
    entries[i].uc_link = nullptr;
    makecontext(&entries[i], run_lane, 0);
  }
  while (!finished[0]) {
    for (int i = 0; i < kLanes; ++i) {
      const int which = lane_order_reversed ? kLanes - 1 - i : i;
      threadIdx.x = first_thread + which;
      resume(which);
    }
    for (int i = 1; i < kLanes; ++i) {
      if (finished[i] != finished[0] || arrivals[i] != arrivals[0]) {
        std::fprintf(stderr, "the lanes of a warp met different barriers\n");
        std::abort();
      }
    }
  }
}

// Every lane gives a value, and gets that of the lane `source`.
template <typename T>
inline T exchange(T value, int source) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  __builtin_memcpy(&slots[lane], &value, sizeof(T));
  barrier();
  T result;
  __builtin_memcpy(&result, &slots[source], sizeof(T));
  barrier();
  return result;
}

}  // namespace emulation

inline void __syncwarp() { emulation::barrier(); }

template <typename T>
inline T __shfl_sync(unsigned, T value, int source) {
  return emulation::exchange(value, source);
}

template <typename T>
inline T __shfl_xor_sync(unsigned, T value, int mask) {
  return emulation::exchange(value, emulation::lane ^ mask);
}

inline unsigned __ballot_sync(unsigned, bool predicate) {
  unsigned result = 0;
  emulation::slots[emulation::lane] = predicate;
  emulation::barrier();
  for (int i = 0; i < emulation::kLanes; ++i) result |= unsigned(emulation::slots[i] & 1) << i;
  emulation::barrier();
  return result;
}

inline int __ffs(int x) { return __builtin_ffs(x); }

template <typename T>
inline void atomicAdd(T* address, T value) {
  *address += value;
}

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  for (unsigned block = 0; block < config->gridDim.x; ++block) {
    for (unsigned thread = 0; thread < config->blockDim.x; thread += emulation::kLanes) {
      blockIdx.x = block;
      emulation::body = [&] { kernel(Parameters(arguments)...); };
      emulation::run_warp(thread);
    }
  }
  return cudaSuccess;
}
