/* A batch's way between the kernel's queues and the arrays, in one call each way: io_uring(7).
 *
 * It does what uring_receiver.py and uring_carrier.py do, for what is ordinary: packets of known
 * lines from those they are connected to, none too long, of no line too many; and packets for lines
 * that are connected. It leaves all else to them, untouched. The package works without this, which
 * saves what many operations on small arrays cost: decision 0125.
 *
 * Addresses come in arrays of 64-bit words, whose order is that of the structs here.
 */
#define _DEFAULT_SOURCE /* syscall(2) */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ENTER = 426, GET_EVENTS = 1, EXTENDED_ARGUMENT = 1 << 3 };
enum { HAS_BUFFER = 1, GOES_ON = 2, BUFFER_SHIFT = 16 };
enum { LENGTH_WORD = 2, NAME_WORD = 2, NAME_WORDS = 4, STAMP_WORD = NAME_WORD + NAME_WORDS + 2 };
enum { OPERATION_BYTES = 64, OPERATION_LENGTH = 24 };

typedef struct { /* struct io_uring_cqe */
    uint32_t tag, generation;
    int32_t result;
    uint32_t flags;
} Completion;

typedef struct { /* struct io_uring_buf; the ring's tail lies in the first one */
    uint64_t address;
    uint32_t length;
    uint16_t number, tail;
} Buffer;

typedef struct {
    uint64_t descriptor, completions, head, tail, done; /* the completion queue */
    uint64_t argument, argument_bytes; /* of entering without waiting */
    uint64_t ring, buffers; /* what the kernel takes slots from, and how many */
    uint64_t memory, stride, head_bytes, slot_bytes;
    uint64_t lines, generations, expected, counts; /* by tag; counts: uint8, zeros */
    uint64_t most_rtp, most_rtcp;
    uint64_t slots, lengths, rows, arrival, rtcp, source; /* the batch's columns */
} Inlet;

typedef struct {
    uint64_t descriptor, entries, operations, tail, numbers; /* the submission queue */
    uint64_t rows, prepared, ready; /* by row */
} Outlet;

static void *at(uint64_t address)
{
    return (void *)(uintptr_t)address;
}

/* Let the kernel fill all slots, the first ones first. `used`: where it goes on in the ring. */
static void offer(const Inlet *in, uint64_t used)
{
    Buffer *ring = at(in->ring);
    for (uint64_t slot = 0; slot < in->buffers; slot++) {
        Buffer *entry = &ring[(used + slot) & (in->buffers - 1)];
        entry->address = in->memory + slot * in->stride;
        entry->length = (uint32_t)(in->head_bytes + in->slot_bytes);
        entry->number = (uint16_t)slot;
    }
    __atomic_store_n(&ring[0].tail, (uint16_t)(used + in->buffers), __ATOMIC_RELEASE);
}

static const Completion *completion(const Inlet *in, uint32_t number)
{
    return (const Completion *)at(in->done) + (number & (in->completions - 1));
}

static uint64_t *head_of(const Inlet *in, const Completion *one)
{
    return at(in->memory + (one->flags >> BUFFER_SHIFT) * in->stride);
}

/* Whether it is a packet of a line that there is, which is expected by it. */
static int is_ordinary(const Inlet *in, const Completion *one)
{
    uint32_t wanted = HAS_BUFFER | GOES_ON;
    if ((one->flags & wanted) != wanted || one->tag >= in->lines
        || (one->flags >> BUFFER_SHIFT) >= in->buffers
        || ((const uint32_t *)at(in->generations))[one->tag] != one->generation)
        return 0;
    const uint64_t *head = head_of(in, one);
    const uint64_t *expected = (const uint64_t *)at(in->expected) + NAME_WORDS * (size_t)one->tag;
    return ((const uint32_t *)head)[LENGTH_WORD] <= in->slot_bytes
           && memcmp(head + NAME_WORD, expected, NAME_WORDS * sizeof *head) == 0;
}

/* Whether all of `count` completions are ordinary, and of no line there are too many. */
static int are_ordinary(const Inlet *in, uint32_t first, uint32_t count)
{
    uint8_t *counts = at(in->counts);
    uint32_t looked = 0;
    int fine = 1;
    for (; fine && looked < count; looked++) {
        const Completion *one = completion(in, first + looked);
        if (!is_ordinary(in, one)) {
            fine = 0;
            break;
        }
        fine = ++counts[one->tag] <= (one->tag & 1 ? in->most_rtcp : in->most_rtp);
    }
    while (looked)
        counts[completion(in, first + --looked)->tag] = 0;
    return fine;
}

PyDoc_STRVAR(read_doc,
             "read(inlet, used, now, offset, latest, /)\n--\n\n"
             "Read what has arrived into the batch; return how many packets, -1: by other means.");

