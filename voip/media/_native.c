/* What a tick does with packets and sound that are as they should be, row by row in one pass.
 *
 * It does the same as the arrays of voip/media and of rtp/jitter.py, to the bit, for what is
 * ordinary: a plain header, a known source, in time; a packet that is just what a row hears next.
 * All else it leaves to them, untouched. The package works without all this, which saves no more
 * than what many operations on small arrays cost: decision 0014.
 *
 * The arrays belong to Python; a `Tick` holds on to them and is made anew when the table has grown.
 * The lists in tick/tick.h are the only place that knows their order: native.py reads it from here.
 */
#include "tick/tick.h"

#include "tick/packets.h"
#include "tick/playout.h"
#include "tick/voices.h"
#include "tick/steps.h"

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
    t->extension_bytes = share(t, AT_extension, t->row_count);
    t->codes = share(t, AT_decode, 256);
    t->seam_samples = share(t, AT_seam, t->row_count);
    t->history = share(t, AT_past_sound, t->row_count);
    t->fifo_samples = share(t, AT_fifo, t->row_count);
    t->capacity = share(t, AT_slots, 1);
    t->stride = share(t, AT_memory, t->capacity);
    int fine = t->row_count > 0 && t->payload_types == 128 && t->bins > 1
               && t->bins <= 256 && t->remembered > 0 && t->slot_bytes > 0
               && t->slots_a_row > 0 && (t->slots_a_row & (t->slots_a_row - 1)) == 0
               && t->seam_samples > 0 && t->history > 0 && t->history <= t->slot_bytes && t->fifo_samples > 0
               && t->extension_bytes > 0 && share(t, AT_instant, 1) == TIME_BYTES
               && t->packet_bytes > 12 + t->extension_bytes && t->codes > 0 && share(t, AT_encode, 1 << 16) == t->codes
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
