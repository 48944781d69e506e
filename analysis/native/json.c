/* The parts of JSON. Numbers are correctly rounded, whatever the locale: Daniel Lemire, "Number parsing at a gigabyte per second" (arXiv 2101.11408),
   section 5, for what has up to 19 digits and is no subnormal number; Python's own parser for the rest. */
#include "core.h"
#include <string.h>

#define DEEPEST 64 /* nested values */
#define MANTISSA_BITS 52
#define SMALLEST_EXPONENT (-1023)
#define INFINITE_POWER 0x7FF
#define LONGEST_NUMBER 512 /* characters; longer ones are left to another reader */

static uint64_t power_high[256], power_low[256];
static int64_t smallest_power, largest_power;

int set_powers(const Py_buffer *powers) {
    /* i64 smallest, i64 largest, then high and low 64 bits of each power of five */
    const uint64_t *word = powers->buf;
    if (powers->len < 16) return 0;
    memcpy(&smallest_power, word, 8);
    memcpy(&largest_power, word + 1, 8);
    int64_t count = largest_power - smallest_power + 1;
    if (count < 1 || count > 256 || powers->len != 16 + 16 * count) return 0;
    for (int64_t place = 0; place < count; place++) {
        power_high[place] = word[2 + 2 * place];
        power_low[place] = word[3 + 2 * place];
    }
    return 1;
}

/* digits * 10^exponent as a double; 0 where this way cannot decide. */
static int scaled(uint64_t digits, int64_t exponent, double *value) {
    if (digits == 0) {
        *value = 0.0;
        return 1;
    }
    if (exponent < smallest_power || exponent > largest_power) return 0;
    int64_t place = exponent - smallest_power;
    int zeros = __builtin_clzll(digits);
    digits <<= zeros;
    unsigned __int128 first = (unsigned __int128)digits * power_high[place];
    uint64_t upper = (uint64_t)(first >> 64), lower = (uint64_t)first;
    uint64_t unsure = UINT64_MAX >> (MANTISSA_BITS + 3);
    if ((upper & unsure) == unsure) { /* the low half of the power may decide */
        uint64_t carry = (uint64_t)(((unsigned __int128)digits * power_low[place]) >> 64);
        lower += carry;
        if (carry > lower) upper++;
    }
    if (lower == UINT64_MAX && (exponent < -27 || exponent > 55)) return 0;
    int top = (int)(upper >> 63);
    int shift = top + 64 - MANTISSA_BITS - 3;
    uint64_t mantissa = upper >> shift;
    int64_t power = (((152170 + 65536) * exponent) >> 16) + 63 + top - zeros - SMALLEST_EXPONENT;
    if (power <= 0) return 0; /* subnormal, or nearly */
    if (lower <= 1 && exponent >= -4 && exponent <= 23 && (mantissa & 3) == 1 && mantissa << shift == upper)
        mantissa &= ~(uint64_t)1; /* exactly half: round to even */
    mantissa += mantissa & 1;
    mantissa >>= 1;
    if (mantissa >= (uint64_t)2 << MANTISSA_BITS) {
        mantissa = (uint64_t)1 << MANTISSA_BITS;
        power++;
    }
    if (power >= INFINITE_POWER) return 0;
    uint64_t bits = (mantissa & ~((uint64_t)1 << MANTISSA_BITS)) | (uint64_t)power << MANTISSA_BITS;
    memcpy(value, &bits, 8);
    return 1;
}

static int by_python(const char *start, const char *end, double *value) {
    char copy[LONGEST_NUMBER];
    if (end - start >= LONGEST_NUMBER) return 0;
    memcpy(copy, start, end - start);
    copy[end - start] = 0;
    PyGILState_STATE state = PyGILState_Ensure(); /* which whoever reads records has given up */
    *value = PyOS_string_to_double(copy, NULL, NULL);
    int good = *value != -1.0 || !PyErr_Occurred();
    PyErr_Clear();
    PyGILState_Release(state);
    return good && *value - *value == 0.0; /* finite */
}

static inline int is_digit(const char *at, const char *end) { return at < end && (unsigned char)(*at - '0') < 10; }

/* Whether eight characters are digits, and their number: all eight at once, as the bytes of a little-endian word. */
static inline int read_eight(const char *at, uint64_t *number) {
    uint64_t word;
    memcpy(&word, at, 8);
    uint64_t high = 0xF0F0F0F0F0F0F0F0, sixes = 0x0606060606060606, zeros = 0x3030303030303030;
    if ((word & high) != zeros || ((word + sixes) & high) != zeros) return 0;
    word -= zeros;
    word = word * 10 + (word >> 8); /* pairs of digits, in every second byte */
    uint64_t pairs = 0x000000FF000000FF;
    *number = ((word & pairs) * (100 + (1000000ULL << 32)) + (word >> 16 & pairs) * (1 + (10000ULL << 32))) >> 32 &
              0xFFFFFFFF;
    return 1;
}

static const char *read_digits(const char *at, const char *end, uint64_t *digits) {
    uint64_t eight;
    while (end - at >= 8 && read_eight(at, &eight)) {
        *digits = *digits * 100000000 + eight;
        at += 8;
    }
    for (; is_digit(at, end); at++) *digits = *digits * 10 + (uint64_t)(*at - '0');
    return at;
}

