// The engine by itself, for the sanitizers: random lives of slots on small models of awkward sizes, from several
// threads, with every precision and every instruction set this processor has. Each sequence is compared bit for bit
// with the same tokens run alone.
//
//     make sanitize                    all sets
//     engine_test avx512_vnni ...      those named

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "engine.hpp"
#include "logits.hpp"
#include "packing.hpp"

namespace {

using namespace pellucid;

[[noreturn]] void fail(const char* what) {
    std::fprintf(stderr, "failed: %s\n", what);
    std::exit(1);
}

void expect(bool condition, const char* what) {
    if (!condition) fail(what);
}

// A model's tensors, random, packed as its precision wants them.
class RandomTensors {
public:
    RandomTensors(const ModelConfig& config, Precision precision, ThreadPool& pool) : generator_(7) {
        const Precision embedding = precision == Precision::int4 ? Precision::int8 : precision;
        const std::size_t n = config.n_embd;
        add_matrix("wte.weight", embedding, config.vocab_size, n, pool);
        add_vector("wpe.weight", config.n_positions * n);
        for (std::size_t i = 0; i < config.n_layer; ++i) {
            const std::string layer = "h." + std::to_string(i) + ".";
            for (const char* norm : {"ln_1", "ln_2"}) add_norm(layer + norm, n);
            add_linear(layer + "attn.c_attn", precision, 3 * n, n, pool);
            add_linear(layer + "attn.c_proj", precision, n, n, pool);
            add_linear(layer + "mlp.c_fc", precision, config.n_inner, n, pool);
            add_linear(layer + "mlp.c_proj", precision, n, config.n_inner, pool);
        }
        add_norm("ln_f", n);
    }

    std::span<const std::byte> find(const std::string& name) const { return tensors_.at(name); }

private:
    std::vector<float> random(std::size_t count) {
        std::normal_distribution<float> normal(0.0f, 0.3f);
        std::vector<float> values(count);
        std::generate(values.begin(), values.end(), [&] { return normal(generator_); });
        return values;
    }

    void add_vector(const std::string& name, std::size_t count) {
        const std::vector<float> values = random(count);
        std::vector<std::byte>& bytes = tensors_[name];
        bytes.resize(count * sizeof(float));
        std::memcpy(bytes.data(), values.data(), bytes.size());
    }

    void add_matrix(const std::string& name, Precision precision, std::size_t n_out, std::size_t n_in,
                    ThreadPool& pool) {
        const std::vector<float> values = random(n_out * n_in);
        std::vector<std::byte>& bytes = tensors_[name];
        bytes.resize(matrix_bytes(precision, n_out, n_in));
        pack(precision, {WeightType::float32, values.data(), n_out, n_in, n_in, 1}, bytes, pool);
    }

    void add_norm(const std::string& name, std::size_t n) {
        add_vector(name + ".weight", n);
        add_vector(name + ".bias", n);
    }

    void add_linear(const std::string& name, Precision precision, std::size_t n_out, std::size_t n_in,
                    ThreadPool& pool) {
        add_matrix(name + ".weight", precision, n_out, n_in, pool);
        add_vector(name + ".bias", n_out);
    }

