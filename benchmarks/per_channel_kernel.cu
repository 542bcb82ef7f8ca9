// The yardstick of benchmarks/ops_gpu.py: multi-scale deformable attention in the way of the kernel
// that Deformable DETR released and most of its successors copy. One thread per channel, which
// computes the whole sampling arithmetic again; loads of 4 bytes; gradients of locations and
// weights summed by the first thread of a block of one query; scalar atomics for that of value.
//
// Float32 only, plain C interface for ctypes.
#include <cuda_runtime.h>

#include <cstdint>

namespace {

struct Sizes {
  int64_t batch, tokens, heads, channels, queries, levels, points;
};

struct Corners {
  int height, width, y, x;
  float ly, lx;

  __device__ bool touches() const { return y >= -1 && x >= -1 && y < height && x < width; }
  __device__ bool inside(int dy, int dx) const {
    return y + dy >= 0 && y + dy < height && x + dx >= 0 && x + dx < width;
  }
};

__device__ Corners corners_at(const int64_t* shapes, int64_t level, const float* location) {
  Corners corners;
  corners.height = static_cast<int>(shapes[2 * level]);
  corners.width = static_cast<int>(shapes[2 * level + 1]);
  const float x = location[0] * corners.width - 0.5f;
  const float y = location[1] * corners.height - 0.5f;
  corners.y = static_cast<int>(floorf(y));
  corners.x = static_cast<int>(floorf(x));
  corners.ly = y - corners.y;
  corners.lx = x - corners.x;
  return corners;
}

__global__ void forward_kernel(Sizes sizes, const float* value, const int64_t* shapes,
                               const int64_t* starts, const float* locations,
                               const float* attention, float* output) {
  const int64_t count = sizes.batch * sizes.queries * sizes.heads * sizes.channels;
  for (int64_t index = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; index < count;
       index += int64_t{blockDim.x} * gridDim.x) {
    const int64_t c = index % sizes.channels;
    const int64_t row = index / sizes.channels;
    const int64_t h = row % sizes.heads;
    const int64_t b = row / sizes.heads / sizes.queries;
    int64_t sample = row * sizes.levels * sizes.points;
    float sum = 0;
    for (int64_t level = 0; level < sizes.levels; ++level) {
      const float* head =
          value + ((b * sizes.tokens + starts[level]) * sizes.heads + h) * sizes.channels + c;
      for (int64_t p = 0; p < sizes.points; ++p, ++sample) {
        const Corners at = corners_at(shapes, level, locations + 2 * sample);
        if (!at.touches()) continue;
        float sampled = 0;
        for (int dy = 0; dy < 2; ++dy) {
          for (int dx = 0; dx < 2; ++dx) {
            if (!at.inside(dy, dx)) continue;
            const float weight = (dy ? at.ly : 1 - at.ly) * (dx ? at.lx : 1 - at.lx);
            const int64_t token = (at.y + dy) * int64_t{at.width} + at.x + dx;
            sampled += weight * head[token * sizes.heads * sizes.channels];
          }
        }
        sum += attention[sample] * sampled;
      }
    }
    output[index] = sum;
  }
}

// A block is one query of one head, a thread one channel.
__global__ void backward_kernel(Sizes sizes, const float* grad_output, const float* value,
                                const int64_t* shapes, const int64_t* starts,
                                const float* locations, const float* attention,
                                float* grad_value, float* grad_locations,
                                float* grad_attention) {
  extern __shared__ float partial[];  // x, y, attention of every channel
  const int64_t c = threadIdx.x;
  const int64_t row = blockIdx.x;
  const int64_t h = row % sizes.heads;
  const int64_t b = row / sizes.heads / sizes.queries;
  const float top = grad_output[row * sizes.channels + c];
  int64_t sample = row * sizes.levels * sizes.points;
  for (int64_t level = 0; level < sizes.levels; ++level) {
    const int64_t head =
        ((b * sizes.tokens + starts[level]) * sizes.heads + h) * sizes.channels + c;
    for (int64_t p = 0; p < sizes.points; ++p, ++sample) {
      const Corners at = corners_at(shapes, level, locations + 2 * sample);
      float along_x = 0, along_y = 0, sampled = 0;
      if (at.touches()) {
        for (int dy = 0; dy < 2; ++dy) {
          for (int dx = 0; dx < 2; ++dx) {
            if (!at.inside(dy, dx)) continue;
            const float wy = dy ? at.ly : 1 - at.ly;
            const float wx = dx ? at.lx : 1 - at.lx;
            const int64_t token = (at.y + dy) * int64_t{at.width} + at.x + dx;
            const int64_t offset = head + token * sizes.heads * sizes.channels;
            const float corner = value[offset];
            sampled += wy * wx * corner;
            along_x += (dx ? wy : -wy) * corner;
            along_y += (dy ? wx : -wx) * corner;
            atomicAdd(grad_value + offset, wy * wx * attention[sample] * top);
          }
        }
      }
      partial[3 * c] = at.width * along_x * top * attention[sample];
      partial[3 * c + 1] = at.height * along_y * top * attention[sample];
      partial[3 * c + 2] = sampled * top;
      __syncthreads();
      if (c == 0) {
        float x = 0, y = 0, weight = 0;
        for (int64_t i = 0; i < sizes.channels; ++i) {
          x += partial[3 * i];
          y += partial[3 * i + 1];
          weight += partial[3 * i + 2];
        }
        grad_locations[2 * sample] = x;
        grad_locations[2 * sample + 1] = y;
        grad_attention[sample] = weight;
      }
      __syncthreads();
    }
  }
}

Sizes sizes_of(const int64_t* sizes) {
  return {sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6]};
}

}  // namespace

// sizes: B, S, H, D, Q, L, P. Both return cudaSuccess (0) or CUDA's error.
extern "C" int per_channel_forward(const int64_t* sizes, const float* value,
                                   const int64_t* shapes, const int64_t* starts,
                                   const float* locations, const float* attention, float* output,
                                   cudaStream_t stream) {
  const Sizes call = sizes_of(sizes);
  const int64_t count = call.batch * call.queries * call.heads * call.channels;
  forward_kernel<<<static_cast<unsigned>((count + 1023) / 1024), 1024, 0, stream>>>(
      call, value, shapes, starts, locations, attention, output);
  return cudaGetLastError();
}

extern "C" int per_channel_backward(const int64_t* sizes, const float* grad_output,
                                    const float* value, const int64_t* shapes,
                                    const int64_t* starts, const float* locations,
                                    const float* attention, float* grad_value,
                                    float* grad_locations, float* grad_attention,
                                    cudaStream_t stream) {
  const Sizes call = sizes_of(sizes);
  const int64_t blocks = call.batch * call.queries * call.heads;
  backward_kernel<<<static_cast<unsigned>(blocks), static_cast<unsigned>(call.channels),
                    3 * call.channels * sizeof(float), stream>>>(
      call, grad_output, value, shapes, starts, locations, attention, grad_value, grad_locations,
      grad_attention);
  return cudaGetLastError();
}
