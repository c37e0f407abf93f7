// SPDX-License-Identifier: LGPL-2.1-or-later
/* The kernel, zcbuf's module for it, and the nodes that this makes. */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "doctor.h"

/* ---- the kernel ---------------------------------------------------------------------- */

void doctor_kernel(struct doctor *doctor)
{
	const char *release = doctor->machine.release, *machine = doctor->machine.machine;
	unsigned int major = 0, minor = 0;

	uname(&doctor->machine);
	doctor->is_loaded = !access("/sys/module/zcbuf", F_OK);
	sscanf(release, "%u.%u", &major, &minor);
	if (major < 6 || (major == 6 && minor < 1)) {
		finding(doctor, doctor->is_loaded ? WARNING : FAILURE, "kernel",
			"Linux %s on %s: zcbuf supports 6.1 and later", release, machine);
		remedy(doctor, "boot a newer kernel");
	} else if (strcmp(machine, "x86_64") && strcmp(machine, "aarch64")) {
		finding(doctor, WARNING, "kernel",
			"Linux %s on %s: zcbuf is tested on x86_64 and aarch64", release,
			machine);
	} else {
		finding(doctor, FINE, "kernel", "Linux %s on %s", release, machine);
	}
}

/* ---- the module ---------------------------------------------------------------------- */

static bool modinfo(const char *field, char *value, size_t size)
{
	return !run(value, size,
		    (const char *const[]){ "modinfo", "-F", field, "zcbuf", NULL });
}

static void loaded(struct doctor *doctor)
{
	static const char reload[] = "sudo modprobe -r zcbuf && sudo modprobe zcbuf";
	char version[64] = "?", source[64], installed[256];

	first_line(version, sizeof(version), "/sys/module/zcbuf/version");
	if (strcmp(version, ZCBUF_VERSION)) {
		finding(doctor, WARNING, "module",
			"%s is loaded, and this command is of %s", version, ZCBUF_VERSION);
		remedy(doctor, "%s, after installing both of one version", reload);
	} else if (first_line(source, sizeof(source), "/sys/module/zcbuf/srcversion") &&
		   modinfo("srcversion", installed, sizeof(installed)) &&
		   strcmp(source, installed)) {
		finding(doctor, WARNING, "module",
			"another build of %s is loaded than is installed", version);
		remedy(doctor, "%s", reload);
	} else {
		finding(doctor, FINE, "module", "%s is loaded", version);
	}
}

/* Whether there is a file of the module for the kernels RELEASE, a pattern; @path gets it. */
static bool find_file(const char *release, char *path, size_t size)
{
	char pattern[256];
	glob_t found;
	bool is_found;

	snprintf(pattern, sizeof(pattern),
		 "/lib/modules/%s/{updates,extra,kernel/extra,updates/*,extra/*}/zcbuf.ko*",
		 release);
	is_found = !glob(pattern, GLOB_BRACE, NULL, &found);
	if (is_found)
		snprintf(path, size, "%s", found.gl_pathv[0]);
	globfree(&found);
	return is_found;
}

static void remedy_build(struct doctor *doctor)
{
	const char *release = doctor->machine.release;
	char headers[160] = "", path[160];
	glob_t found;
	bool dkms = !glob("/usr/src/zcbuf-*", 0, NULL, &found);

	globfree(&found);
	snprintf(path, sizeof(path), "/lib/modules/%s/build/", release);
	if (access(path, F_OK))
		snprintf(headers, sizeof(headers),
			 "install the headers of this kernel (linux-headers-%s), then: ",
			 release);
	if (dkms)
		remedy(doctor, "%ssudo dkms autoinstall && sudo modprobe zcbuf", headers);
	else
		remedy(doctor,
		       "%smeson setup build --prefix=/usr "
		       "-Dkernel_dir=/lib/modules/%s/build "
		       "&& sudo meson install -C build && sudo depmod && sudo modprobe "
		       "zcbuf",
		       headers, release);
}