    std::mt19937 generator_;
    std::map<std::string, std::vector<std::byte>> tensors_;
};

using Ids = std::vector<std::int32_t>;

std::vector<float> logits_alone(Engine& engine, const Ids& ids, std::size_t vocab_size) {
    std::vector<float> logits(vocab_size);
    const std::unique_ptr<Slot> slot = engine.open();
    const KvCache::Id id = slot->id();
    engine.step(std::span(&id, 1), std::span(&ids, 1), {false, logits.data(), nullptr});
    return logits;
}

// Random steps, forks, cuts and drops by one thread, which shares the engine with others.
void live(Engine& engine, Engine& checker, const ModelConfig& config, unsigned seed) {
    struct Sequence {
        std::unique_ptr<Slot> slot;
        Ids ids;
    };
    std::mt19937 generator(seed);
    const auto below = [&](std::size_t n) { return static_cast<std::size_t>(generator()) % n; };
    std::vector<Sequence> sequences;
    for (int turn = 0; turn < 30; ++turn) {
        if (sequences.empty() || below(3) == 0) sequences.push_back({engine.open(), {}});
        const std::size_t chosen = below(sequences.size());
        const Slot& slot = *sequences[chosen].slot;
        switch (below(5)) {
            case 0:
                sequences.push_back({engine.fork(slot), sequences[chosen].ids});
                break;
            case 1: {
                const std::size_t length = below(sequences[chosen].ids.size() + 1);
                engine.truncate(slot, length);
                sequences[chosen].ids.resize(length);
                break;
            }
            case 2:
                if (below(2) == 0) engine.drop(*sequences[chosen].slot);
                sequences.erase(sequences.begin() + static_cast<long>(chosen));
                break;
            default: {
                std::vector<Sequence*> batch;
                std::vector<KvCache::Id> slots;
                std::vector<Ids> tokens;
                for (Sequence& sequence : sequences) {
                    if (sequence.slot.get() != &slot && below(2) == 0) continue;
                    Ids added(1 + below(20));
                    for (std::int32_t& id : added) id = static_cast<std::int32_t>(below(config.vocab_size));
                    if (sequence.ids.size() + added.size() > config.n_positions) continue;
                    batch.push_back(&sequence);
                    slots.push_back(engine.id_of(*sequence.slot));
                    tokens.push_back(added);
                }
                std::vector<float> logits(slots.size() * config.vocab_size);
                try {
                    engine.step(slots, tokens, {false, logits.data(), nullptr});
                } catch (const CacheFull&) {
                    break;
                }
                for (std::size_t i = 0; i < batch.size(); ++i) {
                    Ids& ids = batch[i]->ids;
                    ids.insert(ids.end(), tokens[i].begin(), tokens[i].end());
                    const std::vector<float> expected = logits_alone(checker, ids, config.vocab_size);
                    expect(std::equal(expected.begin(), expected.end(), &logits[i * config.vocab_size]),
                           "a sequence's logits in a batch are those of its tokens alone");
                }
            }
        }
        for (const Sequence& sequence : sequences) {
            expect(engine.length(*sequence.slot) == sequence.ids.size(), "lengths");
        }
    }
}

void check(const ModelConfig& config, Precision precision, const std::string& instruction_set) {
    const auto runtime = std::make_shared<Runtime>(instruction_set, 3);
    const RandomTensors tensors(config, precision, runtime->pool());
    const FindTensor find = [&](const std::string& name) { return tensors.find(name); };
    const auto engine = std::make_shared<Engine>(runtime, config, precision, find, 40 * page_positions);
    const auto checker = [&](std::size_t threads) {
        return std::make_shared<Engine>(std::make_shared<Runtime>(instruction_set, threads), config, precision, find,
                                        2 * config.n_positions);
    };
    const auto first_checker = checker(1), second_checker = checker(2);
    std::thread other([&] { live(*engine, *second_checker, config, 11); });
    live(*engine, *first_checker, config, 5);
    other.join();
    expect(engine->open_slots() == 0, "slots that are gone are not counted");
}

// The kernels of one instruction set against the plain C++ ones: they differ by rounding alone.
void compare_with_portable(const ModelConfig& config, Precision precision, const std::string& instruction_set) {
    const Ids ids{1, 2, 0, 2, 1, 1, 0, 2, 0, 1, 2, 2, 1, 0, 1, 2, 0, 0, 1};
    std::vector<std::vector<float>> logits;
    for (const std::string& name : {std::string("portable"), instruction_set}) {
        const auto runtime = std::make_shared<Runtime>(name, 1);
        const RandomTensors tensors(config, precision, runtime->pool());
        const FindTensor find = [&](const std::string& tensor) { return tensors.find(tensor); };
        const auto engine = std::make_shared<Engine>(runtime, config, precision, find, config.n_positions);
        logits.push_back(logits_alone(*engine, ids, config.vocab_size));
    }
    float largest = 0.0f, difference = 0.0f;
    for (std::size_t i = 0; i < config.vocab_size; ++i) {
        largest = std::max(largest, std::abs(logits[0][i]));
        difference = std::max(difference, std::abs(logits[0][i] - logits[1][i]));
    }
    // An activation on the edge between two bytes, or a key between two halves, may go either way.
    const float bound = precision == Precision::float32 ? 1e-5f : precision == Precision::bfloat16 ? 2e-3f : 2e-2f;
    expect(difference <= bound * largest, "logits are those of the portable kernels but for rounding");
}

// Passes over logits find what the plain C++ ones find, at every length around a vector's and a run's.
void compare_passes(const std::string& instruction_set) {
    const LogitsPasses portable("portable"), passes(instruction_set);
    std::vector<float> logits;
    std::uint32_t state = 1;
    while (logits.size() < 1200) {
        state = state * 1664525u + 1013904223u;
        logits.push_back(static_cast<float>(state >> 20) * 0.01f - 60.0f);  // many are equal
        if (logits.size() > 150 && logits.size() % 97 != 0) continue;
        std::vector<float> maxima(LogitsPasses::groups(logits.size())), portable_maxima(maxima.size());
        const LogitsSurvey ours = passes.survey(logits, maxima), theirs = portable.survey(logits, portable_maxima);
        expect(ours.finite && theirs.finite, "finite logits are found to be so");
        expect(std::abs(ours.log_normaliser - theirs.log_normaliser) < 1e-6, "the normaliser is the portable kernels'");
        for (const std::size_t k : {std::size_t{1}, logits.size() / 2 + 1, logits.size()}) {
            expect(passes.largest(logits, k, maxima) == portable.largest(logits, k, portable_maxima),
                   "the largest are the portable kernels'");
        }
    }
    std::vector<float> maxima(LogitsPasses::groups(logits.size()));
    expect(passes.survey(logits, maxima).finite && maxima == passes.group_maxima(logits), "maxima are found alike");
    logits.back() = std::numeric_limits<float>::quiet_NaN();
    expect(!passes.survey(logits, maxima).finite, "a logit that is not finite is found");
}

// Sets that differ in how they take exact sums differ in no bit.
void compare_exactly(const std::string& instruction_set, const std::string& other) {
    const ModelConfig config{23, 128, 80, 1, 5, 130, Activation::gelu_new, 1e-5f, true, false, true};
    for (const Precision precision : {Precision::int8, Precision::int4}) {
        std::map<std::string, std::vector<std::vector<float>>> logits;
        for (const std::string& name : {instruction_set, other}) {
            const auto runtime = std::make_shared<Runtime>(name, 2);
            const RandomTensors tensors(config, precision, runtime->pool());
            const FindTensor find = [&](const std::string& tensor) { return tensors.find(tensor); };
            const auto engine = std::make_shared<Engine>(runtime, config, precision, find, config.n_positions);
            Ids ids;
            while (ids.size() < config.n_positions) {
                ids.push_back(static_cast<std::int32_t>(ids.size() * ids.size() % config.vocab_size));
                logits[name].push_back(logits_alone(*engine, ids, config.vocab_size));
            }
        }
        expect(logits[instruction_set] == logits[other], "two instruction sets' logits are the same bits");
    }
}

}  // namespace

int main(int count, char** arguments) {
    const std::vector<ModelConfig> configs{
        {23, 64, 24, 2, 3, 37, Activation::gelu_new, 1e-5f, true, false, true},
        {3, 64, 65, 1, 5, 130, Activation::gelu, 1e-5f, true, true, true},
        {17, 64, 6, 2, 6, 1, Activation::silu, 1e-5f, false, false, true},
    };
    const std::vector<std::string> named(arguments + 1, arguments + count);
    const std::vector<std::string> present = instruction_sets();
    for (const std::string& instruction_set : named.empty() ? present : named) {
        compare_passes(instruction_set);
        for (const Precision precision :
             {Precision::float32, Precision::bfloat16, Precision::int8, Precision::int4}) {
            for (const ModelConfig& config : configs) {
                compare_with_portable(config, precision, instruction_set);
                check(config, precision, instruction_set);
            }
        }
        if (instruction_set == "amx") compare_exactly("amx", "avx512_vnni");
        std::printf("%s: every sequence as alone\n", instruction_set.c_str());
    }
}
