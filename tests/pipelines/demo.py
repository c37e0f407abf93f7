#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""demo.py [FRAMES]: runs inside the virtual machine, in the checkout.

A camera's frames go through two processes onto a screen, once in zcbuf's buffers and once the ordinary way, through
shared memory. Every number is measured while that happens, by looking at the two processes and at the kernel from
outside. Leaves out/demo.png, the screen while zcbuf's frames are on it, and out/demo.json. Then the camera has four
consumers at once; see consumers.py.
"""

import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import consumers

FRAMES = int(sys.argv[1]) if len(sys.argv) > 1 else 100
WIDTH, HEIGHT = 1920, 1080
FRAME_BYTES = WIDTH * HEIGHT * 4
CAPS = f"video/x-raw,format=BGRx,width={WIDTH},height={HEIGHT}"
DISPLAY = ["kmssink", "driver-name=bochs-drm", "force-modesetting=true", "sync=false", "enable-last-sample=false"]
LOGS = tempfile.mkdtemp(prefix="zcbuf-demo-")
TIME_LIMIT = 240


def die(message):
    sys.exit(f"demo: {message}")


def camera():
    """The node of vivid's camera."""
    for name in sorted(os.listdir("/sys/class/video4linux")):
        with open(f"/sys/class/video4linux/{name}/name") as file:
            if "vid-cap" in file.read():
                return f"/dev/{name}"
    die("no camera: the module vivid is not loaded (modprobe vivid)")


def check():
    if not os.path.exists("/dev/dma_heap/zcbuf-system"):
        die("/dev/dma_heap/zcbuf-system: no such device (load the module: modprobe zcbuf)")
    if not os.path.exists("/sys/bus/pci/drivers/bochs-drm"):
        die("no display: the module bochs is not loaded (modprobe bochs)")
    for element in ("v4l2src", "kmssink", "shmsink", "zcbufsink"):
        if subprocess.run(["gst-inspect-1.0", "--exists", element]).returncode:
            die(f"GStreamer has no element {element} (install the plugin that has it)")


class Process:
    """A gst-launch-1.0, its log, and what can be seen of it from outside."""

    def __init__(self, name, debug, pipeline):
        self.log = f"{LOGS}/{name}.log"
        self.seconds = 0.0
        env = dict(os.environ, GST_DEBUG=debug, GST_DEBUG_NO_COLOR="1", GST_DEBUG_FILE=self.log)
        with open(f"{LOGS}/{name}.out", "w") as out:
            self.process = subprocess.Popen(
                ["gst-launch-1.0", "-q", *pipeline], env=env, stdout=out, stderr=subprocess.STDOUT
            )
        self.pid = self.process.pid

    def fds(self):
        """Its dma-bufs: inodes by file descriptor."""
        inodes = {}
        for path in glob.glob(f"/proc/{self.pid}/fdinfo/*"):
            try:
                with open(path) as file:
                    info = file.read()
            except OSError:
                continue  # closed just now
            if re.search(r"^exp_name:\s*zcbuf", info, re.M):
                inodes[int(path.rpartition("/")[2])] = int(re.search(r"^ino:\s*(\d+)", info, re.M)[1])
        return inodes

    def mappings(self):
        """How many dma-bufs it has mapped: only through these could its CPU reach a frame."""
        try:
            with open(f"/proc/{self.pid}/maps") as file:
                return sum("/dmabuf" in line for line in file)
        except OSError:
            return 0

    def cpu_seconds(self):
        try:
            with open(f"/proc/{self.pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
            self.seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except OSError:
            pass
        return self.seconds

    def wait(self, timeout):
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        if self.wait(10) is None:
            self.process.kill()
            self.process.wait()

    def lines(self, pattern):
        try:
            with open(self.log, errors="replace") as file:
                return [line for line in file if re.search(pattern, line)]
        except FileNotFoundError:
            return []

    def stat(self, element, name):
        """A counter from what our elements log when they stop."""
        lines = self.lines(rf"gst_{element}_stop.*frames=")
        if not lines:
            die(f"the process with {element} did not end well; see out/demo-logs")
        return int(re.search(rf" {name}=\((?:guint64|uint)\)(\d+)", lines[-1])[1])


def seconds(line):
    hours, minutes, rest = line.split(None, 1)[0].split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)


def rate(lines):
    """Frames a second from the first to the last of some log lines."""
    span = seconds(lines[-1]) - seconds(lines[0]) if len(lines) > 1 else 0
    return round((len(lines) - 1) / span, 1) if span else None


def display_attachments():
    """Inodes of the dma-bufs that the kernel says are attached to the display."""
    inodes, current = set(), None
    try:
        with open("/sys/kernel/debug/dma_buf/bufinfo") as file:
            for line in file:
                buffer = re.match(r"[0-9a-f]{8}\s+[0-9a-f]{8}\s+[0-9a-f]{8}\s+\d+\s+(\S+)\s+(\d+)", line)
                if buffer:
                    current = int(buffer[2]) if buffer[1].startswith("zcbuf") else None
                elif current and line.startswith("\t") and is_display(line.strip()):
                    inodes.add(current)
    except OSError:
        return None
    return inodes