static void not_installed(struct doctor *doctor)
{
	const char *release = doctor->machine.release;
	char path[256];

	snprintf(path, sizeof(path), "/lib/modules/%s", release);
	if (access(path, F_OK)) {
		finding(doctor, FAILURE, "module",
			"not loaded, and %s is not there: a container, or a kernel that "
			"was "
			"removed since it was booted",
			path);
		remedy(doctor, "load it outside of the container, or reboot");
	} else if (find_file(release, path, sizeof(path))) {
		finding(doctor, FAILURE, "module",
			"not loaded, and modprobe does not know %s", path);
		remedy(doctor, "sudo depmod && sudo modprobe zcbuf");
	} else if (find_file("*", path, sizeof(path))) {
		finding(doctor, FAILURE, "module",
			"not loaded, and not built for this kernel, as %s is", path);
		remedy_build(doctor);
	} else {
		finding(doctor, FAILURE, "module", "not installed for this kernel");
		remedy_build(doctor);
	}
}

/* A kernel that was booted securely loads what was signed by a key that it knows. */
static bool is_locked_down(void)
{
	char line[80];

	if (first_line(line, sizeof(line), "/sys/kernel/security/lockdown") &&
	    !strstr(line, "[none]"))
		return true;
	return first_line(line, sizeof(line),
			  "/sys/module/module/parameters/sig_enforce") &&
	       line[0] == 'Y';
}

/* What the kernel said the last time that it did not load the module, if that is known. */
static bool find_in_log(char *said, size_t size)
{
	int log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	char record[8192];
	ssize_t length;

	said[0] = '\0';
	if (log < 0)
		return false;
	while ((length = read(log, record, sizeof(record) - 1)) > 0 ||
	       (length < 0 && errno == EPIPE)) {
		const char *message;

		record[length > 0 ? length : 0] = '\0';
		record[strcspn(record, "\n")] = '\0';
		message = strchr(record, ';');
		/* That it taints the kernel, it says each time. */
		if (message && !strncmp(message + 1, "zcbuf: ", 7) &&
		    !strstr(message, "taint"))
			snprintf(said, size, "%s", message + 1);
	}
	close(log);
	return true;
}

static void why_not_loaded(struct doctor *doctor)
{
	char signer[256] = "", said[512], line[16];

	if (first_line(line, sizeof(line), "/proc/sys/kernel/modules_disabled") &&
	    line[0] == '1') {
		finding(doctor, FAILURE, "module",
			"the kernel loads no modules any more: kernel.modules_disabled");
		remedy(doctor, "reboot, and load zcbuf before that is set");
	}
	if (is_locked_down()) {
		if (modinfo("signer", signer, sizeof(signer)) && signer[0])
			finding(doctor, WARNING, "module",
				"the kernel is locked down (Secure Boot): it must know the "
				"key of '%s'",
				signer);
		else
			finding(doctor, FAILURE, "module",
				"the kernel is locked down (Secure Boot), and the module "
				"is "
				"not signed");
		remedy(doctor,
		       "sudo mokutil --import KEY.der with the key that signs it (that of "
		       "DKMS is /var/lib/dkms/mok.pub), and reboot; or turn Secure Boot "
		       "off");
	}
	if (!find_in_log(said, sizeof(said))) {
		finding(doctor, NOTE, "module", "the kernel's log: %s", strerror(errno));
		remedy(doctor, "sudo zcbuf doctor");
	} else if (said[0]) {
		finding(doctor, WARNING, "module", "the kernel's log has: %s", said);
		if (strstr(said, "heaps=") || strstr(said, "carveout"))
			remedy(doctor, "correct 'options zcbuf' in /etc/modprobe.d");
		else if (strstr(said, "version") || strstr(said, "nknown symbol"))
			remedy_build(doctor);
	}
}

static void not_loaded(struct doctor *doctor)
{
	const char *release = doctor->machine.release;
	char magic[256];
	int status =
		run(magic, sizeof(magic),
		    (const char *const[]){ "modinfo", "-F", "vermagic", "zcbuf", NULL });

	if (status == 127) {
		finding(doctor, FAILURE, "module",
			"not loaded; whether it is installed is not known: there is no "
			"modinfo");
		remedy(doctor, "sudo modprobe zcbuf");
	} else if (status) {
		not_installed(doctor);
		return;
	} else if (strcspn(magic, " ") != strlen(release) ||
		   strncmp(magic, release, strlen(release)) != 0) {
		finding(doctor, FAILURE, "module", "not loaded, and built for %.*s instead",
			(int)strcspn(magic, " "), magic);
		remedy_build(doctor);
	} else {
		finding(doctor, FAILURE, "module", "installed, but not loaded");
		remedy(doctor, "sudo modprobe zcbuf");
	}
	why_not_loaded(doctor);
}

