/* Codecs that are called as libopus is (codecs/direct.py): float sound, checked payloads.
 *
 * The functions are handed around as addresses, their states as memory of Python's. Of codecs of other
 * libraries that has the addresses of a library's functions and of what they work on, and what is done
 * is what gsm.py, speex.py and amr.py do, to the bit; G.722 is our own. All work without this file.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { MOST_FRAME = 640, MOST_FRAMES = 12, FRAME_ROOM = 64 };

static void *pointer_to(uint64_t address)
{
    return (void *)(uintptr_t)address;
}

/* codecs/pcm.py, divide */
static void divide(const int16_t *whole, float *sound, int count)
{
    for (int at = 0; at < count; at++)
        sound[at] = (float)whole[at] / 32768.0f;
}

/* codecs/pcm.py, Rounding */
static void round_off(const float *sound, int16_t *whole, int count)
{
    for (int at = 0; at < count; at++) {
        float sample = sound[at];
        sample = sample < -1.0f ? -1.0f : sample;
        sample = sample > 32767.0f / 32768.0f ? 32767.0f / 32768.0f : sample;
        sample = sample == sample ? sample * 32768.0f : 0.0f;
        sample = (sample + 12582912.0f) - 12582912.0f; /* half to even */
        whole[at] = (int16_t)sample;
    }
}

/* How many frames so many samples are, 0 where that is no number of frames. */
static int frames_of(int samples, uint64_t frame)
{
    int size = (int)frame;
    return size > 0 && size <= MOST_FRAME && samples > 0 && samples % size == 0 ? samples / size : 0;
}

/* Bits, the highest of an octet first. */
typedef struct {
    const uint8_t *octets;
    int64_t size, at;
    int ends; /* within what was asked for */
} Bits;

static uint32_t take(Bits *bits, int count)
{
    uint32_t value = 0;
    int64_t from = bits->at;
    bits->at += count;
    bits->ends |= bits->at > bits->size;
    if (count > 32) /* they are passed over */
        return 0;
    for (int64_t at = from; !bits->ends && at < bits->at; at++)
        value = value << 1 | (bits->octets[at >> 3] >> (7 - (at & 7)) & 1u);
    return value;
}

/* ------------------------------------------------------------------ G.722 */

#include "g722.h"

/* ------------------------------------------------------------------ GSM 06.10 */

typedef struct {
    uint64_t call, state;
} Gsm;

enum { GSM_SAMPLES = 160, GSM_OCTETS = 33 };

static int gsm_measure(const void *self, const uint8_t *payload, int32_t size)
{
    (void)self;
    if (size <= 0 || size % GSM_OCTETS)
        return 0;
    for (int32_t at = 0; at < size; at += GSM_OCTETS)
        if (payload[at] >> 4 != 0xD)
            return 0;
    return size / GSM_OCTETS * GSM_SAMPLES;
}

static int gsm_hear(const void *self, const uint8_t *payload, int32_t size, float *sound, int samples,
                    int again)
{
    const Gsm *gsm = self;
    int (*call)(void *, const uint8_t *, int16_t *) =
        (int (*)(void *, const uint8_t *, int16_t *))pointer_to(gsm->call);
    int16_t whole[GSM_SAMPLES];
    if (again || payload == NULL || gsm_measure(self, payload, size) != samples)
        return -1;
    for (int at = 0; at < samples; at += GSM_SAMPLES) {
        call(pointer_to(gsm->state), payload + at / GSM_SAMPLES * GSM_OCTETS, whole);
        divide(whole, sound + at, GSM_SAMPLES);
    }
    return samples;
}

static int32_t gsm_say(const void *self, const float *sound, int samples, uint8_t *octets, int32_t room)
{
    const Gsm *gsm = self;
    void (*call)(void *, int16_t *, uint8_t *) =
        (void (*)(void *, int16_t *, uint8_t *))pointer_to(gsm->call);
    int frames = frames_of(samples, GSM_SAMPLES);
    int16_t whole[GSM_SAMPLES];
    if (frames == 0 || frames * GSM_OCTETS > room)
        return -1;
    for (int n = 0; n < frames; n++) {
        round_off(sound + n * GSM_SAMPLES, whole, GSM_SAMPLES);
        call(pointer_to(gsm->state), whole, octets + n * GSM_OCTETS);
    }
    return frames * GSM_OCTETS;
}