def is_display(device):
    return os.path.exists(f"/sys/bus/pci/drivers/bochs-drm/{device.split()[-1]}") if device else False


class Observer(threading.Thread):
    """Looks at both processes again and again while the stream runs."""

    def __init__(self, producer, consumer, shown, picture=None):
        super().__init__(daemon=True)
        self.producer, self.consumer = producer, consumer
        self.shown, self.picture = shown, picture
        self.log, self.frames_shown = None, 0
        self.ended = threading.Event()
        self.producer_fds, self.consumer_fds = {}, {}
        self.attached = set()
        self.mappings = 0
        self.samples = 0

    def look(self):
        self.producer_fds.update(self.producer.fds())
        self.consumer_fds.update(self.consumer.fds())
        self.attached |= display_attachments() or set()
        self.mappings = max(self.mappings, self.producer.mappings() + self.consumer.mappings())
        self.producer.cpu_seconds()
        self.consumer.cpu_seconds()
        self.samples += 1

    def follow_log(self):
        if not self.log and os.path.exists(self.consumer.log):
            self.log = open(self.consumer.log, errors="replace")
        if self.log:
            self.frames_shown += sum(1 for line in self.log if re.search(self.shown, line))

    def run(self):
        while not self.ended.wait(0.1):
            self.look()
            if self.picture:
                self.follow_log()
            if self.picture and self.frames_shown > FRAMES // 3:
                subprocess.run(["vm-screenshot", self.picture])
                self.picture = None

    def end(self):
        self.ended.set()
        self.join()


def run(name, producer, consumer, observer):
    """Until the producer ends its stream, and the consumer with it."""
    print(f"demo: {name}: {FRAMES} frames of {WIDTH}x{HEIGHT} …", file=sys.stderr, flush=True)
    observer.start()
    status = producer.wait(TIME_LIMIT)
    consumer.wait(10)
    observer.end()
    producer.stop()
    consumer.stop()
    if status is None:
        die(f"{name}: the camera's process did not end within {TIME_LIMIT} s; see out/demo-logs")


def zcbuf():
    shown = r"found these prime ids|found KMS mem|frame copy"
    source = [
        "v4l2src", f"device={camera()}", "io-mode=dmabuf-import", f"num-buffers={FRAMES}", "!", CAPS, "!",
        # Its own file descriptors, not read-only views of the buffers, so that inodes can be compared.
        "zcbufsink", "socket-path=@zcbuf-demo", "read-only=false", "wait-for-connection=true", "max-wait=-1",
    ]  # fmt: skip
    producer = Process("zcbuf-camera", "GST_PERFORMANCE:5,v4l2allocator:6,zcbuf*:4", source)
    consumer = Process(
        "zcbuf-display",
        "GST_PERFORMANCE:5,kmssink:6,zcbuf*:4",
        ["zcbufsrc", "socket-path=@zcbuf-demo", "reconnect=true", "!", *DISPLAY],
    )
    observer = Observer(producer, consumer, shown, "out/demo.png")
    run("zcbuf", producer, consumer, observer)

    queued = {int(fd) for line in producer.lines("imported DMABUF") for fd in re.findall(r"as fd (\d+)", line)}
    shown = consumer.lines(shown)
    imported = [
        {int(fd) for fd in re.findall(r"\d+", line.partition("prime ids:")[2].split(",")[0])}
        for line in consumer.lines("found these prime ids")
    ]
    copies = len(producer.lines("copying|will memcpy")) + len(consumer.lines("frame copy|copying"))
    copied = producer.stat("zcbuf_sink", "copied-frames") + consumer.stat("zcbuf_src", "copied-frames")
    return {
        "frames": producer.stat("zcbuf_sink", "frames"),
        "frames_shown": len(shown) - 1,  # the first one twice: when the pipeline is ready, and when it runs
        "fps": rate(shown),
        "pool_size": len(set(observer.producer_fds.values())),
        "inodes_camera": sorted({observer.producer_fds[fd] for fd in queued if fd in observer.producer_fds}),
        "inodes_second_process": sorted(set(observer.consumer_fds.values())),
        "inodes_display": sorted({observer.consumer_fds.get(fd) for fds in imported for fd in fds}),
        "inodes_attached_to_display": sorted(observer.attached),
        "file_descriptors_sent": consumer.stat("zcbuf_src", "buffers"),
        "display_imports": len(imported),
        "copies_logged": copies,
        "frames_copied_by_our_elements": copied,
        "mappings_of_frame_buffers": observer.mappings,
        "bytes_copied_per_frame": (copies + copied) * FRAME_BYTES // max(1, len(shown)),
        "cpu_ms_per_frame": round((producer.seconds + consumer.seconds) * 1000 / FRAMES, 1),
        "samples": observer.samples,
    }


