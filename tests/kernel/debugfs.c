// SPDX-License-Identifier: GPL-2.0-only
/* /sys/kernel/debug/zcbuf/buffers: what is alive, a line each, while it comes and goes. */
#include <sys/stat.h>

#include "importer.h"

#define LISTING "/sys/kernel/debug/zcbuf/buffers"
#define SIZE	(4 * PAGE)

static char text[4 * MiB];

/* The line of the buffer ID, without its end; "" when there is none. */
static const char *line_of(uint64_t id)
{
	static char line[512];
	char begin[32];
	const char *at;

	if (!read_file(LISTING, text, sizeof(text)))
		bail(LISTING ": %s", strerror(errno));
	snprintf(begin, sizeof(begin), "\n%llu ", (unsigned long long)id);
	at = strstr(text, begin);
	snprintf(line, sizeof(line), "%.*s", at ? (int)strcspn(at + 1, "\n") : 0,
		 at ? at + 1 : "");
	return line;
}

static void is_line(uint64_t id, const char *expected, const char *heap, const char *what)
{
	const char *line = line_of(id);

	if (!ok(!strcmp(line, expected), "%s: %s", heap, what))
		diag("'%s', not '%s'", line, expected);
}

/* The line of a buffer of SIZE, of root. */
__attribute__((format(printf, 3, 4))) static const char *
expected(const struct heap *heap, uint64_t id, const char *format, ...)
{
	static char line[512];
	int length =
		snprintf(line, sizeof(line), "%llu %s %zu %zu 0x0 0 ",
			 (unsigned long long)id, heap->name, (size_t)SIZE, (size_t)PAGE);
	va_list args;

	va_start(args, format);
	vsnprintf(line + length, sizeof(line) - length, format, args);
	va_end(args);
	return line;
}

/* Is it the only device of buffer ID, in the STATE that the listing says? */
static bool is_device(const struct heap *heap, uint64_t id, const char *state)
{
	const char *begin = expected(heap, id, "1 0 zcbuf-importer"), *line = line_of(id);
	const char *colon = strchr(line, ':');

	if (!strncmp(line, begin, strlen(begin)) && colon && !strcmp(colon + 1, state))
		return true;
	diag("'%s' is not '%s…:%s'", line, begin, state);
	return false;
}

static void devices(const struct heap *heap, int fd, uint64_t id)
{
	int dev = device(), other = device();

	if (attach(dev, heap, fd, 64, 0))
		bail("%s: attach: %s", heap->name, strerror(errno));
	ok(is_device(heap, id, "attached"), "%s: and its devices", heap->name);
	must_map_device(dev, TO_DEVICE);
	ok(is_device(heap, id, "to-device"), "%s: and what those have mapped", heap->name);
	if (attach(other, heap, fd, 64, 0))
		bail("%s: attach: %s", heap->name, strerror(errno));
	ok(strstr(line_of(id), ":to-device,zcbuf-importer") &&
		   strstr(line_of(id), ":attached"),
	   "%s: all of them", heap->name);
	close(other);
	close(dev);
}

static void life(const struct heap *heap)
{
	int fd = must_alloc(heap, SIZE), part;
	uint64_t id = info(fd).buffer_id;
	char *memory;

	is_line(id, expected(heap, id, "1 0 -"), heap->name, "a new buffer is listed");
	part = view(fd, PAGE, PAGE, 0);
	memory = must_map(fd, SIZE);
	is_line(id, expected(heap, id, "2 1 -"), heap->name,
		"with its views and its mappings");
	close(part);
	munmap(memory, SIZE);
	if (heap_has_pages(heap))
		devices(heap, fd, id);
	is_line(id, expected(heap, id, "1 0 -"), heap->name, "for as long as it has them");
	close(fd);
	is_line(id, "", heap->name, "and not when it is gone");
}

/* It is of whoever opened the node, and only root is told. */
static void users(const struct heap *heap)
{
	struct heap theirs = *heap;
	struct stat file;
	char end[32];
	const char *line;
	int fd;

	if (setresuid(65534, 0, 0))
		bail("setresuid: %s", strerror(errno));
	theirs.fd = heap_open(heap, O_RDWR);
	fd = must_alloc(&theirs, SIZE);
	if (setresuid(0, 0, 0))
		bail("setresuid: %s", strerror(errno));
	line = line_of(info(fd).buffer_id);
	snprintf(end, sizeof(end), " %zu 0x0 65534 1 0 -", (size_t)PAGE);
	if (!ok(strlen(line) > strlen(end) &&
			!strcmp(line + strlen(line) - strlen(end), end),
		"%s: it says whose it is", heap->name))
		diag("'%s'", line);
	close(fd);
	close(theirs.fd);
	ok(stat(LISTING, &file) == 0 && !(file.st_mode & 077), "%s: to nobody but root",
	   heap->name);
}

/* Each line is whole, and the ids ascend; how many lines there are, or -1. */
static int well_formed(void)
{
	unsigned long long id, last = 0;
	int lines = 0, end;

	for (const char *line = strchr(text, '\n') + 1; *line;
	     line = strchr(line, '\n') + 1) {
		end = 0;
		sscanf(line, "%llu zcbuf-%*[a-z0-9-] %*u %*u %*i %*u %*u %*u %*s%n", &id,
		       &end);
		if (!end || line[end] != '\n' || id <= last) {
			diag("'%.*s' behind buffer %llu", (int)strcspn(line, "\n"), line,
			     last);
			return -1;
		}
		last = id;
		lines++;
	}
	return lines;
}

/* Those that go after they were read do not take along others that stay. */
static void in_pieces(const int *fds, int gone, int lines)
{
	int listing = open(LISTING, O_RDONLY | O_CLOEXEC);
	ssize_t length = read(listing, text, 80 * gone), n;

	for (int i = 0; i < gone; i++)
		close(fds[i]);
	while (length > 0 &&
	       (n = read(listing, text + length, sizeof(text) - 1 - length)) > 0)
		length += n;
	text[length > 0 ? length : 0] = 0;
	close(listing);
	ok(well_formed() == lines, "read in pieces it is whole, though %d went meanwhile",
	   gone);
}

/* While others allocate and free, none that stays is missing. */
static void storm(const struct heap *heap)
{
	enum { STAY = 200, GONE = 50, READS = 30, PROCESSES = 2 };
	int fds[STAY], before, whole = 0;
	pid_t children[PROCESSES];

	if (strcmp(heap->name, "zcbuf-system"))
		return;
	line_of(0);
	before = well_formed();
	for (int i = 0; i < STAY; i++)
		fds[i] = must_alloc(heap, PAGE);
	line_of(0);
	ok(before >= 0 && well_formed() == before + STAY, "%d buffers are %d lines", STAY,
	   STAY);
	for (int i = 0; i < PROCESSES; i++) {
		children[i] = fork();
		while (children[i] == 0)
			close(must_alloc(heap, PAGE));
	}
	for (int i = 0; i < READS; i++) {
		line_of(0);
		whole += well_formed() >= before + STAY;
	}
	for (int i = 0; i < PROCESSES; i++) {
		kill(children[i], SIGKILL);
		end_of(children[i]);
	}
	ok(whole == READS, "it is whole %d times while others come and go", whole);
	in_pieces(fds, GONE, before + STAY);
	for (int i = GONE; i < STAY; i++)
		close(fds[i]);
	line_of(0);
	ok(well_formed() == before, "and they are gone in the end");
}

static void test(const struct heap *heap)
{
	life(heap);
	users(heap);
	storm(heap);
}

int main(void)
{
	for_each_heap(test);
	return done_testing();
}
