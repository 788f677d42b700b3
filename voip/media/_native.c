/* What a tick does with packets and sound that are as they should be, row by row in one pass.
 *
 * It does the same as the arrays of voip/media and of rtp/jitter.py, to the bit, for what is
 * ordinary: a plain header, a known source, in time; a packet that is just what a row hears next.
 * All else it leaves to them, untouched. The package works without this file, which saves no more
 * than what many operations on small arrays cost: decision 0014.
 *
 * The arrays belong to Python; a `Tick` holds on to them and is made anew when the table has grown.
 * The lists below are the only place that knows their order: native.py reads it from here.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <math.h>
#include <stdint.h>
#include <string.h>

/* X(name here, type, name there): by row, or by slot of a row, or by packet of the batch */
#define ARRAYS(X) \
    X(listening, uint8_t, "table.listening") \
    X(meaning, uint8_t, "table.meaning") \
    X(ssrc, int64_t, "table.receiver.ssrc") \
    X(candidate, int64_t, "table.receiver.candidate") \
    X(last_sequence, int64_t, "table.receiver.last_sequence") \
    X(last_timestamp, int64_t, "table.receiver.last_timestamp") \
    X(last_transit, double, "table.receiver.last_transit") \
    X(last_arrival, double, "table.receiver.last_arrival") \
    X(jitter, double, "table.receiver.jitter") \
    X(received, int64_t, "table.receiver.received") \
    X(octets, int64_t, "table.receiver.octets") \
    X(reordered, int64_t, "table.receiver.reordered") \
    X(relayed, uint8_t, "table.relayed") \
    X(state, uint8_t, "table.playout.state") \
    X(decoded, int64_t, "table.playout.decoded") \
    X(next_sequence, int64_t, "table.playout.sequence") \
    X(silent, int64_t, "table.playout.silent") \
    X(concealed, int64_t, "table.playout.concealed") \
    X(expanded, int64_t, "table.playout.expanded") \
    X(minimum, double, "table.playout.minimum") \
    X(maximum, double, "table.playout.maximum") \
    X(target, double, "table.playout.target") \
    X(allowance, double, "table.playout.allowance") \
    X(glide, int64_t, "table.playout.glide") \
    X(off_since, int64_t, "table.playout.off_since") \
    X(off_seen, int64_t, "table.playout.off_seen") \
    X(waited, int64_t, "table.playout.waited") \
    X(played, int64_t, "table.playout.played") \
    X(delay_sum, double, "table.playout.delay_sum") \
    X(pending, int64_t, "table.playout.pcm.fill") \
    X(noisy, uint8_t, "table.playout.comfort.on") \
    X(noise_known, uint8_t, "table.playout.comfort.known") \
    X(past_packet, int64_t, "table.playout.past.packet") \
    X(send_code, uint8_t, "table.transmitter.code") \
    X(payload_type, uint8_t, "table.transmitter.payload_type") \
    X(send_ssrc, int64_t, "table.transmitter.ssrc") \
    X(send_sequence, int64_t, "table.transmitter.sequence") \
    X(origin, int64_t, "table.transmitter.origin") \
    X(start, int64_t, "table.transmitter.start") \
    X(filled, int64_t, "table.transmitter.filled") \
    X(marker, uint8_t, "table.transmitter.marker") \
    X(sent_octets, int64_t, "table.transmitter.octets") \
    X(coded, uint8_t, "table.coded") \
    X(clock, int64_t, "table.receiver.clock") \
    X(rate, int64_t, "table.playout.rate") \
    X(dropped, int64_t, "table.playout.dropped") \
    X(recovered, int64_t, "table.playout.recovered") \
    X(voice_code, uint8_t, "table.playout.voicing.code") \
    X(voice_octets, int64_t, "table.playout.voicing.octets") \
    X(voice_samples, int64_t, "table.playout.voicing.samples") \
    X(repeats, uint8_t, "table.playout.voicing.repeats") \
    X(measure, uint64_t, "table.playout.voicing.measure") \
    X(measured_by, uint64_t, "table.playout.voicing.measured_by") \
    X(hears, uint8_t, "table.playout.voicing.hears") \
    X(hear_by, uint8_t, "table.playout.voicing.hear_by") \
    X(hear_function, uint64_t, "table.playout.voicing.hear_function") \
    X(hear_state, uint64_t, "table.playout.voicing.hear_state") \
    X(hear_past, uint64_t, "table.playout.voicing.past") \
    X(hear_past_samples, int64_t, "table.playout.voicing.past_samples") \
    X(say_by, uint8_t, "table.playout.voicing.say_by") \
    X(say_function, uint64_t, "table.playout.voicing.say_function") \
    X(say_state, uint64_t, "table.playout.voicing.say_state") \
    X(say_room, int64_t, "table.playout.voicing.room") \
    X(after_samples, int64_t, "table.playout.voicing.after_samples") \
    X(gap, int64_t, "table.playout.voicing.gap") \
    X(hides, uint8_t, "table.playout.voicing.hides") \
    X(mends, uint8_t, "table.playout.voicing.mends") \
    X(frame, int64_t, "table.playout.voicing.frame") \
    X(says, int64_t, "table.playout.voicing.says") \
    X(in_hand, int64_t, "table.playout.voicing.in_hand") \
    X(say_waiting, uint64_t, "table.playout.voicing.waiting") \
    X(fixed, double, "table.playout.fixed") \
    X(rested, int64_t, "table.playout.rested") \
    X(skipped, int64_t, "table.playout.skipped") \
    X(late, int64_t, "table.playout.late") \
    X(late_run, int64_t, "table.playout.late_run") \
    X(peak, int64_t, "table.playout.peak") \
    X(packets, uint8_t, "table.transmitter.packet") \
    X(seam, float, "table.playout.seam") \
    X(past_sound, float, "table.playout.past.sound") \
    X(fifo, float, "table.playout.pcm.data") \
    X(histogram, int16_t, "table.playout.delays.histogram") \
    X(recent, uint8_t, "table.playout.delays.recent") \
    X(quickest, double, "table.playout.delays.quickest") \
    X(last, double, "table.playout.delays.last") \
    X(position, int64_t, "table.playout.delays.position") \
    X(window_left, int64_t, "table.playout.delays.window_left") \
    X(window_quickest, double, "table.playout.delays.window_quickest") \
    X(waiting, int64_t, "table.playout.ring.count") \
    X(slot_timestamp, int64_t, "table.playout.ring.timestamp") \
    X(slot_sequence, int64_t, "table.playout.ring.sequence") \
    X(slot_spare, int64_t, "table.playout.ring.spare") \
    X(slot_duration, int64_t, "table.playout.ring.duration") \
    X(slot_length, int64_t, "table.playout.ring.length") \
    X(slot_code, uint8_t, "table.playout.ring.code") \
    X(slot_payload, uint8_t, "table.playout.ring.payload") \
    X(decode, float, "table.lane.decode_table") \
    X(encode, uint8_t, "table.lane.encode_table") \
    X(units, int64_t, "units") \
    X(memory, uint8_t, "batch.memory") \
    X(slots, intptr_t, "batch.slots") \
    X(rows, intptr_t, "batch.rows") \
    X(lengths, int32_t, "batch.lengths") \
    X(arrival, double, "batch.arrival") \
    X(rtcp, uint8_t, "batch.rtcp") \
    X(source, int32_t, "batch.source")

