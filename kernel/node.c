// SPDX-License-Identifier: GPL-2.0-only
/*
 * The device nodes: /dev/zcbuf, and one for each heap.
 *
 * Somebody may open a node as soon as there is one, and nobody waits for him when loading
 * fails after that. So all nodes get their life at once, as the last thing of all.
 */
#include <linux/cdev.h>
#include <linux/device.h>
#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/sysfs.h>

#include "compat.h"
#include "internal.h"

#define MINORS	(ZCBUF_FIRST_HEAP_MINOR + ZCBUF_MAX_HEAPS)

static dev_t zcbuf_devt;
static struct cdev zcbuf_cdev;

static int zcbuf_node_open(struct inode *inode, struct file *file)
{
	const struct file_operations *fops = &zcbuf_heap_fops;

	if (iminor(inode) < ZCBUF_FIRST_HEAP_MINOR)
		fops = &zcbuf_control_fops;
	replace_fops(file, fops_get(fops));
	return file->f_op->open(inode, file);
}

static const struct file_operations zcbuf_node_fops = {
	.owner	= THIS_MODULE,
	.open	= zcbuf_node_open,
};

/*
 * The control node is open to everybody: it works on what the caller holds already. Heaps
 * are where programs look for them. @mode is NULL when the node is removed.
 */
static char *zcbuf_devnode(zcbuf_devnode_device *dev, umode_t *mode)
{
	bool control = MINOR(dev->devt) < ZCBUF_FIRST_HEAP_MINOR;

	if (mode)
		*mode = control ? 0666 : 0660;
	return kasprintf(GFP_KERNEL, "%s%s", control ? "" : "dma_heap/", dev_name(dev));
}

/* Mainline's class "dma_heap" is taken where the kernel has heaps of its own. */
static struct class zcbuf_class = {
	.name		= "zcbuf",
	.devnode	= zcbuf_devnode,
};

static ssize_t pool_bytes_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%llu\n", zcbuf_pool_bytes());
}
static DEVICE_ATTR_RO(pool_bytes);

static ssize_t pool_limit_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%llu\n", zcbuf_pool_get_limit());
}

static ssize_t pool_limit_store(struct device *dev, struct device_attribute *attr,
				const char *buf, size_t count)
{
	u64 bytes;
	int err = kstrtou64(buf, 0, &bytes);

	if (err)
		return err;
	zcbuf_pool_set_limit(bytes);
	return count;
}
static DEVICE_ATTR_RW(pool_limit);

/* A number of bytes, or "max". */
static ssize_t zcbuf_limit_emit(u64 limit, char *buf)
{
	if (limit == ZCBUF_NO_LIMIT)
		return sysfs_emit(buf, "max\n");
	return sysfs_emit(buf, "%llu\n", limit);
}

static ssize_t zcbuf_limit_parse(u64 *limit, const char *buf, size_t count)
{
	u64 bytes = ZCBUF_NO_LIMIT;
	int err = sysfs_streq(buf, "max") ? 0 : kstrtou64(buf, 0, &bytes);

	if (err)
		return err;
	WRITE_ONCE(*limit, bytes);
	return count;
}

/* The heap's, or that of all heaps at the control node. */
static u64 *zcbuf_limit_of(struct device *dev)
{
	struct zcbuf_heap *heap = dev_get_drvdata(dev);

	return heap ? &heap->limit : &zcbuf_limit;
}

static ssize_t limit_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return zcbuf_limit_emit(READ_ONCE(*zcbuf_limit_of(dev)), buf);
}

static ssize_t limit_store(struct device *dev, struct device_attribute *attr,
			   const char *buf, size_t count)
{
	return zcbuf_limit_parse(zcbuf_limit_of(dev), buf, count);
}
static DEVICE_ATTR_RW(limit);

static ssize_t user_limit_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return zcbuf_limit_emit(READ_ONCE(zcbuf_user_limit), buf);
}

static ssize_t user_limit_store(struct device *dev, struct device_attribute *attr,
				const char *buf, size_t count)
{
	return zcbuf_limit_parse(&zcbuf_user_limit, buf, count);
}
static DEVICE_ATTR_RW(user_limit);

static struct attribute *zcbuf_control_attrs[] = {
	&dev_attr_limit.attr,
	&dev_attr_user_limit.attr,
	NULL
};
ATTRIBUTE_GROUPS(zcbuf_control);

static struct attribute *zcbuf_heap_attrs[] = {
	&dev_attr_limit.attr,
	NULL
};
ATTRIBUTE_GROUPS(zcbuf_heap);

static struct attribute *zcbuf_pooled_heap_attrs[] = {
	&dev_attr_limit.attr,
	&dev_attr_pool_bytes.attr,
	&dev_attr_pool_limit.attr,
	NULL
};
ATTRIBUTE_GROUPS(zcbuf_pooled_heap);

static int zcbuf_node_create(unsigned int minor, const char *name, struct zcbuf_heap *heap,
			     const struct attribute_group **groups)
{
	return PTR_ERR_OR_ZERO(device_create_with_groups(&zcbuf_class, NULL,
							 MKDEV(MAJOR(zcbuf_devt), minor),
							 heap, groups, "%s", name));
}

static int zcbuf_heap_node_create(unsigned int index, struct zcbuf_heap *heap)
{
	return zcbuf_node_create(ZCBUF_FIRST_HEAP_MINOR + index, heap->name, heap,
				 heap->pooled ? zcbuf_pooled_heap_groups : zcbuf_heap_groups);
}

static void zcbuf_nodes_destroy(void)
{
	unsigned int minor;

	for (minor = 0; minor < MINORS; minor++)
		device_destroy(&zcbuf_class, MKDEV(MAJOR(zcbuf_devt), minor));
	class_unregister(&zcbuf_class);
	unregister_chrdev_region(zcbuf_devt, MINORS);
}

/** zcbuf_nodes_init() - make nodes for all heaps. Nothing may fail after this. */
int __init zcbuf_nodes_init(void)
{
	struct zcbuf_heap *heap;
	unsigned int i;
	int err;

	err = alloc_chrdev_region(&zcbuf_devt, 0, MINORS, "zcbuf");
	if (err)
		return err;
	err = class_register(&zcbuf_class);
	if (err) {
		unregister_chrdev_region(zcbuf_devt, MINORS);
		return err;
	}
	err = zcbuf_node_create(0, "zcbuf", NULL, zcbuf_control_groups);
	for (i = 0; !err && (heap = zcbuf_heap_at(i)); i++)
		err = zcbuf_heap_node_create(i, heap);
	if (!err) {
		cdev_init(&zcbuf_cdev, &zcbuf_node_fops);
		zcbuf_cdev.owner = THIS_MODULE;
		err = cdev_add(&zcbuf_cdev, zcbuf_devt, MINORS);
	}
	if (err)
		zcbuf_nodes_destroy();
	return err;
}

/** zcbuf_nodes_exit() - remove all nodes. None is open. */
void zcbuf_nodes_exit(void)
{
	cdev_del(&zcbuf_cdev);
	zcbuf_nodes_destroy();
}