/* ------------------------------------------------------------------ Speex */

typedef struct {
    uint64_t code, state, bits, frame, layers, first, end, write;
} Speex; /* first: what reads a payload, or begins one */

/* speex.py, count_frames */
static int speex_frames(const uint8_t *payload, int32_t size, int layers)
{
    static const int narrow[] = {5, 43, 119, 160, 220, 300, 364, 492, 79};
    static const int layer_bits[2][5] = {{4, 36, 112, 192, 352}, {4, 36, 0, 0, 0}};
    static const int request_bits[] = {1, 1, 4, 4, 4, 4, 4, 4, 8, 8, 16, 16, 32, 32, 64, 64};
    enum { USER = 13, REQUEST, END, MOST_OCTETS = 1500, MOST = 10 };
    Bits bits = {payload, 8 * (int64_t)size, 0, 0};
    int frames = 0, above = layers;
    if (size <= 0 || size > MOST_OCTETS)
        return 0;
    while (bits.at < bits.size) {
        int layer = (int)take(&bits, 1), mode;
        if (bits.size - bits.at < 4 && !(layer && layers))
            break; /* padding */
        if (layer) {
            if (++above > layers || above > 2)
                return 0;
            mode = (int)take(&bits, 3);
            if (bits.ends || mode > 4 || layer_bits[above - 1][mode] == 0)
                return 0;
            take(&bits, layer_bits[above - 1][mode] - 4);
        } else {
            mode = (int)take(&bits, 4);
            if (mode == END && !bits.ends)
                break;
            above = layers;
            if (mode == REQUEST) {
                take(&bits, request_bits[take(&bits, 4)]);
            } else if (mode == USER) {
                int octets = (int)take(&bits, 4);
                take(&bits, 5 + 8 * octets);
            } else if (mode < 9) {
                take(&bits, narrow[mode] - 5);
                frames++;
                above = 0;
            } else {
                return 0;
            }
        }
        if (bits.ends)
            return 0;
    }
    return frames > 0 && frames <= MOST ? frames : 0;
}

static int speex_measure(const void *self, const uint8_t *payload, int32_t size)
{
    const Speex *speex = self;
    return speex_frames(payload, size, (int)speex->layers) * (int)speex->frame;
}

static int speex_hear(const void *self, const uint8_t *payload, int32_t size, float *sound, int samples,
                      int again)
{
    const Speex *speex = self;
    int (*code)(void *, void *, int16_t *) =
        (int (*)(void *, void *, int16_t *))pointer_to(speex->code);
    void (*read)(void *, const char *, int) =
        (void (*)(void *, const char *, int))pointer_to(speex->first);
    int frames = frames_of(samples, speex->frame), frame = (int)speex->frame;
    void *bits = payload == NULL ? NULL : pointer_to(speex->bits);
    int16_t whole[MOST_FRAME];
    if (again || frames == 0 || (payload != NULL && speex_measure(self, payload, size) != samples))
        return -1;
    if (bits != NULL)
        read(bits, (const char *)payload, size);
    for (int n = 0; n < frames; n++) {
        if (code(pointer_to(speex->state), bits, whole))
            memset(whole, 0, sizeof whole);
        divide(whole, sound + n * frame, frame);
    }
    return samples;
}

static int32_t speex_say(const void *self, const float *sound, int samples, uint8_t *octets, int32_t room)
{
    const Speex *speex = self;
    int (*code)(void *, int16_t *, void *) =
        (int (*)(void *, int16_t *, void *))pointer_to(speex->code);
    void (*reset)(void *) = (void (*)(void *))pointer_to(speex->first);
    void (*end)(void *) = (void (*)(void *))pointer_to(speex->end);
    int (*write)(void *, char *, int) = (int (*)(void *, char *, int))pointer_to(speex->write);
    int frames = frames_of(samples, speex->frame), frame = (int)speex->frame;
    void *bits = pointer_to(speex->bits);
    int16_t whole[MOST_FRAME];
    if (frames == 0)
        return -1;
    reset(bits);
    for (int n = 0; n < frames; n++) {
        round_off(sound + n * frame, whole, frame);
        code(pointer_to(speex->state), whole, bits);
    }
    end(bits);
    return write(bits, (char *)octets, room);
}

