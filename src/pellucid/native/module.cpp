// The Python bindings, as module pellucid.native._native.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu_features.hpp"
#include "engine.hpp"
#include "gil.hpp"
#include "logits.hpp"
#include "packing.hpp"
#include "runtime.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using pellucid::Activation;
using pellucid::Engine;
using pellucid::GilRelease;
using pellucid::KvCache;
using pellucid::ModelConfig;
using pellucid::Precision;
using pellucid::Runtime;
using pellucid::Slot;
using pellucid::WeightType;

using Row = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Bytes = nb::ndarray<const std::uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using WritableBytes = nb::ndarray<std::uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Matrix = nb::ndarray<nb::ro, nb::ndim<2>, nb::device::cpu>;
using FloatRows = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// numpy makes arrays at any address, also such as the processor may not read numbers from.
void check_aligned(const void* data, std::size_t alignment) {
    if (reinterpret_cast<std::uintptr_t>(data) % alignment != 0) {
        throw std::invalid_argument("an array is not aligned for its numbers: pass a copy");
    }
}

std::span<const std::byte> as_span(const Bytes& array) {
    return {reinterpret_cast<const std::byte*>(array.data()), array.size()};
}

std::span<float> as_span(const char* name, const FloatRows& rows, std::size_t width) {
    if (rows.shape(1) != width) {
        throw std::invalid_argument(std::string(name) + " has rows of " + std::to_string(rows.shape(1)) +
                                    " numbers; they must be of " + std::to_string(width));
    }
    check_aligned(rows.data(), alignof(float));
    return {rows.data(), rows.size()};
}

std::span<const float> as_span(const Row& row) {
    if (row.size() == 0) throw std::invalid_argument("the row is empty");
    check_aligned(row.data(), alignof(float));
    return {row.data(), row.size()};
}

// An array that owns its numbers.
template <class Number>
nb::ndarray<nb::numpy, Number, nb::ndim<1>> as_array(std::vector<Number> numbers) {
    auto held = std::make_unique<std::vector<Number>>(std::move(numbers));
    auto* kept = held.get();
    const nb::capsule owner(held.release(), [](void* p) noexcept { delete static_cast<std::vector<Number>*>(p); });
    return {kept->data(), {kept->size()}, owner};
}

nb::tuple survey(const pellucid::LogitsPasses& passes, const Row& logits) {
    const auto row = as_span(logits);
    std::vector<float> maxima(passes.groups(row.size()));
    const auto found = passes.survey(row, maxima);
    return nb::make_tuple(found.finite, found.log_normaliser, as_array(std::move(maxima)));
}

nb::ndarray<nb::numpy, std::int64_t, nb::ndim<1>> largest(const pellucid::LogitsPasses& passes, const Row& values,
                                                         std::size_t k, const std::optional<Row>& maxima) {
    const auto row = as_span(values);
    if (k < 1 || k > row.size()) throw std::invalid_argument("there is no such place in the row");
    if (!maxima) return as_array(passes.largest(row, k, passes.group_maxima(row)));
    return as_array(passes.largest(row, k, as_span(*maxima)));
}

template <class Enum>
Enum by_name(const std::string& name, std::initializer_list<std::pair<const char*, Enum>> names) {
    for (const auto& [known, value] : names) {
        if (name == known) return value;
    }
    throw std::invalid_argument("there is no " + name);
}

Precision precision_named(const std::string& name) {
    return by_name<Precision>(name, {{"float32", Precision::float32},
                                     {"bfloat16", Precision::bfloat16},
                                     {"int8", Precision::int8},
                                     {"int4", Precision::int4}});
}

Activation activation_named(const std::string& name) {
    return by_name<Activation>(name, {{"gelu_new", Activation::gelu_new},
                                      {"gelu", Activation::gelu},
                                      {"relu", Activation::relu},
                                      {"silu", Activation::silu},
                                      {"tanh", Activation::tanh}});
}

// numpy has no bfloat16. Its bits are passed as uint16.
WeightType type_of(const Matrix& weights) {
    const nb::dlpack::dtype type = weights.dtype();
    if (type == nb::dtype<float>()) return WeightType::float32;
    if (type == nb::dtype<std::uint16_t>()) return WeightType::bfloat16;
    const auto floating = static_cast<std::uint8_t>(nb::dlpack::dtype_code::Float);
    if (type.code == floating && type.bits == 16 && type.lanes == 1) return WeightType::float16;
    throw std::invalid_argument("weights are packed from float32, float16 or the bits of bfloat16");
}

