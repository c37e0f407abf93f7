// SPDX-License-Identifier: GPL-2.0-only
/* fragment COMMAND…: runs it while memory is fragmented. */
#include "../kernel/fragment.h"

int main(int argc, char **argv)
{
	pid_t child;
	int status;

	if (argc < 2) {
		fprintf(stderr, "usage: fragment COMMAND...\n");
		return 2;
	}
	fragment();
	child = fork();
	if (child == 0) {
		execvp(argv[1], argv + 1);
		fprintf(stderr, "fragment: %s: %s\n", argv[1], strerror(errno));
		_exit(127);
	}
	status = end_of(child);
	unfragment();
	return status;
}
