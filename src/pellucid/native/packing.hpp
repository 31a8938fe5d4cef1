#pragma once

#include <cstddef>
#include <span>

#include "kernels.hpp"
#include "thread_pool.hpp"

// The layout of packed weights, in memory and in the files that `pellucid quantize` writes.
//
// A panel is 16 outputs. A matrix is a sequence of panels, the last one padded with zeros. Each vector lane computes
// one output, so that a product needs no horizontal sums and reads a panel sequentially:
//
//   float32   [n_in][16]
//   bfloat16  [n_in / 2][16][2]
//   int8      scales float16 [groups][16], then bytes [groups][16 quads][16 outputs][4 inputs].
//             weight = scale * byte, byte in -127..127
//   int4      scales and minima float16 [groups][2][16], then bytes [groups][8 pairs of quads][16 outputs][4]. The low
//             nibbles are the first quad of the pair, the high nibbles the second.
//             weight = minimum + scale * nibble, nibble in 0..15
//
// The scales of a panel are padded to 64 bytes. Inputs are padded with zeros to whole groups, in bfloat16 to pairs.
namespace pellucid {

// Limits on the sizes of a matrix, so that its size in bytes does not overflow.
inline constexpr std::size_t largest_n_out = (std::size_t{1} << 31) - 1;
inline constexpr std::size_t largest_n_in = std::size_t{1} << 24;

std::size_t panel_count(std::size_t n_out);

// The size in bytes of one panel and of a whole matrix. matrix_bytes throws std::invalid_argument for a size of 0 and
// for one above the limits.
std::size_t panel_bytes(Precision precision, std::size_t n_in);
std::size_t matrix_bytes(Precision precision, std::size_t n_out, std::size_t n_in);

// The number type of weights in a checkpoint.
enum class WeightType { float32, float16, bfloat16 };

// Unpacked weights. Element (output, input) is data[output * output_stride + input * input_stride].
struct Weights {
    WeightType type;
    const void* data;
    std::size_t n_out;
    std::size_t n_in;
    std::size_t output_stride;
    std::size_t input_stride;
};

// Quantizes and packs. Throws std::invalid_argument for a weight that is not finite before or after rounding.
void pack(Precision precision, const Weights& weights, std::span<std::byte> packed, ThreadPool& pool);

// Dequantizes the weights of one output, which is one row of an embedding.
void unpack_row(Precision precision, std::span<const std::byte> packed, std::size_t n_in, std::size_t output,
                std::span<float> row);

}  // namespace pellucid
