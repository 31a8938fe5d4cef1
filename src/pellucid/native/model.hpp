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

// The bytes of a tensor by its name in a Hub file ("h.0.attn.c_attn.weight"): matrices packed as packing.hpp says,
// everything else, the positions' embedding too, as float32. They must outlive the model.
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

// Tokens of one sequence that a pass computes, and the pages of its cache, which have room for them.
struct Segment {
    std::span<const std::int32_t> tokens;
    std::size_t first_position;
    std::span<std::byte* const> pages;
};

// Which rows a pass returns, and where to.
struct Outputs {
    bool all_positions;       // one row a token, segment after segment; otherwise one a segment, its last token's
    std::span<float> logits;  // [rows, vocab_size]
    std::span<float> hidden;  // [rows, n_embd], or empty where they are not wanted
};

// GPT-2's forward pass over packed weights. As in reference/model.py, with the same names.
class Model {
public:
    // int4 means the layers' matrices; the embedding and the head are then int8.
    // Raises std::invalid_argument for a configuration that no model has, and for a tensor that is not of its size.
    Model(const ModelConfig& config, Precision precision, const FindTensor& find);
    ~Model();

    const ModelConfig& config() const { return config_; }

    // Allocates what `forward` needs for so many tokens, the longest sequence then having so many positions.
    void reserve(std::size_t tokens, std::size_t positions, Runtime& runtime);

    // Runs all segments in one pass over the weights; more than `rows_at_once` tokens take several. Allocates nothing.
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
    std::vector<float> stream_;   // [rows, n_embd]
    std::vector<float> normal_;   // [rows, n_embd]
    std::vector<float> qkv_;      // [rows, 3 * n_embd]
    std::vector<float> mixed_;    // [rows, n_embd]
    std::vector<float> inner_;    // [rows, n_inner]
    std::vector<std::int8_t> quantized_;
    std::vector<float> quantized_scales_;
    std::vector<std::int32_t> quantized_sums_;
    std::vector<std::int32_t> quantized_starts_;
    std::vector<float> partial_sums_;  // [threads, panels_of_block, rows_of_block, panel_width]
    std::vector<float> scores_;        // [threads, query_block, positions]
};

}  // namespace pellucid