void doctor_module(struct doctor *doctor)
{
	if (doctor->is_loaded)
		loaded(doctor);
	else
		not_loaded(doctor);
}

/* ---- its nodes ----------------------------------------------------------------------- */

struct node_path node_path(const char *name)
{
	struct node_path path;

	snprintf(path.text, sizeof(path.text), "/dev/%s%.63s",
		 strcmp(name, "zcbuf") ? "dma_heap/" : "", name);
	return path;
}

/* Where /dev is somebody's selection, nodes are to be selected, not made. */
static bool is_selection(void)
{
	FILE *mounts = fopen("/proc/self/mounts", "re");
	char line[1024], where[256], type[64];
	bool is_devtmpfs = false;

	while (mounts && fgets(line, sizeof(line), mounts))
		if (sscanf(line, "%*s %255s %63s", where, type) == 2 &&
		    !strcmp(where, "/dev"))
			is_devtmpfs = !strcmp(type, "devtmpfs");
	if (mounts)
		fclose(mounts);
	return !is_devtmpfs;
}

static void check_node(void *data, const char *name)
{
	struct doctor *doctor = data;
	struct node_path path = node_path(name);
	bool control = !strcmp(name, "zcbuf");
	unsigned int major, minor;
	struct stat node;
	char line[32];

	if (!first_line(line, sizeof(line), "/sys/class/zcbuf/%s/dev", name) ||
	    sscanf(line, "%u:%u", &major, &minor) != 2)
		return;
	if (stat(path.text, &node)) {
		finding(doctor, FAILURE, "node", "%s: %s", path.text, strerror(errno));
		if (is_selection())
			remedy(doctor,
			       "this /dev is a container's: start that with --device=%s",
			       path.text);
		else
			remedy(doctor, "sudo mknod -m %s %s c %u %u%s%s",
			       control ? "666" : "660", path.text, major, minor,
			       control ? "" : " && sudo chgrp video ",
			       control ? "" : path.text);
	} else if (!S_ISCHR(node.st_mode) || node.st_rdev != makedev(major, minor)) {
		finding(doctor, FAILURE, "node", "%s: not device %u:%u of the module",
			path.text, major, minor);
		remedy(doctor, "sudo rm %s && sudo mknod -m %s %s c %u %u", path.text,
		       control ? "666" : "660", path.text, major, minor);
	}
}

static void check_control(struct doctor *doctor)
{
	int control = open("/dev/zcbuf", O_RDWR | O_CLOEXEC);
	int error = control < 0 ? errno : 0;
	struct zcbuf_ioc_heap heap = { 0 };
	struct stat node;

	if (error == EACCES && !stat("/dev/zcbuf", &node)) {
		finding(doctor, FAILURE, "node", "/dev/zcbuf: permission denied, mode %04o",
			node.st_mode & 07777);
		remedy(doctor, "sudo chmod 666 /dev/zcbuf");
	} else if (error) {
		finding(doctor, FAILURE, "node", "/dev/zcbuf: %s", strerror(error));
	} else if (ioctl(control, ZCBUF_IOC_HEAPS, &heap) && errno != ENOENT) {
		finding(doctor, FAILURE, "node",
			"/dev/zcbuf does not answer as the library asks: %s",
			strerror(errno));
		remedy(doctor,
		       "install the module, the library and this command of one "
		       "version, then: sudo modprobe -r zcbuf && sudo modprobe zcbuf");
	}
	if (control >= 0)
		close(control);
}

void doctor_nodes(struct doctor *doctor)
{
	unsigned int before = doctor->failures;

	if (!doctor->is_loaded) {
		finding(doctor, NOTE, "node",
			"not looked at without the module, nor are permissions and limits");
		return;
	}
	for_each_name("/sys/class/zcbuf", check_node, doctor);
	if (doctor->failures == before)
		check_control(doctor);
	if (doctor->failures == before)
		finding(doctor, FINE, "node", "/dev/zcbuf, and /dev/dma_heap/zcbuf-*");
}