static PyObject *read_all(PyObject *module, PyObject *arguments)
{
    (void)module;
    Py_buffer words;
    unsigned long long used;
    double now, offset, latest;
    if (!PyArg_ParseTuple(arguments, "y*Kddd", &words, &used, &now, &offset, &latest))
        return NULL;
    if (words.len != sizeof(Inlet)) {
        PyBuffer_Release(&words);
        PyErr_SetString(PyExc_ValueError, "these are not the words of an inlet");
        return NULL;
    }
    const Inlet *in = words.buf;
    long read = -1;
    uint32_t *head = at(in->head), *tail = at(in->tail);
    if (*head != __atomic_load_n(tail, __ATOMIC_ACQUIRE))
        goto done; /* a line was removed meanwhile */
    offer(in, used);
    if (syscall(ENTER, (int)in->descriptor, 0, (unsigned)in->completions,
                GET_EVENTS | EXTENDED_ARGUMENT, at(in->argument), (size_t)in->argument_bytes) < 0
        && errno == EEXIST)
        goto done; /* which is told of there */
    uint32_t first = *head, count = __atomic_load_n(tail, __ATOMIC_ACQUIRE) - first;
    if (count > in->buffers || !are_ordinary(in, first, count))
        goto done;
    double whole = (double)(int64_t)offset, rest = offset - whole;
    for (uint32_t number = 0; number < count; number++) {
        const Completion *one = completion(in, first + number);
        uint64_t *packet = head_of(in, one);
        const int64_t *stamp = (const int64_t *)packet + STAMP_WORD;
        ((intptr_t *)at(in->slots))[number] = one->flags >> BUFFER_SHIFT;
        ((int32_t *)at(in->lengths))[number] = (int32_t)((uint32_t *)packet)[LENGTH_WORD];
        ((intptr_t *)at(in->rows))[number] = one->tag >> 1;
        ((uint8_t *)at(in->rtcp))[number] = one->tag & 1;
        ((int32_t *)at(in->source))[number] = -1;
        double arrival = now;
        if (offset == offset && stamp[0] != 0) { /* packets.py, _arrivals */
            arrival = ((double)stamp[1] * 1e-9 + ((double)stamp[0] - whole)) - rest;
            arrival = arrival < latest ? arrival : latest;
        }
        ((double *)at(in->arrival))[number] = arrival;
        /* of a name only as much is written as there is */
        memset(packet + NAME_WORD + 2, 0, (NAME_WORDS - 2) * sizeof *packet);
    }
    __atomic_store_n(head, first + count, __ATOMIC_RELEASE);
    read = (long)count;
done:
    PyBuffer_Release(&words);
    return PyLong_FromLong(read);
}

PyDoc_STRVAR(send_doc,
             "send(outlet, rows, lengths, /)\n--\n\n"
             "Send a packet for each row; return how many operations the kernel took, or -errno; "
             "None: nothing was done, there are rows that cannot send.");

static PyObject *send_all(PyObject *module, PyObject *arguments)
{
    (void)module;
    Py_buffer words, rows, lengths;
    if (!PyArg_ParseTuple(arguments, "y*y*y*", &words, &rows, &lengths))
        return NULL;
    PyObject *answer = NULL;
    const Outlet *out = words.buf;
    Py_ssize_t count = rows.len / (Py_ssize_t)sizeof(int32_t);
    if (words.len != sizeof(Outlet) || lengths.len != rows.len || (uint64_t)count > out->entries) {
        PyErr_SetString(PyExc_ValueError, "these are not an outlet, and rows and lengths for it");
        goto done;
    }
    const int32_t *row = rows.buf, *length = lengths.buf;
    const uint8_t *ready = at(out->ready), *prepared = at(out->prepared);
    for (Py_ssize_t number = 0; number < count; number++)
        if (row[number] < 0 || (uint64_t)row[number] >= out->rows || !ready[row[number]]) {
            Py_INCREF(Py_None);
            answer = Py_None;
            goto done;
        }
    uint8_t *operations = at(out->operations);
    uint32_t *tail = at(out->tail), *numbers = at(out->numbers), first = *tail;
    for (Py_ssize_t number = 0; number < count; number++) {
        uint8_t *operation = operations + number * OPERATION_BYTES;
        memcpy(operation, prepared + (size_t)row[number] * OPERATION_BYTES, OPERATION_BYTES);
        memcpy(operation + OPERATION_LENGTH, &length[number], sizeof length[number]);
        numbers[(first + (uint32_t)number) & (out->entries - 1)] = (uint32_t)number;
    }
    __atomic_store_n(tail, first + (uint32_t)count, __ATOMIC_RELEASE);
    long taken = syscall(ENTER, (int)out->descriptor, (unsigned)count, 0, GET_EVENTS, NULL, 0);
    answer = PyLong_FromLong(taken < 0 ? -errno : taken);
done:
    PyBuffer_Release(&words);
    PyBuffer_Release(&rows);
    PyBuffer_Release(&lengths);
    return answer;
}

static PyMethodDef functions[] = {
    {"read", read_all, METH_VARARGS, read_doc},
    {"send", send_all, METH_VARARGS, send_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_uring", NULL, 0, functions, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__uring(void)
{
    return PyModuleDef_Init(&module);
}
