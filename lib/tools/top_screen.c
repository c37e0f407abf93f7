// SPDX-License-Identifier: LGPL-2.1-or-later
/* zcbuf top on a terminal. The control sequences are those of ECMA-48 and xterm, which all have. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

#include "top.h"

#define ENTER	 "\033[?1049h\033[?25l" /* another screen, without a cursor */
#define LEAVE	 "\033[?25h\033[?1049l" /* the old one */
#define BEGIN	 "\033[H"		/* to the upper left */
#define END_LINE "\033[K\r\n"		/* and clear what was there */
#define END	 "\033[K\033[J"
#define REVERSE	 "\033[7m"
#define NORMAL	 "\033[m"

struct screen {
	struct top_choice choice;
	double interval;
	struct scan *scan;
	struct termios before;
	int signals; /* a signalfd */
	size_t lines, columns, scroll;
	bool prompts; /* for a filter, which is then in @typed */
	bool quits;
	int killed_by; /* a signal, or 0 */
	char typed[128], message[256];
};

/* ---- the terminal ---------------------------------------------------------------------- */

static bool put(const char *text, size_t length)
{
	while (length) {
		ssize_t written = write(STDOUT_FILENO, text, length);

		if (written < 0 && errno != EINTR && errno != EAGAIN)
			return false;
		if (written > 0) {
			text += written;
			length -= (size_t)written;
		}
	}
	return true;
}

static void measure(struct screen *screen)
{
	struct winsize size = { 0 };

	ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
	screen->lines = size.ws_row ? size.ws_row : 24;
	screen->columns = size.ws_col ? size.ws_col : 80;
}

static void enter(struct screen *screen)
{
	struct termios raw = screen->before;

	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	raw.c_cc[VMIN] = 0;
	raw.c_cc[VTIME] = 0;
	tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	put(ENTER, strlen(ENTER));
	measure(screen);
}

static void leave(const struct screen *screen)
{
	put(LEAVE, strlen(LEAVE));
	tcsetattr(STDIN_FILENO, TCSANOW, &screen->before);
}

/* ---- a picture ------------------------------------------------------------------------- */

/* How many bytes of @text fit into @columns. */
static size_t fitting(const char *text, size_t columns)
{
	mbstate_t state = { 0 };
	size_t used = 0, length;
	wchar_t wide;
	int width;

	for (; text[used] && text[used] != '\n'; used += length) {
		length = mbrtowc(&wide, text + used, MB_CUR_MAX, &state);
		width = length > MB_CUR_MAX ? -1 : wcwidth(wide);
		if (width < 0 || (size_t)width > columns)
			break;
		columns -= (size_t)width;
	}
	return used;
}

static void draw_line(const struct screen *screen, FILE *picture, const char *text)
{
	fwrite(text, 1, fitting(text, screen->columns), picture);
}

/* Returns how many lines that takes: none, where there are only a few. */
static size_t draw_head(const struct screen *screen, FILE *picture)
{
	const struct top_choice *choice = &screen->choice;
	size_t lines = 2;
	char text[512];

	if (screen->lines < 6)
		return 0;
	top_summary(screen->scan, &choice->filter, text, sizeof(text));
	draw_line(screen, picture, text);
	fputs(END_LINE, picture);
	snprintf(text, sizeof(text), "by %s, sorted by %s%s%s%s",
		 top_table_names[choice->table],
		 top_column_key(choice->table, choice->column),
		 choice->reverse ? ", reversed" : "", choice->filter.count ? ", only " : "",
		 choice->filter.given);
	draw_line(screen, picture, text);
	fputs(END_LINE, picture);
	for (size_t i = 0;
	     lines + 4 < screen->lines && scan_note(screen->scan, i, text, sizeof(text));
	     i++, lines++) {
		draw_line(screen, picture, text);
		fputs(END_LINE, picture);
	}
	return lines;
}

/* The table's first line stays, the others scroll. */
static void draw_table(struct screen *screen, FILE *picture, size_t room)
{
	struct report *report = top_report(screen->scan, &screen->choice, false);
	size_t size, count = 0, skip;
	char *table, *line;
	FILE *file = or_die(open_memstream(&table, &size));

	report_write(report, file);
	fclose(file);
	report_free(report);
	for (line = table; (line = strchr(line, '\n')); line++)
		count++;
	if (screen->scroll + room > count)
		screen->scroll = count > room ? count - room : 0;
	skip = screen->scroll;
	for (line = table; *line && room; line = strchr(line, '\n') + 1) {
		if (line == table) {
			fputs(REVERSE, picture);
		} else if (skip) {
			skip--;
			continue;
		}
		draw_line(screen, picture, line);
		fputs(line == table ? NORMAL END_LINE : END_LINE, picture);
		room--;
	}
	for (; room; room--)
		fputs(END_LINE, picture);
	free(table);
}

static void draw(struct screen *screen)
{
	size_t size, lines;
	char *text, line[512];
	FILE *picture = or_die(open_memstream(&text, &size));

	fputs(BEGIN, picture);
	lines = draw_head(screen, picture);
	draw_table(screen, picture, screen->lines - lines - 1);
	if (screen->prompts)
		snprintf(line, sizeof(line), "filter: %s_", screen->typed);
	else if (screen->message[0])
		snprintf(line, sizeof(line), "%s", screen->message);
	else
		snprintf(line, sizeof(line),
			 "q quit  b h p e c buffers holdings processes exporters cgroups  "
			 "< > r sort  / filter  space now");
	draw_line(screen, picture, line);
	fputs(END, picture);
	fclose(picture);
	if (!put(text, size))
		screen->quits = true; /* the terminal is gone */
	free(text);
}

/* ---- keys ------------------------------------------------------------------------------ */

