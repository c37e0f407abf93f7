#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Usage: probe.sh HEADER SYMVERS CC CFLAGS...
# Writes HEADER with a #define for each probe that compiles against this kernel. What the
# compiler said about the others is in HEADER.log.
set -eu
header=$1
symvers=$2
shift 2
compiler="$*"

: >"$header.new"
: >"$header.log"

# probe MACRO: define MACRO if the C code on standard input compiles
probe() {
	echo "== $1" >>"$header.log"
	if $compiler -Werror -x c -c -o /dev/null - >>"$header.log" 2>&1; then
		echo "#define $1 1" >>"$header.new"
	fi
}

# exported MACRO SYMBOL...: define MACRO if modules may use all the symbols
exported() {
	macro=$1
	shift
	for symbol; do
		grep -q "	$symbol	" "$symvers" || return 0
	done
	echo "#define $macro 1" >>"$header.new"
}

# Everything else is meaningless when not even this compiles.
echo "== sanity" >>"$header.log"
if ! echo '#include <linux/dma-buf.h>' |
	$compiler -Werror -x c -c -o /dev/null - >>"$header.log" 2>&1; then
	cat "$header.log" >&2
	echo "zcbuf: the kernel headers do not compile (see above)" >&2
	exit 1
fi

probe ZCBUF_HAVE_VM_FLAGS_MOD <<EOF
#include <linux/mm.h>
void f(struct vm_area_struct *vma);
void f(struct vm_area_struct *vma) { vm_flags_mod(vma, VM_DONTDUMP, VM_MAYEXEC); }
EOF

probe ZCBUF_HAVE_CONST_DEVNODE <<EOF
#include <linux/device.h>
char *f(const struct device *dev, umode_t *mode);
char *f(const struct device *dev, umode_t *mode) { return NULL; }
struct class c = { .devnode = f };
EOF

probe ZCBUF_HAVE_LIST_LRU_ADD_OBJ <<EOF
#include <linux/list_lru.h>
bool f(struct list_lru *lru, struct list_head *item);
bool f(struct list_lru *lru, struct list_head *item) { return list_lru_add_obj(lru, item); }
EOF

probe ZCBUF_HAVE_SHRINKER_ALLOC <<EOF
#include <linux/shrinker.h>
struct shrinker *f(void);
struct shrinker *f(void) { return shrinker_alloc(0, "name"); }
EOF

probe ZCBUF_HAVE_INSERT_FOLIO_PMD <<EOF
#include <linux/mm.h>
vm_fault_t f(struct vm_fault *vmf, struct folio *folio);
vm_fault_t f(struct vm_fault *vmf, struct folio *folio)
{
	return vmf_insert_folio_pmd(vmf, folio, true);
}
EOF

probe ZCBUF_HAVE_VMA_THP_DISABLED <<EOF
#include <linux/mm.h>
bool f(struct vm_area_struct *vma);
bool f(struct vm_area_struct *vma) { return vma_thp_disabled(vma, vma->vm_flags); }
EOF

probe ZCBUF_HAVE_VMA_THP_DISABLED_FORCED <<EOF
#include <linux/mm.h>
bool f(struct vm_area_struct *vma);
bool f(struct vm_area_struct *vma) { return vma_thp_disabled(vma, vma->vm_flags, false); }
EOF

probe ZCBUF_HAVE_FOLIO_MEMCG_CHECK <<EOF
#include <linux/memcontrol.h>
struct mem_cgroup *f(struct page *page);
struct mem_cgroup *f(struct page *page) { return folio_memcg_check(page_folio(page)); }
EOF

probe ZCBUF_HAVE_BARE_IMPORT_NS <<EOF
#include <linux/module.h>
MODULE_IMPORT_NS(DMA_BUF);
EOF

exported ZCBUF_HAVE_CMA cma_alloc cma_release dev_get_cma_area

probe ZCBUF_HAVE_VMAP_UNLOCKED <<EOF
#include <linux/dma-buf.h>
int f(struct dma_buf *dmabuf, struct iosys_map *map);
int f(struct dma_buf *dmabuf, struct iosys_map *map)
{
	return dma_buf_vmap_unlocked(dmabuf, map);
}
EOF

probe ZCBUF_HAVE_MOVE_NOTIFY <<EOF
#include <linux/dma-buf.h>
void f(struct dma_buf_attachment *attachment);
void f(struct dma_buf_attachment *attachment) { }
struct dma_buf_attach_ops o = { .move_notify = f };
EOF

if cmp -s "$header.new" "$header"; then
	rm "$header.new"
else
	mv "$header.new" "$header"
fi
