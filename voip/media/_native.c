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
    X(waited, int64_t, "table.playout.waited") \
    X(played, int64_t, "table.playout.played") \
    X(delay_sum, double, "table.playout.delay_sum") \
    X(pending, int64_t, "table.playout.pcm.fill") \
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
    X(voice_code, uint8_t, "table.playout.voicing.code") \
    X(voice_octets, int64_t, "table.playout.voicing.octets") \
    X(voice_samples, int64_t, "table.playout.voicing.samples") \
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
    X(late_run, int64_t, "table.playout.late_run") \
    X(peak, int64_t, "table.playout.peak") \
    X(packets, uint8_t, "table.transmitter.packet") \
    X(seam, float, "table.playout.seam") \
    X(past_sound, float, "table.playout.past.sound") \
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
    X(aim_samples) X(stay_s) X(called) X(function) X(max_units_octets) \
    X(grow_s) X(shrink_s) X(faded) X(most_pending) X(empty)

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
    Py_ssize_t seam_samples, history;
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

/* intake.py, Intake._in_samples and voicing.py, Voicing.durations; 0 where the voice is to be asked */
static int64_t voiced_samples(const Tick *t, Py_ssize_t row, uint8_t code, const uint8_t *payload,
                              int64_t size)
{
    int64_t octets = t->voice_octets[row];
    if (code != t->voice_code[row] || octets < 0)
        return 0;
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
    Py_buffer buffers[5];
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
static void blend(const Tick *t, Py_ssize_t row, float *sound, Py_ssize_t count)
{
    const float *old = t->seam + row * t->seam_samples;
    Py_ssize_t width = t->seam_samples < count ? t->seam_samples : count;
    for (Py_ssize_t at = 0; at < width; at++) {
        float rising = (float)((double)(at + 1) / (double)(width + 1));
        sound[at] = (sound[at] - old[at]) * rising + old[at];
    }
}

/* payloads.py, PayloadRing.find: after how many samples the next packet begins; 0 where one holds
 * what is wanted, or begins so late that nothing waits. */
static int64_t gap_before(const Tick *t, Py_ssize_t row, int64_t wanted)
{
    int64_t nearest = INT64_MAX;
    for (Py_ssize_t slot = row * t->slots_a_row; slot < (row + 1) * t->slots_a_row; slot++) {
        int64_t ahead = t->slot_timestamp[slot] - wanted;
        if (ahead + t->slot_duration[slot] <= 0)
            continue;
        if (ahead <= 0)
            return 0;
        nearest = ahead < nearest ? ahead : nearest;
    }
    return nearest == INT64_MAX ? 0 : nearest;
}

enum { ODD, HEARD, GAP, VOICED };

/* playout.py, Playout._adapt, and _hear_packets or what _fill_gap notes of a whole step: a GAP is
 * counted, its sound is up to the caller. */
static int step(Tick *t, Py_ssize_t row, int64_t count, double due, float *heard)
{
    int64_t decoded = t->decoded[row], sequence = t->next_sequence[row], silent = t->silent[row];
    int64_t waited = t->waited[row];
    if (t->state[row] != t->playing || t->pending[row] != 0 || t->glide[row] != 0)
        return ODD;
    if (waited != 0) { /* pacing.py, Pacer.settle: did what was waited for get lost? */
        int64_t passed = gap_before(t, row, decoded);
        if (passed == 0 || waited < passed)
            return ODD;
        decoded += passed;
        sequence += passed / count;
        waited -= passed;
    }
    Py_ssize_t slot = row * t->slots_a_row + (Py_ssize_t)(sequence & (t->slots_a_row - 1));
    int coded = t->coded[row];
    int64_t whole_length = coded ? t->slot_duration[slot] : t->slot_length[slot];
    int whole = t->slot_timestamp[slot] == decoded && whole_length == count;
    double rate = t->rate_hz;
    int64_t aim_samples = (int64_t)t->aim_samples;
    if (coded) { /* voiced.py, Voiced.decode_whole; its sound is up to the caller, too */
        if (!whole || silent != 0 || t->hears[row] == 0 || t->slot_code[slot] != t->hears[row]
            || t->slot_length[slot] > t->slot_bytes)
            return ODD;
        rate = (double)t->rate[row];
        aim_samples = aim_samples * t->rate[row] / 8000;
    } else if (whole && t->slot_code[slot] >= t->codes) {
        return ODD;
    } else if (!whole) {
        int64_t gap = silent < t->faded ? gap_before(t, row, decoded) : 0;
        Py_ssize_t past = (Py_ssize_t)t->past_packet[row];
        if (gap < count || gap > t->most_pending)
            return ODD;
        if (past >= t->row_count * t->slots_a_row || (past >= 0 && t->slot_code[past] >= t->codes))
            return ODD;
    }
    double delay = due - (double)decoded / rate - t->quickest[row];
    int64_t played = t->played[row] + count;
    double target = played % aim_samples < count ? aim(t, row) : t->target[row];
    double excess = delay - target;
    if (!(excess <= t->shrink_s && excess >= -t->grow_s))
        return ODD;

    t->delay_sum[row] += delay * (double)count;
    t->played[row] = played;
    t->target[row] = target;
    if (t->waited[row] != 0) {
        t->expanded[row] += waited;
        t->waited[row] = 0;
    }
    /* Pacer.wait: what is missing may come yet, if it may be played so much later */
    int waits = !whole && delay + (double)count / t->rate_hz <= t->maximum[row] + 1e-9;
    t->next_sequence[row] = waits ? sequence : sequence + 1;
    t->decoded[row] = waits ? decoded : decoded + count;
    if (waits)
        t->waited[row] = count;
    float *past = t->past_sound + row * t->history;
    if (!whole) {
        int64_t left = (int64_t)t->faded - silent;
        t->concealed[row] += left < count ? left : count;
        t->silent[row] = silent + count;
        if (t->past_packet[row] >= 0)
            decode(t, (Py_ssize_t)t->past_packet[row], past, t->history);
        t->past_packet[row] = -1;
        return GAP;
    }
    t->waiting[row]--;
    t->slot_duration[slot] = 0;
    t->slot_timestamp[slot] = (int64_t)t->empty;
    if (coded)
        return VOICED;
    decode(t, slot, heard, count);
    t->past_packet[row] = slot;
    if (silent > 0) {
        t->silent[row] = 0;
        if (silent < t->faded)
            blend(t, row, heard, count);
        memcpy(past, heard + count - t->history, sizeof *past * (size_t)t->history);
        t->past_packet[row] = -1;
    }
    return HEARD;
}

/* ------------------------------------------------------------------ voices */

/* libopus' opus_decode_float and opus_encode_float: codecs/direct.py */
typedef int (*Decoder)(void *, const uint8_t *, int32_t, float *, int, int);
typedef int32_t (*Encoder)(void *, const float *, int, uint8_t *, int32_t);

static void *pointer_to(uint64_t address)
{
    return (void *)(uintptr_t)address;
}

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

/* The payload that lies before what a row hears next; adapter.py, Decoding.decode_whole. */
static int hear_voice(Tick *t, Py_ssize_t row, Py_ssize_t count, float *heard, PyObject *calls)
{
    Py_ssize_t slot = row * t->slots_a_row
                      + (Py_ssize_t)((t->next_sequence[row] - 1) & (t->slots_a_row - 1));
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
    Py_ssize_t kept = (Py_ssize_t)t->hear_past_samples[row];
    float *past = pointer_to(t->hear_past[row]);
    if (done && count >= kept) {
        memcpy(past, heard + count - kept, sizeof *past * (size_t)kept);
    } else if (done) {
        memmove(past, past + count, sizeof *past * (size_t)(kept - count));
        memcpy(past + kept - count, heard, sizeof *past * (size_t)count);
    }
    return done;
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
             "Encode a packet of each of `rows`, intp (k,), with voices: float32 (k, samples).\n\n"
             "`sizes`, int32 (k,), says how many octets they took, 0 where that failed; those that are\n"
             "below 0 before are passed over. `whole`, int16 (samples,), is room, and `calls` has by row\n"
             "what encodes where that is Python's.");

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
        || (whole = borrow(&loan, whole_array, sizeof *whole, -1, 1)) == NULL)
        return give_back(&loan, NULL);
    Py_ssize_t count = loan.buffers[2].len / loan.buffers[2].itemsize;
    if ((sound = borrow(&loan, sound_array, sizeof *sound, k * count, 0)) == NULL)
        return give_back(&loan, NULL);
    for (Py_ssize_t at = 0; at < k; at++)
        if (sizes[at] >= 0)
            sizes[at] = (int32_t)say_voice(t, rows[at], sound + at * count, count, whole, whole_array,
                                           calls);
    Py_INCREF(Py_None);
    return give_back(&loan, Py_None);
}