/* X(name, here and there) */
#define NUMBERS(X) \
    X(head_bytes) X(idle) X(playing) \
    X(rate_hz) \
    X(max_dropout) X(max_misorder) X(transit_restart_s) X(playout_restart_s) \
    X(bin_s) X(some) X(few) X(tail) X(quickest_window) X(quicker_s) X(jump_s) X(settling) \
    X(aim_samples) X(stay_s) X(called) X(function) X(together) X(max_units_octets) \
    X(grow_s) X(shrink_s) X(faded) X(nothing_waits) X(never) X(hang_s) X(empty) \
    X(force_s) X(slow_s) X(short_s) X(patience_s) X(fast_s) X(again_s) X(anchor_s) X(lasts_s) X(lasts_far_s) \
    X(fade_s) X(quiet) X(near_s) X(longest_s) X(repeated) X(own)

enum {
#define X(name, type, there) AT_##name,
    ARRAYS(X)
#undef X
    ARRAY_COUNT
};
enum {
#define X(name) NUMBER_##name,
    NUMBERS(X)
#undef X
    NUMBER_COUNT
};

typedef struct {
    PyObject_HEAD
    Py_buffer buffers[ARRAY_COUNT];
    int taken; /* of the buffers, in order */
#define X(name, type, there) type *name;
    ARRAYS(X)
#undef X
#define X(name) double name;
    NUMBERS(X)
#undef X
    Py_ssize_t row_count, slots_a_row, slot_bytes, payload_types, bins, remembered;
    Py_ssize_t packet_bytes, codes;
    Py_ssize_t seam_samples, history, fifo_samples;
    Py_ssize_t capacity, stride;
    uint32_t *odd, batch; /* by row: the last batch in which something of it was left */
} Tick;

/* ------------------------------------------------------------------ packets */

