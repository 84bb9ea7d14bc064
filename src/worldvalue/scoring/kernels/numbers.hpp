// Numbers as the operations of ours hold and compute them.

#pragma once

#include <immintrin.h>

#include <cstdint>

namespace worldvalue {

using bf16 = uint16_t;

constexpr float LOG2_E = 1.44269504f;

// 2^x to a twentieth of bf16's rounding, 2^-125 and 2^126 for what is less and more: numbers
// that are denormal would be slow. NaN stays NaN.
inline __m512 power_of_two(__m512 x) {
    x = _mm512_min_ps(_mm512_set1_ps(126), _mm512_max_ps(_mm512_set1_ps(-125), x));  // of a NaN they give the second
    const __m512 shift = _mm512_set1_ps(12582912);  // 1.5 * 2^23: what is added to it is rounded to a whole number
    const __m512 shifted = _mm512_add_ps(x, shift);
    const __m512 rest = _mm512_sub_ps(x, _mm512_sub_ps(shifted, shift));
    __m512 power = _mm512_set1_ps(0.0551716685f);  // of polynomials of its degree the one that is nowhere far off
    power = _mm512_fmadd_ps(power, rest, _mm512_set1_ps(0.242611125f));
    power = _mm512_fmadd_ps(power, rest, _mm512_set1_ps(0.693260968f));
    power = _mm512_fmadd_ps(power, rest, _mm512_set1_ps(0.999928057f));
    const __m512i whole = _mm512_slli_epi32(_mm512_castps_si512(shifted), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(power), whole));
}

}  // namespace worldvalue
