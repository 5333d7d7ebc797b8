/* Tries system calls and prints "name=errno" of each, 0 when it went well. Harmless where it is allowed. */
#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *name, long result) {
    printf("%s=%d\n", name, result < 0 ? errno : 0);
}

static long child(long pid) {
    if (pid == 0)
        _exit(0);
    if (pid > 0)
        waitpid(pid, 0, 0);
    return pid;
}

static void in_child(const char *name, long (*call)(void)) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        say(name, call());
        fflush(stdout);
        _exit(0);
    }
    waitpid(pid, 0, 0);
}

static long traceme(void) { return ptrace(PTRACE_TRACEME, 0, 0, 0); }
static long new_mounts(void) { return unshare(CLONE_NEWNS); }
static long new_user(void) { return unshare(CLONE_NEWUSER); }
static long root(void) { return chroot("/"); }
static long no_random(void) { return personality(ADDR_NO_RANDOMIZE); }
static long linux32(void) { return personality(PER_LINUX32); }

/* With an argument: who it runs as. */
int main(int count, char **words) {
    struct clone_args args;
    if (count > 1 && words[1]) {
        printf("%d\n", (int)geteuid());
        return 0;
    }
    memset(&args, 0, sizeof args);
    args.exit_signal = 17;
    say("getpid", syscall(SYS_getpid));
    say("keyctl", syscall(SYS_keyctl, 0, -3, 0));
    say("add_key", syscall(SYS_add_key, "user", "x", "y", 1, -1));
    say("mount", syscall(SYS_mount, "none", "/no-such", "tmpfs", 0, 0));
    say("umount2", syscall(SYS_umount2, "/no-such", 0));
    say("setns", syscall(SYS_setns, -1, 0));
    say("bpf", syscall(SYS_bpf, 999, 0, 0));
    say("perf_event_open", syscall(SYS_perf_event_open, 0, 0, -1, -1, 0));
    say("fsopen", syscall(430, "no-such-fs", 0));
    say("io_uring_setup", syscall(425, 0, 0));
    say("userfaultfd", syscall(SYS_userfaultfd, -1));
    say("pivot_root", syscall(SYS_pivot_root, "/no-such", "/no-such"));
    say("reboot", syscall(SYS_reboot, 0, 0, 0, 0));
    say("open_by_handle_at", syscall(SYS_open_by_handle_at, -1, 0, 0));
    say("sethostname", syscall(SYS_sethostname, "x", -1));
    say("clone3", child(syscall(435, &args, sizeof args)));
    say("clone", child(syscall(SYS_clone, 17, 0, 0, 0, 0)));
    say("clone_newuser", child(syscall(SYS_clone, 17 | CLONE_NEWUSER, 0, 0, 0, 0)));
    say("af_alg", socket(38, SOCK_SEQPACKET, 0));
    say("af_vsock", socket(40, SOCK_STREAM, 0));
    say("af_alg_wide", syscall(SYS_socket, 0x100000026L, SOCK_SEQPACKET, 0));
    say("af_unix", socket(AF_UNIX, SOCK_STREAM, 0));
    say("af_inet", socket(AF_INET, SOCK_STREAM, 0));
    say("personality_query", personality(0xffffffff));
    in_child("personality_linux32", linux32);
    in_child("personality_no_random", no_random);
    in_child("ptrace", traceme);
    in_child("unshare_mounts", new_mounts);
    in_child("unshare_user", new_user);
    in_child("chroot", root);
    say("mkdir", syscall(SYS_mkdir, "/no-such/x", 0755));
    say("newest", syscall(600));
    return 0;
}
