// SPDX-License-Identifier: LGPL-2.1-or-later
/* Consumers in a storm: they come, are stopped and killed, and one of them watches it all. */
#include <storm.h>

#include "channel.h"

#define PLACES	24
#define LIVES	600
#define HOLD_MS 1000
#define POOL	32 /* too few if all hold what they may */

enum phase { CONNECTS, CONNECTED, WELCOMED, HOLDS };

static const char *const phases[] = {
	"while it connects",
	"before it is welcomed",
	"before its first frame",
	"with frames",
};

/* ---- one of them ------------------------------------------------------------------------ */

struct holder {
	struct storm *storm;
	struct life *life;
	struct zcbuf_consumer *consumer;
	const struct zcbuf_frame *frames[4];
	unsigned int n_frames, keep;
};

/* Who was stopped for too long may find newer content, but then is disconnected as well. */
static void judge(struct holder *h, const struct zcbuf_frame *frame)
{
	struct zcbuf_consumer_event event;

	h->life->judging = true;
	if (painted(frame->buffers[0], frame->sequence) && labelled(frame)) {
		h->storm->frames++;
		h->life->judging = false;
		return;
	}
	do {
		if (zcbuf_consumer_next_event(h->consumer, PATIENCE_MS, &event) != 1) {
			h->storm->wrong++;
			break;
		}
	} while (event.type != ZCBUF_CONSUMER_DISCONNECTED);
	h->life->judging = false;
	_exit(0);
}

static void hold(struct holder *h, const struct zcbuf_frame *frame)
{
	judge(h, frame);
	h->frames[h->n_frames++] = frame;
	if (h->n_frames < h->keep)
		return;
	if (random() % 4 == 0)
		sleep_ms((int)(random() % 8));
	while (h->n_frames) {
		frame = h->frames[--h->n_frames];
		judge(h, frame);
		must(zcbuf_consumer_give_back(h->consumer, frame, -1));
	}
}

static void live(struct storm *storm, struct life *life, unsigned int place)
{
	struct zcbuf_consumer_config config = { .max_frames = (uint32_t)random() % 4 + 1,
						.drop = (uint32_t)random() % 3 };
	struct holder h = { .storm = storm,
			    .life = life,
			    .keep = (unsigned int)random() % config.max_frames + 1 };
	struct zcbuf_consumer_event event;
	long frames = random() % 4 ? -1 : random() % 50; /* then it leaves by itself */

	(void)place;
	life->phase = CONNECTS;
	if (zcbuf_consumer_new(new_ctx(), storm->address, &config, &h.consumer))
		_exit(0); /* the producer is overrun */
	life->phase = CONNECTED;
	while (frames && zcbuf_consumer_next_event(h.consumer, -1, &event) == 1) {
		if (event.type == ZCBUF_CONSUMER_CONNECTED)
			life->phase = WELCOMED;
		if (event.type != ZCBUF_CONSUMER_FRAME)
			continue;
		life->phase = HOLDS;
		hold(&h, event.frame);
		frames--;
	}
	zcbuf_consumer_unref(h.consumer);
}

/* ---- the one that watches --------------------------------------------------------------- */

/* The next frame, if the viewer has those before it: nothing but a fault can cost it one. */
static void show_frame(struct stage *s, const struct viewer *v)
{
	if (v->frames == s->sequence && s->n_free)
		stage_send(s, 0);
	stage_run(s, 1);
}

static void storm(struct storm *storm)
{
	struct zcbuf_producer_config config = { .hold_ms = HOLD_MS };
	struct viewer *v, *late;
	unsigned int frames;
	struct stage s;
	long memory;
	int fds;

	stage_open(&s, &config, POOL);
	v = viewer_start(viewer_new(s.address));
	until(&s, s.connected == 1);
	fds = open_fds();
	strcpy(storm->address, s.address);
	while (storm_lives(storm) < LIVES / 6)
		show_frame(&s, v);
	memory = memory_kib();
	frames = v->frames;
	/* A slow machine admits few of them, as most are killed before. */
	while (storm_lives(storm) < LIVES || stage_stats(&s).admitted <= LIVES / 4 ||
	       !stage_stats(&s).expelled)
		show_frame(&s, v);
	frames = v->frames - frames;
	storm->over = true;
	while (!waitpid(storm->pid, NULL, WNOHANG))
		show_frame(&s, v);
	for (int i = 0; i < STORM_PHASES; i++)
		ok(storm->killed[i], "%u consumers were killed %s", storm->killed[i],
		   phases[i]);
	ok(storm->left && storm->resumed,
	   "%u left by themselves, %u were stopped, %u of these for a while", storm->left,
	   storm->stopped, storm->resumed);
	ok(!storm->crashed, "none crashed");
	ok(storm->frames > LIVES && !storm->wrong,
	   "each of the %u frames that they looked at was what had been sent",
	   storm->frames);
	diag("%u were admitted, %u were stopped for too long",
	     (unsigned int)stage_stats(&s).admitted, (unsigned int)stage_stats(&s).expelled);
	ok(frames > 100 && eventually(v->frames == s.sequence),
	   "another one got each of %u frames meanwhile", frames);
	ok(v->connected == 1 && !v->disconnected && !v->lost && !v->wrong && !v->disorder,
	   "with the right content, in order");
	ok(until(&s, stage_stats(&s).consumers == 1 && stage_complete(&s)),
	   "all buffers are back");
	ok(open_fds() == fds, "no file descriptor is left");
	grew_little(memory, "in all that time");

	late = viewer_start(viewer_new(s.address));
	until(&s, stage_stats(&s).consumers == 2);
	for (int i = 0; i < 100; i++)
		must(stage_send(&s, PATIENCE_MS));
	ok(until(&s, late->frames == 100 && v->frames == s.sequence) && !late->wrong &&
		   !late->lost && !late->disorder,
	   "who comes then gets each frame, with the right content");
	viewer_end(late, 0);
	viewer_end(v, 0);
	stage_close(&s);
}

int main(int argc, char **argv)
{
	be_viewer(argc, argv);
	storm(storm_begin(PLACES, 1, 2048, live));
	return done_testing();
}
