# SPDX-License-Identifier: GPL-2.0-only
################################################################################
#
# zcbuf
#
################################################################################

ZCBUF_VERSION = 0.1.0
ZCBUF_SITE = $(call qstrip,$(BR2_PACKAGE_ZCBUF_CHECKOUT))
ZCBUF_SITE_METHOD = local
ZCBUF_LICENSE = \
	LGPL-2.1+ (library, command, GStreamer elements), \
	GPL-2.0 (kernel module), \
	GPL-2.0 with Linux-syscall-note (zcbuf.h)
ZCBUF_LICENSE_FILES = \
	LICENSES/LGPL-2.1-or-later.txt \
	LICENSES/GPL-2.0-only.txt \
	LICENSES/Linux-syscall-note.txt
ZCBUF_INSTALL_STAGING = YES
ZCBUF_DEPENDENCIES = host-pkgconf

ifeq ($(BR2_PACKAGE_ZCBUF_GSTREAMER),y)
ZCBUF_CONF_OPTS += -Dgst=enabled
ZCBUF_DEPENDENCIES += gstreamer1 gst1-plugins-base
else
ZCBUF_CONF_OPTS += -Dgst=disabled
endif

ifeq ($(BR2_PACKAGE_ZCBUF_MODULE),y)
ZCBUF_MODULE_SUBDIRS = kernel

# read by systemd only; another init needs its own way to load it
define ZCBUF_INSTALL_INIT_SYSTEMD
	$(INSTALL) -D -m 0644 $(@D)/packaging/zcbuf.conf \
		$(TARGET_DIR)/usr/lib/modules-load.d/zcbuf.conf
endef

$(eval $(kernel-module))
endif

$(eval $(meson-package))