// weights: [n_out, n_in], with any strides.
void pack(Runtime& runtime, const std::string& precision, const Matrix& weights, const WritableBytes& packed) {
    const pellucid::Weights source{type_of(weights), weights.data(), weights.shape(0), weights.shape(1),
                                   static_cast<std::size_t>(weights.stride(0)),
                                   static_cast<std::size_t>(weights.stride(1))};
    check_aligned(source.data, source.type == WeightType::float32 ? alignof(float) : alignof(std::uint16_t));
    check_aligned(packed.data(), alignof(float));
    const std::span<std::byte> target{reinterpret_cast<std::byte*>(packed.data()), packed.size()};
    const Precision chosen = precision_named(precision);
    const GilRelease released;
    pellucid::pack(chosen, source, target, runtime.pool());
}

// An engine, and the arrays that hold its weights.
struct EngineOverArrays : Engine {
    EngineOverArrays(std::shared_ptr<Runtime> runtime, const ModelConfig& config, Precision precision,
                     std::map<std::string, Bytes> tensors, std::size_t capacity)
        : Engine(std::move(runtime), config, precision,
                 [&](const std::string& name) {
                     const auto found = tensors.find(name);
                     if (found == tensors.end()) throw std::invalid_argument("there is no tensor " + name);
                     return as_span(found->second);
                 },
                 capacity),
          arrays(std::move(tensors)) {}

    std::map<std::string, Bytes> arrays;
};

std::shared_ptr<Engine> make_engine(std::shared_ptr<Runtime> runtime, const ModelConfig& config,
                                    const std::string& precision, const nb::dict& tensors, std::size_t capacity) {
    std::map<std::string, Bytes> arrays;
    for (const auto& [name, array] : tensors) {
        Bytes bytes;
        // No implicit conversion, because the engine must read the caller's memory and not a temporary.
        if (!nb::isinstance<nb::str>(name) || !nb::try_cast(array, bytes, false)) {
            throw nb::type_error("tensors are contiguous uint8 arrays by name");
        }
        arrays.emplace(nb::cast<std::string>(name), bytes);
    }
    return std::make_shared<EngineOverArrays>(std::move(runtime), config, precision_named(precision),
                                              std::move(arrays), capacity);
}

void step(Engine& engine, const std::vector<const Slot*>& slots, const std::vector<std::vector<std::int32_t>>& tokens,
          bool all_positions, const FloatRows& logits, const std::optional<FloatRows>& hidden) {
    std::vector<KvCache::Id> ids;
    for (const Slot* slot : slots) {
        if (slot == nullptr) throw nb::type_error("None is not a slot");
        ids.push_back(engine.id_of(*slot));
    }
    const pellucid::Outputs outputs{
        all_positions, as_span("logits", logits, engine.config().vocab_size),
        hidden ? as_span("hidden", *hidden, engine.config().n_embd) : std::span<float>()};
    const GilRelease released;
    engine.step(ids, tokens, outputs);
}

// Registers an atexit handler, before the first thread is created. Handlers run last in, first out, so handlers that
// the program registered earlier run afterwards and can still decode.
void wait_at_exit() {
    static bool registered = false;  // the interpreter exits once; guarded by the GIL
    if (registered) return;
    nb::module_::import_("atexit").attr("register")(nb::cpp_function(&pellucid::wait_for_other_threads));
    registered = true;
}

// Translates C++ exceptions to those of pellucid.errors.
void translate(const std::exception_ptr& pointer, void*) {
    const auto raise = [](const char* type, const char* message) {
        PyErr_SetString(nb::module_::import_("pellucid.errors").attr(type).ptr(), message);
    };
    try {
        std::rethrow_exception(pointer);
    } catch (const pellucid::ContextTooLong& error) {
        raise("ContextLengthError", error.what());
    } catch (const pellucid::CacheTooLarge& error) {
        raise("OptionError", error.what());
    } catch (const pellucid::CacheFull& error) {
        raise("CacheFullError", error.what());
    } catch (const pellucid::UnknownSlot& error) {
        PyErr_SetString(PyExc_KeyError, error.what());
    }
}

}  // namespace

