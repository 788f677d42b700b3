/* A step of many rows: heard, encoded, and made packets. What Python calls. */

static PyObject *tick_play(PyObject *self, PyObject *arguments)
{
    Tick *t = (Tick *)self;
    PyObject *rows_array, *due_array, *heard_array, *odd_array, *gaps_array, *slots_array;
    Loan loan = {.taken = 0};
    const intptr_t *rows;
    const double *due;
    float *heard;
    intptr_t *odd, *gaps, *slots;
    Py_ssize_t k, count, others = 0, missing = 0, broken = 0;
    if (!PyArg_ParseTuple(arguments, "OnOOOOO", &rows_array, &count, &due_array, &heard_array,
                          &odd_array, &gaps_array, &slots_array))
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
        int came = steps ? step(t, row, count, due[at], heard + at * count, &slot) : ODD;
        slots[at] = came == VOICED ? slot : -1;
        if (came == VOICED && t->hear_by[row] == t->together)
            came = GAP;
        if (came == VOICED)
            came = hear_step(t, row, slot, count, heard + at * count);
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

PyDoc_STRVAR(say_doc,
             "say(rows, sound, slots, sizes, /)\n--\n\n"
             "Put sound, float32 (k, samples), into packets of `rows`, intp (k,), with voices.\n\n"
             "`slots`, int64 (k,), counts base steps of all time. `sizes`, int32 (k,), says how many\n"
             "octets those took that are full, 0 where that failed, or why there are none: transmit.py.\n"
             "Returns how many are not full, or have less to say than is sent.");
static PyObject *tick_say(PyObject *self, PyObject *arguments)
{
    Tick *t = (Tick *)self;
    PyObject *rows_array, *sound_array, *slots_array, *sizes_array;
    Loan loan = {.taken = 0};
    const intptr_t *rows;
    const int64_t *slots;
    const float *sound;
    int32_t *sizes;
    Py_ssize_t k, left = 0;
    if (!PyArg_ParseTuple(arguments, "OOOO", &rows_array, &sound_array, &slots_array, &sizes_array))
        return NULL;
    if ((rows = borrow_rows(t, &loan, rows_array, &k)) == NULL
        || (sizes = borrow(&loan, sizes_array, sizeof *sizes, k, 1)) == NULL
        || (slots = borrow(&loan, slots_array, sizeof *slots, k, 0)) == NULL
        || (sound = borrow(&loan, sound_array, sizeof *sound, -1, 0)) == NULL)
        return give_back(&loan, NULL);
    Py_ssize_t count = k > 0 ? loan.buffers[3].len / loan.buffers[3].itemsize / k : 0;
    for (Py_ssize_t at = 0; at < k; at++) {
        Py_ssize_t row = rows[at], packet = (Py_ssize_t)t->says[row];
        if (t->in_hand[row] + count > packet) {
            sizes[at] = (int32_t)t->others;
            left++;
            continue;
        }
        if (t->in_hand[row] == 0)
            t->start[row] = t->origin[row] + slots[at] * t->send_clock[row] / (int64_t)t->steps_per_second;
        int32_t size = (int32_t)t->gathered;
        if (t->say_by[row] != t->together)
            size = say_step(t, row, sound + at * count, count, packet);
        sizes[at] = size;
        if (size > t->dtx_octets && size <= t->max_payload)
            t->filled[row] = size;
        else
            left++;
    }
    return give_back(&loan, PyLong_FromSsize_t(left));
}

PyDoc_STRVAR(play_doc,
             "play(rows, count, due, heard, odd, gaps, slots, /)\n--\n\n"
             "Let rows hear `count` samples of packets: intp (k,), float64 (k,), float32 (k, count).\n\n"
             "Returns the numbers of those that do not: `odd` and `gaps`, intp (k,), begin with their\n"
             "places, and `gaps` ends with those whose packet was none. Odd ones are to be played\n"
             "otherwise; in a gap, and for a packet that was none, nothing is missing but its sound.\n"
             "`slots`, intp (k,), says which payload it is in for rows that are decoded together, which\n"
             "are among the gaps, and -1 for others.");

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
        if (filled < 0 || 12 + t->extension_bytes + filled + count > t->packet_bytes || code >= t->codes) {
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

/* extensions.py, ExtensionWriter.write; returns by how much a packet is longer */
static int32_t extend(const Tick *t, Py_ssize_t row, uint8_t *packet)
{
    int64_t extra = t->extra[row], level_at = t->level_at[row], time_at = t->time_at[row];
    uint8_t *extension = packet + 12;
    if (extra > t->extension_bytes || level_at >= extra || time_at + TIME_BYTES > extra || t->filled[row] < 0
        || 12 + extra + t->filled[row] > t->packet_bytes)
        return 0; /* none of ours */
    memmove(extension + extra, extension, (size_t)t->filled[row]);
    memcpy(extension, t->extension + row * t->extension_bytes, (size_t)extra);
    if (level_at > 0)
        extension[level_at] = t->level[row];
    if (time_at > 0)
        memcpy(extension + time_at, t->instant, TIME_BYTES);
    packet[0] |= 0x10;
    return (int32_t)extra;
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
        if (t->extra[row] > 0)
            lengths[at] += extend(t, row, packet);
        t->sent_octets[row] += t->filled[row];
        t->send_sequence[row]++;
        t->marker[row] = 0;
        t->filled[row] = 0;
    }
    Py_INCREF(Py_None);
    return give_back(&loan, Py_None);
}
