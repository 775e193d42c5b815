/* A wall clock that the tests move, for programs that ask the C library for the time: LD_PRELOAD it.
 *
 * FAKETIME_FILE holds two 64-bit counts of nanoseconds: what is added to the wall clock, and what is added to the time
 * since boot. All that run with it see a change at once. Monotonic time, waits for so long and the times of files stay
 * the kernel's. A wait until a time of the wall clock ends when that has come by the offset at its beginning.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000

static const volatile int64_t *moved; /* wall, boot */

__attribute__((constructor)) static void open_file(void)
{
    const char *path = getenv("FAKETIME_FILE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *found = mmap(NULL, 2 * sizeof *moved, PROT_READ, MAP_SHARED, file, 0);

    if (found == MAP_FAILED) { /* better no program than one with another time than the test thinks */
        perror("faketime: FAKETIME_FILE");
        _exit(127);
    }
    close(file);
    moved = found;
}

static int64_t moved_by(clockid_t clock)
{
    if (moved == NULL)
        return 0;
    switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_COARSE:
    case CLOCK_REALTIME_ALARM:
    case CLOCK_TAI:
        return moved[0];
    case CLOCK_BOOTTIME:
    case CLOCK_BOOTTIME_ALARM:
        return moved[1];
    default:
        return 0;
    }
}

static struct timespec plus(struct timespec at, int64_t nanoseconds)
{
    int64_t part = at.tv_nsec + nanoseconds % SECOND;

    at.tv_sec += nanoseconds / SECOND + (part >= SECOND) - (part < 0);
    at.tv_nsec = (part + SECOND) % SECOND;
    return at;
}

/* What the kernel calls the time that this program calls `at`. */
static struct timespec true_time(clockid_t clock, const struct timespec *at)
{
    return plus(*at, -moved_by(clock));
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int failed = (int)syscall(SYS_clock_gettime, clock, now);

    if (!failed)
        *now = plus(*now, moved_by(clock));
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec found;

    (void)zone;
    clock_gettime(CLOCK_REALTIME, &found);
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now)
{
    struct timespec found;

    clock_gettime(CLOCK_REALTIME, &found);
    if (now != NULL)
        *now = found.tv_sec;
    return found.tv_sec;
}

int timespec_get(struct timespec *now, int base)
{
    return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, now) == 0 ? base : 0;
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *wanted, struct timespec *left)
{
    struct timespec end = flags & TIMER_ABSTIME ? true_time(clock, wanted) : *wanted;

    return syscall(SYS_clock_nanosleep, clock, flags, &end, left) ? errno : 0;
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict end)
{
    struct timespec then = true_time(CLOCK_REALTIME, end);

    return sem_clockwait(semaphore, CLOCK_REALTIME, &then);
}

int pthread_cond_timedwait(
    pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex, const struct timespec *restrict end)
{
    /* glibc keeps the clock that the condition was made for in the second bit of __wrefs. */
    clockid_t clock = condition->__data.__wrefs & 2 ? CLOCK_MONOTONIC : CLOCK_REALTIME;
    struct timespec then = true_time(clock, end);

    return pthread_cond_clockwait(condition, mutex, clock, &then);
}

int pthread_mutex_timedlock(pthread_mutex_t *restrict mutex, const struct timespec *restrict end)
{
    struct timespec then = true_time(CLOCK_REALTIME, end);

    return pthread_mutex_clocklock(mutex, CLOCK_REALTIME, &then);
}
