#pragma once

// AMX tiles in plain C++ after Intel's Intrinsics Guide: eight per thread, each of at most sixteen rows of 64 bytes.
// The test aborts where a processor would raise a fault.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace emulated {

struct TileShapes {
    std::uint8_t palette, start_row;
    std::uint8_t reserved[14];
    std::uint16_t row_bytes[16];
    std::uint8_t rows[16];
};

struct Tile {
    std::int8_t byte[16][64];
};

struct TileState {
    TileShapes shapes{};
    Tile tiles[8] = {};

    Tile& shaped(int tile) {
        if (shapes.palette != 1 || shapes.rows[tile] == 0 || shapes.row_bytes[tile] == 0) std::abort();
        return tiles[tile];
    }
};

inline thread_local TileState tile_state;

inline void tile_loadconfig(const void* p) {
    std::memcpy(&tile_state.shapes, p, sizeof(TileShapes));
    for (int tile = 0; tile < 16; ++tile) {
        const int rows = tile_state.shapes.rows[tile], bytes = tile_state.shapes.row_bytes[tile];
        if (rows > 16 || bytes > 64 || (tile > 7 && rows + bytes > 0)) std::abort();
    }
    for (Tile& tile : tile_state.tiles) tile = {};
}

inline void tile_release() { tile_state = {}; }

inline void tile_zero(int tile) { tile_state.shaped(tile) = {}; }

inline void tile_loadd(int tile, const void* base, std::size_t stride) {
    Tile& to = tile_state.shaped(tile);
    to = {};
    for (std::size_t row = 0; row < tile_state.shapes.rows[tile]; ++row) {
        std::memcpy(to.byte[row], static_cast<const char*>(base) + row * stride, tile_state.shapes.row_bytes[tile]);
    }
}

inline void tile_stored(int tile, void* base, std::size_t stride) {
    const Tile& from = tile_state.shaped(tile);
    for (std::size_t row = 0; row < tile_state.shapes.rows[tile]; ++row) {
        std::memcpy(static_cast<char*>(base) + row * stride, from.byte[row], tile_state.shapes.row_bytes[tile]);
    }
}

// Adds to each 32-bit element of `sums` the dot product of a row of a and a column of b, of signed bytes.
inline void tile_dpbssd(int sums, int a, int b) {
    const TileShapes& shapes = tile_state.shapes;
    Tile& to = tile_state.shaped(sums);
    const Tile &left = tile_state.shaped(a), &right = tile_state.shaped(b);
    if (sums == a || sums == b || a == b || shapes.rows[a] != shapes.rows[sums] ||
        shapes.row_bytes[b] != shapes.row_bytes[sums] || shapes.row_bytes[a] != 4 * shapes.rows[b]) {
        std::abort();
    }
    for (int m = 0; m < shapes.rows[sums]; ++m) {
        std::int32_t total[16];
        std::memcpy(total, to.byte[m], sizeof(total));
        for (int k = 0; k < shapes.row_bytes[a]; ++k) {
            for (int n = 0; n < shapes.row_bytes[sums] / 4; ++n) {
                total[n] += left.byte[m][k] * right.byte[k / 4][4 * n + k % 4];
            }
        }
        std::memcpy(to.byte[m], total, sizeof(total));
    }
}

}  // namespace emulated

// Compilers define some of these as macros if the target has tiles.
#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbssd
#define _tile_loadconfig emulated::tile_loadconfig
#define _tile_release emulated::tile_release
#define _tile_zero emulated::tile_zero
#define _tile_loadd emulated::tile_loadd
#define _tile_stored emulated::tile_stored
#define _tile_dpbssd emulated::tile_dpbssd
