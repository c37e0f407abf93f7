#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# A producer, and consumers in the same and in another process, under valgrind: an error or a leak is an exit status.
exec valgrind -q --trace-children=yes --leak-check=full --error-exitcode=1 "$(dirname "$0")/channel-stream" few
