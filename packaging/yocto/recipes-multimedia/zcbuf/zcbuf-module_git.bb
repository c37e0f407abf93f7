# SPDX-License-Identifier: GPL-2.0-only
SUMMARY = "dma-buf heaps that ordinary users may use (kernel module)"
LICENSE = "GPL-2.0-only"
LIC_FILES_CHKSUM = "file://LICENSES/GPL-2.0-only.txt;md5=eb723b61539feef013de476e68b5c50a"

require zcbuf.inc

inherit module

EXTRA_OEMAKE += "-C ${S}/kernel"
MODULES_MODULE_SYMVERS_LOCATION = "kernel"
KERNEL_MODULE_AUTOLOAD += "zcbuf"

# who may allocate
do_install:append() {
    install -D -m 0644 ${S}/packaging/60-zcbuf.rules ${D}${nonarch_libdir}/udev/rules.d/60-zcbuf.rules
}
FILES:${PN} += "${nonarch_libdir}/udev/rules.d"