static void choose(struct screen *screen, enum top_table table)
{
	screen->choice.table = table;
	screen->choice.column = (size_t)top_column_find(table, NULL);
	screen->choice.reverse = false;
	screen->scroll = 0;
}

/* To the column on the left or right, if there is one. */
static void move_column(struct top_choice *choice, int step)
{
	size_t column = choice->column + (size_t)step;

	if (top_column_key(choice->table, column))
		choice->column = column;
}

static void type(struct screen *screen, const char *keys, size_t length)
{
	size_t end = strlen(screen->typed);

	if (*keys == '\r' || *keys == '\n') {
		screen->prompts = false;
		top_filter_parse(&screen->choice.filter, screen->typed, screen->message,
				 sizeof(screen->message));
	} else if (*keys == '\033') {
		screen->prompts = false;
	} else if (*keys == '\177' || *keys == '\b') {
		while (end && (screen->typed[end - 1] & 0xc0) == 0x80)
			end--;
		screen->typed[end ? end - 1 : 0] = '\0';
	} else if ((unsigned char)*keys >= ' ' && end + length < sizeof(screen->typed)) {
		memcpy(screen->typed + end, keys, length);
		screen->typed[end + length] = '\0';
	}
}

static void scroll(struct screen *screen, char key)
{
	const size_t page = screen->lines > 6 ? screen->lines - 6 : 1;
	size_t step = key == 'A' || key == 'B' ? 1 : page;

	if (key == 'H')
		screen->scroll = 0;
	else if (key == 'F')
		screen->scroll = SIZE_MAX / 2; /* drawing knows where the end is */
	else if (key == 'B' || key == '6')
		screen->scroll += step;
	else if (key == 'A' || key == '5')
		screen->scroll -= screen->scroll < step ? screen->scroll : step;
}

static void press(struct screen *screen, char key)
{
	static const char tables[TOP_TABLES + 1] = "bhpec";
	const char *table = key ? strchr(tables, key) : NULL;

	screen->message[0] = '\0';
	if (table)
		choose(screen, (enum top_table)(table - tables));
	else if (key == 'q')
		screen->quits = true;
	else if (key == '<')
		move_column(&screen->choice, -1);
	else if (key == '>')
		move_column(&screen->choice, 1);
	else if (key == 'r')
		screen->choice.reverse = !screen->choice.reverse;
	else if (key == '/') {
		screen->prompts = true;
		screen->typed[0] = '\0';
	}
}

/* Returns whether it is time for another look. */
static bool read_keys(struct screen *screen)
{
	char keys[64];
	ssize_t count = read(STDIN_FILENO, keys, sizeof(keys));
	bool look = false;

	if (count == 0 || (count < 0 && errno != EINTR && errno != EAGAIN))
		screen->quits = true; /* it has hung up */
	for (ssize_t i = 0; i < count && !screen->quits; i++) {
		if (keys[i] == '\033' && i + 2 < count && strchr("[O", keys[i + 1])) {
			scroll(screen, keys[i + 2]);
			i += 2;
			while (i + 1 < count && keys[i + 1] == '~')
				i++;
		} else if (screen->prompts) {
			type(screen, &keys[i], 1);
		} else {
			look |= keys[i] == ' ';
			press(screen, keys[i]);
		}
	}
	return look;
}

/* ---- signals --------------------------------------------------------------------------- */

static void take_signal(struct screen *screen)
{
	struct signalfd_siginfo info;

	if (read(screen->signals, &info, sizeof(info)) != sizeof(info))
		return;
	switch (info.ssi_signo) {
	case SIGWINCH:
		measure(screen);
		break;
	case SIGTSTP:
		leave(screen);
		raise(SIGSTOP);
		enter(screen);
		break;
	default:
		screen->killed_by = (int)info.ssi_signo;
	}
}

static double monotonic(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static bool look(struct screen *screen, struct zcbuf_ctx *ctx)
{
	struct scan *scan = scan_new(ctx);

	if (scan && screen->scan)
		scan_inherit(scan, screen->scan);
	if (scan) {
		scan_free(screen->scan);
		screen->scan = scan;
	}
	return scan != NULL;
}

static void run(struct screen *screen, struct zcbuf_ctx *ctx)
{
	struct pollfd ready[] = {
		{ .fd = STDIN_FILENO, .events = POLLIN },
		{ .fd = screen->signals, .events = POLLIN },
	};
	double next = monotonic() + screen->interval, wait;

	while (!screen->quits && !screen->killed_by) {
		draw(screen);
		wait = next - monotonic();
		if (wait <= 0 || poll(ready, 2, (int)(wait * 1000) + 1) == 0) {
			look(screen, ctx);
			next = monotonic() + screen->interval;
			continue;
		}
		if (ready[1].revents)
			take_signal(screen);
		else if (ready[0].revents && read_keys(screen))
			next = 0;
	}
}

int top_screen(struct zcbuf_ctx *ctx, struct top_choice choice, double interval)
{
	static const int signals[] = {
		SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGWINCH
	};
	struct screen screen = { .choice = choice, .interval = interval };
	sigset_t set, before;

	if (!look(&screen, ctx))
		return failure("/proc: %m");
	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaddset(&set, signals[i]);
	sigprocmask(SIG_BLOCK, &set, &before);
	screen.signals = signalfd(-1, &set, SFD_CLOEXEC);
	if (screen.signals < 0 || tcgetattr(STDIN_FILENO, &screen.before))
		return failure("terminal: %m");
	enter(&screen);
	run(&screen, ctx);
	leave(&screen);
	scan_free(screen.scan);
	close(screen.signals);
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (screen.killed_by)
		raise(screen.killed_by); /* as if it had not been held up */
	return EXIT_SUCCESS;
}
