// SPDX-License-Identifier: GPL-2.0-only
/* Loading and unloading. */
#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/string.h>

#include "compat.h"
#include "internal.h"

struct zcbuf_heap_init {
	const char *name;
	int (*init)(void);
};

static const struct zcbuf_heap_init zcbuf_heap_inits[] __initconst = {
	{ "system",	zcbuf_system_init },
	{ "system-wc",	zcbuf_system_wc_init },
	{ "contig",	zcbuf_contig_init },
	{ "coherent",	zcbuf_coherent_init },
	{ "vmalloc",	zcbuf_vmalloc_init },
};

static char *heaps[ARRAY_SIZE(zcbuf_heap_inits)];
static unsigned int nr_heaps;
module_param_array(heaps, charp, &nr_heaps, 0444);
MODULE_PARM_DESC(heaps,
		 "heaps to offer, comma-separated, of system, system-wc, contig, coherent, vmalloc (all)");

static bool __init zcbuf_heap_wanted(const char *name)
{
	unsigned int i;

	for (i = 0; i < nr_heaps; i++)
		if (!strcmp(heaps[i], name))
			return true;
	return !nr_heaps;
}

static int __init zcbuf_heaps_check(void)
{
	unsigned int i, known;

	for (i = 0; i < nr_heaps; i++) {
		for (known = 0; known < ARRAY_SIZE(zcbuf_heap_inits); known++)
			if (!strcmp(heaps[i], zcbuf_heap_inits[known].name))
				break;
		if (known == ARRAY_SIZE(zcbuf_heap_inits)) {
			pr_err("zcbuf: heaps=%s: no such heap; there are system, system-wc, contig, coherent and vmalloc\n",
			       heaps[i]);
			return -EINVAL;
		}
	}
	return 0;
}

static void zcbuf_heaps_exit(void)
{
	zcbuf_carveout_exit();
	zcbuf_coherent_exit();
}

static int __init zcbuf_heaps_init(void)
{
	unsigned int i;
	int err;

	for (i = 0; i < ARRAY_SIZE(zcbuf_heap_inits); i++) {
		if (!zcbuf_heap_wanted(zcbuf_heap_inits[i].name))
			continue;
		err = zcbuf_heap_inits[i].init();
		/* A heap that this machine cannot have is no failure unless asked for. */
		if (err && (nr_heaps || err != -EOPNOTSUPP))
			return err;
	}
	return zcbuf_carveout_init();
}

static int __init zcbuf_init(void)
{
	int err;

	err = zcbuf_heaps_check();
	if (err)
		return err;
	err = zcbuf_pool_init();
	if (err)
		return err;
	zcbuf_debugfs_init();
	err = zcbuf_heaps_init();
	if (!err)
		err = zcbuf_nodes_init();
	if (err) {
		zcbuf_heaps_exit();
		zcbuf_debugfs_exit();
		zcbuf_pool_exit();
	}
	return err;
}

static void __exit zcbuf_exit(void)
{
	zcbuf_nodes_exit();
	zcbuf_heaps_exit();
	zcbuf_debugfs_exit();
	zcbuf_pool_exit();
}

module_init(zcbuf_init);
module_exit(zcbuf_exit);

MODULE_DESCRIPTION("Zero-copy buffers: dma-buf heaps for everybody");
MODULE_LICENSE("GPL");
MODULE_VERSION("0.1.0");
ZCBUF_IMPORT_NS_DMA_BUF;