NB_MODULE(_native, module) {
    module.doc() = "Pellucid's C++ engine.";
    nb::register_exception_translator(translate);
    // The stack of a daemon thread that is in a step at exit is never unwound, so its engine is leaked.
    nb::set_leak_warnings(false);

    module.def("cpu_features", &pellucid::cpu_features,
               "The instruction-set extensions of this processor that the system enables, by their names in Linux.");
    module.def("instruction_sets", &pellucid::instruction_sets,
               "The instruction sets that this build has kernels for and this processor can run, the best first.");

    nb::class_<Runtime>(module, "Runtime", "The kernels of one instruction set and a thread pool.")
        .def(nb::new_([](const std::string& instruction_set, std::size_t threads) {
                 wait_at_exit();
                 const GilRelease released;
                 return std::make_shared<Runtime>(instruction_set, threads);
             }),
             "instruction_set"_a, "threads"_a)
        .def_prop_ro("instruction_set", [](const Runtime& runtime) { return runtime.kernels().name; })
        .def_prop_ro("threads", [](Runtime& runtime) { return runtime.pool().threads(); });

    nb::class_<pellucid::LogitsPasses>(module, "LogitsPasses", "Passes over the logits of a vocabulary.")
        .def(nb::init<const std::string&>(), "instruction_set"_a)
        .def("survey", &survey, "logits"_a.noconvert(),
             "Return (all logits are finite, log(sum(exp(logits))), the group maxima for `largest`).")
        .def("largest", &largest, "values"_a.noconvert(), "k"_a, "maxima"_a.noconvert() = nb::none(),
             "Return the indices of all values that are at least the k-th largest one, in ascending order.");

    module.def(
        "matrix_bytes",
        [](const std::string& precision, std::size_t n_out, std::size_t n_in) {
            return pellucid::matrix_bytes(precision_named(precision), n_out, n_in);
        },
        "precision"_a, "n_out"_a, "n_in"_a, "Bytes of a packed matrix.");
    module.def("pack", &pack, "runtime"_a, "precision"_a, "weights"_a.noconvert(), "packed"_a.noconvert(),
               "Pack weights [n_out, n_in] into matrix_bytes(...) bytes.");
    module.def(
        "read_bandwidth",
        [](Runtime& runtime, const Bytes& bytes, int rounds) {
            if (rounds < 1) {
                throw std::invalid_argument("rounds is " + std::to_string(rounds) + "; it must be 1 or more");
            }
            const GilRelease released;
            return pellucid::read_bandwidth(runtime, as_span(bytes).data(), bytes.size(), rounds);
        },
        "runtime"_a, "bytes"_a.noconvert(), "rounds"_a,
        "Measure the bytes per second that all threads together read, best of `rounds`.");

    nb::class_<ModelConfig>(module, "ModelConfig")
        .def(
            "__init__",
            [](ModelConfig* config, std::size_t vocab_size, std::size_t n_positions, std::size_t n_embd,
               std::size_t n_layer, std::size_t n_head, std::size_t n_inner, const std::string& activation,
               float layer_norm_epsilon, bool scale_attn_weights, bool scale_attn_by_inverse_layer_idx,
               bool tie_word_embeddings) {
                new (config) ModelConfig{vocab_size,         n_positions,
                                         n_embd,             n_layer,
                                         n_head,             n_inner,
                                         activation_named(activation), layer_norm_epsilon,
                                         scale_attn_weights, scale_attn_by_inverse_layer_idx,
                                         tie_word_embeddings};
            },
            nb::kw_only(), "vocab_size"_a, "n_positions"_a, "n_embd"_a, "n_layer"_a, "n_head"_a, "n_inner"_a,
            "activation"_a, "layer_norm_epsilon"_a, "scale_attn_weights"_a, "scale_attn_by_inverse_layer_idx"_a,
            "tie_word_embeddings"_a);

    nb::class_<Slot>(module, "Slot", "A handle on a sequence in an engine's cache.")
        .def("__repr__", [](const Slot& slot) { return "<slot " + std::to_string(slot.id()) + ">"; });

    nb::class_<Engine>(module, "Engine", "A model, its cache and its threads.")
        .def(nb::new_(&make_engine), "runtime"_a, "config"_a, "precision"_a, "tensors"_a, "capacity"_a)
        .def_prop_ro("capacity", &Engine::capacity)
        .def_prop_ro("instruction_set", &Engine::instruction_set)
        .def_prop_ro("threads", &Engine::threads)
        .def_prop_ro("open_slots", &Engine::open_slots)
        .def("open", &Engine::open, nb::call_guard<GilRelease>())
        .def("fork", &Engine::fork, "slot"_a, nb::call_guard<GilRelease>())
        .def("drop", &Engine::drop, "slot"_a)
        .def("truncate", &Engine::truncate, "slot"_a, "length"_a, nb::call_guard<GilRelease>())
        .def("length", &Engine::length, "slot"_a, nb::call_guard<GilRelease>())
        .def("step", &step, "slots"_a, "tokens"_a, "all_positions"_a, "logits"_a.noconvert(),
             "hidden"_a.noconvert().none());
}
