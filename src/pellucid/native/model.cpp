#include "model.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

#include "packing.hpp"

namespace pellucid {
namespace {

std::size_t round_up(std::size_t n, std::size_t multiple) { return (n + multiple - 1) / multiple * multiple; }

constexpr std::size_t partial_sums_of_thread = panels_of_block * rows_of_block * panel_width;

std::size_t group_count(std::size_t n) { return round_up(n, group_size) / group_size; }

// Throws std::invalid_argument for sizes out of range, so that products of sizes cannot overflow.
void check_sizes(const ModelConfig& config) {
    const auto at_most = [](const char* name, std::size_t value, std::size_t limit) {
        if (value >= 1 && value <= limit) return;
        throw std::invalid_argument(std::string(name) + " is " + std::to_string(value) + "; it must be 1 to " +
                                    std::to_string(limit));
    };
    at_most("vocab_size", config.vocab_size, largest_n_out);
    at_most("n_positions", config.n_positions, largest_n_out);
    at_most("n_embd", config.n_embd, largest_n_in);
    at_most("n_inner", config.n_inner, largest_n_in);
    at_most("n_layer", config.n_layer, 1 << 16);
    at_most("n_head", config.n_head, config.n_embd);
    if (config.n_embd % config.n_head != 0) {
        throw std::invalid_argument("n_embd is " + std::to_string(config.n_embd) + ", which " +
                                    std::to_string(config.n_head) + " heads cannot share");
    }
    if (!(config.layer_norm_epsilon >= 0.0f && std::isfinite(config.layer_norm_epsilon))) {
        throw std::invalid_argument("layer_norm_epsilon must be a finite number, 0 or more");
    }
}

// Finds tensors and checks their sizes and alignment.
class Tensors {
public:
    Tensors(const FindTensor& find, Precision precision) : find_(find), precision_(precision) {}

    const float* floats(const std::string& name, std::size_t count) const {
        return reinterpret_cast<const float*>(bytes(name, count * sizeof(float)).data());
    }

    LayerNorm layer_norm(const std::string& name, std::size_t n) const {
        return {floats(name + ".weight", n), floats(name + ".bias", n)};
    }

    Linear linear(const std::string& name, std::size_t n_in, std::size_t n_out) const {
        return {precision_, n_in, n_out, bytes(name + ".weight", matrix_bytes(precision_, n_out, n_in)),
                floats(name + ".bias", n_out)};
    }

    Linear embedding(const std::string& name, std::size_t n_embd, std::size_t vocab_size) const {
        const Precision precision = precision_ == Precision::int4 ? Precision::int8 : precision_;
        return {precision, n_embd, vocab_size, bytes(name, matrix_bytes(precision, vocab_size, n_embd)), nullptr};
    }

private:
    std::span<const std::byte> bytes(const std::string& name, std::size_t size) const {
        const std::span<const std::byte> found = find_(name);
        if (found.size() != size) {
            throw std::invalid_argument("tensor " + name + " has " + std::to_string(found.size()) +
                                        " bytes; the model needs " + std::to_string(size));
        }
        if (reinterpret_cast<std::uintptr_t>(found.data()) % alignof(float) != 0) {
            throw std::invalid_argument("tensor " + name + " is not aligned for float32");
        }
        return found;
    }

    const FindTensor& find_;
    Precision precision_;
};

float attention_scale(const ModelConfig& config, std::size_t layer) {
    float scale = 1.0f;
    if (config.scale_attn_weights) scale /= std::sqrt(static_cast<float>(config.head_dim()));
    if (config.scale_attn_by_inverse_layer_idx) scale /= static_cast<float>(layer + 1);
    return scale;
}

// Calls body(row) for each row. Up to 4 rows run on the calling thread.
template <class Body>
void for_rows(std::size_t rows, ThreadPool& pool, const Body& body) {
    constexpr std::size_t few = 4;
    const std::size_t block = rows <= few ? few : round_up(rows, 4 * pool.threads()) / (4 * pool.threads());
    pool.run(rows, block, [&](std::size_t begin, std::size_t end, std::size_t) {
        for (std::size_t row = begin; row < end; ++row) body(row);
    });
}

// Chunk size of a product's loop: a multiple of 4 panels, which a kernel computes together, and about 8 chunks per
// thread, for load balance.
std::size_t panels_at_once(std::size_t panels, std::size_t threads) {
    return std::max<std::size_t>(4, panels / (threads * 8) / 4 * 4);
}

}  // namespace

// The rows of one pass. Each row is one token. A piece is a range of rows from the same segment.
struct Model::Rows {
    struct Piece {
        std::size_t segment;
        std::size_t first_row;
        std::size_t count;
        std::size_t first_token;  // in the segment
    };
    // A unit of attention: up to query_block consecutive rows of a piece.
    struct Queries {
        std::size_t piece;
        std::size_t first_row;
        std::size_t count;
    };

