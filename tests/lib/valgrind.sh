#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# A producer and its consumers, each in a process of its own, under valgrind: an error or a leak is an exit status.
exec valgrind -q --trace-children=yes --leak-check=full --error-exitcode=1 "$(dirname "$0")/channel-stream"
