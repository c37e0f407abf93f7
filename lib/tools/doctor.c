// SPDX-License-Identifier: LGPL-2.1-or-later
/* zcbuf doctor: what keeps this user from allocating on this machine, and what helps. */
#include "doctor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const char help[] =
	"Usage: zcbuf doctor [OPTION…]\n"
	"\n"
	"Finds out what keeps this user from allocating, and what helps. It tries a "
	"buffer of each\n"
	"heap, and whether the devices of this machine take it. It changes nothing, and "
	"leaves\n"
	"nothing behind.\n"
	"\n"
	"  --size SIZE  bytes of the buffer that is wanted (1M)\n"
	"  --json       print JSON\n"
	"\n"
	"Each line is ok, FAIL for what keeps one from allocating, warn for what else "
	"is wrong, or\n"
	"'-' for what is of no consequence or cannot be looked at. What helps comes "
	"below, after ->.\n"
	"Exit status: 0 allocation works, 1 something prevents it, 2 wrong usage.\n"
	"\n"
	"Example:  zcbuf doctor --size 64M\n";

static const char *const shown[] = { "ok", "-", "warn", "FAIL" };
static const char *const verdicts[] = { "ok", "note", "warn", "fail" };

static void end_finding(struct doctor *doctor)
{
	if (doctor->json && !report_is_empty(doctor->json) && !doctor->has_remedy)
		report_unknown(doctor->json, "", "remedy");
}

void finding(struct doctor *doctor, enum verdict verdict, const char *about,
	     const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	doctor->failures += verdict == FAILURE;
	if (doctor->json) {
		end_finding(doctor);
		report_row(doctor->json);
		report_text(doctor->json, "", "verdict", verdicts[verdict]);
		report_text(doctor->json, "", "about", about);
		report_text(doctor->json, "", "finding", text);
		doctor->has_remedy = false;
	} else {
		char *line = report_printable(text);

		printf("%-4s  %-10s  %s\n", shown[verdict], about, line);
		free(line);
	}
}

void remedy(struct doctor *doctor, const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (doctor->json) {
		report_text(doctor->json, "", "remedy", text);
		doctor->has_remedy = true;
	} else {
		char *line = report_printable(text);

		printf("%18s-> %s\n", "", line);
		free(line);
	}
}

bool first_line(char *line, size_t size, const char *format, ...)
{
	char path[512];
	va_list args;
	FILE *file;
	bool found;

	va_start(args, format);
	vsnprintf(path, sizeof(path), format, args);
	va_end(args);
	file = fopen(path, "re");
	if (!file)
		return false;
	found = fgets(line, (int)size, file);
	fclose(file);
	if (found)
		line[strcspn(line, "\n")] = '\0';
	return found;
}

void append(char *list, size_t size, const char *name)
{
	size_t length = strlen(list);

	snprintf(list + length, size - length, "%s%s", length ? ", " : "", name);
}

int run(char *said, size_t size, const char *const *arguments)
{
	int pipe_fds[2], status = 127;
	FILE *output;
	pid_t child;

	said[0] = '\0';
	if (pipe2(pipe_fds, O_CLOEXEC))
		return 127;
	child = fork();
	if (child == 0) {
		dup2(pipe_fds[1], STDOUT_FILENO);
		dup2(pipe_fds[1], STDERR_FILENO);
		execvp(arguments[0], (char *const *)arguments);
		_exit(127);
	}
	close(pipe_fds[1]);
	output = fdopen(pipe_fds[0], "r");
	while (output && fgets(said, (int)size, output))
		said[strcspn(said, "\n")] = '\0';
	if (output)
		fclose(output);
	else
		close(pipe_fds[0]);
	if (child < 0 || waitpid(child, &status, 0) != child)
		return 127;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 127;
}

void for_each_name(const char *path, void (*look)(void *data, const char *name), void *data)
{
	struct dirent **entries;
	int count = scandir(path, &entries, NULL, versionsort);

	for (int i = 0; i < count; i++) {
		if (entries[i]->d_name[0] != '.')
			look(data, entries[i]->d_name);
		free(entries[i]);
	}
	if (count >= 0)
		free(entries);
}

