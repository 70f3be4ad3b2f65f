/* An ELF interpreter that a hostile image brings along: it runs in place of the program that asked for it, keeps that
 * program open as descriptor 3, and goes on as a shell, so that the program is no longer busy. x86-64, without libc. */

static long call(long number, long a, long b, long c) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}

void _start(void) {
    char *arguments[4];
    call(2 /* open */, (long)"/proc/self/exe", 0 /* O_RDONLY */, 0);
    arguments[0] = "sh";
    arguments[1] = "-c";
    arguments[2] = "readlink /proc/self/fd/3; for i in 1 2 3; do echo overwritten > /proc/self/fd/3; done; echo tried";
    arguments[3] = 0;
    call(59 /* execve */, (long)"/bin/busybox", (long)arguments, (long)(arguments + 3));
    call(60 /* exit */, 111, 0, 0);
}
