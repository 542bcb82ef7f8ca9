// The CPU kernels, on plain pointers to contiguous memory.
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <vector>

#include "../problem.h"

namespace uniphd::cpu {

template <typename T>
struct Inputs {
  const T* value;                      // (B, S, H, D)
  const accumulation_t<T>* locations;  // (B, Q, H, L, P, 2)
  const accumulation_t<T>* attention;  // (B, Q, H, L, P)
};

// `output` is given, the others are written.
template <typename T>
struct Gradients {
  const T* output;               // (B, Q, H * D)
  T* value;                      // each of the shape of its input
  accumulation_t<T>* locations;
  accumulation_t<T>* attention;
};

// T is float, double, c10::Half or c10::BFloat16.
template <typename T>
void forward(const Problem& problem, const std::vector<Level>& levels, const Inputs<T>& inputs,
             T* output);

template <typename T>
void backward(const Problem& problem, const std::vector<Level>& levels, const Inputs<T>& inputs,
              const Gradients<T>& gradients);

}  // namespace uniphd::cpu
