#pragma once

#include <cstddef>
#include <cstdint>

// The interface between the engine and its kernels. The kernels are the only part of the engine that is compiled once
// per instruction set: kernels_source.hpp is compiled with each simd_<set>.hpp, which provides a vector of 16 lanes.
//
// Determinism: every output element is accumulated in a fixed order, over inputs or over positions. Cache blocking,
// batch size and thread count do not change that order, so a sequence's logits are bit-identical in any batch.
//
// Arguments are plain structs of pointers, and kernel sources include no C++ standard library header. An inline
// function that is not inlined is emitted in every object file, and the linker keeps one copy. The copy that it keeps
// could be the one compiled for AVX-512, which would crash on other processors.
namespace pellucid {

// A panel is this many adjacent outputs of a packed matrix, one per vector lane.
inline constexpr std::size_t panel_width = 16;

// The number of inputs that share a quantization scale, in int8 and int4 weights and in quantized activations.
inline constexpr std::size_t group_size = 64;

// Cache blocking: 96 rows by 8 panels per block, so that the activations and the weights of a block stay in L2.
inline constexpr std::size_t rows_of_block = 96, panels_of_block = 8;

// The number of positions in a page of the key/value cache.
inline constexpr std::size_t page_positions = 16;

// The maximal number of queries per call of `attend`.
inline constexpr std::size_t query_block = 4;

enum class Precision : std::uint8_t { float32, bfloat16, int8, int4 };

enum class Activation : std::uint8_t { none, gelu_new, gelu, relu, silu, tanh };

// An IEEE half-precision number. Some supported compilers have no built-in type for it.
struct Half {
    std::uint16_t bits;
};

// Activations quantized to 8 bits: value = byte * scales[i / group_size], byte in -127..127. Rows are padded with zeros
// to whole groups. A quad is four consecutive inputs. Its layout depends on the instruction set and on the weights'
// precision, and only kernels read it.
struct QuantizedRows {
    std::int8_t* quads;    // [rows][groups][group_size / 4], each of at most KernelTable::quad_bytes
    float* scales;         // [rows][groups]
    std::int32_t* sums;    // [rows][groups], the sum of each group's values
    std::int32_t* starts;  // [rows][groups], the initial value of the group's accumulator for int8 weights
    std::size_t groups;
};

// What some quads contribute to QuantizedRows::sums and QuantizedRows::starts.
struct QuadTotals {
    std::int32_t sum, start;
};

// output[row][o] = f(bias[o] + sum over i of input[row][i] * weight[o][i]). With `accumulate`, the result is added
// to the output.
//
// float32 and bfloat16 weights are multiplied with `inputs`, int8 and int4 weights with `quantized`. Sums of integer
// products within a group are exact. Each group's sum is then scaled and accumulated in float32, in order.
struct Product {
    Precision precision;
    const std::byte* weights;  // in the layout of packing.hpp
    std::size_t n_in;
    std::size_t n_out;
    const float* inputs;  // [rows][n_in], with row stride input_stride
    std::size_t input_stride;
    QuantizedRows quantized;
    std::size_t rows;
    const float* bias;  // [n_out], or null
    Activation activation;
    bool accumulate;
    float* output;  // [rows][n_out], with row stride output_stride
    std::size_t output_stride;
};

// The keys and values of one head, in the pages of one sequence. A page stores keys as [head_dim][page_positions] and
// values as [page_positions][padded_head_dim], so that one vector holds 16 scores or 16 channels.
struct HeadCache {
    std::byte* const* pages;
    std::size_t key_offset;    // bytes from the start of a page
    std::size_t value_offset;  // bytes from the start of a page
    std::size_t head_dim;
    std::size_t padded_head_dim;  // a multiple of panel_width
    bool half;                    // float16, else float32
};

// One head's attention for `rows` (1..query_block) consecutive tokens. The first one attends to positions
// 0..first_position. The tokens' own keys and values are already in the cache.
struct Attention {
    HeadCache cache;
    const float* query;  // [rows][head_dim], with row stride query_stride
    std::size_t query_stride;
    float* output;  // [rows][head_dim], with row stride output_stride
    std::size_t output_stride;
    std::size_t rows;
    std::size_t first_position;
    float scale;
    float* scores;  // scratch, [query_block][scores_stride]
    std::size_t scores_stride;  // a multiple of page_positions, at least as long as the sequence
};

// Logits are scanned in runs of this length. Within a run, the values at indices that are equal modulo panel_width form
// a group.
inline constexpr std::size_t run_length = 64 * panel_width;

// Statistics of a row of logits.
struct LogitsSurvey {
    bool finite;            // no entry is NaN or infinite
    double log_normaliser;  // log(sum(exp(logits))), the sum to a relative 1e-6; the maximum if it is not finite
};

struct KernelTable {
    const char* name;

    std::size_t quad_bytes;  // the maximal size of a quad of quantized activations

    // Computes panels [first, last) of a product.
    // `partial_sums`: scratch, [panels_of_block][rows_of_block][panel_width].
    void (*multiply)(const Product& product, std::size_t first, std::size_t last, float* partial_sums);

    // Quantizes n activations into row `row` of `out`, for a product with int8 or int4 weights.
    void (*quantize)(const float* input, std::size_t n, Precision weights, const QuantizedRows& out, std::size_t row);

    // output = (input - mean) / sqrt(variance + epsilon) * weight + bias, over n numbers.
    void (*layer_norm)(const float* input, std::size_t n, const float* weight, const float* bias, float epsilon,
                       float* output);

    // Writes one position's key and value of one head, [head_dim] each, to the cache.
    void (*append)(const HeadCache& cache, std::size_t position, const float* key, const float* value);

    void (*attend)(const Attention& attention);

    // Computes the statistics and the group maxima of n >= 1 logits in one pass.
    LogitsSurvey (*survey)(const float* logits, std::size_t n, float* maxima);

    // Computes the maximum of each group; -inf for an empty group. No value may be NaN.
    void (*group_maxima)(const float* values, std::size_t n, float* maxima);

    // Reads `size` bytes, a multiple of 64, with almost no arithmetic, to measure memory bandwidth.
    std::uint32_t (*read)(const std::byte* bytes, std::size_t size);
};

// One function per instruction set. A build defines those of its architecture; runtime.cpp chooses one.
const KernelTable& portable_kernels();
const KernelTable& avx2_kernels();
const KernelTable& avx_vnni_kernels();
const KernelTable& avx512_kernels();
const KernelTable& amx_kernels();
const KernelTable& neon_kernels();

}  // namespace pellucid
