"""The pause process, in C. Kept in a .py file because only those travel to a target inside a module.

Without libc on purpose: a page of memory per pod instead of a megabyte, and nothing to install but a compiler.
Model: Kubernetes build/pause/linux/pause.c.
"""

from __future__ import annotations

VERSION = "3.10.2"

SOURCE = r"""/* pause: the first process of a pod. It holds the pod's namespaces open and does nothing else.
 *
 * As PID 1 of a shared PID namespace it also inherits every orphan of the pod, and must wait for it, or zombies
 * stay. No libc: _start, one system call wrapper and the return from a signal handler are all it needs.
 */
#if defined(__x86_64__)
enum { WRITE = 1, SIGACTION = 13, GETPID = 39, WAIT4 = 61, EXIT_GROUP = 231, PPOLL = 271 };
__asm__(
    ".globl _start\n_start:\n  mov %rsp, %rdi\n  and $-16, %rsp\n  call begin\n"
    ".globl sys\nsys:\n  mov %rdi, %rax\n  mov %rsi, %rdi\n  mov %rdx, %rsi\n  mov %rcx, %rdx\n  mov %r8, %r10\n"
    "  syscall\n  ret\n"
    ".globl back\nback:\n  mov $15, %eax\n  syscall\n");
#elif defined(__aarch64__)
enum { WRITE = 64, PPOLL = 73, EXIT_GROUP = 94, SIGACTION = 134, GETPID = 172, WAIT4 = 260 };
__asm__(
    ".globl _start\n_start:\n  mov x0, sp\n  bl begin\n"
    ".globl sys\nsys:\n  mov x8, x0\n  mov x0, x1\n  mov x1, x2\n  mov x2, x3\n  mov x3, x4\n  svc #0\n  ret\n"
    ".globl back\nback:\n  mov x8, #139\n  svc #0\n");
#else
#error "pause: the system call numbers of this architecture are not in the source"
#endif

enum { SIGINT = 2, SIGTERM = 15, SIGCHLD = 17, WNOHANG = 1, SA_NOCLDSTOP = 1, SA_RESTORER = 0x04000000 };

long sys(long number, long a, long b, long c, long d);
void back(void); /* where a signal handler returns to: rt_sigreturn(2) */

struct action { /* what the kernel's rt_sigaction(2) takes; libc's struct sigaction is another */
  void (*handler)(int);
  unsigned long flags;
  void (*restorer)(void);
  unsigned long mask;
};

static void say(long fd, const char *text) {
  long length = 0;
  while (text[length])
    length++;
  sys(WRITE, fd, (long)text, length, 0);
}

static void leave(long status) { sys(EXIT_GROUP, status, 0, 0, 0); }

static void stop(int signal) {
  say(2, signal == SIGINT ? "Shutting down, got signal: Interrupt\n" : "Shutting down, got signal: Terminated\n");
  leave(0);
}

static void reap(int signal) {
  (void)signal;
  while (sys(WAIT4, -1, 0, WNOHANG, 0) > 0)
    ;
}

static long on(int signal, void (*handler)(int), unsigned long flags) {
  struct action action = {handler, flags | SA_RESTORER, back, 0};
  return sys(SIGACTION, signal, (long)&action, 0, sizeof action.mask);
}

void begin(long *stack) { /* argc, argv[0], argv[1], ... as execve(2) leaves them */
  const char *option = stack[0] > 1 ? (const char *)stack[2] : "";
  if (option[0] == '-' && option[1] == 'v' && !option[2]) {
    say(1, "pause.c @VERSION@\n");
    leave(0);
  }
  if (sys(GETPID, 0, 0, 0, 0) != 1)
    say(2, "Warning: pause should be the first process\n");
  if (on(SIGINT, stop, 0) < 0)
    leave(1);
  if (on(SIGTERM, stop, 0) < 0)
    leave(2);
  if (on(SIGCHLD, reap, SA_NOCLDSTOP) < 0)
    leave(3);
  for (;;)
    sys(PPOLL, 0, 0, 0, 0); /* pause(2): wait for a signal; newer architectures have no call of that name */
}
""".replace("@VERSION@", VERSION)
