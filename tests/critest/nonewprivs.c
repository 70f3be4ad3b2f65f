/* Prints its effective user: with the set-user-ID bit that is the owner, unless no_new_privs is set; see prctl(2). */
#include <stdio.h>
#include <unistd.h>

int main(void)
{
	return printf("Effective uid: %u\n", (unsigned)geteuid()) < 0;
}
