// Runs the aarch64 code for clocks by itself, under an emulator, and compares it with the formula written out here.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

extern const unsigned char splitbrain_clock_stub_begin[], splitbrain_clock_stub_end[];

struct entry { int64_t drift, base, gain, swing, strobe; };

static int64_t at(const struct entry *e, int64_t t) {
    int64_t since = (int64_t)((uint64_t)t - (uint64_t)e->base);
    int64_t swing = e->strobe != 0 && ((since / e->strobe) & 1) != 0 ? 0 : e->swing;
    int64_t gained = (int64_t)(((__int128)since * e->gain) >> 32);
    return (int64_t)((uint64_t)t + (uint64_t)gained + (uint64_t)e->drift + (uint64_t)swing);
}

static uint64_t state = 7;
static uint64_t draw(void) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
}
static int64_t within(int64_t most) { return (int64_t)(draw() % (2 * (uint64_t)most + 1)) - most; }

static void fail(const char *what, int64_t is, int64_t want) {
    printf("%s: %lld, not %lld\n", what, (long long)is, (long long)want);
    exit(1);
}

static int64_t nanos(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(void) {
    size_t length = splitbrain_clock_stub_end - splitbrain_clock_stub_begin;
    unsigned char *block = mmap(0, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(block, splitbrain_clock_stub_begin, length);
    __builtin___clear_cache((char *)block, (char *)block + length);
    uint32_t *header = (uint32_t *)block;
    if (memcmp(block, "SBCLOCK1", 8) || header[2] != length) fail("header", header[2], length);
    int64_t (*apply)(int64_t, uint64_t) = (void *)(block + header[17]);
    int64_t (*gettime)(int, struct timespec *) = (void *)(block + header[13]);
    int64_t (*timeofday)(struct timeval *, void *) = (void *)(block + header[14]);
    volatile uint32_t *sequence = &header[3];
    struct entry *slots[2] = {(void *)(block + header[18]), (void *)(block + header[18] + 200)};
    for (int round = 0; round < 20000; round++) {
        struct entry e[5];
        for (int n = 0; n < 5; n++) {
            int64_t scale = 10;
            for (int k = draw() % 13; k > 0; k--) scale *= 10;
            e[n] = (struct entry){within(scale), llabs(within(2000000000000000000LL)), within(38654705664LL),
                                  within(315360000000000000LL), round % 3 ? 0 : 1 + llabs(within(scale))};
        }
        uint32_t next = *sequence + 1;
        memcpy(slots[next & 1], e, sizeof e);
        *sequence = next;
        for (int n = 0; n < 5; n++) {
            int64_t t = e[n].base + within(1000000000000000LL);
            int64_t is = apply(t, n), want = at(&e[n], t);
            if (is != want) fail("apply", is, want);
        }
    }
    // An hour and a bit back on the time of day; the monotonic clock before its beginning.
    struct entry e[5] = {{0, 0, 0, -3600000000001LL, 0}, {0, 0, 0, -nanos(CLOCK_MONOTONIC) - 3600500000000LL, 0}};
    memcpy(slots[(*sequence + 1) & 1], e, sizeof e);
    *sequence += 1;
    static const struct { int id, entry; } clocks[] = {
        {CLOCK_REALTIME, 0}, {CLOCK_MONOTONIC, 1}, {CLOCK_MONOTONIC_RAW, 2}, {CLOCK_REALTIME_COARSE, 0},
        {CLOCK_MONOTONIC_COARSE, 1}, {CLOCK_BOOTTIME, 3}, {CLOCK_TAI, 4}, {CLOCK_THREAD_CPUTIME_ID, 2}};
    for (unsigned n = 0; n < sizeof clocks / sizeof *clocks; n++) {
        struct timespec t;
        const struct entry *words = &e[clocks[n].entry];
        int64_t from = at(words, nanos(clocks[n].id));
        int64_t got = gettime(clocks[n].id, &t);
        int64_t to = at(words, nanos(clocks[n].id)), is = t.tv_sec * 1000000000LL + t.tv_nsec;
        if (got || t.tv_nsec < 0 || t.tv_nsec > 999999999 || is < from || is > to) fail("clock_gettime", is, from);
    }
    struct timespec none;
    if (gettime(4711, &none) != -22) fail("a clock that is none", gettime(4711, &none), -22);
    struct timeval tv;
    int64_t from = at(&e[0], nanos(CLOCK_REALTIME)) / 1000;
    int64_t got = timeofday(&tv, 0);
    int64_t to = at(&e[0], nanos(CLOCK_REALTIME)) / 1000, is = tv.tv_sec * 1000000LL + tv.tv_usec;
    // The system call tells whole microseconds, from which less than one is taken.
    if (got || tv.tv_usec < 0 || tv.tv_usec > 999999 || is < from - 1 || is > to) fail("gettimeofday", is, from);
    if (timeofday(0, 0)) fail("gettimeofday of nothing", 1, 0);
    printf("%zu bytes computed as they ought to\n", length);
    return 0;
}
