#!/bin/bash
# Runs in the guest's root, natively: compiles everything and installs it below out/root.
set -euo pipefail
