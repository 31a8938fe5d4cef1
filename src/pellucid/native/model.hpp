#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels.hpp"
#include "kv_cache.hpp"
#include "runtime.hpp"

namespace pellucid {

struct ModelConfig {
    std::size_t vocab_size;
    std::size_t n_positions;
    std::size_t n_embd;
    std::size_t n_layer;
    std::size_t n_head;
    std::size_t n_inner;
    Activation activation;
    float layer_norm_epsilon;
    bool scale_attn_weights;
    bool scale_attn_by_inverse_layer_idx;
    bool tie_word_embeddings;

    std::size_t head_dim() const { return n_embd / n_head; }
};

// Returns the bytes of a tensor by its name in a Hub file ("h.0.attn.c_attn.weight"). Matrices are packed in the layout
// of packing.hpp. Other tensors, including the position embedding, are float32. The bytes must outlive the model.
using FindTensor = std::function<std::span<const std::byte>(const std::string& name)>;

// A packed matrix and its bias.
struct Linear {
    Precision precision;
    std::size_t n_in;
    std::size_t n_out;
    std::span<const std::byte> weight;
    const float* bias;  // [n_out], or null
};

struct LayerNorm {
    const float* weight;
    const float* bias;
};

struct Block {
    LayerNorm ln_1;
    Linear c_attn;
    Linear attn_c_proj;
    LayerNorm ln_2;
    Linear c_fc;
    Linear mlp_c_proj;
    float attention_scale;
};

// New tokens of one sequence, and the sequence's cache pages, which have room for them.
struct Segment {
    std::span<const std::int32_t> tokens;
    std::size_t first_position;
    std::span<std::byte* const> pages;
};

// The output rows of a forward pass, and the buffers for them.
struct Outputs {
    bool all_positions;       // one row per token, in segment order; otherwise one per segment, for its last token
    std::span<float> logits;  // [rows, vocab_size]
    std::span<float> hidden;  // [rows, n_embd], or empty to skip them
};

// GPT-2's forward pass over packed weights. Names follow reference/model.py.
class Model {
public:
    // int4 applies to the matrices of the layers. The embedding and the head of an int4 model are int8.
    // Throws std::invalid_argument for an invalid configuration and for a tensor of the wrong size.
    Model(const ModelConfig& config, Precision precision, const FindTensor& find);
    ~Model();

    const ModelConfig& config() const { return config_; }

    // Allocates the scratch memory that `forward` needs.
    // tokens: the number of new tokens. positions: the length of the longest sequence, including its new tokens.
    void reserve(std::size_t tokens, std::size_t positions, Runtime& runtime);

    // Computes all segments in one pass over the weights, or in one pass per `rows_at_once` tokens. Does not allocate.
    void forward(std::span<const Segment> segments, const CacheShape& cache, const Outputs& outputs,
                 Runtime& runtime) noexcept;

    static constexpr std::size_t rows_at_once = 256;

private:
    struct Rows;

    void pass(const CacheShape& cache, const Outputs& outputs, std::size_t first_output, Runtime& runtime);
    void embed(Runtime& runtime);
    void attend(std::size_t layer, const CacheShape& cache, Runtime& runtime);
    void normalize(const LayerNorm& norm, std::size_t rows, Runtime& runtime);
    void apply(const Linear& linear, const float* inputs, std::size_t rows, float* output, std::size_t output_stride,
               Activation activation, bool accumulate, const Linear& upcoming, Runtime& runtime);

    ModelConfig config_;
    Linear wte_;
    Linear lm_head_;
    const float* wpe_;  // [n_positions, n_embd]
    std::vector<Block> h_;
    LayerNorm ln_f_;

    // Scratch memory of a pass.
    std::unique_ptr<Rows> rows_;
    std::vector<float> stream_;   // [rows, n_embd], the residual stream
    std::vector<float> normal_;   // [rows, n_embd], after a layer norm
    std::vector<float> qkv_;      // [rows, 3 * n_embd]
    std::vector<float> mixed_;    // [rows, n_embd], the heads' outputs
    std::vector<float> inner_;    // [rows, n_inner], the MLP's hidden layer
    std::vector<std::int8_t> quantized_;
    std::vector<float> quantized_scales_;
    std::vector<std::int32_t> quantized_sums_;
    std::vector<std::int32_t> quantized_starts_;
    std::vector<float> partial_sums_;  // [threads, panels_of_block, rows_of_block, panel_width]
    std::vector<float> scores_;        // [threads, query_block, positions]
};

}  // namespace pellucid
