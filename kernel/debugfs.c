// SPDX-License-Identifier: GPL-2.0-only
/* /sys/kernel/debug/zcbuf/buffers: all that is alive, for whoever debugs the machine. */
#include <linux/debugfs.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/seq_file.h>

#include "compat.h"
#include "internal.h"

static LIST_HEAD(zcbuf_buffers); /* by id */
static DEFINE_MUTEX(zcbuf_buffers_lock); /* guards the list, outside of &zcbuf_buffer.lock */
static struct dentry *zcbuf_debugfs_dir;

void zcbuf_debugfs_add(struct zcbuf_buffer *buf)
{
	struct zcbuf_buffer *before;

	mutex_lock(&zcbuf_buffers_lock);
	/* The last one, but for those that were allocated in the same instant. */
	list_for_each_entry_reverse(before, &zcbuf_buffers, link)
		if (before->id < buf->id)
			break;
	list_add(&buf->link, &before->link);
	mutex_unlock(&zcbuf_buffers_lock);
}

void zcbuf_debugfs_remove(struct zcbuf_buffer *buf)
{
	mutex_lock(&zcbuf_buffers_lock);
	list_del(&buf->link);
	mutex_unlock(&zcbuf_buffers_lock);
}

/* A position is an id, so that whoever goes between two reads takes none of the others along. */
static void *zcbuf_buffers_start(struct seq_file *m, loff_t *pos)
{
	struct zcbuf_buffer *buf;

	mutex_lock(&zcbuf_buffers_lock);
	if (!*pos)
		return SEQ_START_TOKEN;
	list_for_each_entry(buf, &zcbuf_buffers, link)
		if (buf->id >= *pos)
			return buf;
	return NULL;
}

static void *zcbuf_buffers_next(struct seq_file *m, void *v, loff_t *pos)
{
	struct zcbuf_buffer *buf = v;

	if (v == SEQ_START_TOKEN) {
		*pos = 1;
		return list_first_entry_or_null(&zcbuf_buffers, struct zcbuf_buffer, link);
	}
	*pos = buf->id + 1;
	if (list_is_last(&buf->link, &zcbuf_buffers))
		return NULL;
	return list_next_entry(buf, link);
}

static void zcbuf_buffers_stop(struct seq_file *m, void *v)
{
	mutex_unlock(&zcbuf_buffers_lock);
}

static int zcbuf_buffers_show(struct seq_file *m, void *v)
{
	struct zcbuf_buffer *buf = v;

	if (v == SEQ_START_TOKEN) {
		seq_puts(m, "id heap size alignment flags uid views mappings devices\n");
		return 0;
	}
	seq_printf(m, "%llu %s %zu %zu %#llx %u %d %d ", buf->id, buf->heap->name, buf->size,
		   buf->alignment, buf->flags, zcbuf_user_uid(buf->user),
		   atomic_read(&buf->views), atomic_read(&buf->mappings));
	zcbuf_attachments_show(buf, m);
	seq_putc(m, '\n');
	return 0;
}

static const struct seq_operations zcbuf_buffers_sops = {
	.start	= zcbuf_buffers_start,
	.next	= zcbuf_buffers_next,
	.stop	= zcbuf_buffers_stop,
	.show	= zcbuf_buffers_show,
};
DEFINE_SEQ_ATTRIBUTE(zcbuf_buffers);

void __init zcbuf_debugfs_init(void)
{
	zcbuf_debugfs_dir = debugfs_create_dir("zcbuf", NULL);
	debugfs_create_file("buffers", 0400, zcbuf_debugfs_dir, NULL, &zcbuf_buffers_fops);
}

void zcbuf_debugfs_exit(void)
{
	debugfs_remove(zcbuf_debugfs_dir);
}
