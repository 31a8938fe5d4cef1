#pragma once

#include <cstddef>
#include <cstdint>

// The contract between the engine and its kernels: the only part of the engine that is compiled once per
// instruction set.
//
// One source, kernels_source.hpp, is compiled once for each instruction set, over a vector type of sixteen lanes
// that simd_<set>.hpp provides. Every output element is one chain of operations in a fixed order (over inputs, or
// over positions), which no blocking, batch size, or thread count changes: that makes a sequence's logits the same
// bits alone and in any company.
//
// Arguments are plain structs of pointers, and the kernels' sources include no C++ library header. A library's
// inline function that a compiler does not inline is emitted in every object that uses it, the linker keeps one of
// the copies, and that one might be the copy that needs AVX-512.
namespace pellucid {

// Outputs that lie side by side in packed weights: the lanes of a vector.
inline constexpr std::size_t panel_width = 16;

// Inputs that share a scale in int8 and int4 weights, and in the activations that are multiplied with them.
inline constexpr std::size_t group_size = 64;

// Of many rows, so many go through so many panels before others do: their activations, and the panels' weights, stay
// in a second-level cache.
inline constexpr std::size_t rows_of_block = 96, panels_of_block = 8;

// Positions in a page of the key/value cache.
inline constexpr std::size_t page_positions = 16;

// Queries of one sequence that `attend` takes at once, at most.
inline constexpr std::size_t query_block = 4;

enum class Precision : std::uint8_t { float32, bfloat16, int8, int4 };

enum class Activation : std::uint8_t { none, gelu_new, gelu, relu, silu, tanh };

// IEEE half precision, which the compilers we support do not all have as a type.
struct Half {
    std::uint16_t bits;
};

// Rows of activations, rounded to eight bits: value = byte * scales[i / group_size], byte in -127..127. Rows are padded
// with zeros to whole groups. Only kernels read the bytes; how they lie, in quads of four inputs, is the affair of an
// instruction set and of the weights' precision.
struct QuantizedRows {
    std::int8_t* quads;    // [rows][groups][group_size / 4], each of at most KernelTable::quad_bytes
    float* scales;         // [rows][groups]
    std::int32_t* sums;    // [rows][groups], the sum of each group's bytes
    std::int32_t* starts;  // [rows][groups], what a sum of products with int8 weights starts from
    std::size_t groups;
};

// Of some quads: the sum of their bytes, and what they add to QuantizedRows::starts.
struct QuadTotals {
    std::int32_t sum, start;
};

// output[row][o] = f(bias[o] + sum over i of input[row][i] * weight[o][i]), or added to output where `accumulate`.
//
// `inputs` serves float32 and bfloat16, `quantized` int8 and int4. int8 and int4 products are exact integer sums
// within a group; the groups' sums are scaled and added in float32, in order.
struct Product {
    Precision precision;
    const std::byte* weights;  // packed as packing.hpp says
    std::size_t n_in;
    std::size_t n_out;
    const float* inputs;  // [rows], each input_stride apart
    std::size_t input_stride;
    QuantizedRows quantized;
    std::size_t rows;
    const float* bias;  // [n_out], or null
    Activation activation;
    bool accumulate;
    float* output;  // [rows], each output_stride apart
    std::size_t output_stride;
};

// The keys and values of one head, in the pages of one sequence. A page holds keys as [head_dim][page_positions]
// and values as [page_positions][padded_head_dim], so that scores and sums of values are both products with
// sixteen outputs side by side.
struct HeadCache {
    std::byte* const* pages;
    std::size_t key_offset;    // bytes from the start of a page
    std::size_t value_offset;  // bytes from the start of a page
    std::size_t head_dim;
    std::size_t padded_head_dim;  // a multiple of panel_width
    bool half;                    // 16 bits a number, or 32
};

// One head's attention for `rows` (1..query_block) consecutive tokens, the first of which sees positions
// 0..first_position. Their own keys and values are in the cache already.
struct Attention {
    HeadCache cache;
    const float* query;  // [rows][head_dim], each query_stride apart
    std::size_t query_stride;
    float* output;  // [rows][head_dim], each output_stride apart
    std::size_t output_stride;
    std::size_t rows;
    std::size_t first_position;
    float scale;
    float* scores;  // scratch, [query_block][scores_stride]
    std::size_t scores_stride;  // a multiple of page_positions, at least as long as the sequence
};

// Values of a row that are looked at together: so many, of which those `panel_width` apart are a group.
inline constexpr std::size_t run_length = 64 * panel_width;

// What decoding wants to know of a row of logits.
struct LogitsSurvey {
    bool finite;            // no entry is NaN or infinite
    double log_normaliser;  // log(sum(exp(logits))), where the largest is finite, to 1e-6 of the sum; else the largest
};

struct KernelTable {
    const char* name;

    std::size_t quad_bytes;  // that four quantized activations take, at most

    // Computes panels [first, last) of a product.
    // `partial_sums`: scratch, [panels_of_block][rows_of_block][panel_width].
    void (*multiply)(const Product& product, std::size_t first, std::size_t last, float* partial_sums);

    // Rounds one row of n numbers to eight bits, into row `row` of `out`, for a product with int8 or int4 weights.
    void (*quantize)(const float* input, std::size_t n, Precision weights, const QuantizedRows& out, std::size_t row);

    // output = (input - mean) / sqrt(variance + epsilon) * weight + bias, over n numbers.
    void (*layer_norm)(const float* input, std::size_t n, const float* weight, const float* bias, float epsilon,
                       float* output);

    // Puts one position's key and value of one head, [head_dim] each, into the cache.
    void (*append)(const HeadCache& cache, std::size_t position, const float* key, const float* value);

    void (*attend)(const Attention& attention);

    // Looks at n logits, at least one, and finds their group_maxima.
    LogitsSurvey (*survey)(const float* logits, std::size_t n, float* maxima);

    // The largest value of each group of values, none of them NaN; -inf for a group that is empty.
    void (*group_maxima)(const float* values, std::size_t n, float* maxima);

    // Reads size bytes, a multiple of 64, and does next to nothing with them: the speed of memory.
    std::uint32_t (*read)(const std::byte* bytes, std::size_t size);
};

// One function per instruction set that this build has; runtime.cpp chooses.
const KernelTable& portable_kernels();
const KernelTable& avx2_kernels();
const KernelTable& avx_vnni_kernels();
const KernelTable& avx512_kernels();
const KernelTable& amx_kernels();
const KernelTable& neon_kernels();

}  // namespace pellucid