static uint32_t big_endian(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* jitter.py, DelayEstimator._turn */
static void turn(Tick *t, Py_ssize_t row)
{
    int16_t *histogram = t->histogram + row * t->bins;
    uint8_t *recent = t->recent + row * t->remembered;
    double longer = floor((t->window_quickest[row] - t->quickest[row]) * (1 / t->bin_s) + 0.5);
    t->window_left[row] = (int64_t)t->quickest_window;
    t->quickest[row] = t->window_quickest[row];
    t->window_quickest[row] = INFINITY;
    if (!(longer >= 1))
        return;
    int less = (int)(longer < (double)t->bins ? longer : (double)t->bins);
    memset(histogram, 0, sizeof *histogram * (size_t)t->bins);
    for (Py_ssize_t at = 0; at < t->remembered; at++) {
        if (recent[at] < t->bins - 1)
            recent[at] = (uint8_t)(recent[at] > less ? recent[at] - less : 0);
        histogram[recent[at]]++;
    }
}

/* jitter.py, DelayEstimator.update */
static void note_delay(Tick *t, Py_ssize_t row, double transit)
{
    int16_t *histogram = t->histogram + row * t->bins;
    if (--t->window_left[row] == 0)
        turn(t, row);
    if (t->quickest[row] - transit > t->quicker_s
        && histogram[t->bins - 1] <= t->remembered - (Py_ssize_t)t->settling
        && t->last[row] - transit < t->jump_s) {
        t->last[row] = transit;
        transit = t->quickest[row] - t->quicker_s;
    } else {
        t->last[row] = transit;
    }
    if (transit < t->window_quickest[row])
        t->window_quickest[row] = transit;
    if (transit < t->quickest[row])
        t->quickest[row] = transit;
    double bin = ceil((transit - t->quickest[row]) * (1 / t->bin_s) - 0.1);
    if (bin > (double)(t->bins - 2))
        bin = (double)(t->bins - 2);
    uint8_t *place = t->recent + row * t->remembered + t->position[row];
    histogram[*place]--;
    *place = (uint8_t)(int)bin; /* never below 0: the quickest is no later than this one */
    histogram[*place]++;
    if (++t->position[row] == t->remembered)
        t->position[row] = 0;
}

/* codecs/direct.py: how many samples a payload holds, 0 where it is none */
typedef int (*Measure)(const void *, const uint8_t *, int32_t);

static void *pointer_to(uint64_t address)
{
    return (void *)(uintptr_t)address;
}

/* intake.py, Intake._in_samples and voicing.py, Voicing.durations; 0 where the voice is to be asked */
static int64_t voiced_samples(const Tick *t, Py_ssize_t row, uint8_t code, const uint8_t *payload,
                              int64_t size)
{
    int64_t octets = t->voice_octets[row];
    if (code != t->voice_code[row] || (octets < 0 && t->measure[row] == 0))
        return 0;
    if (octets < 0) {
        int64_t samples = ((Measure)pointer_to(t->measure[row]))(pointer_to(t->measured_by[row]), payload,
                                                               (int32_t)size);
        return (double)samples <= t->longest_s * (double)t->rate[row] ? samples : 0;
    }
    if (octets > 0)
        return size % octets ? 0 : size / octets * t->voice_samples[row];
    return size > t->max_units_octets ? 0 : t->units[payload[0]] * t->voice_samples[row];
}

/* Rounded down, as Python does. */
static int64_t divided(int64_t by, int64_t divisor)
{
    int64_t quotient = by / divisor;
    return by % divisor < 0 ? quotient - 1 : quotient;
}

/* receive.py, Receiver.accept and _measure_jitter; playout.py, Playout.arrive; payloads.py,
 * PayloadRing.insert: nothing is changed before it is certain that all is ordinary. */
static int take_packet(Tick *t, Py_ssize_t i, Py_ssize_t row)
{
    const uint8_t *packet = t->memory + t->slots[i] * t->stride + (Py_ssize_t)t->head_bytes;
    int64_t size = (int64_t)t->lengths[i] - 12;
    if (size <= 0 || size > t->slot_bytes || packet[0] != 0x80)
        return 0;
    uint8_t code = t->meaning[row * t->payload_types + (packet[1] & 0x7F)];
    int64_t duration = size; /* a byte is a sample */
    int64_t clock = (int64_t)t->rate_hz, rate = clock;
    if (t->coded[row]) {
        if ((duration = voiced_samples(t, row, code, packet + 12, size)) == 0)
            return 0;
        clock = t->clock[row];
        rate = t->rate[row];
    } else if (code >= t->codes) {
        return 0;
    }
    if (!t->listening[row] || t->state[row] == t->idle || t->relayed[row])
        return 0;
    if (t->ssrc[row] != big_endian(packet + 8) || t->candidate[row] >= 0)
        return 0;

    int64_t last = t->last_sequence[row];
    int64_t step = (int16_t)(((uint16_t)packet[2] << 8 | packet[3]) - (uint16_t)last);
    if (step == 0 || step <= -t->max_misorder || step >= t->max_dropout)
        return 0;
    int64_t sequence = last + step;
    if (t->coded[row] && t->repeats[row]) { /* what was lost before this one may be in it */
        Py_ssize_t before = row * t->slots_a_row + (Py_ssize_t)((sequence - 1) & (t->slots_a_row - 1));
        if (t->slot_sequence[before] != sequence - 1)
            return 0;
    }
    int64_t before = t->last_timestamp[row];
    int64_t timestamp = before + (int32_t)(big_endian(packet + 4) - (uint32_t)before);
    int64_t at = rate == clock ? timestamp : divided(timestamp * rate, clock); /* in samples */
    double arrival = t->arrival[i];
    double transit = arrival - (double)at / (double)rate;

    Py_ssize_t slot = row * t->slots_a_row + (Py_ssize_t)(sequence & (t->slots_a_row - 1));
    if (t->slot_sequence[slot] == sequence || t->slot_duration[slot] > 0)
        return 0;
    if (at + duration <= t->decoded[row])
        return 0;
    if (!(fabs(transit - t->quickest[row]) <= t->playout_restart_s))
        return 0;

    t->received[row]++;
    t->octets[row] += size;
    t->last_arrival[row] = arrival;
    if (step > 0) {
        t->last_sequence[row] = sequence;
        t->last_timestamp[row] = timestamp;
    } else {
        t->reordered[row]++;
    }
    double units = arrival * (double)clock - (double)timestamp;
    double change = fabs(units - t->last_transit[row]);
    if (change >= t->transit_restart_s * (double)clock)
        change = 0.0;
    t->jitter[row] += (change - t->jitter[row]) * (1.0 / 16.0);
    t->last_transit[row] = units;

    note_delay(t, row, transit);
    t->late_run[row] = 0;
    t->slot_timestamp[slot] = at;
    t->slot_sequence[slot] = sequence;
    t->slot_duration[slot] = duration;
    t->slot_length[slot] = size;
    t->slot_code[slot] = code;
    memcpy(t->slot_payload + slot * t->slot_bytes, packet + 12, (size_t)size);
    if (++t->waiting[row] > t->peak[row])
        t->peak[row] = t->waiting[row];
    return 1;
}

static void move(Tick *t, Py_ssize_t from, Py_ssize_t to)
{
    t->slots[to] = t->slots[from];
    t->rows[to] = t->rows[from];
    t->lengths[to] = t->lengths[from];
    t->arrival[to] = t->arrival[from];
    t->rtcp[to] = t->rtcp[from];
    t->source[to] = t->source[from];
}

PyDoc_STRVAR(take_doc,
             "take(received, /)\n--\n\n"
             "Take what is ordinary out of the batch's first `received` packets.\n\n"
             "Returns how many are left; they lie at its beginning, in their order.");

static PyObject *tick_take(PyObject *self, PyObject *argument)
{
    Tick *t = (Tick *)self;
    Py_ssize_t received = PyLong_AsSsize_t(argument), left = 0;
    if (received == -1 && PyErr_Occurred())
        return NULL;
    if (received < 0 || received > t->capacity) {
        PyErr_SetString(PyExc_ValueError, "a batch does not hold so many packets");
        return NULL;
    }
    t->batch++;
    for (Py_ssize_t i = 0; i < received; i++) {
        if (t->rows[i] < 0 || t->rows[i] >= t->row_count || t->slots[i] < 0
            || t->slots[i] >= t->capacity) {
            PyErr_SetString(PyExc_IndexError, "a packet of a row, or in a slot, that is not there");
            return NULL;
        }
        if (t->source[i] >= 0 && !t->rtcp[i]) /* whom to believe is asked first of all */
            t->odd[t->rows[i]] = t->batch;
    }
    for (Py_ssize_t i = 0; i < received; i++) {
        Py_ssize_t row = t->rows[i];
        if (!t->rtcp[i]) {
            if (t->odd[row] != t->batch && take_packet(t, i, row))
                continue;
            t->odd[row] = t->batch; /* what follows does not overtake it */
        }
        move(t, i, left++);
    }
    return PyLong_FromSsize_t(left);
}

/* ------------------------------------------------------------------ sound */

/* Arrays that were handed over for one call, and are given back together. */
typedef struct {
    Py_buffer buffers[6];
    int taken;
} Loan;

/* One of `count` elements; all are contiguous. */
static void *borrow(Loan *loan, PyObject *array, size_t item, Py_ssize_t count, int write)
{
    Py_buffer *buffer = &loan->buffers[loan->taken];
    if (PyObject_GetBuffer(array, buffer, PyBUF_C_CONTIGUOUS | (write ? PyBUF_WRITABLE : 0)) < 0)
        return NULL;
    loan->taken++;
    if ((size_t)buffer->itemsize != item || (count >= 0 && buffer->len / buffer->itemsize != count)) {
        PyErr_SetString(PyExc_ValueError, "an array of another shape, or of another kind");
        return NULL;
    }
    return buffer->buf;
}

/* Rows, every one of which there is, and how many. */
static const intptr_t *borrow_rows(const Tick *t, Loan *loan, PyObject *array, Py_ssize_t *count)
{
    const intptr_t *rows = borrow(loan, array, sizeof *rows, -1, 0);
    if (rows == NULL)
        return NULL;
    const Py_buffer *buffer = &loan->buffers[loan->taken - 1];
    *count = buffer->len / buffer->itemsize;
    for (Py_ssize_t k = 0; k < *count; k++)
        if (rows[k] < 0 || rows[k] >= t->row_count) {
            PyErr_SetString(PyExc_IndexError, "a row that is not there");
            return NULL;
        }
    return rows;
}

static PyObject *give_back(Loan *loan, PyObject *result)
{
    while (loan->taken > 0)
        PyBuffer_Release(&loan->buffers[--loan->taken]);
    return result;
}

/* jitter.py, DelayEstimator.target, and playout.py, Playout._aim */
static double aim(const Tick *t, Py_ssize_t row)
{
    const int16_t *histogram = t->histogram + row * t->bins;
    int64_t seen = t->remembered - histogram[t->bins - 1], share = 0, within = 0;
    int64_t enough = seen - (int64_t)(t->allowance[row] * (double)seen), half = 0, most = 0;
    for (Py_ssize_t bin = 0; bin < t->bins - 1; bin++) {
        share += histogram[bin];
        within += share < enough;
        half += 2 * share < seen;
        most += 10 * share < 9 * seen;
    }
    if (seen >= (int64_t)t->some && seen < (int64_t)t->few && enough == seen) {
        int64_t likely = (most - half) * ((int64_t)t->few - seen) / ((int64_t)t->tail + seen);
        int64_t tenth = within - most;
        within += likely < tenth ? likely : tenth;
    }
    double target = (double)within * t->bin_s;
    target = target < t->minimum[row] ? t->minimum[row] : target;
    target = target > t->maximum[row] ? t->maximum[row] : target;
    double less = t->target[row] - target;
    return less > 0 && less < t->stay_s ? t->target[row] : target;
}

static void decode(const Tick *t, Py_ssize_t slot, float *sound, Py_ssize_t count)
{
    const float *sample = t->decode + 256 * (Py_ssize_t)t->slot_code[slot];
    const uint8_t *payload = t->slot_payload + slot * t->slot_bytes;
    Py_ssize_t at = 0;
    for (; at + 8 <= count; at += 8) /* most of a loop of one would be the loop */
        for (int n = 0; n < 8; n++)
            sound[at + n] = sample[payload[at + n]];
    for (; at < count; at++)
        sound[at] = sample[payload[at]];
}

/* conceal.py, blend: from what concealment would go on with into what has come. */
static void blend(const float *old, Py_ssize_t width, float *sound, Py_ssize_t count)
{
    width = width < count ? width : count;
    for (Py_ssize_t at = 0; at < width; at++) {
        float rising = (float)((double)(at + 1) / (double)(width + 1));
        sound[at] = (sound[at] - old[at]) * rising + old[at];
    }
}

static Py_ssize_t slot_of(const Tick *t, Py_ssize_t row, int64_t sequence)
{
    return row * t->slots_a_row + (Py_ssize_t)(sequence & (t->slots_a_row - 1));
}

/* payloads.py, PayloadRing.find: where a packet lies that holds what is wanted, -1 where there is
 * none. `gap` is then after how many samples the next one begins, and `next` where it lies, -1 where
 * nothing waits. */
static Py_ssize_t find(const Tick *t, Py_ssize_t row, int64_t wanted, int64_t sequence, int64_t *gap,
                       Py_ssize_t *next)
{
    Py_ssize_t slot = slot_of(t, row, sequence);
    int64_t into = wanted - t->slot_timestamp[slot];
    if (into >= 0 && into < t->slot_duration[slot])
        return slot;
    *next = -1;
    *gap = (int64_t)t->nothing_waits;
    for (slot = row * t->slots_a_row; slot < (row + 1) * t->slots_a_row; slot++) {
        int64_t ahead = t->slot_timestamp[slot] - wanted;
        if (ahead + t->slot_duration[slot] <= 0)
            continue;
        if (ahead <= 0)
            return slot;
        if (ahead < *gap) {
            *gap = ahead;
            *next = slot;
        }
    }
    return -1;
}

/* payloads.py, PayloadRing.release */
static void empty(Tick *t, Py_ssize_t row, Py_ssize_t slot)
{
    t->waiting[row]--;
    t->slot_duration[slot] = 0;
    t->slot_timestamp[slot] = (int64_t)t->empty;
}

/* payloads.py, PayloadRing.drop_before; -1, and nothing is changed, where a payload lies in the pool */
static int64_t drop_before(Tick *t, Py_ssize_t row, int64_t timestamp, int really)
{
    int64_t dropped = 0;
    for (Py_ssize_t slot = row * t->slots_a_row; slot < (row + 1) * t->slots_a_row; slot++) {
        if (t->slot_duration[slot] <= 0 || t->slot_timestamp[slot] + t->slot_duration[slot] > timestamp)
            continue;
        if (t->slot_length[slot] > t->slot_bytes)
            return -1;
        dropped++;
        if (really)
            empty(t, row, slot);
    }
    return dropped;
}

/* What came of waiting for a packet. */
typedef struct {
    int64_t decoded, sequence, expanded;
    double target;
    int let_go; /* it came, too late by its length, while the next one is there */
    int copied; /* that was what a later one repeated */
} Settled;

/* pacing.py, Pacer.settle: 2 where it goes on, 0 where that is not ordinary */
static int settle(Tick *t, Py_ssize_t row, int64_t count, double due, double rate, int64_t faded,
                  Settled *s)
{
    int64_t gap = 0, waited = t->waited[row];
    Py_ssize_t next, there = find(t, row, s->decoded, s->sequence, &gap, &next);
    if (there >= 0) {
        int64_t whole = t->slot_timestamp[there] + t->slot_duration[there] - s->decoded;
        s->target = aim(t, row);
        double delay = due - (double)s->decoded / rate - t->quickest[row] - (double)waited / rate;
        if (waited >= whole && waited < 2 * whole && delay >= s->target - t->short_s
            && (double)(t->played[row] - t->skipped[row]) > t->again_s * rate) {
            int64_t after;
            Py_ssize_t beyond;
            s->let_go = find(t, row, s->decoded + whole, s->sequence + 1, &after, &beyond) >= 0;
        }
        if (!s->let_go) {
            s->expanded = waited;
            return 1;
        }
        if (t->coded[row] || drop_before(t, row, s->decoded + whole, 0) < 0)
            return 0; /* a codec may learn from it */
        s->copied = t->slot_spare[there] == t->slot_sequence[there];
        gap = whole;
    }
    if (waited < gap) {
        int64_t silent = t->silent[row]; /* in silence, what comes next may begin before */
        return gap < t->nothing_waits && silent >= faded && silent < t->never ? 0 : 2;
    }
    s->decoded += gap;
    s->sequence += gap / count;
    s->expanded = waited - gap;
    return 1;
}

enum { ODD, HEARD, GAP, VOICED, TORN };

/* voices, below */
static int await_pause(Tick *t, Py_ssize_t row, int64_t count, double rate, int off, PyObject *calls);
static int hide(Tick *t, Py_ssize_t row, Py_ssize_t next, Py_ssize_t count, Py_ssize_t gap, int lasts,
                float *heard);

/* fifo.py, FifoArray.take */
static void take_pending(Tick *t, Py_ssize_t row, Py_ssize_t count, float *heard)
{
    float *fifo = t->fifo + row * t->fifo_samples;
    Py_ssize_t left = (Py_ssize_t)t->pending[row] - count;
    memcpy(heard, fifo, sizeof *heard * (size_t)count);
    memmove(fifo, fifo + count, sizeof *fifo * (size_t)left);
    t->pending[row] = left;
}

/* playout.py, Playout._adapt, and _hear_packets or what _fill_gap notes of a whole step: a GAP is
 * counted, its sound is up to the caller, as is that of what is VOICED, whose payload is in `slot`. */
static int step(Tick *t, Py_ssize_t row, int64_t count, double due, float *heard, Py_ssize_t *voiced,
                PyObject *calls)
{
    int64_t silent = t->silent[row], waited = t->waited[row], pending = t->pending[row];
    int coded = t->coded[row], whole = 0, settled = 0, waits = 0;
    if (t->state[row] != t->playing || t->noisy[row] || t->glide[row] != 0
        || (pending != 0 && (!coded || pending < count || waited != 0)))
        return ODD;
    double rate = coded ? (double)t->rate[row] : t->rate_hz;
    int64_t faded = (int64_t)t->faded;
    int64_t aim_samples = (int64_t)t->aim_samples;
    if (coded) {
        faded = faded * t->rate[row] / 8000;
        aim_samples = aim_samples * t->rate[row] / 8000;
    }
    Settled s = {t->decoded[row], t->next_sequence[row], 0, t->target[row], 0, 0};
    if (waited != 0) { /* did what was waited for get lost? */
        int came = settle(t, row, count, due, rate, faded, &s);
        if (came == 0)
            return ODD;
        settled = came == 1;
        waited = settled ? 0 : waited;
    }
    double behind = due - (double)(s.decoded - pending) / rate - t->quickest[row];
    int64_t played = t->played[row] + count, rested = t->rested[row];
    double target = played % aim_samples < count ? aim(t, row) : s.target;
    double delay = waited == 0 ? behind : behind - (double)waited / rate;
    double excess = waited == 0 ? delay - target : 0.0; /* nobody knows yet what is to be corrected */
    if (!(excess <= t->force_s && excess >= -t->slow_s))
        return ODD;
    int off = excess < -t->grow_s ? -1 : 0, astray = off != 0 || excess > t->shrink_s;
    int64_t off_since = t->off_since[row];
    if (astray) { /* gliding.py, Gliding.begin */
        off_since = played - t->off_seen[row] > count ? played : off_since;
        if (pending == 0 && (double)(played - off_since) >= t->patience_s * rate)
            return ODD;
    }
    if (excess > t->shrink_s) { /* pacing.py, Pacer.correct and _lasts: not before it has lasted */
        if (t->fixed[row] > 0 && (double)played < t->anchor_s * rate)
            return ODD;
        if ((double)(played - rested) > rate)
            rested = played + (int64_t)rint((excess > t->fast_s ? t->lasts_far_s : t->lasts_s) * rate);
        else
            off = rested <= played;
    }
    if (off != 0) {
        if (!coded || settled || excess > t->fast_s || await_pause(t, row, count, rate, off, calls))
            return ODD;
        pending = t->pending[row];
        if (pending != 0 && pending < count)
            return ODD;
        silent = t->silent[row];
        s.decoded = t->decoded[row];
        s.sequence = t->next_sequence[row];
    }
    Py_ssize_t slot = slot_of(t, row, s.sequence), next = -1;
    int64_t gap = 0;
    if (pending == 0) {
        int64_t length = coded ? t->slot_duration[slot] : t->slot_length[slot];
        whole = t->slot_timestamp[slot] == s.decoded && (coded ? length >= count : length == count);
        if (coded && t->hears[row] == 0)
            return ODD;
        if (whole && coded
            && (t->slot_code[slot] != t->hears[row] || t->slot_length[slot] > t->slot_bytes
                || length > t->fifo_samples))
            return ODD;
        if (whole && !coded && t->slot_code[slot] >= t->codes)
            return ODD;
        if (!whole) {
            Py_ssize_t past = (Py_ssize_t)t->past_packet[row];
            if (find(t, row, s.decoded, s.sequence, &gap, &next) >= 0 || (silent >= faded && t->noise_known[row]))
                return ODD;
            gap -= waited;
            if (gap < count)
                return ODD;
            if (!coded && past >= 0 && (past >= t->row_count * t->slots_a_row || t->slot_code[past] >= t->codes))
                return ODD;
            if (coded && (t->hides[row] == 0 || count % t->frame[row] != 0))
                return ODD;
            if (coded && t->mends[row] && next >= 0 && gap <= t->slot_duration[next]
                && (double)gap <= t->near_s * rate) {
                if (gap != t->slot_duration[next] || gap % t->frame[row] != 0 || gap > t->fifo_samples
                    || t->slot_code[next] != t->hears[row] || t->slot_length[next] > t->slot_bytes)
                    return ODD;
            } else {
                next = -1;
            }
            /* Pacer.wait: what is missing may come yet, if it may be played so much later */
            waits = behind + (double)count / rate <= t->maximum[row] + 1e-9;
        }
    }

    t->delay_sum[row] += delay * (double)count;
    t->played[row] = played;
    t->target[row] = target;
    t->rested[row] = rested;
    if (astray) {
        t->off_since[row] = off_since;
        t->off_seen[row] = played;
    }
    if (settled) {
        t->expanded[row] += s.expanded;
        t->waited[row] = 0;
    }
    if (s.let_go) {
        t->skipped[row] = played - count;
        t->late[row] += !s.copied;
        t->recovered[row] -= s.copied;
        t->dropped[row] += drop_before(t, row, s.decoded, 1);
    }
    t->decoded[row] = s.decoded;
    t->next_sequence[row] = s.sequence;
    if (pending != 0) {
        take_pending(t, row, (Py_ssize_t)count, heard);
        return HEARD;
    }
    float *past = t->past_sound + row * t->history;
    if (!whole) {
        int64_t left = faded > silent ? faded - silent : 0;
        int hidden = 0, lasts = (double)silent < t->hang_s * rate;
        if (coded && t->hides[row] == t->own && (lasts || next >= 0))
            hidden = hide(t, row, next, (Py_ssize_t)count, (Py_ssize_t)gap, lasts, heard);
        if (hidden == 2) { /* all of it: there is nothing to wait for */
            int64_t lost = t->slot_sequence[next] - 1;
            t->recovered[row] += t->slot_spare[slot_of(t, row, lost)] == -lost;
            t->next_sequence[row]++;
            t->decoded[row] += waited + gap;
            t->waited[row] = 0;
        } else {
            t->next_sequence[row] += !waits;
            t->decoded[row] += waits ? 0 : count;
            t->waited[row] = waits ? waited + count : waited;
        }
        t->concealed[row] += left < count ? left : count;
        t->silent[row] = silent + count;
        if (coded && hidden != 2 && !lasts) {
            memset(heard, 0, sizeof *heard * (size_t)count);
            return HEARD;
        }
        if (coded) {
            t->gap[row] = hidden == 2 ? 0 : t->gap[row] + count;
            return hidden ? HEARD : GAP;
        }
        if (silent >= faded) {
            memset(heard, 0, sizeof *heard * (size_t)count);
            memset(t->seam + row * t->seam_samples, 0, sizeof *heard * (size_t)t->seam_samples);
            return HEARD;
        }
        if (t->past_packet[row] >= 0)
            decode(t, (Py_ssize_t)t->past_packet[row], past, t->history);
        t->past_packet[row] = -1;
        return GAP;
    }
    t->next_sequence[row]++;
    t->decoded[row] += coded ? t->slot_duration[slot] : count;
    if (coded)
        t->pending[row] = t->slot_duration[slot];
    empty(t, row, slot);
    if (coded) {
        t->silent[row] = 0;
        *voiced = slot;
        return VOICED;
    }
    decode(t, slot, heard, count);
    t->past_packet[row] = slot;
    if (silent > 0) {
        t->silent[row] = 0;
        if (silent < t->faded)
            blend(t->seam + row * t->seam_samples, t->seam_samples, heard, count);
        memcpy(past, heard + count - t->history, sizeof *past * (size_t)t->history);
        t->past_packet[row] = -1;
    }
    return HEARD;
}

/* ------------------------------------------------------------------ voices */

/* libopus' opus_decode_float and opus_encode_float: codecs/direct.py */
typedef int (*Decoder)(void *, const uint8_t *, int32_t, float *, int, int);
typedef int32_t (*Encoder)(void *, const float *, int, uint8_t *, int32_t);

/* What is called for a row and is Python's: a borrowed reference, or NULL. */
static PyObject *called(PyObject *calls, Py_ssize_t row)
{
    PyObject *call = PyList_Check(calls) && row < PyList_Size(calls) ? PyList_GetItem(calls, row) : NULL;
    return call == Py_None ? NULL : call;
}

/* int16 that a decoder of Python's returned, as codecs/pcm.py, divide, makes them floats */
static int take_sound(PyObject *decoded, float *sound, Py_ssize_t count)
{
    Py_buffer buffer;
    if (PyObject_GetBuffer(decoded, &buffer, PyBUF_SIMPLE) < 0)
        return 0;
    int fits = buffer.len == count * (Py_ssize_t)sizeof(int16_t);
    const char *from = buffer.buf;
    for (Py_ssize_t at = 0; fits && at < count; at++) {
        int16_t sample;
        memcpy(&sample, from + at * (Py_ssize_t)sizeof sample, sizeof sample);
        sound[at] = (float)sample / 32768.0f;
    }
    PyBuffer_Release(&buffer);
    return fits;
}

/* adapter.py, Decoding._remember */
static void remember(Tick *t, Py_ssize_t row, const float *heard, Py_ssize_t count)
{
    Py_ssize_t kept = (Py_ssize_t)t->hear_past_samples[row];
    float *past = pointer_to(t->hear_past[row]);
    if (count >= kept) {
        memcpy(past, heard + count - kept, sizeof *past * (size_t)kept);
    } else {
        memmove(past, past + count, sizeof *past * (size_t)(kept - count));
        memcpy(past + kept - count, heard, sizeof *past * (size_t)count);
    }
}

/* The payload in a slot; adapter.py, Decoding.decode_whole. */
static int hear_voice(Tick *t, Py_ssize_t row, Py_ssize_t slot, Py_ssize_t count, float *heard,
                      PyObject *calls)
{
    const uint8_t *payload = t->slot_payload + slot * t->slot_bytes;
    Py_ssize_t size = (Py_ssize_t)t->slot_length[slot];
    int done = 0;
    if (t->hear_by[row] == t->function) {
        Decoder decode_by = (Decoder)pointer_to(t->hear_function[row]);
        void *state = pointer_to(t->hear_state[row]);
        done = decode_by(state, payload, (int32_t)size, heard, (int)count, 0) == count;
    } else if (t->hear_by[row] == t->called) {
        PyObject *call = called(calls, row);
        PyObject *octets = call ? PyBytes_FromStringAndSize((const char *)payload, size) : NULL;
        PyObject *decoded = octets ? PyObject_CallFunctionObjArgs(call, octets, NULL) : NULL;
        done = decoded != NULL && take_sound(decoded, heard, count);
        Py_XDECREF(octets);
        Py_XDECREF(decoded);
        PyErr_Clear(); /* it is concealed, and counted */
    }
    if (!done)
        return 0;
    int64_t gap = t->gap[row], faded = (int64_t)t->faded * t->rate[row] / 8000;
    if (gap > 0 && gap < faded && t->hides[row] == t->repeated)
        blend((float *)pointer_to(t->hear_past[row]) + t->hear_past_samples[row],
              (Py_ssize_t)t->after_samples[row], heard, count);
    t->gap[row] = 0;
    remember(t, row, heard, count);
    return 1;
}

/* adapter.py, Decoding.recover and conceal, where the decoder does it: 2 where the payload in slot
 * `next` repeats all of the gap (-1: none does), else 1 where it `lasts`. */
static int hide(Tick *t, Py_ssize_t row, Py_ssize_t next, Py_ssize_t count, Py_ssize_t gap, int lasts,
                float *heard)
{
    if (t->hear_by[row] != t->function)
        return 0;
    Decoder decode_by = (Decoder)pointer_to(t->hear_function[row]);
    void *state = pointer_to(t->hear_state[row]);
    if (next >= 0) {
        const uint8_t *payload = t->slot_payload + next * t->slot_bytes;
        float *to = gap == count ? heard : t->fifo + row * t->fifo_samples;
        if (decode_by(state, payload, (int32_t)t->slot_length[next], to, (int)gap, 1) == gap) {
            remember(t, row, to, gap);
            t->pending[row] = gap == count ? 0 : gap;
            if (gap != count)
                take_pending(t, row, count, heard);
            return 2;
        }
    }
    if (!lasts)
        return 0;
    if (decode_by(state, NULL, 0, heard, (int)count, 0) != count)
        memset(heard, 0, sizeof *heard * (size_t)count);
    return 1;
}

/* pacing.py, Pacer._stretch, of a row that is `off` its target, and not far: whether it has just come
 * to a pause, in which it may be corrected; or, to be sure, where its voice has to be asked. What is
 * decoded ahead, as playout.py, Playout.decode_ahead, does it, is decoded whatever comes of it. */
static int await_pause(Tick *t, Py_ssize_t row, int64_t count, double rate, int off, PyObject *calls)
{
    float *fifo = t->fifo + row * t->fifo_samples;
    int64_t needed = count + (int64_t)rint(t->fade_s * rate), gap;
    Py_ssize_t next;
    while (t->pending[row] < needed) {
        int64_t pending = t->pending[row];
        Py_ssize_t slot = find(t, row, t->decoded[row], t->next_sequence[row], &gap, &next);
        if (slot < 0)
            break;
        int64_t duration = t->slot_duration[slot];
        if (t->hears[row] == 0 || t->slot_code[slot] != t->hears[row] || t->slot_length[slot] > t->slot_bytes
            || t->slot_timestamp[slot] != t->decoded[row] || pending + duration > t->fifo_samples
            || !hear_voice(t, row, slot, (Py_ssize_t)duration, fifo + pending, calls))
            return 1;
        t->next_sequence[row] = t->slot_sequence[slot] + 1;
        t->silent[row] = 0;
        t->decoded[row] += duration;
        t->pending[row] = pending + duration;
        empty(t, row, slot);
    }
    int64_t quiet = off < 0 ? count : needed;
    if (t->pending[row] < quiet)
        return 0;
    for (int64_t at = 0; at < quiet; at++)
        if (!(fabsf(fifo[at]) < (float)t->quiet))
            return 0;
    return 1;
}

/* A step of the packet in a slot, and what is left of it: it is `pending`. */
static int hear_step(Tick *t, Py_ssize_t row, Py_ssize_t slot, Py_ssize_t count, float *heard,
                     PyObject *calls)
{
    Py_ssize_t whole = (Py_ssize_t)t->pending[row];
    float *fifo = t->fifo + row * t->fifo_samples;
    t->pending[row] = whole - count;
    if (!hear_voice(t, row, slot, whole, whole == count ? heard : fifo, calls))
        return TORN;
    t->pending[row] = whole;
    if (whole == count)
        t->pending[row] = 0;
    else
        take_pending(t, row, count, heard);
    return HEARD;
}

/* codecs/pcm.py, Rounding */
static void round_off(const float *sound, int16_t *whole, Py_ssize_t count)
{
    for (Py_ssize_t at = 0; at < count; at++) {
        float sample = sound[at];
        sample = sample < -1.0f ? -1.0f : sample;
        sample = sample > 32767.0f / 32768.0f ? 32767.0f / 32768.0f : sample;
        sample = sample == sample ? sample * 32768.0f : 0.0f;
        sample = (sample + 12582912.0f) - 12582912.0f; /* half to even, as in `encode` */
        whole[at] = (int16_t)sample;
    }
}

/* adapter.py, Encoding.encode_whole: how many octets it took, 0 where it failed. `whole` is the room
 * that the object `rounded` shows. */
static Py_ssize_t say_voice(Tick *t, Py_ssize_t row, const float *sound, Py_ssize_t count, int16_t *whole,
                            PyObject *rounded, PyObject *calls)
{
    uint8_t *to = t->packets + row * t->packet_bytes + 12;
    Py_ssize_t room = (Py_ssize_t)t->say_room[row], size = 0;
    if (room <= 0 || room > t->packet_bytes - 12)
        return 0;
    if (t->say_by[row] == t->function) {
        Encoder encode_by = (Encoder)pointer_to(t->say_function[row]);
        void *state = pointer_to(t->say_state[row]);
        size = encode_by(state, sound, (int)count, to, (int32_t)room);
    } else if (t->say_by[row] == t->called) {
        PyObject *call = called(calls, row);
        round_off(sound, whole, count);
        PyObject *octets = call ? PyObject_CallFunctionObjArgs(call, rounded, NULL) : NULL;
        Py_buffer buffer;
        if (octets != NULL && PyObject_GetBuffer(octets, &buffer, PyBUF_SIMPLE) == 0) {
            size = buffer.len <= room ? buffer.len : 0;
            memcpy(to, buffer.buf, (size_t)size);
            PyBuffer_Release(&buffer);
        }
        Py_XDECREF(octets);
        PyErr_Clear();
    }
    return size > 0 ? size : 0;
}

PyDoc_STRVAR(say_doc,
             "say(rows, sound, sizes, whole, calls, /)\n--\n\n"
             "Put sound, float32 (k, samples), into packets of `rows`, intp (k,), with voices.\n\n"
             "`sizes`, int32 (k,), says how many octets those took that are full, 0 where that failed,\n"
             "-2 where more is needed; those that are below 0 before are passed over, and packets of other\n"
             "lengths than `whole`, int16 (samples,), which is room. `calls` has by row what encodes where\n"
             "that is Python's.");

enum { KEPT = -2 };

/* adapter.py, Encoding.feed and take */
static int32_t say_step(Tick *t, Py_ssize_t row, const float *sound, Py_ssize_t count, int16_t *whole,
                        Py_ssize_t packet, PyObject *rounded, PyObject *calls)
{
    Py_ssize_t in_hand = (Py_ssize_t)t->in_hand[row];
    if (in_hand == 0 && count == packet)
        return (int32_t)say_voice(t, row, sound, packet, whole, rounded, calls);
    float *waiting = pointer_to(t->say_waiting[row]);
    if (in_hand < 0 || in_hand + count > packet)
        return 0;
    memcpy(waiting + in_hand, sound, sizeof *sound * (size_t)count);
    if (in_hand + count < packet) {
        t->in_hand[row] = in_hand + count;
        return KEPT;
    }
    int32_t size = (int32_t)say_voice(t, row, waiting, packet, whole, rounded, calls);
    if (size > 0)
        t->in_hand[row] = 0; /* else the voice is given this step's sound again, and tells */
    return size;
}

static PyObject *tick_say(PyObject *self, PyObject *arguments)
{
    Tick *t = (Tick *)self;
    PyObject *rows_array, *sound_array, *sizes_array, *whole_array, *calls;
    Loan loan = {.taken = 0};
    const intptr_t *rows;
    const float *sound;
    int32_t *sizes;
    int16_t *whole;
    Py_ssize_t k;
    if (!PyArg_ParseTuple(arguments, "OOOOO", &rows_array, &sound_array, &sizes_array, &whole_array,
                          &calls))
        return NULL;
    if ((rows = borrow_rows(t, &loan, rows_array, &k)) == NULL
        || (sizes = borrow(&loan, sizes_array, sizeof *sizes, k, 1)) == NULL
        || (whole = borrow(&loan, whole_array, sizeof *whole, -1, 1)) == NULL
        || (sound = borrow(&loan, sound_array, sizeof *sound, -1, 0)) == NULL)
        return give_back(&loan, NULL);
    Py_ssize_t packet = loan.buffers[2].len / loan.buffers[2].itemsize;
    Py_ssize_t count = k > 0 ? loan.buffers[3].len / loan.buffers[3].itemsize / k : 0;
    for (Py_ssize_t at = 0; at < k; at++)
        if (sizes[at] >= 0 && t->says[rows[at]] == packet)
            sizes[at] = say_step(t, rows[at], sound + at * count, count, whole, packet, whole_array, calls);
    Py_INCREF(Py_None);
    return give_back(&loan, Py_None);
}

PyDoc_STRVAR(play_doc,
             "play(rows, count, due, heard, odd, gaps, slots, calls, /)\n--\n\n"
             "Let rows hear `count` samples of packets: intp (k,), float64 (k,), float32 (k, count).\n\n"
             "`calls`, a list, has by row what decodes for rows with voices, where that is Python's.\n"
             "Returns the numbers of those that do not: `odd` and `gaps`, intp (k,), begin with their\n"
             "places, and `gaps` ends with those whose packet was none. Odd ones are to be played\n"
             "otherwise; in a gap, and for a packet that was none, nothing is missing but its sound.\n"
             "`slots`, intp (k,), says which payload it is in for rows that are decoded together, which\n"
             "are among the gaps, and -1 for others.");

static PyObject *tick_play(PyObject *self, PyObject *arguments)
{
    Tick *t = (Tick *)self;
    PyObject *rows_array, *due_array, *heard_array, *odd_array, *gaps_array, *slots_array, *calls;
    Loan loan = {.taken = 0};
    const intptr_t *rows;
    const double *due;
    float *heard;
    intptr_t *odd, *gaps, *slots;
    Py_ssize_t k, count, others = 0, missing = 0, broken = 0;
    if (!PyArg_ParseTuple(arguments, "OnOOOOOO", &rows_array, &count, &due_array, &heard_array,
                          &odd_array, &gaps_array, &slots_array, &calls))
        return NULL;
    if ((rows = borrow_rows(t, &loan, rows_array, &k)) == NULL
        || (due = borrow(&loan, due_array, sizeof *due, k, 0)) == NULL
        || (heard = borrow(&loan, heard_array, sizeof *heard, k * count, 1)) == NULL
        || (odd = borrow(&loan, odd_array, sizeof *odd, k, 1)) == NULL
        || (gaps = borrow(&loan, gaps_array, sizeof *gaps, k, 1)) == NULL
        || (slots = borrow(&loan, slots_array, sizeof *slots, k, 1)) == NULL)
        return give_back(&loan, NULL);
    int fits_slot = count >= t->history && count <= t->slot_bytes;
    for (Py_ssize_t at = 0; at < k; at++) {
        Py_ssize_t row = rows[at], slot;
        int steps = fits_slot || (t->coded[row] && count > 0);
        int came = steps ? step(t, row, count, due[at], heard + at * count, &slot, calls) : ODD;
        slots[at] = came == VOICED ? slot : -1;
        if (came == VOICED && t->hear_by[row] == t->together)
            came = GAP;
        if (came == VOICED)
            came = hear_step(t, row, slot, count, heard + at * count, calls);
        if (came == TORN) {
            gaps[k - ++broken] = at;
            continue;
        }
        if (came == ODD)
            odd[others++] = at;
        else if (came == GAP)
            gaps[missing++] = at;
    }
    return give_back(&loan, Py_BuildValue("nnn", others, missing, broken));
}

/* lane.py, G711Lane.encode */
static void encode(const Tick *t, Py_ssize_t code, const float *sound, uint8_t *to, Py_ssize_t count)
{
    const uint8_t *word = t->encode + (code << 16);
    for (Py_ssize_t at = 0; at < count; at++) {
        float scaled = sound[at] * 32768.0f;
        scaled += 12582912.0f; /* 1.5 * 2^23: no room for fractions, so the sum is rounded */
        int32_t bits;
        memcpy(&bits, &scaled, sizeof bits);
        int32_t index = bits - (0x4B400000 - 32768); /* its bits count whole samples */
        index = index < 0 ? 0 : index;
        to[at] = word[index > 65535 ? 65535 : index];
    }
}

PyDoc_STRVAR(fill_doc,
             "fill(rows, sound, clock, /)\n--\n\n"
             "Put sound, float32 (k, samples), into the packets of `rows`, intp (k,): transmit.py.\n\n"
             "`clock`, int64 (k,), counts the samples up to the first of these.");

static PyObject *tick_fill(PyObject *self, PyObject *arguments)
{
    Tick *t = (Tick *)self;
    PyObject *rows_array, *sound_array, *clock_array;
    Loan loan = {.taken = 0};
    const intptr_t *rows;
    const int64_t *clock;
    const float *sound;
    Py_ssize_t k;
    if (!PyArg_ParseTuple(arguments, "OOO", &rows_array, &sound_array, &clock_array))
        return NULL;
    if ((rows = borrow_rows(t, &loan, rows_array, &k)) == NULL
        || (clock = borrow(&loan, clock_array, sizeof *clock, k, 0)) == NULL
        || (sound = borrow(&loan, sound_array, sizeof *sound, -1, 0)) == NULL)
        return give_back(&loan, NULL);
    Py_ssize_t count = k > 0 ? loan.buffers[2].len / loan.buffers[2].itemsize / k : 0;
    for (Py_ssize_t at = 0; at < k; at++) {
        Py_ssize_t row = rows[at], filled = (Py_ssize_t)t->filled[row], code = t->send_code[row];
        if (filled < 0 || 12 + filled + count > t->packet_bytes || code >= t->codes) {
            PyErr_SetString(PyExc_ValueError, "more sound than a packet holds");
            return give_back(&loan, NULL);
        }
        if (filled == 0)
            t->start[row] = t->origin[row] + clock[at];
        encode(t, code, sound + at * count, t->packets + row * t->packet_bytes + 12 + filled, count);
        t->filled[row] = filled + count;
    }
    Py_INCREF(Py_None);
    return give_back(&loan, Py_None);
}

static void put(uint8_t *to, uint32_t word)
{
    to[0] = (uint8_t)(word >> 24);
    to[1] = (uint8_t)(word >> 16);
    to[2] = (uint8_t)(word >> 8);
    to[3] = (uint8_t)word;
}

PyDoc_STRVAR(seal_doc,
             "seal(rows, lengths, /)\n--\n\n"
             "Write the headers of full packets, whose lengths, int32 (k,), are written, too.\n\n"
             "The packets of `rows`, intp (k,), begin anew: transmit.py.");

static PyObject *tick_seal(PyObject *self, PyObject *arguments)
{
    Tick *t = (Tick *)self;
    PyObject *rows_array, *lengths_array;
    Loan loan = {.taken = 0};
    const intptr_t *rows;
    int32_t *lengths;
    Py_ssize_t k;
    if (!PyArg_ParseTuple(arguments, "OO", &rows_array, &lengths_array))
        return NULL;
    if ((rows = borrow_rows(t, &loan, rows_array, &k)) == NULL
        || (lengths = borrow(&loan, lengths_array, sizeof *lengths, k, 1)) == NULL)
        return give_back(&loan, NULL);
    for (Py_ssize_t at = 0; at < k; at++) {
        Py_ssize_t row = rows[at];
        uint8_t *packet = t->packets + row * t->packet_bytes;
        put(packet, 0x80000000u | (uint32_t)(t->marker[row] & 1) << 23
                        | (uint32_t)t->payload_type[row] << 16
                        | (uint32_t)(t->send_sequence[row] & 0xFFFF));
        put(packet + 4, (uint32_t)t->start[row]);
        put(packet + 8, (uint32_t)t->send_ssrc[row]);
        lengths[at] = (int32_t)(12 + t->filled[row]);
        t->sent_octets[row] += t->filled[row];
        t->send_sequence[row]++;
        t->marker[row] = 0;
        t->filled[row] = 0;
    }
    Py_INCREF(Py_None);
    return give_back(&loan, Py_None);
}

/* ------------------------------------------------------------------ the arrays */

static int hold(Tick *t, PyObject *arrays, int number, size_t item, void **pointer)
{
    PyObject *array = PySequence_GetItem(arrays, number);
    if (array == NULL)
        return -1;
    int flags = PyBUF_WRITABLE | PyBUF_C_CONTIGUOUS | PyBUF_FORMAT;
    int failed = PyObject_GetBuffer(array, &t->buffers[number], flags);
    Py_DECREF(array);
    if (failed)
        return -1;
    t->taken = number + 1;
    if ((size_t)t->buffers[number].itemsize != item) {
        PyErr_Format(PyExc_TypeError, "array %d has elements of another size", number);
        return -1;
    }
    *pointer = t->buffers[number].buf;
    return 0;
}

/* How many elements of an array there are for each of `parts`; -1 where that is no whole number. */
static Py_ssize_t share(const Tick *t, int number, Py_ssize_t parts)
{
    Py_ssize_t length = t->buffers[number].len / t->buffers[number].itemsize;
    return parts > 0 && length > 0 && length % parts == 0 ? length / parts : -1;
}

static int fits(const Tick *t, int first, int last, Py_ssize_t parts)
{
    for (int number = first; number <= last; number++)
        if (share(t, number, parts) != 1)
            return 0;
    return 1;
}

static int measure(Tick *t)
{
    t->row_count = share(t, AT_listening, 1);
    t->payload_types = share(t, AT_meaning, t->row_count);
    t->bins = share(t, AT_histogram, t->row_count);
    t->remembered = share(t, AT_recent, t->row_count);
    t->slots_a_row = share(t, AT_slot_timestamp, t->row_count);
    t->slot_bytes = share(t, AT_slot_payload, t->row_count * t->slots_a_row);
    t->packet_bytes = share(t, AT_packets, t->row_count);
    t->codes = share(t, AT_decode, 256);
    t->seam_samples = share(t, AT_seam, t->row_count);
    t->history = share(t, AT_past_sound, t->row_count);
    t->fifo_samples = share(t, AT_fifo, t->row_count);
    t->capacity = share(t, AT_slots, 1);
    t->stride = share(t, AT_memory, t->capacity);
    int fine = t->row_count > 0 && t->payload_types == 128 && t->bins > 1
               && t->bins <= 256 && t->remembered > 0 && t->slot_bytes > 0
               && t->slots_a_row > 0 && (t->slots_a_row & (t->slots_a_row - 1)) == 0
               && t->seam_samples > 0 && t->history > 0 && t->history <= t->slot_bytes && t->fifo_samples > 0
               && t->packet_bytes > 12 && t->codes > 0 && share(t, AT_encode, 1 << 16) == t->codes
               && share(t, AT_units, 256) == 1
               && t->stride >= (Py_ssize_t)t->head_bytes + 12 + t->slot_bytes
               && fits(t, AT_ssrc, AT_peak, t->row_count)
               && fits(t, AT_quickest, AT_waiting, t->row_count)
               && fits(t, AT_slot_timestamp, AT_slot_code, t->row_count * t->slots_a_row)
               && fits(t, AT_slots, AT_source, t->capacity);
    if (!fine)
        PyErr_SetString(PyExc_ValueError, "the arrays do not belong together");
    return fine ? 0 : -1;
}

static PyObject *tick_new(PyTypeObject *type, PyObject *arguments, PyObject *names)
{
    PyObject *arrays, *numbers;
    if (names != NULL && PyDict_Size(names) > 0) {
        PyErr_SetString(PyExc_TypeError, "Tick takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(arguments, "OO", &arrays, &numbers))
        return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Tick *t = (Tick *)allocate(type, 0);
    if (t == NULL)
        return NULL;
#define X(name, type, there) \
    if (hold(t, arrays, AT_##name, sizeof(type), (void **)&t->name) < 0) \
        goto failed;
    ARRAYS(X)
#undef X
    PyObject *number;
#define X(name) \
    number = PySequence_GetItem(numbers, NUMBER_##name); \
    if (number == NULL) \
        goto failed; \
    t->name = PyFloat_AsDouble(number); \
    Py_DECREF(number); \
    if (PyErr_Occurred()) \
        goto failed;
    NUMBERS(X)
#undef X
    if (measure(t) < 0)
        goto failed;
    t->odd = PyMem_Calloc((size_t)t->row_count, sizeof *t->odd);
    if (t->odd == NULL) {
        PyErr_NoMemory();
        goto failed;
    }
    return (PyObject *)t;
failed:
    Py_DECREF(t);
    return NULL;
}

static void tick_free(PyObject *self)
{
    Tick *t = (Tick *)self;
    PyTypeObject *type = Py_TYPE(self);
    for (int number = 0; number < t->taken; number++)
        PyBuffer_Release(&t->buffers[number]);
    PyMem_Free(t->odd);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyMethodDef tick_methods[] = {
    {"take", tick_take, METH_O, take_doc},
    {"play", tick_play, METH_VARARGS, play_doc},
    {"say", tick_say, METH_VARARGS, say_doc},
    {"fill", tick_fill, METH_VARARGS, fill_doc},
    {"seal", tick_seal, METH_VARARGS, seal_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot tick_slots[] = {
    {Py_tp_doc, "Tick(arrays, numbers, /)\n--\n\nThe arrays (`ARRAYS`) and numbers (`NUMBERS`)."},
    {Py_tp_new, tick_new},
    {Py_tp_dealloc, tick_free},
    {Py_tp_methods, tick_methods},
    {0, NULL},
};

static PyType_Spec tick_spec = {
    "voip.media._native.Tick", sizeof(Tick), 0, Py_TPFLAGS_DEFAULT, tick_slots,
};

/* ------------------------------------------------------------------ the module */

static int add_names(PyObject *module, const char *name, const char *const *names, int count)
{
    PyObject *tuple = PyTuple_New(count);
    for (int i = 0; tuple != NULL && i < count; i++) {
        PyObject *text = PyUnicode_FromString(names[i]);
        if (text == NULL || PyTuple_SetItem(tuple, i, text) < 0)
            Py_CLEAR(tuple);
    }
    int failed = tuple == NULL ? -1 : PyModule_AddObjectRef(module, name, tuple);
    Py_XDECREF(tuple);
    return failed;
}

static int fill_module(PyObject *module)
{
    static const char *const arrays[] = {
#define X(name, type, there) there,
        ARRAYS(X)
#undef X
    };
    static const char *const numbers[] = {
#define X(name) #name,
        NUMBERS(X)
#undef X
    };
    PyObject *type = PyType_FromModuleAndSpec(module, &tick_spec, NULL);
    int failed = type == NULL || PyModule_AddObjectRef(module, "Tick", type) < 0;
    Py_XDECREF(type);
    return failed || add_names(module, "ARRAYS", arrays, ARRAY_COUNT) < 0
                   || add_names(module, "NUMBERS", numbers, NUMBER_COUNT) < 0
               ? -1
               : 0;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, fill_module},
    {0, NULL},
};

static PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_native", NULL, 0, NULL, module_slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModuleDef_Init(&module);
}
