/* Rows whose codecs remember: decoded, concealed and encoded by the codecs' own functions. */

/* libopus' opus_decode_float and opus_encode_float: codecs/direct.py */
typedef int (*Decoder)(void *, const uint8_t *, int32_t, float *, int, int);
typedef int32_t (*Encoder)(void *, const float *, int, uint8_t *, int32_t);

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
static int hear_voice(Tick *t, Py_ssize_t row, Py_ssize_t slot, Py_ssize_t count, float *heard)
{
    const uint8_t *payload = t->slot_payload + slot * t->slot_bytes;
    Py_ssize_t size = (Py_ssize_t)t->slot_length[slot];
    Decoder decode_by = (Decoder)pointer_to(t->hear_function[row]);
    void *state = pointer_to(t->hear_state[row]);
    if (decode_by == NULL || decode_by(state, payload, (int32_t)size, heard, (int)count, 0) != count)
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
    Decoder decode_by = (Decoder)pointer_to(t->hear_function[row]);
    void *state = pointer_to(t->hear_state[row]);
    if (decode_by == NULL)
        return 0;
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
static int await_pause(Tick *t, Py_ssize_t row, int64_t count, double rate, int off)
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
            || !hear_voice(t, row, slot, (Py_ssize_t)duration, fifo + pending))
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
static int hear_step(Tick *t, Py_ssize_t row, Py_ssize_t slot, Py_ssize_t count, float *heard)
{
    Py_ssize_t whole = (Py_ssize_t)t->pending[row];
    float *fifo = t->fifo + row * t->fifo_samples;
    t->pending[row] = whole - count;
    if (!hear_voice(t, row, slot, whole, whole == count ? heard : fifo))
        return TORN;
    t->pending[row] = whole;
    if (whole == count)
        t->pending[row] = 0;
    else
        take_pending(t, row, count, heard);
    return HEARD;
}

/* adapter.py, Encoding.encode_whole: how many octets it took, 0 where it failed, or is not done here. */
static int32_t say_voice(Tick *t, Py_ssize_t row, const float *sound, Py_ssize_t count)
{
    uint8_t *to = t->packets + row * t->packet_bytes + 12;
    int64_t room = t->say_room[row];
    Encoder encode_by = (Encoder)pointer_to(t->say_function[row]);
    void *state = pointer_to(t->say_state[row]);
    if (encode_by == NULL || room <= 0 || room > t->packet_bytes - 12)
        return 0;
    int32_t size = encode_by(state, sound, (int)count, to, (int32_t)room);
    return size > 0 ? size : 0;
}

/* adapter.py, Encoding.feed and take */
static int32_t say_step(Tick *t, Py_ssize_t row, const float *sound, Py_ssize_t count, Py_ssize_t packet)
{
    Py_ssize_t in_hand = (Py_ssize_t)t->in_hand[row];
    if (in_hand == 0 && count == packet)
        return say_voice(t, row, sound, packet);
    float *waiting = pointer_to(t->say_waiting[row]);
    if (in_hand < 0 || in_hand + count > packet)
        return 0;
    memcpy(waiting + in_hand, sound, sizeof *sound * (size_t)count);
    if (in_hand + count < packet) {
        t->in_hand[row] = in_hand + count;
        return (int32_t)t->kept;
    }
    int32_t size = say_voice(t, row, waiting, packet);
    if (size > 0)
        t->in_hand[row] = 0; /* else the voice is given this step's sound again, and tells */
    return size;
}
