// Softmax attention of few tokens, on the matrix unit (AMX) of an x86 CPU.
//
// Libraries are made for thousands of tokens and spend most of their time on few ones before and after the products.
// Here the scores of 16 queries stay in the first cache, keys come in parts, and what a mask hides is skipped.

#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "numbers.hpp"

namespace worldvalue {

// Keys and values of some tokens, each (B, H, tokens, width).
struct Part {
    const bf16* keys;
    const bf16* values;
    long tokens;
};

struct Sizes {
    long batch, heads, queries, tokens;  // tokens: the keys of all parts

    long blocks() const { return (tokens + 15) / 16; }  // of 16 keys, as a tile of scores has
    long steps() const { return (tokens + 31) / 32; }   // of 32 keys, as a tile of weights has
};

constexpr long TILE = 16;  // rows of a tile, and its columns of four bytes

// What is to be read by tile instructions is written by now: of those GCC does not know that they read.
inline void written() { __asm__ volatile("" ::: "memory"); }

// For each query and step the keys it sees, a bit each. `mask` (queries, tokens) has a byte each; none: all are seen.
inline std::vector<__mmask32> seen_keys(const Sizes& sizes, const uint8_t* mask) {
    std::vector<__mmask32> seen;
    for (long query = 0; query < sizes.queries; ++query)
        for (long first = 0; first < sizes.tokens; first += 32) {
            const __mmask32 there = (1ull << std::min(32l, sizes.tokens - first)) - 1;
            const __m256i bytes = mask ? _mm256_maskz_loadu_epi8(there, mask + query * sizes.tokens + first)
                                       : _mm256_set1_epi8(1);
            seen.push_back(_mm256_mask_test_epi8_mask(there, bytes, bytes));
        }
    return seen;
}

// Of one head at a time, `SLICES` times 32 channels wide. One object for each thread.
template <long SLICES>
class Attention {
public:
    Attention(const Sizes& sizes, float scale, const std::vector<__mmask32>& seen)
        : sizes_(sizes), row_(sizes.steps() * 32), scale_(_mm512_set1_ps(scale * LOG2_E)), seen_(seen),
          tokens_(row_, nothing_) {
        const long keys = SLICES * sizes.blocks() * TILE * TILE, values = row_ / 2 * SLICES * 32;
        memory_.resize(keys + values + TILE * row_ + TILE);
        keys_ = reinterpret_cast<uint32_t*>((reinterpret_cast<uintptr_t>(memory_.data()) + 63) / 64 * 64);
        values_ = keys_ + keys;
        scores_ = reinterpret_cast<float*>(values_ + values);
        alignas(64) uint8_t tiles[64] = {1};  // palette 1, then bytes of a row and rows of each tile: all in full
        for (int tile = 0; tile < 8; ++tile) {
            tiles[16 + 2 * tile] = 64;
            tiles[48 + tile] = TILE;
        }
        written();
        _tile_loadconfig(tiles);
    }

    ~Attention() { _tile_release(); }
    Attention(const Attention&) = delete;
    Attention& operator=(const Attention&) = delete;

    // Results (queries, width) with `stride` from one to the next, of queries (queries, width), one head of each part.
    void operator()(const bf16* queries, const std::vector<Part>& parts, bf16* results, long stride) {
        pack_keys(parts);
        pack_values(parts);
        for (long first = 0; first < sizes_.queries; first += TILE) {
            const long count = std::min(TILE, sizes_.queries - first);
            score(queries + first * SLICES * 32, count);
            for (long query = 0; query < count; ++query) weigh(query, &seen_[(first + query) * sizes_.steps()]);
            for (long slice = 0; slice < SLICES; ++slice)
                combine(slice, count, results + first * stride + slice * 32, stride);
        }
    }

private:
    // A block of 16 keys is a tile of 16 rows, each two neighbouring channels of all of them.
    void pack_keys(const std::vector<Part>& parts) {
        point_to(parts, &Part::keys);
        for (long block = 0; block < sizes_.blocks(); ++block)
            for (long slice = 0; slice < SLICES; ++slice) {
                __m512i rows[TILE];
                for (int row = 0; row < TILE; ++row)
                    rows[row] = _mm512_loadu_si512(tokens_[block * TILE + row] + slice * 32);
                transpose(rows);
                uint32_t* tile = keys_ + (block * SLICES + slice) * TILE * TILE;
                for (int row = 0; row < TILE; ++row) _mm512_store_si512(tile + row * TILE, rows[row]);
            }
    }

    // Rows of two neighbouring tokens' values, channel by channel.
    void pack_values(const std::vector<Part>& parts) {
        point_to(parts, &Part::values);
        const __m512i low = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6,
                                             37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
        const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
        for (long token = 0; token < row_; token += 2)
            for (long slice = 0; slice < SLICES; ++slice) {
                const __m512i even = _mm512_loadu_si512(tokens_[token] + slice * 32);
                const __m512i odd = _mm512_loadu_si512(tokens_[token + 1] + slice * 32);
                uint32_t* row = values_ + (slice * row_ + token) * TILE;
                _mm512_store_si512(row, _mm512_permutex2var_epi16(even, low, odd));
                _mm512_store_si512(row + TILE, _mm512_permutex2var_epi16(even, high, odd));
            }
    }

    // Lets `tokens_` point to the keys or values of every token; those behind the last one stay zeros.
    void point_to(const std::vector<Part>& parts, const bf16* Part::*which) {
        auto token = tokens_.begin();
        for (const Part& part : parts)
            for (long place = 0; place < part.tokens; ++place) *token++ = part.*which + place * SLICES * 32;
    }

