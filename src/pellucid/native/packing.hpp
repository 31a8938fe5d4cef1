#pragma once

#include <cstddef>
#include <span>

#include "kernels.hpp"
#include "thread_pool.hpp"

// How weights lie in memory, and in the files that `pellucid quantize` writes.
//
// Sixteen outputs make a panel; a matrix is its panels one after the other, the last filled up with zeros. A vector
// lane is an output, so that a product needs no sum across lanes, and a step of the product reads the next bytes:
//
//   float32   for each input: sixteen numbers
//   bfloat16  for each pair of inputs: sixteen pairs
//   int8      for each group of 64 inputs: sixteen float16 scales; then, for each four inputs, sixteen times four
//             bytes. weight = scale * byte, byte in -127..127
//   int4      for each group: sixteen float16 scales and sixteen float16 minima; then, for each eight inputs,
//             sixteen times four bytes, the first four inputs in the low halves, the last four in the high ones.
//             weight = minimum + scale * (0..15)
//
// All scales of a panel come first, padded to 64 bytes; inputs are padded to whole groups with zeros.
namespace pellucid {

// The largest matrix that can be packed: the product of its sizes is a number of bytes without overflow.
inline constexpr std::size_t largest_n_out = (std::size_t{1} << 31) - 1;
inline constexpr std::size_t largest_n_in = std::size_t{1} << 24;

std::size_t panel_count(std::size_t n_out);

// Bytes of one panel, and of a whole matrix. The latter raises std::invalid_argument for a size of 0 or too large.
std::size_t panel_bytes(Precision precision, std::size_t n_in);
std::size_t matrix_bytes(Precision precision, std::size_t n_out, std::size_t n_in);

// Weights as a file has them, float32 or in one of two 16-bit formats: element (output, input) is
// data[output * output_stride + input * input_stride].
enum class WeightType { float32, float16, bfloat16 };

struct Weights {
    WeightType type;
    const void* data;
    std::size_t n_out;
    std::size_t n_in;
    std::size_t output_stride;
    std::size_t input_stride;
};

// Rounds and packs. Raises std::invalid_argument for a weight that is not finite, or is not once it is rounded.
void pack(Precision precision, const Weights& weights, std::span<std::byte> packed, ThreadPool& pool);

// The weights of one output, as float32: a row of an embedding.
void unpack_row(Precision precision, std::span<const std::byte> packed, std::size_t n_in, std::size_t output,
                std::span<float> row);

}  // namespace pellucid
