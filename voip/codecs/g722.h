/* G.722 at 64, 56 and 48 kbit/s, from the definitions of ITU-T Rec. G.722 (clauses 5 and 6.2), whose
 * names for blocks and tables are in the comments: decision 0121.
 *
 * Sound of 16 kHz is parted into two bands, each of 8000 samples a second. A predictor for each says
 * what comes next, and how that was wrong is sent: in six bits of the lower band, in two of the higher.
 */
enum { PAIRS = 160, TAPS = 12, LANES = 8 }; /* PAIRS: samples of each band that are coded at a time */

/* ------------------------------------------------------------------ tables of the Recommendation */

/* Every other of the filter's 24 coefficients; those between are the same, mirrored. */
static const int16_t qmf[TAPS] = {3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11};

/* By code, what it stands for in steps of the quantiser: QQ6, QQ5 and QQ4 of the lower band, and QQ2. */
static const int16_t six_bits[64] = {
    -17,   -17,   -17,   -17,   -3101, -2738, -2376, -2088, -1873, -1689, -1535, -1399, -1279,
    -1170, -1072, -982,  -899,  -822,  -750,  -682,  -618,  -558,  -501,  -447,  -396,  -347,
    -300,  -254,  -211,  -170,  -130,  -91,   3101,  2738,  2376,  2088,  1873,  1689,  1535,
    1399,  1279,  1170,  1072,  982,   899,   822,   750,   682,   618,   558,   501,   447,
    396,   347,   300,   254,   211,   170,   130,   91,    54,    17,    -54,   -17,
};
static const int16_t five_bits[32] = {
    -35,  -35,  -2919, -2195, -1765, -1458, -1219, -1023, -858, -714, -587, -473, -370, -276, -190, -110,
    2919, 2195, 1765,  1458,  1219,  1023,  858,   714,   587,  473,  370,  276,  190,  110,  35,   -35,
};
static const int16_t four_bits[16] = {
    0, -2557, -1612, -1121, -786, -530, -323, -150, 2557, 1612, 1121, 786, 530, 323, 150, 0,
};
static const int16_t two_bits[4] = {-926, -202, 926, 202};

/* By code, what it adds to the logarithm of the step: WL, WH. */
static const int16_t low_growth[16] = {
    -60, 3042, 1198, 538, 334, 172, 58, -30, 3042, 1198, 538, 334, 172, 58, -30, -60,
};
static const int16_t high_growth[4] = {798, -214, 798, -214};

/* The lower band's levels of decision, Q6, and the codes of what is below them, by sign. */
static const int16_t levels[30] = {
    0,   35,  72,  110, 150,  190,  233,  276,  323,  370,  422,  473,  530,  587,  650,   714,
    786, 858, 940, 1023, 1121, 1219, 1339, 1458, 1612, 1765, 1980, 2195, 2557, 2919,
};
static const uint8_t low_codes[2][31] = {
    {0,  61, 60, 59, 58, 57, 56, 55, 54, 53, 52, 51, 50, 49, 48, 47,
     46, 45, 44, 43, 42, 41, 40, 39, 38, 37, 36, 35, 34, 33, 32},
    {0,  63, 62, 31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19,
     18, 17, 16, 15, 14, 13, 12, 11, 10, 9,  8,  7,  6,  5,  4},
};
enum { HIGH_LEVEL = 564 }; /* Q2 */

/* By 32 of what is compared with the levels, which of them may be the next: no two are as near. */
static const uint8_t first_level[92] = {
    1,  1,  2,  3,  4,  5,  6,  6,  7,  8,  8,  9,  10, 10, 11, 12, 12, 13, 13, 14, 14, 15, 15,
    16, 16, 17, 17, 18, 18, 18, 19, 19, 20, 20, 20, 20, 21, 21, 21, 22, 22, 22, 23, 23, 23, 23,
    24, 24, 24, 24, 24, 25, 25, 25, 25, 25, 26, 26, 26, 26, 26, 26, 27, 27, 27, 27, 27, 27, 27,
    28, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28, 29, 29, 29, 29, 29, 29, 29, 29, 29, 29, 29, 29,
};

