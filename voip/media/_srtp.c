/* A tick's packets through SRTP, in one loop: protection.py, decisions 0101 and 0118.
 *
 * AES-CM is done here, with OpenSSL's AES and SHA-1, on keys and positions that lie in the columns of
 * srtp_rows.py; AES-GCM goes to libsrtp. Nothing is linked: the functions of both are handed in as
 * numbers. A packet of a source that is not the row's, or of a row that is neither, is left to others.
 *
 * The GIL is kept: a tick's packets take tenths of a millisecond, to come by it again may take five.
 */
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stdint.h>
#include <string.h>

enum { PLAIN, SINGLY, LIBRARY, COUNTER };               /* srtp_rows.py: how a row is treated */
enum { PASSED, ALONE, FORGED, REPLAYED, WITHHELD };     /* and a packet */
enum { STATUS_OK = 0, REPLAY_FAIL = 9, REPLAY_OLD = 10 }; /* libsrtp's srtp_err_status_t */
enum { HEADER = 12, ROOM = 16 };                        /* what a tag of libsrtp's may take */
enum { WINDOW = 128 };                                  /* rtp/srtp/replay.py */
#define INDEX_LIMIT ((int64_t)1 << 48)
enum { DIGEST = 20, BLOCK = 64, MKI_MOST = 20 };

/* What is handed in, in this order; 0: there is none. */
enum { PROTECT, UNPROTECT, NEW, FREE, INIT, UPDATE, AES_128, AES_256, SHA_UPDATE, SHA_FINAL, FUNCTIONS };

/* OpenSSL's SHA_CTX, which is public, and room to spare */
typedef struct {
    uint32_t h[5], low, high, data[16];
    unsigned int filled;
    uint8_t spare[64];
} Sha;

typedef int (*srtp_function)(void *session, void *packet, int *length);
typedef void *(*new_function)(void);
typedef void (*free_function)(void *context);
typedef const void *(*cipher_function)(void);
typedef int (*init_function)(void *context, const void *cipher, void *engine, const uint8_t *key,
                             const uint8_t *nonce);
typedef int (*update_function)(void *context, uint8_t *to, int *length, const uint8_t *from, int octets);
typedef int (*sha_update_function)(Sha *sha, const void *octets, size_t length);
typedef int (*sha_final_function)(uint8_t *digest, Sha *sha);

typedef struct {
    srtp_function srtp;                                 /* of this direction */
    new_function make;
    free_function release;
    init_function init;
    update_function update;
    cipher_function cipher[2];
    sha_update_function sha_update;
    sha_final_function sha_final;
    void *context[2];                                   /* of AES with 128 and 256 bits, one for all rows */
} Crypto;

/* A row of the column `material`; srtp_rows.py fills it. */
typedef struct {
    uint8_t key[32], salt[16];
    uint32_t inner[5], outer[5];                        /* SHA-1 behind the key's blocks of HMAC */
    uint8_t key_bytes, tag_bytes, mki_bytes, unused;
    uint8_t mki[MKI_MOST];
} Material;

#define MOST 13
typedef struct {
    Py_buffer buffers[MOST];
    int taken;
    Crypto crypto;
} Loan;

static PyObject *give_back(Loan *loan, PyObject *result)
{
    for (int bits = 0; bits < 2; bits++)
        if (loan->crypto.context[bits] != NULL)
            loan->crypto.release(loan->crypto.context[bits]); /* it wipes the last key */
    while (loan->taken > 0)
        PyBuffer_Release(&loan->buffers[--loan->taken]);
    return result;
}

/* Borrow an array of elements of `item` octets, of at least `count`; NULL with an exception. */
static void *borrow(Loan *loan, PyObject *array, size_t item, Py_ssize_t count, int writable)
{
    Py_buffer *buffer = &loan->buffers[loan->taken];
    int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(array, buffer, flags) < 0)
        return NULL;
    loan->taken++;
    if ((size_t)buffer->itemsize != item || buffer->len < count * (Py_ssize_t)item) {
        PyErr_SetString(PyExc_ValueError, "an array of another size was expected");
        return NULL;
    }
    return buffer->buf;
}

