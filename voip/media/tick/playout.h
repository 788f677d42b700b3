/* What a row hears in a step: the next packet, or what stands for it; and when. */

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
static int await_pause(Tick *t, Py_ssize_t row, int64_t count, double rate, int off);
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
static int step(Tick *t, Py_ssize_t row, int64_t count, double due, float *heard, Py_ssize_t *voiced)
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
        double after = excess < 0 ? t->lengthen_after_s : t->shorten_after_s;
        if (pending == 0 && (double)(played - off_since) >= after * rate)
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
        if (!coded || settled || excess > t->fast_s || await_pause(t, row, count, rate, off))
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
        if (coded && (t->hears[row] == 0 || (t->hear_function[row] == 0 && t->hear_by[row] != t->together)))
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