/* Steps by their logarithms, 32 to an octave, of the higher band: SCALEL, SCALEH, ILB. */
#define OCTAVE(by)                                                                                         \
    2048 >> by << 2, 2093 >> by << 2, 2139 >> by << 2, 2186 >> by << 2, 2233 >> by << 2, 2282 >> by << 2,  \
    2332 >> by << 2, 2383 >> by << 2, 2435 >> by << 2, 2489 >> by << 2, 2543 >> by << 2, 2599 >> by << 2,  \
    2656 >> by << 2, 2714 >> by << 2, 2774 >> by << 2, 2834 >> by << 2, 2896 >> by << 2, 2960 >> by << 2,  \
    3025 >> by << 2, 3091 >> by << 2, 3158 >> by << 2, 3228 >> by << 2, 3298 >> by << 2, 3371 >> by << 2,  \
    3444 >> by << 2, 3520 >> by << 2, 3597 >> by << 2, 3676 >> by << 2, 3756 >> by << 2, 3838 >> by << 2,  \
    3922 >> by << 2, 4008 >> by << 2
static const int16_t steps[] = {
    OCTAVE(10), OCTAVE(9), OCTAVE(8), OCTAVE(7), OCTAVE(6), OCTAVE(5),
    OCTAVE(4),  OCTAVE(3), OCTAVE(2), OCTAVE(1), OCTAVE(0), 4096 << 2,
};
#undef OCTAVE
enum { LOW_LOUDER = 64, LOW_MOST = 18432, HIGH_MOST = 22528 }; /* two octaves; the greatest logarithms */

/* ------------------------------------------------------------------ state */

/* Of a band; zeros to begin with. */
typedef struct {
    int32_t scale;               /* NB: the logarithm of the step */
    int32_t predicted, by_zeros; /* S, SZ: of the next sample */
    int32_t poles[2], rebuilt;   /* A1, A2; R1, twice */
    int32_t signs[2];            /* of P1, P2: -1 where negative */
    int16_t zeros[LANES];        /* B6 to B1, after two that stay zero */
    int16_t past[LANES];         /* D6 to D1, twice, after older ones */
} Band;

/* `lower` is set, all else is zeros to begin with. `past`: of the filter, by its phases. */
typedef struct {
    int32_t lower; /* bits of an octet that carry no sound */
    Band low, high;
    int16_t past[2][TAPS - 1];
} G722;

_Static_assert(sizeof(G722) == 44 * sizeof(int32_t), "g722.py has this size, too");

/* ------------------------------------------------------------------ bands */

static inline int32_t within(int32_t value, int32_t least, int32_t most)
{
    return value < least ? least : value > most ? most : value;
}

/* In 16 bits, which it nearly always has. */
static inline int32_t saturated(int32_t value)
{
    if (__builtin_expect(value != (int16_t)value, 0))
        value = value < 0 ? INT16_MIN : INT16_MAX;
    return value;
}

/* Block 3: the step of the quantiser, and its logarithm after a code. */
static inline int32_t low_step(const Band *low)
{
    return steps[(low->scale >> 6) + LOW_LOUDER];
}

static inline int32_t high_step(const Band *high)
{
    return steps[high->scale >> 6];
}

static inline void grow(Band *band, int32_t by, int32_t most)
{
    band->scale = within((band->scale * 32512 >> 15) + by, 0, most);
}

/* Block 4, UPZERO, DELAYA and FILTEZ: the coefficients follow the newest difference, `now`, twice,
 * which is written behind the eight before it, where a zero is. A function that is not inlined becomes
 * a few operations on vectors, which read nothing that was just written in pieces. */
__attribute__((noinline)) static int32_t follow_zeros(int16_t *restrict zeros, int16_t *restrict past,
                                                      int16_t now)
{
    static const int16_t most[LANES] = {0, 0, 128, 128, 128, 128, 128, 128};
    int16_t any = (int16_t)-(now != 0);
    int32_t sum = 0;
    for (int k = 0; k < LANES; k++) {
        int16_t differ = (int16_t)((int16_t)(past[k] ^ now) >> 15);
        int16_t change = (int16_t)((int16_t)((most[k] & any) ^ differ) - differ);
        int16_t leak = (int16_t)(~zeros[k] >> 8), none = (int16_t)-((zeros[k] & 255) == 0);
        zeros[k] = (int16_t)(zeros[k] + leak - none + change); /* 255 / 256 of it, and the change */
    }
    for (int k = 0; k < LANES; k++)
        sum += zeros[k] * past[k + 1] >> 15;
    sum += zeros[LANES - 1] * now >> 15;
    past[LANES] = now;
    return saturated(sum);
}