static Py_ssize_t length_of(const Loan *loan)
{
    const Py_buffer *last = &loan->buffers[loan->taken - 1];
    return last->len / last->itemsize;
}

static uint32_t read32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void write32(uint8_t *at, uint32_t value)
{
    for (int n = 0; n < 4; n++)
        at[n] = (uint8_t)(value >> (24 - 8 * n));
}

/* ------------------------------------------------------------ functions that are not linked */

static void point(void *function, uint64_t address)
{
    void *at = (void *)(uintptr_t)address;
    memcpy(function, &at, sizeof at);
}

/* `which` of libsrtp's; NULL with an exception. */
static const uint64_t *borrow_functions(Loan *loan, PyObject *array, int which)
{
    const uint64_t *given = borrow(loan, array, sizeof *given, FUNCTIONS, 0);
    Crypto *crypto = &loan->crypto;
    if (given == NULL)
        return NULL;
    point(&crypto->srtp, given[which]);
    point(&crypto->make, given[NEW]);
    point(&crypto->release, given[FREE]);
    point(&crypto->init, given[INIT]);
    point(&crypto->update, given[UPDATE]);
    point(&crypto->cipher[0], given[AES_128]);
    point(&crypto->cipher[1], given[AES_256]);
    point(&crypto->sha_update, given[SHA_UPDATE]);
    point(&crypto->sha_final, given[SHA_FINAL]);
    return given;
}

static int has_counter_mode(const Crypto *crypto)
{
    return crypto->make && crypto->release && crypto->init && crypto->update && crypto->cipher[0]
           && crypto->cipher[1] && crypto->sha_update && crypto->sha_final;
}

/* The context of AES for keys so long, made when it is first asked for; NULL: there is none. */
static void *context_for(Crypto *crypto, int key_bytes)
{
    int bits = key_bytes == 32;
    if (crypto->context[bits] == NULL) {
        void *context = crypto->make();
        if (context != NULL && !crypto->init(context, crypto->cipher[bits](), NULL, NULL, NULL)) {
            crypto->release(context);
            context = NULL;
        }
        crypto->context[bits] = context;
    }
    return crypto->context[bits];
}

/* ------------------------------------------------------------ AES-CM and HMAC-SHA1 */

/* Encrypt or decrypt in place (RFC 3711, 4.1.1). One context for all rows, whose key is set for each
 * packet, stays in the cache; one for each row does not, and costs more than the key. */
static int apply_keystream(Crypto *crypto, const Material *keys, uint32_t ssrc, int64_t index,
                           uint8_t *octets, int count)
{
    void *context = context_for(crypto, keys->key_bytes);
    uint8_t nonce[16];
    int done = 0;
    memcpy(nonce, keys->salt, sizeof nonce);
    for (int n = 0; n < 4; n++)
        nonce[4 + n] ^= (uint8_t)(ssrc >> (24 - 8 * n));
    for (int n = 0; n < 6; n++)
        nonce[8 + n] ^= (uint8_t)(index >> (40 - 8 * n));
    if (context == NULL || !crypto->init(context, NULL, NULL, keys->key, nonce))
        return 0;
    return count == 0 || (crypto->update(context, octets, &done, octets, count) && done == count);
}

static void resume(Sha *sha, const uint32_t *state)
{
    memset(sha, 0, sizeof *sha);
    memcpy(sha->h, state, sizeof sha->h);
    sha->low = 8 * BLOCK;
}

/* The tag on a packet and its rollover counter (RFC 3711, 4.2). */
static int authenticate(const Crypto *crypto, const Material *keys, const uint8_t *packet, int length,
                        int64_t index, uint8_t *digest)
{
    Sha sha;
    uint8_t rollovers[4];
    write32(rollovers, (uint32_t)(index >> 16));
    resume(&sha, keys->inner);
    if (!crypto->sha_update(&sha, packet, (size_t)length) || !crypto->sha_update(&sha, rollovers, 4)
        || !crypto->sha_final(digest, &sha))
        return 0;
    resume(&sha, keys->outer);
    return crypto->sha_update(&sha, digest, DIGEST) && crypto->sha_final(digest, &sha);
}

