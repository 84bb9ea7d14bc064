// Group norm of pictures whose channels lie together, as a convolution leaves them, and SiLU behind it.

#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "numbers.hpp"

namespace worldvalue {

// Of a picture (pixels, channels); channels are a multiple of 16. One object for each thread.
class GroupNorm {
public:
    GroupNorm(long pixels, long channels, long groups, float eps, bool silu)
        : pixels_(pixels), channels_(channels), width_(channels / groups), eps_(eps), silu_(silu),
          sums_(channels), shift_(channels), scale_(channels) {}

    void operator()(const bf16* picture, const float* weight, const float* bias, bf16* results) {
        std::fill(shift_.begin(), shift_.end(), 0.0f);
        sum<false>(picture);
        average();
        shift_ = sums_;
        sum<true>(picture);
        average();
        for (long channel = 0; channel < channels_; ++channel) {
            scale_[channel] = weight[channel] / std::sqrt(sums_[channel] + eps_);
            shift_[channel] = bias[channel] - shift_[channel] * scale_[channel];
        }
        if (silu_)
            apply<true>(picture, results);
        else
            apply<false>(picture, results);
    }

private:
    static constexpr long LANES = 16;

    static __m512 load(const bf16* numbers) {
        const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(numbers));
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
    }

    // Each channel's sum of pixels, or of their squared distances from `shift_`.
    template <bool SQUARED>
    void sum(const bf16* picture) {
        for (long channel = 0; channel < channels_; channel += LANES) {
            const __m512 shift = _mm512_loadu_ps(&shift_[channel]);
            const auto added = [&](__m512 sum, long pixel) {
                const __m512 distance = _mm512_sub_ps(load(picture + pixel * channels_ + channel), shift);
                return SQUARED ? _mm512_fmadd_ps(distance, distance, sum) : _mm512_add_ps(sum, distance);
            };
            // Four sums, none of which waits for another.
            __m512 first = _mm512_setzero_ps(), second = first, third = first, fourth = first;
            long pixel = 0;
            for (; pixel + 4 <= pixels_; pixel += 4) {
                first = added(first, pixel);
                second = added(second, pixel + 1);
                third = added(third, pixel + 2);
                fourth = added(fourth, pixel + 3);
            }
            for (; pixel < pixels_; ++pixel) first = added(first, pixel);
            first = _mm512_add_ps(_mm512_add_ps(first, second), _mm512_add_ps(third, fourth));
            _mm512_storeu_ps(&sums_[channel], first);
        }
    }

    // Each channel's sum becomes the mean of its group.
    void average() {
        for (long first = 0; first < channels_; first += width_) {
            float sum = 0;
            for (long channel = first; channel < first + width_; ++channel) sum += sums_[channel];
            for (long channel = first; channel < first + width_; ++channel) sums_[channel] = sum / (width_ * pixels_);
        }
    }

    template <bool SILU>
    void apply(const bf16* picture, bf16* results) const {
        for (long pixel = 0; pixel < pixels_; ++pixel)
            for (long channel = 0; channel < channels_; channel += LANES) {
                const long place = pixel * channels_ + channel;
                __m512 x = _mm512_fmadd_ps(load(picture + place), _mm512_loadu_ps(&scale_[channel]),
                                           _mm512_loadu_ps(&shift_[channel]));
                if (SILU) {
                    const __m512 power = power_of_two(_mm512_mul_ps(x, _mm512_set1_ps(-LOG2_E)));
                    x = _mm512_mul_ps(x, _mm512_rcp14_ps(_mm512_add_ps(power, _mm512_set1_ps(1))));
                }
                _mm256_storeu_si256(reinterpret_cast<__m256i*>(results + place), (__m256i)_mm512_cvtneps_pbh(x));
            }
    }

    const long pixels_, channels_, width_;  // width: channels of a group
    const float eps_;
    const bool silu_;
    std::vector<float> sums_, shift_, scale_;
};

}  // namespace worldvalue
