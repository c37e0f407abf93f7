// SPDX-License-Identifier: GPL-2.0-only
/* Limits: how many bytes living buffers may have, all together, of a heap, and of a user. */
#include <linux/cred.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/refcount.h>
#include <linux/slab.h>

#include "compat.h"
#include "internal.h"

/**
 * struct zcbuf_user - whoever opened a heap's node
 * @link: in the list of all
 * @ref: one for each open node and for each buffer
 * @uid: who
 * @used_bytes: in living buffers, of all heaps
 */
struct zcbuf_user {
	struct list_head link;
	refcount_t ref;
	kuid_t uid;
	atomic64_t used_bytes;
};

u64 zcbuf_limit = ZCBUF_NO_LIMIT;
u64 zcbuf_user_limit = ZCBUF_NO_LIMIT;

static LIST_HEAD(zcbuf_users);
static DEFINE_MUTEX(zcbuf_users_lock); /* guards the list */
static atomic64_t zcbuf_used_bytes;

static struct zcbuf_user *zcbuf_user_find_locked(kuid_t uid)
{
	struct zcbuf_user *user;

	list_for_each_entry(user, &zcbuf_users, link)
		if (uid_eq(user->uid, uid)) {
			refcount_inc(&user->ref);
			return user;
		}
	return NULL;
}

/** zcbuf_user_get() - whom the caller's buffers are counted for, or NULL: no memory */
struct zcbuf_user *zcbuf_user_get(void)
{
	struct zcbuf_user *user, *new;

	new = kzalloc_obj(*new, GFP_KERNEL_ACCOUNT);
	if (!new)
		return NULL;
	refcount_set(&new->ref, 1);
	new->uid = current_uid();
	mutex_lock(&zcbuf_users_lock);
	user = zcbuf_user_find_locked(new->uid);
	if (!user)
		list_add(&new->link, &zcbuf_users);
	mutex_unlock(&zcbuf_users_lock);
	if (!user)
		return new;
	kfree(new);
	return user;
}

struct zcbuf_user *zcbuf_user_hold(struct zcbuf_user *user)
{
	refcount_inc(&user->ref);
	return user;
}

void zcbuf_user_put(struct zcbuf_user *user)
{
	if (!refcount_dec_and_mutex_lock(&user->ref, &zcbuf_users_lock))
		return;
	list_del(&user->link);
	mutex_unlock(&zcbuf_users_lock);
	kfree(user);
}

/** zcbuf_user_uid() - who it is, as the first user namespace numbers them */
uid_t zcbuf_user_uid(const struct zcbuf_user *user)
{
	return from_kuid(&init_user_ns, user->uid);
}

static bool zcbuf_count(atomic64_t *used_bytes, u64 bytes, u64 limit)
{
	s64 used = atomic64_read(used_bytes);

	do {
		if (used > limit || bytes > limit - used)
			return false;
	} while (!atomic64_try_cmpxchg(used_bytes, &used, used + bytes));
	return true;
}

/* The user comes first: who is above that limit takes nothing from others, not for a moment. */
int zcbuf_charge(struct zcbuf_heap *heap, struct zcbuf_user *user, u64 bytes)
{
	if (!zcbuf_count(&user->used_bytes, bytes, READ_ONCE(zcbuf_user_limit)))
		return -EDQUOT;
	if (!zcbuf_count(&heap->used_bytes, bytes, READ_ONCE(heap->limit)))
		goto uncount_user;
	if (!zcbuf_count(&zcbuf_used_bytes, bytes, READ_ONCE(zcbuf_limit)))
		goto uncount_heap;
	return 0;

uncount_heap:
	atomic64_sub(bytes, &heap->used_bytes);
uncount_user:
	atomic64_sub(bytes, &user->used_bytes);
	return -EDQUOT;
}

void zcbuf_uncharge(struct zcbuf_heap *heap, struct zcbuf_user *user, u64 bytes)
{
	atomic64_sub(bytes, &zcbuf_used_bytes);
	atomic64_sub(bytes, &heap->used_bytes);
	atomic64_sub(bytes, &user->used_bytes);
}