/*
 * A program needs a file descriptor for /dev/zcbuf, for a heap's node and for a buffer.
 * Whether it would get them is tried; then this one takes all that it may, to look further.
 */
static bool has_files(struct doctor *doctor)
{
	struct rlimit limit = { 0 };
	int fds[3], error = 0;

	for (size_t i = 0; i < 3; i++) {
		fds[i] = eventfd(0, EFD_CLOEXEC);
		if (fds[i] < 0)
			error = errno;
	}
	for (size_t i = 0; i < 3; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	getrlimit(RLIMIT_NOFILE, &limit);
	if (!error) {
		finding(doctor, FINE, "files",
			"a process may have %llu files open, of which each buffer is one",
			(unsigned long long)limit.rlim_cur);
	} else if (error == ENFILE) {
		finding(doctor, FAILURE, "files",
			"the machine has no file to open any more");
		remedy(doctor, "sudo sysctl fs.file-max=%u", 1U << 20);
	} else {
		finding(doctor, FAILURE, "files",
			"a process may have %llu files open: no room for /dev/zcbuf, a "
			"heap and a buffer",
			(unsigned long long)limit.rlim_cur);
		if (limit.rlim_max >= 1024)
			remedy(doctor, "ulimit -n 1024");
		else
			remedy(doctor,
			       "ulimit -Hn 1024 as root; or LimitNOFILE=1024 in the unit "
			       "that starts it, or nofile in /etc/security/limits.conf");
	}
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	return !error || limit.rlim_max >= 64;
}

static void examine(struct doctor *doctor)
{
	doctor_kernel(doctor);
	if (!has_files(doctor)) {
		finding(doctor, NOTE, "files", "nothing else can be looked at without");
		return;
	}
	doctor_module(doctor);
	doctor_nodes(doctor);
	doctor_rights(doctor);
	doctor_limits(doctor);
	doctor_heaps(doctor);
	doctor_importers(doctor);
	doctor_gstreamer(doctor);
}

static void conclude(struct doctor *doctor)
{
	if (doctor->json) {
		end_finding(doctor);
		report_print(doctor->json);
		report_free(doctor->json);
	} else if (doctor->failures) {
		printf("\nSomething prevents allocating %s from zcbuf: see FAIL.\n",
		       readable_bytes(doctor->size).text);
	} else {
		printf("\nAllocating %s from zcbuf works.\n",
		       readable_bytes(doctor->size).text);
	}
}

/* Where an ordinary user's shell may not look for modinfo. */
static void find_system_programs(void)
{
	const char *path = getenv("PATH");
	char longer[4096];

	snprintf(longer, sizeof(longer), "%s:/usr/sbin:/sbin",
		 path ? path : "/usr/bin:/bin");
	setenv("PATH", longer, 1);
}

int cmd_doctor(struct zcbuf_ctx *ctx, int argc, char **argv)
{
	static const struct option options[] = {
		{ "size", required_argument, NULL, 's' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct doctor doctor = { .ctx = ctx, .size = 1 << 20, .has_room = true };
	bool json = false;

	for (int o; (o = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
		switch (o) {
		case 's':
			if (!parse_bytes(optarg, &doctor.size) || !doctor.size ||
			    doctor.size > SIZE_MAX / 2)
				return usage_error("doctor", "--size %s: not a size",
						   optarg);
			break;
		case 'j':
			json = true;
			break;
		case 'h':
			fputs(help, stdout);
			return EXIT_SUCCESS;
		default:
			return EXIT_USAGE;
		}
	}
	if (optind < argc)
		return usage_error("doctor", "%s: not expected", argv[optind]);
	doctor.json = json ? report_new(true) : NULL;
	find_system_programs();
	examine(&doctor);
	conclude(&doctor);
	return doctor.failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
