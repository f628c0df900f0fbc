/* Binds in a vfork child, which shares its parent's memory, and then in the parent. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int real_port(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, len) != 0)
        return -1;
    getsockname(fd, (struct sockaddr *)&address, &len);
    close(fd);
    return ntohs(address.sin_port);
}

int main(int argc, char **argv)
{
    volatile int in_child = -2;
    int status, port = argc > 1 ? atoi(argv[1]) : 0;
    pid_t child = vfork();
    if (child == 0) {
        in_child = real_port(port);
        _exit(7);
    }
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 7)
        return 1;
    printf("child %d\nparent %d\n", in_child, real_port(port));
    return 0;
}