def copying():
    socket = "/tmp/zcbuf-demo-shm"
    producer = Process(
        "copying-camera",
        "GST_PERFORMANCE:5,shmsink:6",
        [
            "v4l2src", f"device={camera()}", "io-mode=mmap", f"num-buffers={FRAMES}", "!", CAPS, "!",
            "shmsink", f"socket-path={socket}", f"shm-size={8 * FRAME_BYTES}", "wait-for-connection=true", "sync=false",
        ],
    )  # fmt: skip
    for _ in range(300):
        if os.path.exists(socket):
            break
        time.sleep(0.1)
    consumer = Process(
        "copying-display",
        "GST_PERFORMANCE:5,kmssink:6",
        ["shmsrc", f"socket-path={socket}", "is-live=true", "!", CAPS + ",framerate=30/1", "!", *DISPLAY],
    )
    observer = Observer(producer, consumer, "frame copy")
    run("shmsink and shmsrc", producer, consumer, observer)

    # How shmsink ends says nothing: when it stops, its own thread takes that for an error.
    into_shm = [int(re.search(r"Copied (\d+) bytes", line)[1]) for line in producer.lines(r"Copied \d+ bytes")]
    shown = consumer.lines("frame copy")
    if not into_shm or not shown:
        die("shmsink and shmsrc: no frame arrived; see out/demo-logs")
    return {
        "frames": len(into_shm),
        "frames_shown": len(shown) - 1,
        "fps": rate(shown),
        "display_imports": len(consumer.lines("found these prime ids")),
        "bytes_copied_per_frame": sum(into_shm) // len(into_shm) + FRAME_BYTES,
        "cpu_ms_per_frame": round((producer.seconds + consumer.seconds) * 1000 / FRAMES, 1),
    }


def table(ours, theirs):
    def megabytes(count):
        return "0" if count == 0 else f"{count / 1e6:.1f} MB"

    def inodes(name):
        return " ".join(map(str, ours[name])) or "none"

    places = ("inodes_camera", "inodes_second_process", "inodes_display", "inodes_attached_to_display")
    same = ours["inodes_camera"] and all(ours[place] == ours["inodes_camera"] for place in places)
    rows = [
        ("", "zcbuf", "shmsink, shmsrc"),
        ("frames from the camera", ours["frames"], theirs["frames"]),
        ("frames on the screen", ours["frames_shown"], theirs["frames_shown"]),
        ("frames a second", ours["fps"], theirs["fps"]),
        ("bytes copied by a CPU, per frame", megabytes(ours["bytes_copied_per_frame"]),
         megabytes(theirs["bytes_copied_per_frame"])),
        ("CPU time of both processes, per frame", f"{ours['cpu_ms_per_frame']} ms", f"{theirs['cpu_ms_per_frame']} ms"),
        ("imports by the display", f"{ours['display_imports']} for {ours['pool_size']} buffers", "-"),
        ("file descriptors sent", ours["file_descriptors_sent"], "-"),
    ]  # fmt: skip
    for label, left, right in rows:
        print(f"  {label:<39}{left!s:>20}{right!s:>20}")
    print(f"""
  dma-bufs (inodes)
    the camera writes to           {inodes("inodes_camera")}
    the second process received    {inodes("inodes_second_process")}
    the display imports            {inodes("inodes_display")}
    the kernel has attached to it  {inodes("inodes_attached_to_display")}
    {"the same buffers all the way" if same else "NOT the same buffers"}

  That zcbuf's frames are not copied is seen from three sides: the elements count {ours["frames_copied_by_our_elements"]} copied frames,
  GStreamer's log of slow paths names {ours["copies_logged"]} copies, and in {ours["samples"]} looks at both processes
  {ours["mappings_of_frame_buffers"]} frame buffers were mapped into either: what is not mapped, their CPU cannot read.
  (vivid draws its picture, and bochs fills its video memory, in the kernel: they play the hardware.)
""")
    return same


def main():
    check()
    for path in ("out/demo.png", "out/demo.json", "out/demo-consumers.svg", "out/demo.mkv"):
        if os.path.exists(path):
            os.unlink(path)
    try:
        ours, theirs = zcbuf(), copying()
    finally:
        shutil.rmtree("out/demo-logs", ignore_errors=True)
        shutil.copytree(LOGS, "out/demo-logs")
        shutil.rmtree(LOGS)
    same = table(ours, theirs)
    zero_copy = same and ours["display_imports"] == ours["pool_size"] and not ours["bytes_copied_per_frame"]
    lively, rates = consumers.run(camera())
    with open("out/demo.json", "w") as file:
        json.dump({"kernel": os.uname().release, "width": WIDTH, "height": HEIGHT, "zero_copy": bool(zero_copy),
                   "zcbuf": ours, "copying": theirs, "consumers": rates}, file, indent=2)  # fmt: skip
        file.write("\n")
    if not os.path.exists("out/demo.png"):
        die("vm-screenshot made no out/demo.png")
    print("  out/demo.png is the screen with one consumer, out/demo.json has all numbers")
    return 0 if zero_copy and lively else 1


if __name__ == "__main__":
    sys.exit(main())