/* Whether octets differ, in a time that does not tell where. */
static int differ(const uint8_t *a, const uint8_t *b, int count)
{
    volatile uint8_t found = 0;
    for (int n = 0; n < count; n++)
        found |= a[n] ^ b[n];
    return found != 0;
}

/* rtp/srtp/extensions.py, payload_offset */
static int payload_offset(const uint8_t *packet, int length)
{
    if (length < HEADER || packet[0] >> 6 != 2)
        return -1;
    int offset = HEADER + 4 * (packet[0] & 0x0F);
    if (packet[0] & 0x10) {
        if (offset + 4 > length)
            return -1;
        offset += 4 + 4 * (packet[offset + 2] << 8 | packet[offset + 3]);
    }
    return offset <= length ? offset : -1;
}

/* rtp/srtp/replay.py, estimate */
static int64_t estimate(int64_t highest, uint16_t sequence)
{
    int64_t index = highest + (int16_t)(uint16_t)(sequence - (uint16_t)highest);
    return index >= 0 ? index : sequence;
}

/* rtp/srtp/replay.py, ReplayWindow: seen[0] has the latest 64 */
static int is_new(int64_t highest, const uint64_t *seen, int64_t index)
{
    int64_t behind = highest - index;
    return behind < 0 || (behind < WINDOW && !(seen[behind >> 6] >> (behind & 63) & 1));
}

static void note(int64_t *highest, uint64_t *seen, int64_t index)
{
    int64_t ahead = index - *highest;
    if (ahead > 0) {
        if (ahead >= 64) {
            seen[1] = ahead < WINDOW ? seen[0] << (ahead - 64) : 0;
            seen[0] = 0;
        } else {
            seen[1] = seen[1] << ahead | seen[0] >> (64 - ahead);
            seen[0] <<= ahead;
        }
        *highest = index;
    }
    int64_t behind = *highest - index;
    seen[behind >> 6] |= (uint64_t)1 << (behind & 63);
}

/* ------------------------------------------------------------ rows */

typedef struct {
    Crypto *crypto;
    const uint8_t *mode;
    const uint64_t *session;
    const int64_t *ssrc;
    int64_t *index;
    uint64_t *seen;
    const Material *material;
    Py_ssize_t rows;
} Table;

/* functions, mode, session, ssrc, index, seen, material: the first arguments of both */
enum { TABLE = 7 };
static int borrow_table(Loan *loan, Table *table, PyObject *const *arguments, int which)
{
    if (borrow_functions(loan, arguments[0], which) == NULL
        || (table->mode = borrow(loan, arguments[1], 1, 0, 0)) == NULL)
        return -1;
    table->crypto = &loan->crypto;
    table->rows = length_of(loan);
    return (table->session = borrow(loan, arguments[2], 8, table->rows, 0)) == NULL
                   || (table->ssrc = borrow(loan, arguments[3], 8, table->rows, 0)) == NULL
                   || (table->index = borrow(loan, arguments[4], 8, table->rows, 1)) == NULL
                   || (table->seen = borrow(loan, arguments[5], 8, 2 * table->rows, 1)) == NULL
                   || (table->material = borrow(loan, arguments[6], 1,
                                                table->rows * (Py_ssize_t)sizeof(Material), 0)) == NULL
               ? -1
               : 0;
}

/* Whether a packet may be treated here. */
static int is_ordinary(const Table *table, Py_ssize_t row, const uint8_t *packet, int length)
{
    if (length < HEADER || table->ssrc[row] != (int64_t)read32(packet + 8))
        return 0;
    if (table->mode[row] == LIBRARY)
        return table->session[row] != 0 && table->crypto->srtp != NULL;
    const Material *keys = &table->material[row];
    return table->mode[row] == COUNTER && has_counter_mode(table->crypto)
           && (keys->key_bytes == 16 || keys->key_bytes == 32) && keys->tag_bytes <= DIGEST
           && keys->mki_bytes <= MKI_MOST;
}

