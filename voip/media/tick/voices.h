/* Rows whose codecs remember: decoded, concealed and encoded by the codecs' own functions. */

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
    int64_t needed = count + (int64_t)rint(t->fade_s * rate), least = needed, gap;
    Py_ssize_t next;
    if (off < 0) {
        int64_t pause = (int64_t)rint(t->pause_s * rate);
        least = count;
        needed = pause > needed ? pause : needed;
    }
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
    if (t->pending[row] < least)
        return 0;
    for (int64_t at = 0; at < needed && at < t->pending[row]; at++)
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
