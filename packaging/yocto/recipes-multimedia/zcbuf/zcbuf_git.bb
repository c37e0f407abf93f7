# SPDX-License-Identifier: GPL-2.0-only
SUMMARY = "Buffers that processes and devices share without a copy"
DESCRIPTION = "libzcbuf, the command zcbuf, and GStreamer elements. The module is in zcbuf-module."
# GPL-2.0-only is zcbuf.h, with the syscall note of Linux, which does not reach programs that include it
LICENSE = "LGPL-2.1-or-later & GPL-2.0-only"
LICENSE:${PN} = "LGPL-2.1-or-later"
LICENSE:${PN}-tools = "LGPL-2.1-or-later"
LICENSE:gstreamer1.0-plugin-zcbuf = "LGPL-2.1-or-later"
LIC_FILES_CHKSUM = " \
    file://LICENSES/LGPL-2.1-or-later.txt;md5=55ccb655f59e2fe746d02b145bfffd3c \
    file://LICENSES/GPL-2.0-only.txt;md5=eb723b61539feef013de476e68b5c50a \
    file://LICENSES/Linux-syscall-note.txt;md5=414dafadb0c9af6747b7a0022a65fe2b \
"

require zcbuf.inc

inherit meson pkgconfig bash-completion

# gstreamer: where there is 1.24 or later
PACKAGECONFIG ??= ""
PACKAGECONFIG[gstreamer] = "-Dgst=enabled,-Dgst=disabled,gstreamer1.0 gstreamer1.0-plugins-base"

# zcbuf-module has it
do_install:append() {
    rm -r ${D}${nonarch_libdir}/udev
}

PACKAGES =+ "${PN}-tools gstreamer1.0-plugin-zcbuf"
FILES:${PN}-tools = "${bindir}/zcbuf ${datadir}/fish ${datadir}/zsh"
FILES:gstreamer1.0-plugin-zcbuf = "${libdir}/gstreamer-1.0/libgstzcbuf.so"
RRECOMMENDS:${PN}-tools = "zcbuf-module"