static int64_t index_of(const Table *table, Py_ssize_t row, const uint8_t *packet)
{
    return estimate(table->index[row], (uint16_t)(packet[2] << 8 | packet[3]));
}

/* By libsrtp, which has a window of its own; its status. */
static int by_library(const Table *table, Py_ssize_t row, uint8_t *packet, int *length)
{
    int64_t index = index_of(table, row, packet);
    int status = table->crypto->srtp((void *)(uintptr_t)table->session[row], packet, length);
    if (status == STATUS_OK && index > table->index[row])
        table->index[row] = index;
    return status;
}

/* rtp/srtp/own.py, protect; a verdict. The same index is never used twice. */
static int seal(const Table *table, Py_ssize_t row, uint8_t *packet, int *length)
{
    const Material *keys = &table->material[row];
    uint64_t *seen = table->seen + 2 * row;
    int64_t index = index_of(table, row, packet);
    int start = payload_offset(packet, *length), end = *length;
    uint8_t digest[DIGEST];
    if (start < 0 || index >= INDEX_LIMIT || !is_new(table->index[row], seen, index))
        return WITHHELD;
    note(&table->index[row], seen, index);
    if (!apply_keystream(table->crypto, keys, (uint32_t)table->ssrc[row], index, packet + start, end - start)
        || !authenticate(table->crypto, keys, packet, end, index, digest))
        return WITHHELD;
    memcpy(packet + end, keys->mki, keys->mki_bytes);
    memcpy(packet + end + keys->mki_bytes, digest, keys->tag_bytes);
    *length = end + keys->mki_bytes + keys->tag_bytes;
    return PASSED;
}

/* rtp/srtp/own.py, unprotect; a verdict. What is not authentic is left as it was. */
static int unseal(const Table *table, Py_ssize_t row, uint8_t *packet, int *length)
{
    const Material *keys = &table->material[row];
    uint64_t *seen = table->seen + 2 * row;
    int end = *length - keys->tag_bytes - keys->mki_bytes;
    uint8_t digest[DIGEST];
    if (end < HEADER || differ(packet + end, keys->mki, keys->mki_bytes))
        return FORGED;
    int64_t index = index_of(table, row, packet);
    int start = payload_offset(packet, end + keys->tag_bytes);
    if (start < 0)
        return FORGED;
    if (!is_new(table->index[row], seen, index))
        return REPLAYED;
    if (start > end || index >= INDEX_LIMIT || !authenticate(table->crypto, keys, packet, end, index, digest)
        || differ(digest, packet + end + keys->mki_bytes, keys->tag_bytes)
        || !apply_keystream(table->crypto, keys, (uint32_t)table->ssrc[row], index, packet + start, end - start))
        return FORGED;
    note(&table->index[row], seen, index);
    *length = end;
    return PASSED;
}

static int wants(Py_ssize_t given, Py_ssize_t wanted)
{
    if (given != wanted)
        PyErr_SetString(PyExc_TypeError, "another number of arguments was expected");
    return given == wanted;
}

static int knows(const Table *table, Py_ssize_t row)
{
    if (row < 0 || row >= table->rows)
        PyErr_SetString(PyExc_IndexError, "there is no such row");
    return row >= 0 && row < table->rows;
}

PyDoc_STRVAR(protect_doc,
             "protect(functions, mode, session, ssrc, index, seen, material, rows, packets, width, lengths,\n"
             "verdicts, /)\n--\n\n"
             "Protect packets[row, :length], uint8 (table, width), for each of `rows`, int32 (k,).\n\n"
             "lengths: int32 (k,), grow; verdicts: uint8 (k,). Returns how many did not pass.");