    std::span<const Segment> segments;
    std::vector<Piece> pieces;
    std::vector<Queries> queries;
    std::vector<std::size_t> piece_of_row;
    std::vector<std::size_t> wanted;  // the rows that need an output
    std::size_t positions = 0;        // the length of the longest sequence

    Rows() {
        pieces.reserve(rows_at_once);
        queries.reserve(rows_at_once);
        piece_of_row.reserve(rows_at_once);
        wanted.reserve(rows_at_once);
    }

    void begin(std::span<const Segment> all) {
        segments = all;
        pieces.clear();
        queries.clear();
        piece_of_row.clear();
        wanted.clear();
        positions = 0;
    }

    std::size_t count() const { return piece_of_row.size(); }

    void add(std::size_t segment, std::size_t first_token, std::size_t tokens) {
        const std::size_t first_row = count(), piece = pieces.size();
        pieces.push_back({segment, first_row, tokens, first_token});
        piece_of_row.resize(first_row + tokens, piece);
        for (std::size_t row = 0; row < tokens; row += query_block) {
            queries.push_back({piece, first_row + row, std::min(query_block, tokens - row)});
        }
        positions = std::max(positions, segments[segment].first_position + first_token + tokens);
    }

    std::size_t token_index(std::size_t row) const {
        const Piece& piece = pieces[piece_of_row[row]];
        return piece.first_token + row - piece.first_row;
    }
    const Segment& segment_of(std::size_t row) const { return segments[pieces[piece_of_row[row]].segment]; }
    std::size_t position(std::size_t row) const { return segment_of(row).first_position + token_index(row); }
    std::int32_t token(std::size_t row) const { return segment_of(row).tokens[token_index(row)]; }
};

Model::Model(const ModelConfig& config, Precision precision, const FindTensor& find)
    : config_(config), rows_(std::make_unique<Rows>()) {
    check_sizes(config);
    const Tensors tensors(find, precision);
    const std::size_t n_embd = config.n_embd;
    wte_ = tensors.embedding("wte.weight", n_embd, config.vocab_size);
    wpe_ = tensors.floats("wpe.weight", config.n_positions * n_embd);
    for (std::size_t i = 0; i < config.n_layer; ++i) {
        const std::string layer = "h." + std::to_string(i) + ".";
        h_.push_back({tensors.layer_norm(layer + "ln_1", n_embd),
                      tensors.linear(layer + "attn.c_attn", n_embd, 3 * n_embd),
                      tensors.linear(layer + "attn.c_proj", n_embd, n_embd),
                      tensors.layer_norm(layer + "ln_2", n_embd),
                      tensors.linear(layer + "mlp.c_fc", n_embd, config.n_inner),
                      tensors.linear(layer + "mlp.c_proj", config.n_inner, n_embd),
                      attention_scale(config, i)});
    }
    ln_f_ = tensors.layer_norm("ln_f", n_embd);
    lm_head_ = config.tie_word_embeddings ? wte_ : tensors.embedding("lm_head.weight", n_embd, config.vocab_size);
}

Model::~Model() = default;

void Model::forward(std::span<const Segment> segments, const CacheShape& cache, const Outputs& outputs,
                    Runtime& runtime) noexcept {
    Rows& rows = *rows_;
    rows.begin(segments);
    std::size_t written = 0;
    const auto finish_pass = [&] {
        pass(cache, outputs, written, runtime);
        written += rows.wanted.size();
        rows.begin(segments);
    };
    for (std::size_t i = 0; i < segments.size(); ++i) {
        const std::size_t count = segments[i].tokens.size();
        for (std::size_t token = 0; token < count;) {
            const std::size_t first_row = rows.count();
            const std::size_t taken = std::min(count - token, rows_at_once - first_row);
            rows.add(i, token, taken);
            token += taken;
            for (std::size_t row = first_row; row < rows.count(); ++row) {
                const bool last = token == count && row + 1 == rows.count();
                if (outputs.all_positions || last) rows.wanted.push_back(row);
            }
            if (rows.count() == rows_at_once) finish_pass();
        }
    }
    if (rows.count() > 0) finish_pass();
}

void Model::pass(const CacheShape& cache, const Outputs& outputs, std::size_t first_output, Runtime& runtime) {
    const Rows& rows = *rows_;
    const std::size_t count = rows.count(), n_embd = config_.n_embd;
    embed(runtime);
    for (std::size_t layer = 0; layer < h_.size(); ++layer) {
        const Block& block = h_[layer];
        normalize(block.ln_1, count, runtime);
        const Linear& after = layer + 1 < h_.size() ? h_[layer + 1].c_attn : lm_head_;
        apply(block.c_attn, normal_.data(), count, qkv_.data(), 3 * n_embd, Activation::none, false,
              block.attn_c_proj, runtime);
        attend(layer, cache, runtime);
        apply(block.attn_c_proj, mixed_.data(), count, stream_.data(), n_embd, Activation::none, true, block.c_fc,
              runtime);
        normalize(block.ln_2, count, runtime);
        apply(block.c_fc, normal_.data(), count, inner_.data(), config_.n_inner, config_.activation, false,
              block.mlp_c_proj, runtime);
        apply(block.mlp_c_proj, inner_.data(), count, stream_.data(), n_embd, Activation::none, true, after, runtime);
    }
    if (rows.wanted.empty()) return;
    for (std::size_t i = 0; i < rows.wanted.size(); ++i) {  // wanted[i] >= i, so no wanted row is overwritten
        if (rows.wanted[i] == i) continue;
        std::memcpy(&stream_[i * n_embd], &stream_[rows.wanted[i] * n_embd], n_embd * sizeof(float));
    }
    normalize(ln_f_, rows.wanted.size(), runtime);
    if (!outputs.hidden.empty()) {
        std::memcpy(&outputs.hidden[first_output * n_embd], normal_.data(),
                    rows.wanted.size() * n_embd * sizeof(float));
    }
    apply(lm_head_, normal_.data(), rows.wanted.size(), &outputs.logits[first_output * config_.vocab_size],
          config_.vocab_size, Activation::none, false, h_.empty() ? lm_head_ : h_.front().c_attn, runtime);
}

void Model::embed(Runtime& runtime) {
    const Rows& rows = *rows_;
    const std::size_t n_embd = config_.n_embd;
    for_rows(rows.count(), runtime.pool(), [&](std::size_t row) {
        const std::span<float> stream(&stream_[row * n_embd], n_embd);
        unpack_row(wte_.precision, wte_.weight, n_embd, static_cast<std::size_t>(rows.token(row)), stream);
        const float* position = wpe_ + rows.position(row) * n_embd;
        for (std::size_t i = 0; i < n_embd; ++i) stream[i] += position[i];
    });
}

void Model::attend(std::size_t layer, const CacheShape& cache, Runtime& runtime) {
    const Rows& rows = *rows_;
    const std::size_t n_embd = config_.n_embd, n_head = config_.n_head, head_dim = config_.head_dim();
    const KernelTable& kernels = runtime.kernels();

    for_rows(rows.count(), runtime.pool(), [&](std::size_t row) {
        const float* key = &qkv_[row * 3 * n_embd + n_embd];
        const float* value = key + n_embd;
        for (std::size_t head = 0; head < n_head; ++head) {
            const HeadCache kept = cache.head(layer, head, rows.segment_of(row).pages);
            kernels.append(kept, rows.position(row), key + head * head_dim, value + head * head_dim);
        }
    });

    const std::size_t stride = round_up(rows.positions, page_positions);
    runtime.pool().run(
        rows.queries.size() * n_head, 1, [&](std::size_t begin, std::size_t end, std::size_t thread) {
            for (std::size_t unit = begin; unit < end; ++unit) {
                const Rows::Queries& queries = rows.queries[unit / n_head];
                const std::size_t head = unit % n_head;
                kernels.attend({.cache = cache.head(layer, head, rows.segment_of(queries.first_row).pages),
                                .query = &qkv_[queries.first_row * 3 * n_embd + head * head_dim],
                                .query_stride = 3 * n_embd,
                                .output = &mixed_[queries.first_row * n_embd + head * head_dim],
                                .output_stride = n_embd,
                                .rows = queries.count,
                                .first_position = rows.position(queries.first_row),
                                .scale = h_[layer].attention_scale,
                                .scores = &scores_[thread * query_block * stride],
                                .scores_stride = stride});
            }
        });
}

void Model::normalize(const LayerNorm& norm, std::size_t rows, Runtime& runtime) {
    const std::size_t n_embd = config_.n_embd;
    for_rows(rows, runtime.pool(), [&](std::size_t row) {
        runtime.kernels().layer_norm(&stream_[row * n_embd], n_embd, norm.weight, norm.bias,
                                     config_.layer_norm_epsilon, &normal_[row * n_embd]);
    });
}

void Model::apply(const Linear& linear, const float* inputs, std::size_t rows, float* output,
                  std::size_t output_stride, Activation activation, bool accumulate, const Linear& upcoming,
                  Runtime& runtime) {
    const QuantizedRows quantized{quantized_.data(), quantized_scales_.data(), quantized_sums_.data(),
                                  quantized_starts_.data(), group_count(linear.n_in)};
    if (linear.precision == Precision::int8 || linear.precision == Precision::int4) {
        for_rows(rows, runtime.pool(), [&](std::size_t row) {
            runtime.kernels().quantize(inputs + row * linear.n_in, linear.n_in, linear.precision, quantized, row);
        });
    }
    const Product product{.precision = linear.precision,
                          .weights = linear.weight.data(),
                          .n_in = linear.n_in,
                          .n_out = linear.n_out,
                          .inputs = inputs,
                          .input_stride = linear.n_in,
                          .quantized = quantized,
                          .rows = rows,
                          .bias = linear.bias,
                          .activation = activation,
                          .accumulate = accumulate,
                          .output = output,
                          .output_stride = output_stride};
    const std::size_t panels = panel_count(linear.n_out);
    runtime.pool().run(panels, panels_at_once(panels, runtime.pool().threads()),
                       [&](std::size_t begin, std::size_t end, std::size_t thread) {
                           float* partial_sums = &partial_sums_[thread * partial_sums_of_thread];
                           runtime.kernels().multiply(product, begin, end, partial_sums);
                       },
                       upcoming.weight);
}

void Model::reserve(std::size_t tokens, std::size_t positions, Runtime& runtime) {
    const std::size_t rows = std::min(tokens, rows_at_once);
    const auto at_least = [](auto& buffer, std::size_t size) {
        if (buffer.size() < size) buffer.resize(size);
    };
    const std::size_t n_embd = config_.n_embd;
    at_least(stream_, rows * n_embd);
    at_least(normal_, rows * n_embd);
    at_least(qkv_, rows * 3 * n_embd);
    at_least(mixed_, rows * n_embd);
    at_least(inner_, rows * config_.n_inner);
    const std::size_t groups = group_count(std::max(n_embd, config_.n_inner));
    at_least(quantized_, rows * groups * (group_size / 4) * runtime.kernels().quad_bytes);
    at_least(quantized_scales_, rows * groups);
    at_least(quantized_sums_, rows * groups);
    at_least(quantized_starts_, rows * groups);
    const std::size_t threads = runtime.pool().threads();
    at_least(partial_sums_, threads * partial_sums_of_thread);
    at_least(scores_, threads * query_block * round_up(positions, page_positions));
}

}  // namespace pellucid
