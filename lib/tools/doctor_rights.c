// SPDX-License-Identifier: LGPL-2.1-or-later
/* Who may open the nodes of zcbuf's heaps. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "doctor.h"

#define MAX_HEAPS 64

static const char *name_of_group(gid_t gid)
{
	const struct group *group = getgrgid(gid);

	return group ? group->gr_name : NULL;
}

/* Whether this process is in the group; what the user database says may be newer. */
static bool is_in_group(gid_t gid)
{
	gid_t groups[256];
	int count = getgroups(256, groups);

	for (int i = 0; i < count; i++)
		if (groups[i] == gid)
			return true;
	return getegid() == gid;
}

static bool is_to_be_in_group(const struct passwd *user, gid_t gid)
{
	gid_t groups[256];
	int count = 256;

	if (!user || getgrouplist(user->pw_name, user->pw_gid, groups, &count) < 0)
		return false;
	for (int i = 0; i < count; i++)
		if (groups[i] == gid)
			return true;
	return false;
}

struct denial why_denied(const char *path, const struct stat *node)
{
	const struct passwd *user = getpwuid(geteuid());
	const char *group = name_of_group(node->st_gid);
	struct denial denial;
	char uid[16];

	snprintf(uid, sizeof(uid), "%u", geteuid());
	if (!node->st_gid || !group || (node->st_mode & 0060) != 0060) {
		snprintf(denial.reason, sizeof(denial.reason), "only %s may, mode %04o",
			 node->st_uid ? "its owner" : "root", node->st_mode & 07777);
		snprintf(denial.remedy, sizeof(denial.remedy),
			 "a udev rule, or: sudo chgrp video %s && sudo chmod 660 %s", path,
			 path);
	} else if (is_to_be_in_group(user, node->st_gid)) {
		snprintf(denial.reason, sizeof(denial.reason),
			 "user %s is in the group %s, but this session began before",
			 user->pw_name, group);
		snprintf(denial.remedy, sizeof(denial.remedy),
			 "log in again, or: newgrp %s", group);
	} else {
		snprintf(denial.reason, sizeof(denial.reason),
			 "user %s is not in the group %s", user ? user->pw_name : uid,
			 group);
		snprintf(denial.remedy, sizeof(denial.remedy),
			 "sudo usermod -aG %s %s, and log in again", group,
			 user ? user->pw_name : uid);
	}
	return denial;
}

static bool find_rule(void)
{
	static const char *const places[] = {
		"/etc/udev/rules.d",	 "/run/udev/rules.d", "/usr/local/lib/udev/rules.d",
		"/usr/lib/udev/rules.d", "/lib/udev/rules.d",
	};

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		char path[64];

		snprintf(path, sizeof(path), "%s/60-zcbuf.rules", places[i]);
		if (!access(path, F_OK))
			return true;
	}
	return false;
}

/* Zcbuf's heaps have a rule for their nodes. */
static struct denial why_heap_denied(const char *path, const struct stat *node)
{
	static const char apply[] = "sudo udevadm control --reload && sudo udevadm trigger "
				    "--subsystem-match=zcbuf";
	struct denial denial = why_denied(path, node);
	bool has_rule = find_rule();

	if (node->st_gid && (node->st_mode & 0060) == 0060) {
		size_t length = strlen(denial.remedy);

		if (geteuid() && strstr(denial.remedy, "usermod"))
			snprintf(denial.remedy + length, sizeof(denial.remedy) - length,
				 "; or sit at the machine, where udev gives the right");
		return denial;
	}
	snprintf(denial.reason, sizeof(denial.reason),
		 "only root may, mode %04o: the udev rule 60-zcbuf.rules is not %s",
		 node->st_mode & 07777, has_rule ? "in effect" : "installed");
	snprintf(denial.remedy, sizeof(denial.remedy), "%s%s", apply,
		 has_rule ? "" : ", after installing it in /etc/udev/rules.d");
	return denial;
}

/* By which right this user has just opened a node. */
static struct denial why_allowed(const char *path, const struct stat *node)
{
	const char *group = name_of_group(node->st_gid);
	struct denial allowed = { 0 };

	if (!geteuid())
		snprintf(allowed.reason, sizeof(allowed.reason), "as root");
	else if (geteuid() == node->st_uid)
		snprintf(allowed.reason, sizeof(allowed.reason), "as its owner");
	else if (is_in_group(node->st_gid))
		snprintf(allowed.reason, sizeof(allowed.reason), "by the group %s",
			 group ? group : "of the node");
	else if (getxattr(path, "system.posix_acl_access", NULL, 0) > 0)
		snprintf(allowed.reason, sizeof(allowed.reason),
			 "by an ACL, as whoever sits at the machine gets it");
	else
		snprintf(allowed.reason, sizeof(allowed.reason), "as everybody, mode %04o",
			 node->st_mode & 07777);
	return allowed;
}

/* Heaps of which the same is to be said. */
struct right {
	bool allowed;
	struct denial why;
	char heaps[512];
};

struct rights {
	struct right right[MAX_HEAPS];
	size_t count;
};

static void add_right(struct rights *rights, const char *name, bool allowed,
		      const struct denial *why)
{
	for (size_t i = 0; i < rights->count; i++)
		if (!strcmp(rights->right[i].why.reason, why->reason)) {
			append(rights->right[i].heaps, sizeof(rights->right[i].heaps),
			       name);
			return;
		}
	if (rights->count == MAX_HEAPS)
		return;
	rights->right[rights->count] = (struct right){ .allowed = allowed, .why = *why };
	append(rights->right[rights->count++].heaps, sizeof(rights->right[0].heaps), name);
}

static void check_right(void *data, const char *name)
{
	struct node_path path = node_path(name);
	struct denial why;
	struct stat node;
	int fd, error;

	if (!strcmp(name, "zcbuf") || stat(path.text, &node) || !S_ISCHR(node.st_mode))
		return;
	fd = open(path.text, O_RDWR | O_CLOEXEC);
	error = fd < 0 ? errno : 0;
	if (fd >= 0)
		close(fd);
	if (!error)
		why = why_allowed(path.text, &node);
	else if (error == EACCES)
		why = why_heap_denied(path.text, &node);
	else
		return; /* no matter of rights */
	add_right(data, name, !error, &why);
}

void doctor_rights(struct doctor *doctor)
{
	struct rights rights = { 0 };

	for_each_name("/sys/class/zcbuf", check_right, &rights);
	for (size_t i = 0; i < rights.count; i++) {
		const struct right *right = &rights.right[i];
		const char *heaps =
			rights.count == 1 ? "all of zcbuf's heaps" : right->heaps;

		if (right->allowed) {
			finding(doctor, FINE, "permission", "%s, %s", heaps,
				right->why.reason);
		} else {
			finding(doctor, FAILURE, "permission", "%s: %s", heaps,
				right->why.reason);
			remedy(doctor, "%s", right->why.remedy);
		}
	}
}
