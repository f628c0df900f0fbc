/*
 * Times one kind of bind() in this process: bind PORT ROUNDS. Prints the median in nanoseconds.
 * It is run with and without the library; what the call answers is the caller's to know.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int by_value(const void *a, const void *b)
{
    long x = *(const long *)a, y = *(const long *)b;
    return (x > y) - (x < y);
}

static long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

int main(int argc, char **argv)
{
    int port = argc > 1 ? atoi(argv[1]) : 0;
    int rounds = argc > 2 ? atoi(argv[2]) : 1;
    long *times = calloc((size_t)rounds, sizeof *times);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 0; i < rounds; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        long start = now();
        bind(fd, (struct sockaddr *)&address, sizeof address);
        times[i] = now() - start;
        close(fd);
    }
    qsort(times, (size_t)rounds, sizeof *times, by_value);
    printf("%ld\n", times[rounds / 2]);
    return 0;
}
