#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# docs/api/elements.md is what gst-inspect-1.0 says of each element. Runs in the checkout, where the page is.
# shellcheck source=tests/tap.sh
source "${0%/*}/../tap.sh"
page=docs/api/elements.md

differences=$(diff "$page" <(docs/api/generate.py "$page") 2>&1)
check $? "$page is what docs/api/generate.py makes of gst-inspect-1.0" "$differences"
for element in $(gst-inspect-1.0 zcbuf | sed -nE 's/^  (zcbuf\w+): .*/\1/p'); do
	grep -qx "## $element" "$page"
	check $? "$element is there"
done
done_testing