static PyObject *protect(PyObject *module, PyObject *const *arguments, Py_ssize_t given)
{
    (void)module;
    Loan loan = {.taken = 0};
    Table table;
    const int32_t *rows;
    uint8_t *packets, *verdicts;
    int32_t *lengths;
    if (!wants(given, TABLE + 5))
        return NULL;
    Py_ssize_t width = PyLong_AsSsize_t(arguments[TABLE + 2]);
    if (PyErr_Occurred())
        return NULL;
    if (borrow_table(&loan, &table, arguments, PROTECT) < 0
        || (rows = borrow(&loan, arguments[TABLE], sizeof *rows, 0, 0)) == NULL)
        return give_back(&loan, NULL);
    Py_ssize_t count = length_of(&loan), others = 0;
    if ((packets = borrow(&loan, arguments[TABLE + 1], 1, 0, 1)) == NULL)
        return give_back(&loan, NULL);
    Py_ssize_t octets = length_of(&loan);
    if ((lengths = borrow(&loan, arguments[TABLE + 3], sizeof *lengths, count, 1)) == NULL
        || (verdicts = borrow(&loan, arguments[TABLE + 4], 1, count, 1)) == NULL)
        return give_back(&loan, NULL);
    for (Py_ssize_t at = 0; at < count; at++) {
        Py_ssize_t row = rows[at];
        if (!knows(&table, row))
            return give_back(&loan, NULL);
        if (table.mode[row] == PLAIN) {
            verdicts[at] = PASSED;
            continue;
        }
        uint8_t *packet = packets + row * width;
        int length = lengths[at];
        int room = table.mode[row] == COUNTER ? table.material[row].tag_bytes + table.material[row].mki_bytes : ROOM;
        if (width <= 0 || (row + 1) * width > octets || length > width - room
            || !is_ordinary(&table, row, packet, length))
            verdicts[at] = ALONE;
        else {
            if (table.mode[row] == COUNTER)
                verdicts[at] = (uint8_t)seal(&table, row, packet, &length);
            else
                verdicts[at] = by_library(&table, row, packet, &length) == STATUS_OK ? PASSED : WITHHELD;
            lengths[at] = length;
        }
        others += verdicts[at] != PASSED;
    }
    return give_back(&loan, PyLong_FromSsize_t(others));
}

PyDoc_STRVAR(unprotect_doc,
             "unprotect(functions, mode, session, ssrc, index, seen, material, rows, rtcp, memory, head,\n"
             "slots, lengths, verdicts, /)\n--\n\n"
             "Unprotect a batch: k packets of `rows`, intp (k,), in memory[slots, head:], uint8.\n\n"
             "rtcp: bool (k,); slots: intp (k,); lengths: int32 (k,), shrink; verdicts: uint8 (k,).\n"
             "Returns how many did not pass.");

