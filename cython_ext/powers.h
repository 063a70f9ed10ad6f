/* Powers of ten, and the 128-bit type that exact decimals need. */
#ifndef VELOSTREAM_POWERS_H
#define VELOSTREAM_POWERS_H

#include <stdint.h>

typedef unsigned __int128 uint128;

/* Those that a double holds exactly. */
static const double DOUBLE_POWERS[23] = {
    1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

static const uint64_t POWERS[20] = {
    1u, 10u, 100u, 1000u, 10000u, 100000u, 1000000u, 10000000u, 100000000u, 1000000000u, 10000000000u,
    100000000000u, 1000000000000u, 10000000000000u, 100000000000000u, 1000000000000000u,
    10000000000000000u, 100000000000000000u, 1000000000000000000u, 10000000000000000000u};

/* 10 ** exponent; exponent from 0 to 38. */
static inline uint128 wide_power(int exponent)
{
    return exponent < 20 ? POWERS[exponent] : (uint128)POWERS[19] * POWERS[exponent - 19];
}

#endif