int read_number(Text *text, double *value) {
    const char *at = text->at, *end = text->end, *start = at;
    int negative = at < end && *at == '-', whole = 1;
    uint64_t digits = 0;
    int64_t exponent = 0;
    at += negative;
    const char *first = at;
    if (!is_digit(at, end)) return 0;
    if (*at == '0' && is_digit(at + 1, end)) return 0;
    for (; is_digit(at, end); at++) digits = digits * 10 + (uint64_t)(*at - '0');
    int64_t used = at - first;
    if (at < end && *at == '.') {
        whole = 0;
        const char *point = ++at;
        at = read_digits(at, end, &digits);
        if (at == point) return 0;
        exponent = point - at;
        used -= exponent;
    }
    if (used > 19) /* of which those before the first that is not 0 do not count */
        for (; first < at && (*first == '0' || *first == '.'); first++) used -= *first == '0';
    if (at < end && (*at == 'e' || *at == 'E')) {
        whole = 0;
        int64_t written = 0;
        int below = 0;
        at++;
        if (at < end && (*at == '-' || *at == '+')) below = *at++ == '-';
        if (!is_digit(at, end)) return 0;
        for (; is_digit(at, end); at++)
            if (written < 100000) written = written * 10 + (*at - '0');
        exponent += below ? -written : written;
    }
    text->at = at;
    if (used > 19 || !scaled(digits, exponent, value)) return by_python(start, at, value);
    if (negative && !(whole && digits == 0)) *value = -*value; /* a whole -0 is 0, as msgspec has it */
    return 1;
}

int read_whole(Text *text, int64_t *value) {
    const char *at = text->at, *end = text->end;
    int negative = at < end && *at == '-';
    at += negative;
    if (!is_digit(at, end) || (*at == '0' && is_digit(at + 1, end))) return 0;
    const char *first = at;
    int64_t digits = 0;
    for (; is_digit(at, end); at++) {
        if (at - first >= 18) return 0;
        digits = digits * 10 + (*at - '0');
    }
    if (at < end && (*at == '.' || *at == 'e' || *at == 'E')) return 0;
    *value = negative ? -digits : digits;
    text->at = at;
    return 1;
}

/* Read a text; `plain` where it has no escape. 0 where it is none, or has an escape of four digits. */
int skip_string(Text *text, int *plain) {
    if (!take(text, '"')) return 0;
    *plain = 1;
    while (text->at < text->end) {
        unsigned char mark = (unsigned char)*text->at++;
        if (mark == '"') return 1;
        if (mark < 0x20) return 0;
        if (mark == '\\') {
            *plain = 0;
            if (text->at >= text->end || *text->at == 0 || !strchr("\"\\/bfnrt", *text->at)) return 0;
            text->at++;
        }
    }
    return 0;
}

int skip_word(Text *text, const char *word, Py_ssize_t length) {
    if (text->end - text->at < length || memcmp(text->at, word, (size_t)length)) return 0;
    text->at += length;
    return 1;
}

static int skip_number(Text *text) {
    const char *at = text->at, *end = text->end;
#define DIGITS(into) for (into = at; at < end && (unsigned char)(*at - '0') < 10; at++)
    const char *first;
    if (at < end && *at == '-') at++;
    DIGITS(first);
    if (at == first || (*first == '0' && at - first > 1)) return 0;
    if (at < end && *at == '.') {
        at++;
        DIGITS(first);
        if (at == first) return 0;
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        at++;
        if (at < end && (*at == '-' || *at == '+')) at++;
        DIGITS(first);
        if (at == first) return 0;
    }
    text->at = at;
    return 1;
}

/* Read any value; 0 where it is malformed or nested too deep. */
int skip_value(Text *text, int depth) {
    int plain;
    if (text->at >= text->end || depth > DEEPEST) return 0;
    switch (*text->at) {
    case '"': return skip_string(text, &plain);
    case 't': return skip_word(text, "true", 4);
    case 'f': return skip_word(text, "false", 5);
    case 'n': return skip_word(text, "null", 4);
    case '[':
        text->at++;
        if (next(text, ']')) return 1;
        do {
            skip_space(text);
            if (!skip_value(text, depth + 1)) return 0;
        } while (next(text, ','));
        return next(text, ']');
    case '{':
        text->at++;
        if (next(text, '}')) return 1;
        do {
            skip_space(text);
            if (!skip_string(text, &plain) || !next(text, ':')) return 0;
            skip_space(text);
            if (!skip_value(text, depth + 1)) return 0;
        } while (next(text, ','));
        return next(text, '}');
    default: return skip_number(text);
    }
}

/* Read a key and the colon behind it; 0 where it has an escape. */
int read_key(Text *text, const char **key, Py_ssize_t *length) {
    int plain;
    *key = text->at + 1;
    if (!skip_string(text, &plain) || !plain) return 0;
    *length = text->at - 1 - *key;
    if (!next(text, ':')) return 0;
    skip_space(text);
    return 1;
}

PyObject *take_powers(PyObject *self, PyObject *argument) {
    (void)self;
    Py_buffer view;
    if (PyObject_GetBuffer(argument, &view, PyBUF_SIMPLE)) return NULL;
    int good = set_powers(&view);
    PyBuffer_Release(&view);
    if (good) Py_RETURN_NONE;
    PyErr_SetString(PyExc_ValueError, "no table of powers");
    return NULL;
}

PyObject *parse_number(PyObject *self, PyObject *argument) {
    (void)self;
    Py_buffer view;
    if (PyObject_GetBuffer(argument, &view, PyBUF_SIMPLE)) return NULL;
    Text text = {view.buf, (const char *)view.buf + view.len};
    double value;
    int good = read_number(&text, &value) && text.at == text.end;
    PyBuffer_Release(&view);
    if (good) return PyFloat_FromDouble(value);
    Py_RETURN_NONE;
}
