/* A tick's packets through libsrtp, in one loop: protection.py, decision 0101.
 *
 * Nothing is linked: libsrtp's functions are handed in as numbers, where pylibsrtp has them. A packet
 * of a source that is not the row's, or of a row whose keys are none of libsrtp's, is left to others.
 */
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stdint.h>
#include <string.h>

enum { PLAIN, SINGLY, FAST };                           /* protection.py: how a row is treated */
enum { PASSED, ALONE, FORGED, REPLAYED, WITHHELD };     /* and a packet */
enum { STATUS_OK = 0, REPLAY_FAIL = 9, REPLAY_OLD = 10 }; /* libsrtp's srtp_err_status_t */
enum { HEADER = 12, ROOM = 16 };                        /* what a tag may take */

typedef int (*srtp_function)(void *session, void *packet, int *length);

#define MOST 11
typedef struct {
    Py_buffer buffers[MOST];
    int taken;
} Loan;

static PyObject *give_back(Loan *loan, PyObject *result)
{
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

/* rtp/srtp/replay.py, estimate */
static int64_t estimate(int64_t highest, uint16_t sequence)
{
    int64_t index = highest + (int16_t)(uint16_t)(sequence - (uint16_t)highest);
    return index >= 0 ? index : sequence;
}

typedef struct {
    srtp_function function;
    const uint8_t *mode;
    const uint64_t *session;
    const int64_t *ssrc;
    int64_t *index;
    Py_ssize_t rows;
} Table;

/* function, mode, session, ssrc, index: the first arguments of both */
static int borrow_table(Loan *loan, Table *table, PyObject *const *arguments)
{
    void *function = PyLong_AsVoidPtr(arguments[0]);
    if (PyErr_Occurred())
        return -1;
    if (function == NULL) {
        PyErr_SetString(PyExc_ValueError, "there is no function");
        return -1;
    }
    memcpy(&table->function, &function, sizeof function);
    if ((table->mode = borrow(loan, arguments[1], 1, 0, 0)) == NULL)
        return -1;
    table->rows = length_of(loan);
    return (table->session = borrow(loan, arguments[2], 8, table->rows, 0)) == NULL
                   || (table->ssrc = borrow(loan, arguments[3], 8, table->rows, 0)) == NULL
                   || (table->index = borrow(loan, arguments[4], 8, table->rows, 1)) == NULL
               ? -1
               : 0;
}

/* Whether a packet may go through `function` here. */
static int is_ordinary(const Table *table, Py_ssize_t row, const uint8_t *packet, int length)
{
    return table->mode[row] == FAST && table->session[row] != 0 && length >= HEADER
           && table->ssrc[row] == (int64_t)read32(packet + 8);
}

static int apply(const Table *table, Py_ssize_t row, uint8_t *packet, int *length)
{
    int64_t index = estimate(table->index[row], (uint16_t)(packet[2] << 8 | packet[3]));
    int status = table->function((void *)(uintptr_t)table->session[row], packet, length);
    if (status == STATUS_OK && index > table->index[row])
        table->index[row] = index;
    return status;
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
             "protect(function, mode, session, ssrc, index, rows, packets, width, lengths, verdicts, /)\n"
             "--\n\n"
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
    if (!wants(given, 10))
        return NULL;
    Py_ssize_t width = PyLong_AsSsize_t(arguments[7]);
    if (PyErr_Occurred())
        return NULL;
    if (borrow_table(&loan, &table, arguments) < 0
        || (rows = borrow(&loan, arguments[5], sizeof *rows, 0, 0)) == NULL)
        return give_back(&loan, NULL);
    Py_ssize_t count = length_of(&loan), others = 0;
    if ((packets = borrow(&loan, arguments[6], 1, 0, 1)) == NULL)
        return give_back(&loan, NULL);
    Py_ssize_t octets = length_of(&loan);
    if ((lengths = borrow(&loan, arguments[8], sizeof *lengths, count, 1)) == NULL
        || (verdicts = borrow(&loan, arguments[9], 1, count, 1)) == NULL)
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
        if (width <= 0 || (row + 1) * width > octets || length + ROOM > width
            || !is_ordinary(&table, row, packet, length))
            verdicts[at] = ALONE;
        else {
            verdicts[at] = apply(&table, row, packet, &length) == STATUS_OK ? PASSED : WITHHELD;
            lengths[at] = length;
        }
        others += verdicts[at] != PASSED;
    }
    return give_back(&loan, PyLong_FromSsize_t(others));
}

PyDoc_STRVAR(unprotect_doc,
             "unprotect(function, mode, session, ssrc, index, rows, rtcp, memory, head, slots, lengths,\n"
             "verdicts, /)\n--\n\n"
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
    if (!wants(given, 12))
        return NULL;
    Py_ssize_t head = PyLong_AsSsize_t(arguments[8]);
    if (PyErr_Occurred())
        return NULL;
    if (borrow_table(&loan, &table, arguments) < 0
        || (rows = borrow(&loan, arguments[5], sizeof *rows, 0, 0)) == NULL)
        return give_back(&loan, NULL);
    Py_ssize_t count = length_of(&loan), others = 0;
    if ((rtcp = borrow(&loan, arguments[6], 1, count, 0)) == NULL
        || (memory = borrow(&loan, arguments[7], 1, 0, 1)) == NULL)
        return give_back(&loan, NULL);
    const Py_buffer *whole = &loan.buffers[loan.taken - 1];
    int flat = whole->ndim != 2;
    Py_ssize_t capacity = flat ? 0 : whole->shape[0], stride = flat ? 0 : whole->shape[1];
    if ((slots = borrow(&loan, arguments[9], sizeof *slots, count, 0)) == NULL
        || (lengths = borrow(&loan, arguments[10], sizeof *lengths, count, 1)) == NULL
        || (verdicts = borrow(&loan, arguments[11], 1, count, 1)) == NULL)
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
        if (rtcp[at] || length < HEADER + ROOM || !is_ordinary(&table, row, packet, length))
            verdicts[at] = ALONE;
        else {
            int status = apply(&table, row, packet, &length);
            lengths[at] = status == STATUS_OK ? length : 0;
            verdicts[at] = status == STATUS_OK                              ? PASSED
                           : status == REPLAY_FAIL || status == REPLAY_OLD ? REPLAYED
                                                                           : FORGED;
        }
        others += verdicts[at] != PASSED;
    }
    return give_back(&loan, PyLong_FromSsize_t(others));
}

static PyMethodDef methods[] = {
    {"protect", (PyCFunction)(void (*)(void))protect, METH_FASTCALL, protect_doc},
    {"unprotect", (PyCFunction)(void (*)(void))unprotect, METH_FASTCALL, unprotect_doc},
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
