#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels_products.hpp"

// Products of many rows with int8 and int4 weights on AMX tiles, on top of simd_avx512.hpp. One instruction multiplies
// a group of 16 rows with a group of a panel. A packed group of int8 weights already has the layout of a tile: 16 quads
// of inputs by 16 outputs by 4 bytes. Sums within a group are exact, and add_group scales and accumulates them in the
// same order as without tiles, so results are bit-identical.
namespace pellucid {
namespace {

constexpr std::size_t rows_of_tile = 16;
constexpr std::size_t bytes_of_tile_row = 64;
constexpr std::size_t group_bytes = panel_width * group_size;

static_assert(group_size == bytes_of_tile_row && group_bytes == rows_of_tile * bytes_of_tile_row);
static_assert(Int8::quad_bytes == 4 && Int4::quad_bytes == 4, "a group of activations is its bytes in order");

// With fewer rows the product is bound by memory bandwidth, and vpdpbusd is fast enough.
constexpr std::size_t fewest_rows_for_tiles = 4;

// RAII for the tile configuration of a thread (LDTILECFG, TILERELEASE).
class Tiles {
public:
    Tiles() = default;
    ~Tiles() {
        if (rows_ > 0) _tile_release();
    }
    Tiles(const Tiles&) = delete;
    Tiles& operator=(const Tiles&) = delete;

    // Tiles 0 and 1 are sums, 2 and 3 activations, both with `rows` rows; 4 and 5 are weights. The two tiles of a pair
    // belong to two groups.
    void shape_for(std::size_t rows) {
        if (rows == rows_) return;
        rows_ = rows;
        Shapes shapes{};
        shapes.palette = 1;
        for (std::size_t tile = 0; tile < 6; ++tile) {
            shapes.row_bytes[tile] = bytes_of_tile_row;
            shapes.rows[tile] = static_cast<std::uint8_t>(tile < 4 ? rows : rows_of_tile);
        }
        _tile_loadconfig(&shapes);
    }

private:
    struct alignas(64) Shapes {
        std::uint8_t palette, start_row;
        std::uint8_t reserved[14];
        std::uint16_t row_bytes[16];
        std::uint8_t rows[16];
    };
    static_assert(sizeof(Shapes) == 64);

    std::size_t rows_ = 0;
};

// Returns the weights of `count` consecutive groups in the layout of tiles: in place for int8, unpacked to `room` for
// int4.
inline const std::byte* tile_weights(Int8, const std::byte* groups, std::size_t, std::byte*) { return groups; }

inline const std::byte* tile_weights(Int4, const std::byte* groups, std::size_t count, std::byte* room) {
    for (std::size_t i = 0; i < count * group_bytes / 2; i += bytes_of_tile_row) {
        simd::Nibbles first, second;
        simd::load_nibbles(groups + i, first, second);
        _mm512_store_si512(room + 2 * i, first.lanes);
        _mm512_store_si512(room + 2 * i + bytes_of_tile_row, second.lanes);
    }
#if defined(__GNUC__)
    asm volatile("" : : "r"(room) : "memory");  // compilers do not know that loading a tile reads memory
#endif
    return room;
}

// sums[r] += the scaled products of rows [row, row + count), for one or two groups.
template <class Format, std::size_t groups>
inline void add_groups(Floats* sums, const Product& product, std::size_t row, std::size_t count,
                       const std::byte* panel, std::size_t group) {
    static_assert(groups == 1 || groups == 2);
    const QuantizedRows& inputs = product.quantized;
    alignas(64) std::byte room[groups * group_bytes];
    alignas(64) std::int32_t products[groups][rows_of_tile * panel_width];

    const std::byte* packed = panel + Format::panel_bytes(product) - (inputs.groups - group) * Format::step_bytes;
    const std::byte* weights = tile_weights(Format{}, packed, groups, room);
    const std::int8_t* x = input_quad<Format>(inputs, row, group, 0);
    const std::size_t row_stride = inputs.groups * group_size;
    _tile_zero(0);
    _tile_loadd(2, x, row_stride);
    _tile_loadd(4, weights, bytes_of_tile_row);
    _tile_dpbssd(0, 2, 4);
    if constexpr (groups == 2) {
        _tile_zero(1);
        _tile_loadd(3, x + group_size, row_stride);
        _tile_loadd(5, weights + group_bytes, bytes_of_tile_row);
        _tile_dpbssd(1, 3, 5);
        _tile_stored(1, products[1], bytes_of_tile_row);
    }
    _tile_stored(0, products[0], bytes_of_tile_row);

    typename Format::Scales scales[groups];
    for (std::size_t g = 0; g < groups; ++g) scales[g] = Format::load_scales(panel, group + g);
    for (std::size_t r = 0; r < count; ++r) {
        for (std::size_t g = 0; g < groups; ++g) {
            const Integers of_row{_mm512_load_si512(products[g] + r * panel_width)};
            sums[r] = Format::add_group(sums[r], of_row, scales[g], inputs, (row + r) * inputs.groups + group + g);
        }
    }
}

// Rows [row, row + count), at most rows_of_tile, of one panel.
template <class Format>
void multiply_tile(const Product& product, std::size_t row, std::size_t count, std::size_t panel) {
    const std::byte* weights = product.weights + panel * Format::panel_bytes(product);
    const std::size_t groups = product.quantized.groups;
    Floats sums[rows_of_tile];
    for (std::size_t r = 0; r < count; ++r) sums[r] = simd::broadcast(0.0f);
    std::size_t group = 0;
    for (; group + 2 <= groups; group += 2) add_groups<Format, 2>(sums, product, row, count, weights, group);
    if (group < groups) add_groups<Format, 1>(sums, product, row, count, weights, group);
    for (std::size_t r = 0; r < count; ++r) finish(product, row + r, panel, sums[r]);
}

template <class Format>
void multiply_panels_in_tiles(const Product& product, std::size_t first, std::size_t last) {
    Tiles tiles;
    for (std::size_t first_row = 0; first_row < product.rows; first_row += rows_of_block) {
        const std::size_t left = product.rows - first_row;
        const std::size_t last_row = first_row + (left < rows_of_block ? left : rows_of_block);
        for (std::size_t panel = first; panel < last; ++panel) {
            for (std::size_t row = first_row; row < last_row; row += rows_of_tile) {
                const std::size_t count = last_row - row < rows_of_tile ? last_row - row : rows_of_tile;
                tiles.shape_for(count);
                multiply_tile<Format>(product, row, count, panel);
            }
        }
    }
}

void multiply_in_tiles(const Product& product, std::size_t first, std::size_t last, float* partial_sums) {
    if (product.rows >= fewest_rows_for_tiles) {
        if (product.precision == Precision::int8) return multiply_panels_in_tiles<Int8>(product, first, last);
        if (product.precision == Precision::int4) return multiply_panels_in_tiles<Int4>(product, first, last);
    }
    multiply(product, first, last, partial_sums);
}

}  // namespace
}  // namespace pellucid