/* ------------------------------------------------------------------ AMR and AMR-WB */

typedef struct {
    uint64_t decode, decoder, encode, encoder, frame, wide, aligned, allowed, mode;
} Amr; /* allowed: a bit for each mode */

enum { NO_DATA = 15, WIDE_LOST = 14, NO_REQUEST = 15, MOST_FRAME_OCTETS = 61 };

/* amr.py, KINDS: bits of a frame by its type, -1 where there is no such */
static int amr_bits(const Amr *amr, int type)
{
    static const int narrow[] = {95, 103, 118, 134, 148, 159, 204, 244, 39};
    static const int wide[] = {132, 177, 253, 285, 317, 365, 397, 461, 477, 40};
    if (type < (amr->wide ? 10 : 9))
        return amr->wide ? wide[type] : narrow[type];
    return type == NO_DATA || (amr->wide && type == WIDE_LOST) ? 0 : -1;
}

static void skip(Bits *bits, uint64_t aligned)
{
    if (aligned)
        bits->at = (bits->at + 7) / 8 * 8;
}

/* amr_payload.py, unpack: how many frames there are, whose entries are noted; 0 where it is none. The
 * bits are at the first of them then. */
static int amr_read(const Amr *amr, Bits *bits, uint8_t *entries, int *request)
{
    int count = 0, more = 1;
    if (bits->size > 8 * (2 + MOST_FRAMES * MOST_FRAME_OCTETS))
        return 0;
    *request = (int)take(bits, 4);
    skip(bits, amr->aligned);
    while (more) {
        if (count == MOST_FRAMES)
            return 0;
        entries[count] = (uint8_t)take(bits, 6);
        skip(bits, amr->aligned);
        more = !bits->ends && entries[count] & 0x20;
        count++;
    }
    Bits ahead = *bits;
    for (int n = 0; n < count; n++) {
        int size = amr_bits(amr, entries[n] >> 1 & 0xF);
        if (size < 0)
            return 0;
        ahead.at += size;
        ahead.ends |= ahead.at > ahead.size;
        skip(&ahead, amr->aligned);
    }
    return ahead.ends ? 0 : count;
}

static int amr_measure(const void *self, const uint8_t *payload, int32_t size)
{
    const Amr *amr = self;
    uint8_t entries[MOST_FRAMES];
    Bits bits = {payload, 8 * (int64_t)size, 0, 0};
    int request;
    return size > 0 ? amr_read(amr, &bits, entries, &request) * (int)amr->frame : 0;
}

static int amr_hear(void *self, const uint8_t *payload, int32_t size, float *sound, int samples, int again)
{
    Amr *amr = self;
    void (*decode)(void *, const uint8_t *, int16_t *, int) =
        (void (*)(void *, const uint8_t *, int16_t *, int))pointer_to(amr->decode);
    int frames = frames_of(samples, amr->frame), frame = (int)amr->frame, request = NO_REQUEST;
    uint8_t entries[MOST_FRAMES];
    int16_t whole[MOST_FRAME];
    Bits bits = {payload, 8 * (int64_t)size, 0, 0};
    if (again || frames == 0 || (payload != NULL && amr_read(amr, &bits, entries, &request) != frames))
        return -1;
    if (request < 15 && amr->allowed >> request & 1)
        amr->mode = (uint64_t)request;
    for (int n = 0; n < frames; n++) {
        uint8_t stored[FRAME_ROOM] = {NO_DATA << 3 | 4};
        if (payload != NULL) {
            int type = entries[n] >> 1 & 0xF, left = amr_bits(amr, type);
            int good = (entries[n] & 1) && type < (amr->wide ? 10 : 9);
            if (good)
                stored[0] = (uint8_t)(type << 3 | 4);
            for (uint8_t *to = stored + 1; left > 0; left -= 8, to++) {
                int count = left < 8 ? left : 8;
                uint32_t octet = take(&bits, count) << (8 - count);
                if (good)
                    *to = (uint8_t)octet;
            }
            skip(&bits, amr->aligned);
        }
        decode(pointer_to(amr->decoder), stored, whole, 0);
        divide(whole, sound + n * frame, frame);
    }
    return samples;
}

