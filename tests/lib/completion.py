#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What bash, zsh and fish offer after zcbuf, as a person at a terminal gets it."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time

count = failures = 0


def ok(passed, name, *remarks):
    global count, failures
    count += 1
    print(f"{'ok' if passed else 'not ok'} {count} - {name}", flush=True)
    if not passed:
        failures += 1
        for remark in remarks:
            print("#", str(remark).replace("\n", "\n# "), flush=True)


# A shell at a terminal inserts all that it has for the last word into the line, which is then given to 'tell'.
TELL = 'tell() { printf "%s\\n" "$@" > "$said.new"; mv "$said.new" "$said"; }\r'
INTERACTIVE = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "\x1b*", "source /usr/share/bash-completion/bash_completion\r"),
    # compinit reads each file of its path, of which there are a thousand: only those that are needed.
    "zsh": (["zsh", "-f", "-i"], "\x18a", r"""here=/usr/share/zsh
fpath=($here/vendor-completions $here/functions/Completion/Base $here/functions/Completion $here/functions/Misc)
autoload -Uz compinit && compinit -u -d $HOME/dump
fpath+=($here/functions/Completion/Unix); autoload -Uz _directories _files _path_files
zle -C all-matches complete-word _generic; bindkey '^Xa' all-matches
zstyle ':completion:all-matches:*' insert yes
zstyle ':completion:all-matches::::' completer _all_matches _complete
""".replace("\n", "\r")),
}


class Shell:
    """At a terminal of its own, as long as the with block."""

    def __init__(self, name):
        self.command, self.insert, self.setup = INTERACTIVE[name]
        self.home = tempfile.TemporaryDirectory()
        self.said = f"{self.home.name}/said"

    def __enter__(self):
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir("/mnt/scratch")
            os.execvpe(self.command[0], self.command, {**os.environ, "HOME": self.home.name, "said": self.said, "TERM": "dumb"})
        self.type(f"{self.setup}{TELL}tell ready\r")
        return self

    def __exit__(self, *_):
        os.close(self.terminal)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.home.cleanup()

    def type(self, keys):
        """What 'tell' is then given."""
        os.write(self.terminal, keys.encode())
        deadline = time.monotonic() + 100
        while not os.path.exists(self.said):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.command[0]} does not answer to {keys!r}")
            if select.select([self.terminal], [], [], 0.1)[0]:
                os.read(self.terminal, 4096)
        with open(self.said) as file:
            words = file.read().splitlines()
        os.remove(self.said)
        return words

    def complete(self, line):
        """What there is for the last word of LINE."""
        before = line.count(" ")
        return [word for word in self.type(f"{line}{self.insert}\x01tell \r")[before:] if word]


class Fish:
    """Answers without a terminal."""

    def __enter__(self):
        self.home = tempfile.TemporaryDirectory()
        return self

    def __exit__(self, *_):
        self.home.cleanup()

    def complete(self, line):
        run = subprocess.run(
            ["fish", "-c", 'complete -C"$argv[1]"', line], capture_output=True, text=True, timeout=60,
            cwd="/mnt/scratch", env={**os.environ, "HOME": self.home.name},
        )
        return [found.split("\t")[0] for found in run.stdout.splitlines()]


def options_of(command):
    """As the program's help has them."""
    text = subprocess.run(["zcbuf", command, "--help"], capture_output=True, text=True).stdout
    return set(re.findall("^  (--[a-z]+)", text, re.M)) | {"--help"}


def offers(name, shell, line, expected):
    found = shell.complete(line)
    ok(set(found) == set(expected), name, line, found, sorted(expected))


def test(name, shell):
    offers(f"{name}: the beginning of a command", shell, "zcbuf al", ["alloc"])
    offers(f"{name}: all commands", shell, "zcbuf ", [*COMMANDS, "--help", "--version"])
    offers(f"{name}: options without a command", shell, "zcbuf --", ["--help", "--version"])
    for command in COMMANDS:
        offers(f"{name}: all options of {command}", shell, f"zcbuf {command} --", options_of(command))
    offers(f"{name}: the heaps of this machine", shell, "zcbuf alloc --heap zcbuf-", [heap for heap in HEAPS if heap.startswith("zcbuf-")])
    offers(f"{name}: what bench can measure", shell, "zcbuf bench memfd ", [*HEAPS, "anonymous"])
    found = shell.complete("zcbuf bench --disk /proc/sys/")
    ok({"/proc/sys/fs", "/proc/sys/kernel"} <= {path.rstrip("/") for path in found}, f"{name}: directories for --disk", found)
    found = shell.complete(f"zcbuf info {str(os.getpid())[:-1]}")
    ok(str(os.getpid()) in found, f"{name}: processes for info", found)
    offers(f"{name}: the tables of top", shell, "zcbuf top --json --by ", ["buffer", "holding", "process", "exporter", "cgroup"])
    offers(f"{name}: nothing for a number", shell, "zcbuf bench --size ", [])


COMMANDS = ["list", "alloc", "info", "top", "bench", "doctor"]
HEAPS = [heap["name"] for heap in json.loads(subprocess.run(["zcbuf", "list", "--json"], capture_output=True).stdout)]
for name in "bash", "zsh", "fish":
    with Fish() if name == "fish" else Shell(name) as shell:
        test(name, shell)
print(f"1..{count}")
sys.exit(1 if failures else 0)