PyDoc_STRVAR(play_doc,
             "play(rows, count, due, heard, odd, gaps, calls, /)\n--\n\n"
             "Let rows hear `count` samples of packets: intp (k,), float64 (k,), float32 (k, count).\n\n"
             "`calls`, a list, has by row what decodes for rows with voices, where that is Python's.\n"
             "Returns the numbers of those that do not; `odd` and `gaps`, intp (k,), begin with their\n"
             "places. Odd ones are to be played otherwise; in a gap nothing is missing but its sound.");

static PyObject *tick_play(PyObject *self, PyObject *arguments)
{
    Tick *t = (Tick *)self;
    PyObject *rows_array, *due_array, *heard_array, *odd_array, *gaps_array, *calls;
    Loan loan = {.taken = 0};
    const intptr_t *rows;
    const double *due;
    float *heard;
    intptr_t *odd, *gaps;
    Py_ssize_t k, count, others = 0, missing = 0;
    if (!PyArg_ParseTuple(arguments, "OnOOOOO", &rows_array, &count, &due_array, &heard_array,
                          &odd_array, &gaps_array, &calls))
        return NULL;
    if ((rows = borrow_rows(t, &loan, rows_array, &k)) == NULL
        || (due = borrow(&loan, due_array, sizeof *due, k, 0)) == NULL
        || (heard = borrow(&loan, heard_array, sizeof *heard, k * count, 1)) == NULL
        || (odd = borrow(&loan, odd_array, sizeof *odd, k, 1)) == NULL
        || (gaps = borrow(&loan, gaps_array, sizeof *gaps, k, 1)) == NULL)
        return give_back(&loan, NULL);
    int fits_slot = count >= t->history && count <= t->slot_bytes;
    for (Py_ssize_t at = 0; at < k; at++) {
        int steps = fits_slot || (t->coded[rows[at]] && count > 0);
        int came = steps ? step(t, rows[at], count, due[at], heard + at * count) : ODD;
        if (came == VOICED)
            came = hear_voice(t, rows[at], count, heard + at * count, calls) ? HEARD : GAP;
        if (came == ODD)
            odd[others++] = at;
        else if (came == GAP)
            gaps[missing++] = at;
    }
    return give_back(&loan, Py_BuildValue("nn", others, missing));
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
    t->capacity = share(t, AT_slots, 1);
    t->stride = share(t, AT_memory, t->capacity);
    int fine = t->row_count > 0 && t->payload_types == 128 && t->bins > 1
               && t->bins <= 256 && t->remembered > 0 && t->slot_bytes > 0
               && t->slots_a_row > 0 && (t->slots_a_row & (t->slots_a_row - 1)) == 0
               && t->seam_samples > 0 && t->history > 0 && t->history <= t->slot_bytes
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
