// SPDX-License-Identifier: GPL-2.0-only
/* gdb shows what is in a mapping, and changes it: of every heap, in large entries or small. */
#include "zc.h"

#define SIZE	  (4 * MiB)
#define LAST_WORD (SIZE - 8)
#define MARK	  0x0123456789abcdef

/* A buffer, mapped twice in the process that is debugged: once with room for large entries. */
struct subject {
	char heap[ZCBUF_NAME_LEN];
	int fd;
	uint64_t *memory;	      /* here */
	uintptr_t aligned, unaligned; /* there */
};

static struct subject subjects[16];
static unsigned int count;
static uintptr_t next_address = (uintptr_t)1 << 44;

static void add(const struct heap *heap)
{
	struct subject *subject = &subjects[count++];

	if (count > sizeof(subjects) / sizeof(*subjects))
		bail("too many heaps");
	strcpy(subject->heap, heap->name);
	subject->fd = must_alloc(heap, SIZE);
	subject->memory = must_map(subject->fd, SIZE);
	subject->memory[LAST_WORD / 8] = MARK + count;
	subject->aligned = next_address;
	subject->unaligned = next_address + 2 * SIZE + PAGE;
	next_address += 4 * SIZE;
}

static void map_there(const struct subject *subject, uintptr_t address)
{
	if (mmap((void *)address, SIZE, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_FIXED_NOREPLACE, subject->fd, 0) != (void *)address)
		_exit(1);
}

/* A process that maps all of them, and ends when it is killed. */
static pid_t debuggee(void)
{
	int ready[2];
	pid_t child;
	char byte = 0;

	if (pipe2(ready, O_CLOEXEC))
		bail("pipe2: %s", strerror(errno));
	child = fork();
	if (child == 0) {
		for (unsigned int i = 0; i < count; i++) {
			map_there(&subjects[i], subjects[i].aligned);
			map_there(&subjects[i], subjects[i].unaligned);
		}
		if (write(ready[1], &byte, 1) == 1)
			for (;;)
				pause();
		_exit(1);
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		bail("the other process could not map the buffers");
	close(ready[0]);
	return child;
}

/* What gdb says when it looks at the end of each mapping, and writes its start. */
static void debug(pid_t pid, char *text, size_t room)
{
	char path[] = "/tmp/zcbuf-gdb-XXXXXX", command[100];
	FILE *script = fdopen(mkstemp(path), "w"), *gdb;
	size_t length;

	for (unsigned int i = 0; script && i < count; i++) {
		fprintf(script, "x/1xg %#zx\n", (size_t)(subjects[i].aligned + LAST_WORD));
		fprintf(script, "x/1xg %#zx\n",
			(size_t)(subjects[i].unaligned + LAST_WORD));
		fprintf(script, "set {long}%#zx = %u\n", (size_t)subjects[i].aligned,
			1000 + i);
		fprintf(script, "set {long}%#zx = %u\n",
			(size_t)(subjects[i].unaligned + PAGE), 2000 + i);
	}
	if (!script || fclose(script))
		bail("%s: %s", path, strerror(errno));
	snprintf(command, sizeof(command), "gdb -nx -batch -p %d -x %s 2>&1", pid, path);
	gdb = popen(command, "re");
	if (!gdb)
		bail("gdb: %s", strerror(errno));
	length = fread(text, 1, room - 1, gdb);
	text[length] = 0;
	pclose(gdb);
	unlink(path);
}

static bool read_at(const char *text, uintptr_t address, uint64_t value)
{
	char line[64];

	snprintf(line, sizeof(line), "%#zx:\t0x%016llx", (size_t)address,
		 (unsigned long long)value);
	return strstr(text, line);
}

int main(void)
{
	static char text[65536];
	bool all = true;
	pid_t child;

	for_each_heap(add);
	child = debuggee();
	debug(child, text, sizeof(text));
	for (unsigned int i = 0; i < count; i++) {
		const struct subject *subject = &subjects[i];

		all &= ok(read_at(text, subject->aligned + LAST_WORD, MARK + i + 1),
			  "%s: gdb reads a mapping where large entries fit", subject->heap);
		all &= ok(read_at(text, subject->unaligned + LAST_WORD, MARK + i + 1),
			  "%s: and one where none does", subject->heap);
		all &= ok(subject->memory[0] == 1000 + i &&
				  subject->memory[PAGE / 8] == 2000 + i,
			  "%s: and writes both", subject->heap);
	}
	if (!all)
		diag("%s", text);
	kill(child, SIGKILL);
	end_of(child);
	return done_testing();
}