static PyObject *unprotect(PyObject *module, PyObject *const *arguments, Py_ssize_t given)
{
    (void)module;
    Loan loan = {.taken = 0};
    Table table;
    const intptr_t *rows, *slots;
    const uint8_t *rtcp;
    uint8_t *memory, *verdicts;
    int32_t *lengths;
    if (!wants(given, TABLE + 7))
        return NULL;
    Py_ssize_t head = PyLong_AsSsize_t(arguments[TABLE + 3]);
    if (PyErr_Occurred())
        return NULL;
    if (borrow_table(&loan, &table, arguments, UNPROTECT) < 0
        || (rows = borrow(&loan, arguments[TABLE], sizeof *rows, 0, 0)) == NULL)
        return give_back(&loan, NULL);
    Py_ssize_t count = length_of(&loan), others = 0;
    if ((rtcp = borrow(&loan, arguments[TABLE + 1], 1, count, 0)) == NULL
        || (memory = borrow(&loan, arguments[TABLE + 2], 1, 0, 1)) == NULL)
        return give_back(&loan, NULL);
    const Py_buffer *whole = &loan.buffers[loan.taken - 1];
    int flat = whole->ndim != 2;
    Py_ssize_t capacity = flat ? 0 : whole->shape[0], stride = flat ? 0 : whole->shape[1];
    if ((slots = borrow(&loan, arguments[TABLE + 4], sizeof *slots, count, 0)) == NULL
        || (lengths = borrow(&loan, arguments[TABLE + 5], sizeof *lengths, count, 1)) == NULL
        || (verdicts = borrow(&loan, arguments[TABLE + 6], 1, count, 1)) == NULL)
        return give_back(&loan, NULL);
    for (Py_ssize_t at = 0; at < count; at++) {
        Py_ssize_t row = rows[at], slot = slots[at];
        int length = lengths[at];
        if (!knows(&table, row))
            return give_back(&loan, NULL);
        if (slot < 0 || slot >= capacity || head < 0 || length < 0 || length > stride - head) {
            PyErr_SetString(PyExc_ValueError, "a packet lies outside of the batch");
            return give_back(&loan, NULL);
        }
        if (table.mode[row] == PLAIN) {
            verdicts[at] = PASSED;
            continue;
        }
        uint8_t *packet = memory + slot * stride + head;
        if (rtcp[at] || !is_ordinary(&table, row, packet, length)
            || (table.mode[row] == LIBRARY && length < HEADER + ROOM))
            verdicts[at] = ALONE;
        else if (table.mode[row] == COUNTER) {
            verdicts[at] = (uint8_t)unseal(&table, row, packet, &length);
            lengths[at] = verdicts[at] == PASSED ? length : 0;
        } else {
            int status = by_library(&table, row, packet, &length);
            lengths[at] = status == STATUS_OK ? length : 0;
            verdicts[at] = status == STATUS_OK                              ? PASSED
                           : status == REPLAY_FAIL || status == REPLAY_OLD ? REPLAYED
                                                                           : FORGED;
        }
        others += verdicts[at] != PASSED;
    }
    return give_back(&loan, PyLong_FromSsize_t(others));
}

PyDoc_STRVAR(midstates_doc,
             "midstates(functions, key, /)\n--\n\n"
             "Return SHA-1 behind the blocks that HMAC makes of a key of at most 64 octets: the inner and\n"
             "the outer one, 20 octets each, as a row's `material` has them.");

static PyObject *midstates(PyObject *module, PyObject *const *arguments, Py_ssize_t given)
{
    (void)module;
    static const uint32_t start[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    Loan loan = {.taken = 0};
    uint8_t block[BLOCK], result[2 * DIGEST];
    if (!wants(given, 2))
        return NULL;
    if (borrow_functions(&loan, arguments[0], PROTECT) == NULL)
        return give_back(&loan, NULL);
    const uint8_t *key = borrow(&loan, arguments[1], 1, 0, 0);
    if (key == NULL)
        return give_back(&loan, NULL);
    Py_ssize_t length = length_of(&loan);
    if (length > BLOCK || !has_counter_mode(&loan.crypto)) {
        PyErr_SetString(PyExc_ValueError, "the key is too long, or there is no SHA-1");
        return give_back(&loan, NULL);
    }
    for (int outer = 0; outer < 2; outer++) {
        Sha sha;
        memset(&sha, 0, sizeof sha);
        memcpy(sha.h, start, sizeof start);
        memset(block, outer ? 0x5C : 0x36, BLOCK);
        for (Py_ssize_t n = 0; n < length; n++)
            block[n] ^= key[n];
        if (!loan.crypto.sha_update(&sha, block, BLOCK)) {
            PyErr_SetString(PyExc_ValueError, "SHA-1 failed");
            return give_back(&loan, NULL);
        }
        memcpy(result + outer * DIGEST, sha.h, DIGEST);
    }
    return give_back(&loan, PyBytes_FromStringAndSize((const char *)result, sizeof result));
}

static PyMethodDef methods[] = {
    {"protect", (PyCFunction)(void (*)(void))protect, METH_FASTCALL, protect_doc},
    {"unprotect", (PyCFunction)(void (*)(void))unprotect, METH_FASTCALL, unprotect_doc},
    {"midstates", (PyCFunction)(void (*)(void))midstates, METH_FASTCALL, midstates_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot module_slots[] = {{0, NULL}};

static PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_srtp", NULL, 0, methods, module_slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__srtp(void)
{
    return PyModuleDef_Init(&module);
}
