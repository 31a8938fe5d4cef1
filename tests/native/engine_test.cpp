// Test of the engine without Python, for the sanitizers: random slot operations on small models of irregular sizes,
// from several threads, in every precision and instruction set that the processor has. The logits of each sequence must
// equal those of the same tokens in a new slot in every bit.
//
//     make sanitize                    all instruction sets
//     engine_test avx512_vnni ...      the named ones

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <new>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "engine.hpp"
#include "logits.hpp"
#include "packing.hpp"

namespace {

// Number of allocations of this thread that succeed before one fails; negative: none fails.
thread_local int allocations_left = -1;

}  // namespace

// Not inlined, because GCC would warn about malloc and free where it expects new and delete.
#if defined(__GNUC__)
#define PELLUCID_NOT_INLINED __attribute__((noinline))
#else
#define PELLUCID_NOT_INLINED
#endif

PELLUCID_NOT_INLINED void* operator new(std::size_t size) {
    if (allocations_left == 0) throw std::bad_alloc();
    if (allocations_left > 0) --allocations_left;
    if (void* memory = std::malloc(size > 0 ? size : 1)) return memory;
    throw std::bad_alloc();
}
PELLUCID_NOT_INLINED void operator delete(void* memory) noexcept { std::free(memory); }
PELLUCID_NOT_INLINED void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

using namespace pellucid;

[[noreturn]] void fail(const char* what) {
    std::fprintf(stderr, "failed: %s\n", what);
    std::exit(1);
}

void expect(bool condition, const char* what) {
    if (!condition) fail(what);
}

// The tensors of a model, random, packed in its precision.
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

    std::vector<std::string> names() const {
        std::vector<std::string> names;
        for (const auto& [name, bytes] : tensors_) names.push_back(name);
        return names;
    }

    // Overwrites the first number of a tensor, which is a scale if the tensor is quantized.
    template <class Number>
    void set_first(const std::string& name, Number number) {
        std::memcpy(tensors_.at(name).data(), &number, sizeof(number));
    }

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
    engine.step(std::span(&id, 1), std::span(&ids, 1), {false, logits, {}});
    return logits;
}

// Random steps, forks, truncations and drops by one thread, which shares the engine with others.
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
                    engine.step(slots, tokens, {false, logits, {}});
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

// A number that is not finite in any tensor makes logits not finite, in every precision.
void check_not_finite(Activation activation, Precision precision, const std::string& instruction_set) {
    const ModelConfig config{23, 64, 24, 2, 3, 37, activation, 1e-5f, true, false, true};
    constexpr float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    const auto runtime = std::make_shared<Runtime>(instruction_set, 1);
    for (const std::string& name : RandomTensors(config, precision, runtime->pool()).names()) {
        for (const float number : {nan, infinity, -infinity}) {
            // These activation functions have finite limits at infinity.
            const bool saturates = activation == Activation::tanh || activation == Activation::relu;
            const bool activated = name.find("c_fc") != std::string::npos || name.find("ln_2") != std::string::npos;
            if (saturates && activated && !std::isnan(number)) continue;
            RandomTensors tensors(config, precision, runtime->pool());
            const bool norm = name.find("ln_") != std::string::npos;
            const bool matrix = name.ends_with(".weight") && !norm && name != "wpe.weight";
            if (!matrix || precision == Precision::float32) {
                tensors.set_first(name, number);
            } else if (std::isnan(number)) {  // bfloat16, and half precision scales
                tensors.set_first<std::uint16_t>(name, precision == Precision::bfloat16 ? 0x7fc0 : 0x7e00);
            } else {
                continue;
            }
            const FindTensor find = [&](const std::string& tensor) { return tensors.find(tensor); };
            const auto engine = std::make_shared<Engine>(runtime, config, precision, find, config.n_positions);
            const std::vector<float> logits = logits_alone(*engine, {0, 1, 2, 3, 4}, config.vocab_size);
            const bool finite = std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); });
            expect(!finite, ("a number that is not finite reaches the logits: " + name).c_str());
        }
    }
}

// Calls `call` with its first, second, ... allocation failing, until all succeed; checks that a failed call changed
// nothing.
template <class Call, class Check>
void fail_each_allocation(const Call& call, const Check& unchanged) {
    for (int allowed = 0;; ++allowed) {
        allocations_left = allowed;
        try {
            call();
            allocations_left = -1;
            expect(allowed > 0, "the call allocates");
            return;
        } catch (const std::bad_alloc&) {
            allocations_left = -1;
            unchanged();
        }
    }
}

// A step, fork or open that runs out of memory changes nothing.
void check_without_memory(Precision precision) {
    const ModelConfig config{23, 64, 24, 2, 3, 37, Activation::gelu_new, 1e-5f, true, false, true};
    const auto runtime = std::make_shared<Runtime>("", 2);
    const RandomTensors tensors(config, precision, runtime->pool());
    const FindTensor find = [&](const std::string& name) { return tensors.find(name); };
    const auto engine = std::make_shared<Engine>(runtime, config, precision, find, 40 * page_positions);
    const std::unique_ptr<Slot> first = engine->open();
    const std::vector<KvCache::Id> ids{first->id()};
    std::vector<float> logits(2 * config.vocab_size);
    engine->step(ids, std::vector<Ids>{Ids(20, 1)}, {false, std::span(logits).first(config.vocab_size), {}});

    std::unique_ptr<Slot> second;
    fail_each_allocation([&] { second = engine->fork(*first); },
                         [&] { expect(engine->open_slots() == 1, "a fork without memory opens no slot"); });
    fail_each_allocation([&] { engine->open(); },
                         [&] { expect(engine->open_slots() == 2, "without memory no slot is opened"); });
    const std::vector<KvCache::Id> both{first->id(), second->id()};
    const std::vector<Ids> tokens{Ids(30, 2), Ids(15, 0)};
    fail_each_allocation([&] { engine->step(both, tokens, {false, logits, {}}); },
                         [&] {
                             expect(engine->length(*first) == 20 && engine->length(*second) == 20,
                                    "a step without memory leaves every slot as it was");
                         });
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        Ids whole(20, 1);
        whole.insert(whole.end(), tokens[i].begin(), tokens[i].end());
        const std::vector<float> expected = logits_alone(*engine, whole, config.vocab_size);
        expect(std::equal(expected.begin(), expected.end(), &logits[i * config.vocab_size]),
               "a step that succeeds after some that failed gives its tokens' logits");
    }
}

// Kernels of an instruction set equal the portable kernels up to rounding.
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
    // An activation halfway between two int8 values, or a key between two float16 values, may round either way.
    const float bound = precision == Precision::float32 ? 1e-5f : precision == Precision::bfloat16 ? 2e-3f : 2e-2f;
    expect(difference <= bound * largest, "logits are those of the portable kernels but for rounding");
}

// Passes over logits equal the portable ones, for lengths around those of a vector and of a run of vectors.
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

// Instruction sets that differ only in how they compute exact sums are equal in every bit.
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
    for (const Precision precision : {Precision::float32, Precision::bfloat16, Precision::int8, Precision::int4}) {
        check_without_memory(precision);
    }
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
        for (const Activation activation : {Activation::gelu_new, Activation::gelu, Activation::relu, Activation::silu,
                                            Activation::tanh}) {
            for (const Precision precision :
                 {Precision::float32, Precision::bfloat16, Precision::int8, Precision::int4}) {
                check_not_finite(activation, precision, instruction_set);
            }
        }
        if (instruction_set == "amx") compare_exactly("amx", "avx512_vnni");
        std::printf("%s: every sequence as alone\n", instruction_set.c_str());
    }
}