/* Block 4: what a difference tells of the next sample. */
static inline void follow(Band *band, int32_t difference, int16_t *past)
{
    /* RECONS, PARREC: of the partly rebuilt only signs are asked for */
    int32_t rebuilt = saturated(2 * (band->predicted + difference));
    int32_t sign = (band->by_zeros + difference) >> 31;
    int32_t first = sign ^ band->signs[0], second = sign ^ band->signs[1]; /* -1 where they differ */
    /* UPPOL2, UPPOL1 */
    int32_t towards = within((first - (band->poles[0] ^ first)) >> 5, -256, 255);
    int32_t a2 = within(towards + 128 - (second & 256) + (band->poles[1] * 32512 >> 15), -12288, 12288);
    int32_t most = 15360 - a2;
    int32_t a1 = within(192 - (first & 384) + (band->poles[0] * 32640 >> 15), -most, most);
    /* FILTEP, PREDIC */
    int32_t by_poles = saturated((a1 * rebuilt >> 15) + (a2 * band->rebuilt >> 15));
    band->by_zeros = follow_zeros(band->zeros, past, (int16_t)(2 * difference));
    band->predicted = saturated(by_poles + band->by_zeros);
    band->poles[0] = a1;
    band->poles[1] = a2;
    band->rebuilt = rebuilt;
    band->signs[1] = band->signs[0];
    band->signs[0] = sign;
}

/* QUANTL: the code of an error. What is above level * step / 4096 is above the level when divided.
 * The levels end at 11,676 at most: errors of more than 16 bits need no limit. */
static inline int low_code(int32_t error, int32_t step)
{
    uint32_t size = (uint32_t)(error ^ error >> 31);
    uint32_t ratio = (4096 * size + 4095) / (uint32_t)step;
    int found;
    ratio = ratio < 2919 ? ratio : 2919;
    found = first_level[ratio >> 5];
    found += (int32_t)ratio >= levels[found];
    return low_codes[error < 0][found];
}

/* QUANTH */
static inline int high_code(int32_t error, int32_t step)
{
    int far = (error ^ error >> 31) >= HIGH_LEVEL * step >> 12;
    return 2 * (error >= 0) + !far;
}

/* One phase of the filter, of what begins with its eldest. */
static inline int32_t filtered(const int16_t *from, int mirrored)
{
    int32_t sum = 0;
    for (int k = 0; k < TAPS; k++)
        sum += qmf[mirrored ? TAPS - 1 - k : k] * from[k];
    return sum;
}

/* ------------------------------------------------------------------ both ways */

/* What came before a block is put before it, and the end of it kept. */
#define FETCH(to, past) memcpy(to, past, sizeof(past))
#define KEEP(past, from) memcpy(past, (from) + pairs, sizeof(past))

/* Up to PAIRS octets, and twice as many samples. */
static void g722_encode_some(G722 *self, const int16_t *pcm, int pairs, uint8_t *octets)
{
    Band low = self->low, high = self->high;
    int16_t low_past[LANES + PAIRS] = {0}, high_past[LANES + PAIRS] = {0};
    int16_t even[TAPS - 1 + PAIRS], odd[TAPS - 1 + PAIRS], low_in[PAIRS], high_in[PAIRS];
    FETCH(even, self->past[0]);
    FETCH(odd, self->past[1]);
    for (int n = 0; n < pairs; n++) {
        even[TAPS - 1 + n] = pcm[2 * n];
        odd[TAPS - 1 + n] = pcm[2 * n + 1];
    }
    for (int n = 0; n < pairs; n++) { /* the sums may have more than the 15 bits of ordinary sound */
        int32_t one = filtered(odd + n, 1), other = filtered(even + n, 0);
        low_in[n] = (int16_t)((one + other) >> 14);
        high_in[n] = (int16_t)((one - other) >> 14);
    }
    KEEP(self->past[0], even);
    KEEP(self->past[1], odd);
    FETCH(low_past, low.past);
    FETCH(high_past, high.past);
    for (int n = 0; n < pairs; n++) {
        int32_t low_is = low_step(&low), high_is = high_step(&high);
        int code = low_code(low_in[n] - low.predicted, low_is), coarse = code >> 2;
        int higher = high_code(high_in[n] - high.predicted, high_is);
        grow(&low, low_growth[coarse], LOW_MOST);
        grow(&high, high_growth[higher], HIGH_MOST);
        follow(&low, low_is * four_bits[coarse] >> 12, low_past + n);
        follow(&high, high_is * two_bits[higher] >> 12, high_past + n);
        octets[n] = (uint8_t)((higher << 6 | code) >> self->lower << self->lower);
    }
    KEEP(low.past, low_past);
    KEEP(high.past, high_past);
    self->low = low;
    self->high = high;
}

