// SPDX-License-Identifier: GPL-2.0-only
/* Loading and unloading. */
#include <linux/init.h>
#include <linux/module.h>

#include "compat.h"
#include "internal.h"

static int __init zcbuf_init(void)
{
	int err;

	err = zcbuf_heap_init();
	if (err)
		return err;
	err = zcbuf_heap_register(&zcbuf_heap_system);
	if (err)
		goto heap_exit;
	err = zcbuf_control_init();
	if (err)
		goto heap_exit;
	return 0;

heap_exit:
	zcbuf_heap_exit();
	return err;
}

static void __exit zcbuf_exit(void)
{
	zcbuf_control_exit();
	zcbuf_heap_exit();
}

module_init(zcbuf_init);
module_exit(zcbuf_exit);

MODULE_DESCRIPTION("Zero-copy buffers: dma-buf heaps for everybody");
MODULE_LICENSE("GPL");
MODULE_VERSION("0.1.0");
ZCBUF_IMPORT_NS_DMA_BUF;
