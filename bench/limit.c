// What the kernel alone takes for the sandboxes of a burst, without a server: `limit COUNT [net]`. For each: a group in
// three hierarchies with its limits, a process in new namespaces (a copy of the view that `unshare` gave this program)
// that joins the groups, mounts /tmp, becomes another program, mounts /proc, lets go of a mount, and waits. One worker for
// each processor. Prints the seconds to the last one, and the processor seconds of all. As root, with cgroup v1.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *const CONTROLLERS[] = {"memory", "cpu", "pids"};
static char groups[3][128];
static int ready[2];

static void check(long result, const char *what) {
    if (result < 0) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        _exit(1);
    }
}

static void put(const char *folder, const char *file, const char *text) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    check(fd, path);
    check(write(fd, text, strlen(text)), path);
    close(fd);
}

// What becomes of it after `execve`: the first process of a sandbox.
static int inside(void) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    check(mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, ""), "mount /proc");
    check(umount2("/mnt", MNT_DETACH), "umount");
    check(mount("tmpfs", "/tmp", "tmpfs", MS_REMOUNT | MS_NOSUID | MS_NODEV, "size=512m"), "remount");
    check(write(STDOUT_FILENO, ".", 1), "tell");
    pause();
    return 0;
}

static int begin(void *program) {
    for (int n = 0; n < 3; n++)
        put(groups[n], "tasks", "0");
    check(unshare(CLONE_NEWCGROUP), "unshare");
    check(mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "size=1m"), "mount /tmp");
    dup2(ready[1], STDOUT_FILENO);
    execl(program, program, "inside", NULL);
    check(-1, "execve");
    return 1;
}

static void work(char *program, int worker, int count, int namespaces) {
    static char stack[64 * 1024] __attribute__((aligned(16)));
    for (int one = 0; one < count; one++) {
        for (int n = 0; n < 3; n++) {
            snprintf(groups[n], sizeof groups[n], "/sys/fs/cgroup/%s/brooklet-limit-%d-%d", CONTROLLERS[n], worker, one);
            check(mkdir(groups[n], 0755), groups[n]);
        }
        put(groups[0], "memory.limit_in_bytes", "671088640");
        put(groups[1], "cpu.shares", "74");
        put(groups[2], "pids.max", "1024");
        check(clone(begin, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD | namespaces, program), "clone");
    }
    pause();
}

static double processor(void) {
    long user, nice, system, idle, wait, irq, soft;
    FILE *stat = fopen("/proc/stat", "r");
    if (fscanf(stat, "cpu %ld %ld %ld %ld %ld %ld %ld", &user, &nice, &system, &idle, &wait, &irq, &soft) != 7)
        exit(1);
    fclose(stat);
    return (double)(user + nice + system + irq + soft) / sysconf(_SC_CLK_TCK);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "inside"))
        return inside();
    int count = argc > 1 ? atoi(argv[1]) : 1000, workers = sysconf(_SC_NPROCESSORS_ONLN), pids[64];
    int namespaces = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS;
    if (argc > 2)
        namespaces |= CLONE_NEWNET;
    check(unshare(CLONE_NEWNS), "unshare");
    check(mount(0, "/", 0, MS_REC | MS_PRIVATE, 0), "make mounts private");
    check(mount("tmpfs", "/mnt", "tmpfs", 0, "size=1m"), "mount");
    char program[4096];
    check(readlink("/proc/self/exe", program, sizeof program), "readlink");
    // For the first processes, whose /tmp is empty: descriptors of the machine's are still in reach.
    snprintf(program, sizeof program, "/proc/self/fd/%d", open("/proc/self/exe", O_RDONLY));
    check(pipe(ready), "pipe");
    double began = now(), used = processor();
    for (int n = 0; n < workers; n++)
        if (!(pids[n] = fork()))
            work(program, n, count / workers, namespaces);
    char told[64];
    for (int heard = 0, got; heard < count / workers * workers; heard += got)
        check(got = read(ready[0], told, sizeof told), "hear");
    printf("%d sandboxes: %.2f s, %.2f s of processor\n", count, now() - began, processor() - used);
    fflush(stdout);
    for (int n = 0; n < workers; n++)
        kill(pids[n], SIGKILL);
    while (wait(0) > 0)
        ;
    // Their children end with them; their groups can be removed then.
    for (int n = 0; n < workers; n++)
        for (int one = 0; one < count / workers; one++)
            for (int c = 0; c < 3; c++) {
                char path[128];
                snprintf(path, sizeof path, "/sys/fs/cgroup/%s/brooklet-limit-%d-%d", CONTROLLERS[c], n, one);
                for (int tries = 0; rmdir(path) && errno == EBUSY && tries < 5000; tries++)
                    usleep(1000);
            }
}
