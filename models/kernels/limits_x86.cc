#include "models/kernels/amx.h"
#include "models/kernels/limits_loop.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <cstring>

// As many sums as hide an instruction's latency; the empty asm keeps each of them in a register of its own. They are no
// array: GCC fills one by memset and then stores every sum of every round, which halved these limits.
#define ATOLL_STEP(name, step)    \
  do {                            \
    auto sum = name;              \
    sum = step;                   \
    asm volatile("" : "+v"(sum)); \
    name = sum;                   \
  } while (false)
#define ATOLL_MULTIPLY_ADD_LOOP(name, vector, operations, start, step)                                            \
  int64_t name(int64_t rounds, uint64_t* result) {                                                                \
    vector a = start, b = start, c = start, d = start, e = start, f = start;                                      \
    vector g = start, h = start, i = start, j = start, k = start, l = start;                                      \
    for (int64_t round = 0; round < rounds; ++round) {                                                            \
      ATOLL_STEP(a, step);                                                                                        \
      ATOLL_STEP(b, step);                                                                                        \
      ATOLL_STEP(c, step);                                                                                        \
      ATOLL_STEP(d, step);                                                                                        \
      ATOLL_STEP(e, step);                                                                                        \
      ATOLL_STEP(f, step);                                                                                        \
      ATOLL_STEP(g, step);                                                                                        \
      ATOLL_STEP(h, step);                                                                                        \
      ATOLL_STEP(i, step);                                                                                        \
      ATOLL_STEP(j, step);                                                                                        \
      ATOLL_STEP(k, step);                                                                                        \
      ATOLL_STEP(l, step);                                                                                        \
    }                                                                                                             \
    *result +=                                                                                                    \
        static_cast<uint64_t>(a[0] + b[0] + c[0] + d[0] + e[0] + f[0] + g[0] + h[0] + i[0] + j[0] + k[0] + l[0]); \
    return rounds * 12 * (operations);                                                                            \
  }
// Four sums, so that a load that is late holds up one of them.
#define ATOLL_READ_LOOP(name, vector, load, merge)                    \
  uint64_t name(const std::byte* data, int64_t bytes) {               \
    constexpr int64_t kSize = sizeof(vector);                         \
    vector a{}, b{}, c{}, d{};                                        \
    for (int64_t at = 0; at + 4 * kSize <= bytes; at += 4 * kSize) {  \
      const auto* from = reinterpret_cast<const vector*>(data + at);  \
      a = merge(a, load(from));                                       \
      b = merge(b, load(from + 1));                                   \
      c = merge(c, load(from + 2));                                   \
      d = merge(d, load(from + 3));                                   \
    }                                                                 \
    return static_cast<uint64_t>(merge(merge(a, b), merge(c, d))[0]); \
  }

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")
namespace atl::models::kernels {
namespace {
ATOLL_MULTIPLY_ADD_LOOP(F32Avx512, __m512, 2 * 16, _mm512_set1_ps(1e-3f),
                        _mm512_fmadd_ps(sum, _mm512_set1_ps(0.5f), _mm512_set1_ps(0.25f)))
ATOLL_READ_LOOP(Read512, __m512i, _mm512_loadu_si512, _mm512_xor_si512)
ATOLL_MULTIPLY_ADD_LOOP(Bf16Avx512, __m512, 2 * 32, _mm512_set1_ps(1e-3f),
                        _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi16(0x3c00), (__m512bh)_mm512_set1_epi16(0x3c00)))
ATOLL_MULTIPLY_ADD_LOOP(Int8Avx512, __m512i, 2 * 64, _mm512_set1_epi32(1),
                        _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(3), _mm512_set1_epi8(5)))
}  // namespace
}  // namespace atl::models::kernels
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,fma")
namespace atl::models::kernels {
namespace {
ATOLL_READ_LOOP(Read256, __m256i, _mm256_loadu_si256, _mm256_xor_si256)
ATOLL_MULTIPLY_ADD_LOOP(F32Avx2, __m256, 2 * 8, _mm256_set1_ps(1e-3f),
                        _mm256_fmadd_ps(sum, _mm256_set1_ps(0.5f), _mm256_set1_ps(0.25f)))
ATOLL_MULTIPLY_ADD_LOOP(Int8Avx2, __m256i, 2 * 32, _mm256_set1_epi8(1),
                        _mm256_add_epi16(sum, _mm256_maddubs_epi16(sum, _mm256_set1_epi8(5))))
}  // namespace
}  // namespace atl::models::kernels
#pragma GCC pop_options

namespace atl::models::kernels {
namespace {

// Four sums, so that none waits for the one before it.
int64_t Int8Amx(int64_t rounds, uint64_t* result) {
  AmxShape shape;
  for (int tile = 0; tile < 8; ++tile) shape.Set(tile, 16, 64);
  const AmxTiles registers(shape);
  ZeroTile<0>();
  ZeroTile<1>();
  ZeroTile<2>();
  ZeroTile<3>();
  alignas(64) int8_t ones[16][64];
  std::memset(ones, 1, sizeof(ones));
  LoadTile<4>(ones, 64);
  LoadTile<5>(ones, 64);
  for (int64_t round = 0; round < rounds; ++round) {
    MultiplyTiles<0, 4, 5>();
    MultiplyTiles<1, 4, 5>();
    MultiplyTiles<2, 4, 5>();
    MultiplyTiles<3, 4, 5>();
  }
  alignas(64) int32_t sums[16][16];
  StoreTile<0>(sums, 64);
  *result += static_cast<uint64_t>(sums[3][5]);
  return rounds * 4 * 2 * 16 * 16 * 64;
}

}  // namespace

MultiplyAddLoop MultiplyAddAmx(Arithmetic arithmetic) {
  return arithmetic == Arithmetic::kInt8Tiles && HasAmx() ? Int8Amx : nullptr;
}

MultiplyAddLoop MultiplyAddAvx512(Arithmetic arithmetic) {
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw")) return nullptr;
  const bool bf16 = __builtin_cpu_supports("avx512bf16"), vnni = __builtin_cpu_supports("avx512vnni");
  switch (arithmetic) {
    case Arithmetic::kF32:
      return F32Avx512;
    case Arithmetic::kBF16:
      return bf16 ? Bf16Avx512 : F32Avx512;
    case Arithmetic::kInt8:
      return vnni ? Int8Avx512 : nullptr;
    case Arithmetic::kInt8Tiles:
      return nullptr;
  }
  return nullptr;
}

MultiplyAddLoop MultiplyAddAvx2(Arithmetic arithmetic) {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return nullptr;
  switch (arithmetic) {
    case Arithmetic::kF32:
    case Arithmetic::kBF16:
      return F32Avx2;
    case Arithmetic::kInt8:
      return Int8Avx2;
    case Arithmetic::kInt8Tiles:
      return nullptr;
  }
  return nullptr;
}

ReadLoop ReadAvx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") ? Read512 : nullptr;
}
ReadLoop ReadAvx2() { return __builtin_cpu_supports("avx2") ? Read256 : nullptr; }

}  // namespace atl::models::kernels

#else

namespace atl::models::kernels {
MultiplyAddLoop MultiplyAddAmx(Arithmetic) { return nullptr; }
MultiplyAddLoop MultiplyAddAvx512(Arithmetic) { return nullptr; }
MultiplyAddLoop MultiplyAddAvx2(Arithmetic) { return nullptr; }
ReadLoop ReadAvx512() { return nullptr; }
ReadLoop ReadAvx2() { return nullptr; }
}  // namespace atl::models::kernels

#endif
