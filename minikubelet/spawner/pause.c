/*
 * pause: the process that a pod's namespaces belong to.
 *
 * PID 1 where the pod shares a PID namespace, so it reaps whatever is orphaned there. It ends on SIGTERM and
 * SIGINT. No C library: a few kilobytes of memory, nothing to load from any root file system.
 */

#define SIG_BLOCK 0
#define SIGINT 2
#define SIGTERM 15
#define SIGCHLD 17
#define WNOHANG 1
#define BIT(signal) (1UL << ((signal) - 1))

#if defined(__x86_64__)
#define SYS_rt_sigprocmask 14
#define SYS_exit_group 231
#define SYS_wait4 61
#define SYS_rt_sigtimedwait 128

static long call4(long number, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return result;
}
#elif defined(__aarch64__)
#define SYS_rt_sigprocmask 135
#define SYS_exit_group 94
#define SYS_wait4 260
#define SYS_rt_sigtimedwait 137

static long call4(long number, long a, long b, long c, long d)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
}
#else
#error "pause has no system call stub for this architecture yet"
#endif

void _start(void)
{
	unsigned long set = BIT(SIGINT) | BIT(SIGTERM) | BIT(SIGCHLD);

	call4(SYS_rt_sigprocmask, SIG_BLOCK, (long)&set, 0, sizeof(set));
	for (;;) {
		long signal = call4(SYS_rt_sigtimedwait, (long)&set, 0, 0, sizeof(set));

		if (signal == SIGTERM || signal == SIGINT)
			call4(SYS_exit_group, 0, 0, 0, 0);
		while (call4(SYS_wait4, -1, 0, WNOHANG, 0) > 0)
			;
	}
}
