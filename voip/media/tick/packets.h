/* Packets that are as they should be: counted, and put where playout finds them. */

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

/* extensions.py, ToldLevels._first; -1 where an extension, which begins at `packet + 12`, tells nothing */
static int told_level(const Tick *t, const uint8_t *packet, int64_t end, int wanted)
{
    int profile = packet[12] << 8 | packet[13], one = profile == (int)t->one_byte;
    if (!one && (profile & 0xFFF0) != (int)t->two_byte)
        return -1;
    int64_t at = 16;
    for (int turn = 0; turn < (int)t->max_elements && at < end; turn++) {
        int head = packet[at++], number = one ? head >> 4 : head, size;
        if (head == 0)
            continue;
        if (one ? number == 15 : at >= end)
            return -1;
        size = one ? (head & 0x0F) + 1 : packet[at++];
        if (at + size > end)
            return -1;
        if (number == wanted && size > 0)
            return packet[at];
        at += size;
    }
    return -1;
}

/* receive.py, Receiver.accept and _measure_jitter; arrivals.py, Arrivals.take; payloads.py,
 * PayloadRing.insert: nothing is changed before it is certain that all is ordinary. */
static int take_packet(Tick *t, Py_ssize_t i, Py_ssize_t row)
{
    const uint8_t *packet = t->memory + t->slots[i] * t->stride + (Py_ssize_t)t->head_bytes;
    int64_t size = (int64_t)t->lengths[i] - 12, head = 12;
    if (packet[0] == 0x90 && size >= 4) /* with an extension */
        head += 4 + 4 * (int64_t)(packet[14] << 8 | packet[15]);
    else if (packet[0] != 0x80)
        return 0;
    size -= head - 12;
    const uint8_t *payload = packet + head;
    if (size <= 0 || size > t->slot_bytes)
        return 0;
    uint8_t code = t->meaning[row * t->payload_types + (packet[1] & 0x7F)];
    int64_t duration = size; /* a byte is a sample */
    int64_t clock = (int64_t)t->rate_hz, rate = clock;
    if (t->coded[row]) {
        if ((duration = voiced_samples(t, row, code, payload, size)) == 0)
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
        int told = head > 12 && t->told_number[row] ? told_level(t, packet, head, t->told_number[row]) : -1;
        if (told >= 0)
            t->told[row] = (int16_t)(t->told_voice[row] ? told : told & 0x7F);
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
    memcpy(t->slot_payload + slot * t->slot_bytes, payload, (size_t)size);
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