static void put(uint8_t *octets, int64_t *at, uint32_t value, int count)
{
    while (count-- > 0) {
        octets[*at >> 3] |= (uint8_t)((value >> count & 1) << (7 - (*at & 7)));
        ++*at;
    }
}

/* amr_payload.py, pack */
static int32_t amr_say(void *self, const float *sound, int samples, uint8_t *octets, int32_t room)
{
    Amr *amr = self;
    int (*encode)(void *, int, const int16_t *, uint8_t *, int) =
        (int (*)(void *, int, const int16_t *, uint8_t *, int))pointer_to(amr->encode);
    int frames = frames_of(samples, amr->frame), frame = (int)amr->frame;
    uint8_t stored[MOST_FRAMES][FRAME_ROOM];
    int16_t whole[MOST_FRAME];
    int64_t at = 0;
    if (frames < 1 || frames > MOST_FRAMES || room < 2 + frames * MOST_FRAME_OCTETS)
        return -1;
    memset(stored, 0, sizeof stored);
    for (int n = 0; n < frames; n++) {
        round_off(sound + n * frame, whole, frame);
        encode(pointer_to(amr->encoder), (int)amr->mode, whole, stored[n], 0);
        if (amr_bits(amr, stored[n][0] >> 3 & 0xF) < 0)
            return -1;
    }
    memset(octets, 0, (size_t)(2 + frames * MOST_FRAME_OCTETS));
    put(octets, &at, NO_REQUEST, 4);
    at = amr->aligned ? (at + 7) / 8 * 8 : at;
    for (int n = 0; n < frames; n++) {
        int type = stored[n][0] >> 3 & 0xF;
        put(octets, &at, (uint32_t)((n < frames - 1) << 5 | type << 1 | 1), 6);
        at = amr->aligned ? (at + 7) / 8 * 8 : at;
    }
    for (int n = 0; n < frames; n++) {
        int left = amr_bits(amr, stored[n][0] >> 3 & 0xF);
        for (const uint8_t *from = stored[n] + 1; left > 0; left -= 8, from++) {
            int count = left < 8 ? left : 8;
            put(octets, &at, (uint32_t)*from >> (8 - count), count);
        }
        at = amr->aligned ? (at + 7) / 8 * 8 : at;
    }
    return (int32_t)((at + 7) / 8);
}

/* ------------------------------------------------------------------ the module */

static int fill_module(PyObject *module)
{
    static const struct {
        const char *name;
        void (*function)(void);
    } functions[] = {
#define ENTRY(name) {#name, (void (*)(void))name}
        ENTRY(g722_encode), ENTRY(g722_decode), ENTRY(g722_hear), ENTRY(g722_say),
        ENTRY(gsm_measure), ENTRY(gsm_hear), ENTRY(gsm_say),
        ENTRY(speex_measure), ENTRY(speex_hear), ENTRY(speex_say),
        ENTRY(amr_measure), ENTRY(amr_hear), ENTRY(amr_say),
#undef ENTRY
    };
    for (size_t n = 0; n < sizeof functions / sizeof *functions; n++) {
        PyObject *address = PyLong_FromUnsignedLongLong((uintptr_t)functions[n].function);
        int failed = address == NULL || PyModule_AddObjectRef(module, functions[n].name, address) < 0;
        Py_XDECREF(address);
        if (failed)
            return -1;
    }
    return 0;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, fill_module},
    {0, NULL},
};

static PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_libraries", NULL, 0, NULL, module_slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__libraries(void)
{
    return PyModuleDef_Init(&module);
}