    // Scores of up to 16 queries, a row each.
    void score(const bf16* queries, long count) {
        if (count < TILE) {
            std::memcpy(padded_, queries, count * SLICES * 32 * sizeof(bf16));
            queries = padded_;
        }
        written();
        for (long block = 0; block < sizes_.blocks(); ++block) {
            const uint32_t* keys = keys_ + block * SLICES * TILE * TILE;
            _tile_zero(0);
            for (long slice = 0; slice < SLICES; ++slice) {
                _tile_loadd(1, queries + slice * 32, SLICES * 64);
                _tile_loadd(2, keys + slice * TILE * TILE, 64);
                _tile_dpbf16ps(0, 1, 2);
            }
            _tile_stored(0, scores_ + block * TILE, row_ * sizeof(float));
        }
    }

    // A query's scores become weights, bf16 in the place of the floats, still to be multiplied by `inverse_`.
    void weigh(long query, const __mmask32* seen) {
        float* scores = scores_ + query * row_;
        const long steps = sizes_.steps();
        __m512 most = _mm512_set1_ps(std::numeric_limits<float>::lowest()), other = most;
        for (long step = 0; step < steps; ++step) {
            most = _mm512_mask_max_ps(most, seen[step], most, _mm512_load_ps(scores + step * 32));
            other = _mm512_mask_max_ps(other, seen[step] >> 16, other, _mm512_load_ps(scores + step * 32 + TILE));
        }
        most = _mm512_mul_ps(_mm512_set1_ps(_mm512_reduce_max_ps(_mm512_max_ps(most, other))), scale_);
        __m512 sum = _mm512_setzero_ps();
        for (long step = 0; step < steps; ++step) {
            const __m512 low = weights(scores + step * 32, seen[step], most);
            const __m512 high = weights(scores + step * 32 + TILE, seen[step] >> 16, most);
            sum = _mm512_add_ps(sum, _mm512_add_ps(low, high));
            _mm512_store_si512(scores + step * TILE, (__m512i)_mm512_cvtne2ps_pbh(high, low));
        }
        inverse_[query] = 1 / _mm512_reduce_add_ps(sum);
    }

    __m512 weights(const float* scores, __mmask16 seen, __m512 most) const {
        if (!seen) return _mm512_setzero_ps();
        return _mm512_maskz_mov_ps(seen, power_of_two(_mm512_fmsub_ps(_mm512_load_ps(scores), scale_, most)));
    }

    // 32 channels of the results of up to 16 queries.
    void combine(long slice, long count, bf16* results, long stride) {
        written();
        _tile_zero(3);
        _tile_zero(4);
        for (long step = 0; step < sizes_.steps(); ++step) {
            const uint32_t* values = values_ + (slice * sizes_.steps() + step) * 2 * TILE * TILE;
            _tile_loadd(5, reinterpret_cast<const bf16*>(scores_) + step * 32, row_ * sizeof(float));
            _tile_loadd(6, values, 128);
            _tile_loadd(7, values + TILE, 128);
            _tile_dpbf16ps(3, 5, 6);
            _tile_dpbf16ps(4, 5, 7);
        }
        _tile_stored(3, sums_, 128);
        _tile_stored(4, sums_ + TILE, 128);
        for (long query = 0; query < count; ++query) {
            const __m512 inverse = _mm512_set1_ps(inverse_[query]);
            const __m512 low = _mm512_mul_ps(_mm512_load_ps(sums_ + query * 32), inverse);
            const __m512 high = _mm512_mul_ps(_mm512_load_ps(sums_ + query * 32 + TILE), inverse);
            _mm512_storeu_si512(results + query * stride, (__m512i)_mm512_cvtne2ps_pbh(high, low));
        }
    }

    // Of 16 rows of 16 numbers of four bytes.
    static void transpose(__m512i* rows) {
        __m512i half[TILE];
        for (int i = 0; i < 16; i += 2) {
            half[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
            half[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
        }
        for (int i = 0; i < 16; i += 4) {
            rows[i] = _mm512_unpacklo_epi64(half[i], half[i + 2]);
            rows[i + 1] = _mm512_unpackhi_epi64(half[i], half[i + 2]);
            rows[i + 2] = _mm512_unpacklo_epi64(half[i + 1], half[i + 3]);
            rows[i + 3] = _mm512_unpackhi_epi64(half[i + 1], half[i + 3]);
        }
        for (int i = 0; i < 4; ++i)
            for (int side = 0; side < 16; side += 8) {
                half[side + i] = _mm512_shuffle_i32x4(rows[side + i], rows[side + 4 + i], 0x88);
                half[side + 4 + i] = _mm512_shuffle_i32x4(rows[side + i], rows[side + 4 + i], 0xdd);
            }
        for (int i = 0; i < 8; ++i) {
            const int place = i % 4 + i / 4 * 4;
            rows[place] = _mm512_shuffle_i32x4(half[i], half[8 + i], 0x88);
            rows[8 + place] = _mm512_shuffle_i32x4(half[i], half[8 + i], 0xdd);
        }
    }

    const Sizes sizes_;
    const long row_;      // scores of a query
    const __m512 scale_;  // by two's logarithm of e, for weights are powers of two
    const std::vector<__mmask32>& seen_;
    std::vector<uint32_t> memory_;
    uint32_t* keys_;    // tiles of 16 keys, slice by slice
    uint32_t* values_;  // two tokens a row, slice by slice
    float* scores_;     // a row for each query, then its weights
    alignas(64) float sums_[TILE * 32];
    alignas(64) bf16 padded_[TILE * SLICES * 32] = {};
    const bf16 nothing_[SLICES * 32] = {};
    std::vector<const bf16*> tokens_;
    float inverse_[TILE];
};

}  // namespace worldvalue
