/* A shared library that a hostile image brings along: whoever loads it leaves a file in its root. x86-64, without libc. */

static long call(long number, long a, long b, long c) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}

__attribute__((constructor)) static void loaded(void) {
    call(2 /* open */, (long)"/loaded", 0101 /* O_WRONLY | O_CREAT */, 0644);
}