static void g722_decode_some(G722 *self, const uint8_t *octets, int pairs, int16_t *pcm)
{
    static const int16_t *const fine[] = {six_bits, five_bits, four_bits};
    Band low = self->low, high = self->high;
    int16_t low_past[LANES + PAIRS] = {0}, high_past[LANES + PAIRS] = {0};
    int16_t sums[TAPS - 1 + PAIRS], differences[TAPS - 1 + PAIRS];
    FETCH(low_past, low.past);
    FETCH(high_past, high.past);
    FETCH(differences, self->past[0]);
    FETCH(sums, self->past[1]);
    for (int n = 0; n < pairs; n++) {
        int code = octets[n] & 63, coarse = code >> 2, higher = octets[n] >> 6;
        int32_t low_is = low_step(&low), high_is = high_step(&high);
        int32_t exact = low_is * fine[self->lower][code >> self->lower] >> 12;
        int32_t difference = high_is * two_bits[higher] >> 12;
        int32_t low_out = within(low.predicted + exact, -16384, 16383);
        int32_t high_out = within(high.predicted + difference, -16384, 16383);
        grow(&low, low_growth[coarse], LOW_MOST);
        grow(&high, high_growth[higher], HIGH_MOST);
        follow(&low, low_is * four_bits[coarse] >> 12, low_past + n);
        follow(&high, difference, high_past + n);
        differences[TAPS - 1 + n] = (int16_t)(low_out - high_out);
        sums[TAPS - 1 + n] = (int16_t)(low_out + high_out);
    }
    KEEP(low.past, low_past);
    KEEP(high.past, high_past);
    self->low = low;
    self->high = high;
    for (int n = 0; n < pairs; n++) {
        pcm[2 * n] = (int16_t)within(filtered(differences + n, 1) >> 11, INT16_MIN, INT16_MAX);
        pcm[2 * n + 1] = (int16_t)within(filtered(sums + n, 0) >> 11, INT16_MIN, INT16_MAX);
    }
    KEEP(self->past[0], differences);
    KEEP(self->past[1], sums);
}

#undef FETCH
#undef KEEP

enum { PAIR = 2 * sizeof(int16_t) };

static int some(ptrdiff_t pairs)
{
    return pairs < PAIRS ? (int)pairs : PAIRS;
}

/* Of Python, which has checked the sizes: int16 of any alignment, twice as many as octets. */
static void g722_encode(void *self, const char *pcm, ptrdiff_t size, uint8_t *octets)
{
    int16_t whole[2 * PAIRS];
    for (ptrdiff_t at = 0; at < size; at += PAIRS) {
        int pairs = some(size - at);
        memcpy(whole, pcm + at * PAIR, (size_t)pairs * PAIR);
        g722_encode_some(self, whole, pairs, octets + at);
    }
}

static void g722_decode(void *self, const uint8_t *octets, ptrdiff_t size, char *pcm)
{
    int16_t whole[2 * PAIRS];
    for (ptrdiff_t at = 0; at < size; at += PAIRS) {
        int pairs = some(size - at);
        g722_decode_some(self, octets + at, pairs, whole);
        memcpy(pcm + at * PAIR, whole, (size_t)pairs * PAIR);
    }
}

static int g722_hear(void *self, const uint8_t *payload, int32_t size, float *sound, int samples, int again)
{
    int16_t whole[2 * PAIRS];
    if (again || payload == NULL || size < 0 || samples % 2 || samples / 2 != size)
        return -1;
    for (ptrdiff_t at = 0; at < size; at += PAIRS) {
        int pairs = some(size - at);
        g722_decode_some(self, payload + at, pairs, whole);
        divide(whole, sound + 2 * at, 2 * pairs);
    }
    return samples;
}

static int32_t g722_say(void *self, const float *sound, int samples, uint8_t *octets, int32_t room)
{
    int16_t whole[2 * PAIRS];
    int size = samples / 2;
    if (samples < 0 || samples % 2 || size > room)
        return -1;
    for (ptrdiff_t at = 0; at < size; at += PAIRS) {
        int pairs = some(size - at);
        round_off(sound + 2 * at, whole, 2 * pairs);
        g722_encode_some(self, whole, pairs, octets + at);
    }
    return size;
}
