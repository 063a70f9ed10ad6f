/* CRC-32C (Castagnoli, polynomial 0x1EDC6F41, reflected; RFC 3720, appendix B.4).
 *
 * Three ways to the same sum: tables that take eight bytes a step (slicing by 8), and the CPU's instruction on
 * x86-64 (SSE4.2) and ARM64. The instruction gives a result every cycle but needs three for each, so three lanes of
 * bytes are summed side by side; the sum of the first is then moved past the next one's bytes by a table. */
#ifndef VELOSTREAM_CRC32C_H
#define VELOSTREAM_CRC32C_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "words are summed in little-endian order"
#endif

#define CRC32C_REVERSED UINT32_C(0x82F63B78)
#define CRC32C_LANE 512

/* [k][b]: the register after byte b and k bytes of zeros. */
static uint32_t crc32c_table[8][256];
/* [k][b]: what byte k of the register, when it is b, is after CRC32C_LANE bytes of zeros. */
static uint32_t crc32c_past[4][256];

static inline uint64_t crc32c_load(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, 8);
    return word;
}

/* The register after `n` more bytes; the sum is its complement, and so is the register that begins a sum. */
typedef uint32_t (*crc32c_way)(uint32_t state, const uint8_t *at, size_t n);

static uint32_t crc32c_tables(uint32_t state, const uint8_t *at, size_t n)
{
    for (; n >= 8; n -= 8, at += 8) {
        uint64_t word = crc32c_load(at) ^ state;
        state = crc32c_table[7][word & 255] ^ crc32c_table[6][word >> 8 & 255] ^ crc32c_table[5][word >> 16 & 255] ^
                crc32c_table[4][word >> 24 & 255] ^ crc32c_table[3][word >> 32 & 255] ^
                crc32c_table[2][word >> 40 & 255] ^ crc32c_table[1][word >> 48 & 255] ^ crc32c_table[0][word >> 56];
    }
    for (; n; n--, at++)
        state = state >> 8 ^ crc32c_table[0][(state ^ *at) & 255];
    return state;
}

static inline uint32_t crc32c_moved(uint32_t state)
{
    return crc32c_past[0][state & 255] ^ crc32c_past[1][state >> 8 & 255] ^ crc32c_past[2][state >> 16 & 255] ^
           crc32c_past[3][state >> 24];
}

#if defined(__x86_64__)
#define CRC32C_INSTRUCTION __attribute__((target("sse4.2")))
#define CRC32C_WORD(state, word) ((uint32_t)_mm_crc32_u64((state), (word)))
#define CRC32C_BYTE(state, byte) _mm_crc32_u8((state), (byte))
#elif defined(__aarch64__)
#define CRC32C_INSTRUCTION
static inline uint32_t crc32c_arm_word(uint32_t state, uint64_t word)
{
    __asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(state) : "r"(word));
    return state;
}
static inline uint32_t crc32c_arm_byte(uint32_t state, uint8_t byte)
{
    __asm__(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(state) : "r"((uint32_t)byte));
    return state;
}
#define CRC32C_WORD(state, word) crc32c_arm_word((state), (word))
#define CRC32C_BYTE(state, byte) crc32c_arm_byte((state), (byte))
#endif

#ifdef CRC32C_INSTRUCTION
CRC32C_INSTRUCTION static uint32_t crc32c_instruction(uint32_t state, const uint8_t *at, size_t n)
{
    for (; n >= 3 * CRC32C_LANE; n -= 3 * CRC32C_LANE, at += 3 * CRC32C_LANE) {
        uint32_t second = 0, third = 0;
        for (size_t i = 0; i < CRC32C_LANE; i += 8) {
            state = CRC32C_WORD(state, crc32c_load(at + i));
            second = CRC32C_WORD(second, crc32c_load(at + CRC32C_LANE + i));
            third = CRC32C_WORD(third, crc32c_load(at + 2 * CRC32C_LANE + i));
        }
        state = crc32c_moved(crc32c_moved(state) ^ second) ^ third;
    }
    for (; n >= 8; n -= 8, at += 8)
        state = CRC32C_WORD(state, crc32c_load(at));
    for (; n; n--, at++)
        state = CRC32C_BYTE(state, *at);
    return state;
}
#endif

/* Fills the tables; gives the best way on this CPU. */
static crc32c_way crc32c_open(void)
{
    static const uint8_t zeros[CRC32C_LANE];

    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t state = byte;
        for (int bit = 0; bit < 8; bit++)
            state = state >> 1 ^ (CRC32C_REVERSED & (0 - (state & 1)));
        crc32c_table[0][byte] = state;
    }
    for (int k = 1; k < 8; k++)
        for (int byte = 0; byte < 256; byte++) {
            uint32_t state = crc32c_table[k - 1][byte];
            crc32c_table[k][byte] = state >> 8 ^ crc32c_table[0][state & 255];
        }
    for (int k = 0; k < 4; k++)
        for (uint32_t byte = 0; byte < 256; byte++)
            crc32c_past[k][byte] = crc32c_tables(byte << 8 * k, zeros, CRC32C_LANE);
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2"))
        return crc32c_instruction;
#elif defined(__aarch64__) && defined(__APPLE__)
    return crc32c_instruction;
#elif defined(__aarch64__) && defined(__linux__)
    if (getauxval(AT_HWCAP) & (1 << 7)) /* HWCAP_CRC32 */
        return crc32c_instruction;
#endif
    return crc32c_tables;
}

#endif
