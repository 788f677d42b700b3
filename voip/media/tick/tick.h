/* The arrays and numbers a tick in C works on, by the names they have here, and what it is lent. */

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
    X(send_clock, int64_t, "table.transmitter.clock") \
    X(origin, int64_t, "table.transmitter.origin") \
    X(start, int64_t, "table.transmitter.start") \
    X(filled, int64_t, "table.transmitter.filled") \
    X(marker, uint8_t, "table.transmitter.marker") \
    X(sent_octets, int64_t, "table.transmitter.octets") \
    X(extra, int64_t, "table.transmitter.extensions.octets") \
    X(level_at, int64_t, "table.transmitter.extensions.level_at") \
    X(time_at, int64_t, "table.transmitter.extensions.time_at") \
    X(level, uint8_t, "table.transmitter.extensions.level") \
    X(told_number, uint8_t, "table.told.number") \
    X(told, int16_t, "table.told.octet") \
    X(told_voice, uint8_t, "table.told.voice") \
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
    X(extension, uint8_t, "table.transmitter.extensions.form") \
    X(instant, uint8_t, "table.transmitter.extensions.instant") \
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
    X(aim_samples) X(stay_s) X(together) X(max_units_octets) \
    X(grow_s) X(shrink_s) X(faded) X(nothing_waits) X(never) X(hang_s) X(empty) \
    X(force_s) X(slow_s) X(short_s) X(lengthen_after_s) X(shorten_after_s) X(fast_s) X(again_s) \
    X(anchor_s) X(lasts_s) X(lasts_far_s) \
    X(fade_s) X(quiet) X(pause_s) X(near_s) X(longest_s) X(repeated) X(own) \
    X(one_byte) X(two_byte) X(max_elements) \
    X(dtx_octets) X(max_payload) X(kept) X(others) X(gathered) X(steps_per_second)

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
    Py_ssize_t packet_bytes, extension_bytes, codes;
    Py_ssize_t seam_samples, history, fifo_samples;
    Py_ssize_t capacity, stride;
    uint32_t *odd, batch; /* by row: the last batch in which something of it was left */
} Tick;

/* of a send time */
enum { TIME_BYTES = 3 };

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
