/* The most 8-bit multiplications that one core does: AVX-512 VNNI's vpdpbusd on registers and nothing else.
 *
 * Twelve independent sums hide the latency; an instruction multiplies 64 pairs. Prints billions a second, the best of
 * twenty measurements. `export.py peak` compiles and runs it where there is a C compiler.
 */
#include <immintrin.h>
#include <stdio.h>
#include <time.h>

enum { SUMS = 12, STEPS = 4000000, MEASUREMENTS = 20, PRODUCTS = 64 };

#define MULTIPLY(sum) __asm__("vpdpbusd %1, %2, %0" : "+v"(sum) : "v"(left), "v"(right))

int main(void) {
    double best = 0;
    __m512i left = _mm512_set1_epi8(3), right = _mm512_set1_epi8(5);
    for (int measurement = 0; measurement < MEASUREMENTS; measurement++) {
        __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a, e = a, f = a, g = a, h = a, i = a, j = a, k = a, l = a;
        struct timespec begun, ended;
        clock_gettime(CLOCK_MONOTONIC, &begun);
        for (long step = 0; step < STEPS; step++) {
            MULTIPLY(a); MULTIPLY(b); MULTIPLY(c); MULTIPLY(d); MULTIPLY(e); MULTIPLY(f);
            MULTIPLY(g); MULTIPLY(h); MULTIPLY(i); MULTIPLY(j); MULTIPLY(k); MULTIPLY(l);
            __asm__ volatile("" : "+v"(a), "+v"(b), "+v"(c), "+v"(d), "+v"(e), "+v"(f));
            __asm__ volatile("" : "+v"(g), "+v"(h), "+v"(i), "+v"(j), "+v"(k), "+v"(l));
        }
        clock_gettime(CLOCK_MONOTONIC, &ended);
        double seconds = ended.tv_sec - begun.tv_sec + 1e-9 * (ended.tv_nsec - begun.tv_nsec);
        double speed = (double)STEPS * SUMS * PRODUCTS / seconds / 1e9;
        if (speed > best) best = speed;
    }
    printf("%.0f\n", best);
    return 0;
}
