# SPDX-License-Identifier: LGPL-2.1-or-later
"""One camera and four consumers at once, one of which is stopped for good: who still gets frames?

The same with GStreamer's own unixfdsink and unixfdsrc, until nobody gets a frame any more, and with zcbuf for as long.
Each frame is noted when its consumer has it.
Leaves out/demo-consumers.svg, the frame rates over time, and out/demo.mkv, what the encoder wrote meanwhile.
"""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time

STOP_AFTER = 2  # seconds, counted from when each consumer has had a frame
STANDSTILL = 6  # seconds without a frame at anybody
# A stopped unixfdsrc holds up the others when its socket is full: after some 280 frames, which a slow machine takes long for.
SECONDS = 20, 90  # at least, at most
WINDOW = 1.0  # seconds for which a frame rate is given
START_LIMIT = 60
# Something writes each frame into the sink's memory: v4l2src's own buffers are few, and when slow consumers have them
# all it goes on with copies that unixfdsink does not take.
CAMERA = (
    "v4l2src device={camera} ! video/x-raw,format=YUY2,width=640,height=480,framerate=30/1 ! "
    "videoconvert ! video/x-raw,format=BGRx"
)

# What a consumer does with its frames, behind its source.
ROLES = {
    "display": "kmssink driver-name=bochs-drm force-modesetting=true sync=false enable-last-sample=false",
    "encoder": "videoconvert ! video/x-raw,format=I420 ! x264enc tune=zerolatency speed-preset=ultrafast ! h264parse ! matroskamux ! "
    "filesink location={recording}",
    "histogram": "videoconvert ! videoanalyse ! fakesink sync=false",
    "stopped": "fakesink sync=false",
}
COLOURS = {"display": "#0072b2", "encoder": "#009e73", "histogram": "#e69f00", "stopped": "#888888"}


class Consumer:
    """A process that says a line for each frame, and when it did so."""

    def __init__(self, command, log):
        self.times = []
        self.log = log
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        with open(self.log, "wb") as log:
            for line in self.process.stdout:
                if b"chain" in line or b"dark" in line:
                    self.times.append(time.monotonic())
                log.write(b"%.3f %s" % (time.monotonic(), line))


def launch(pipeline):
    return ["gst-launch-1.0", "-e", "-v", *shlex.split(pipeline)]


def end(process, last_words):
    """What is stopped does not hear SIGINT, which lets others finish their files."""
    if last_words and process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            pass
    process.kill()
    process.wait()


def stand_still(consumers, zero):
    now = time.monotonic()
    return now - zero > SECONDS[0] and now - max(consumer.times[-1] for consumer in consumers.values()) > STANDSTILL


def memory_in_use():
    """Bytes that nobody but a program can give back."""
    with open("/proc/meminfo") as file:
        fields = dict(line.split(":") for line in file)
    total, available = (int(fields[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
    return (total - available) * 1024


def stream(name, sink, source, commands, recording, seconds=None):
    """Returns the times of each consumer's frames, 0 when all had the first one, the memory that was piled up, and the
    seconds that it took: SECONDS, or until all stand still."""
    producer = Consumer(launch(sink), f"out/demo-logs/{name}-camera.log").process
    consumers = {}
    try:
        time.sleep(2)
        for role, rest in ROLES.items():
            pipeline = f"{source} ! identity silent=false ! {rest.format(recording=recording)}"
            consumers[role] = Consumer(commands.get(role) or launch(pipeline), f"out/demo-logs/{name}-{role}.log")
        limit = time.monotonic() + START_LIMIT
        while not all(consumer.times for consumer in consumers.values()):
            if time.monotonic() > limit:
                silent = [role for role, consumer in consumers.items() if not consumer.times]
                sys.exit(f"demo: no frame arrived within {START_LIMIT} s at: {', '.join(silent)}; see out/demo-logs")
            time.sleep(0.01)
        zero = time.monotonic()
        time.sleep(STOP_AFTER)
        consumers["stopped"].process.send_signal(signal.SIGSTOP)
        before = memory_in_use()
        until = zero + (seconds or SECONDS[1])
        while time.monotonic() < until and (seconds or not stand_still(consumers, zero)):
            time.sleep(0.1)
        seconds = seconds or round(time.monotonic() - zero)
        times = {role: [when - zero for when in consumer.times] for role, consumer in consumers.items()}
        return times, memory_in_use() - before, seconds
    finally:
        for role, consumer in consumers.items():
            end(consumer.process, role == "encoder")
        end(producer, True)


def rates(times, seconds):
    """(second, frames a second) all along, of the WINDOW that ends there."""
    points = []
    for tenth in range(int(WINDOW * 10), seconds * 10 + 1):
        until = tenth / 10
        points.append((until, sum(until - WINDOW < when <= until for when in times) / WINDOW))
    return points


def mean(times, begin, until):
    return sum(begin < when <= until for when in times) / (until - begin)


# ---- the chart ------------------------------------------------------------------------------------

WIDTH, LEFT, RIGHT = 860, 70, 700
PANEL, GAP, TOP = 210, 66, 62


def panel(title, top, ceiling, times, seconds):
    def x_of(second):
        return LEFT + second / seconds * (RIGHT - LEFT)

    def y_of(rate):
        return top + PANEL - min(rate, ceiling) / ceiling * PANEL

    yield f'<text x="{LEFT}" y="{top - 12}" font-size="15" font-weight="bold">{title}</text>'
    for rate in range(0, ceiling + 1, 10):
        yield f'<path d="M{LEFT} {y_of(rate):.1f}H{RIGHT}" stroke="#ddd"/>'
        yield f'<text x="{LEFT - 10}" y="{y_of(rate) + 4:.1f}" text-anchor="end">{rate}</text>'
    for second in range(0, seconds + 1, 2 if seconds <= 24 else 10):
        yield f'<text x="{x_of(second):.1f}" y="{top + PANEL + 18}" text-anchor="middle">{second} s</text>'
    stop = x_of(STOP_AFTER)
    yield f'<path d="M{stop:.1f} {top}V{top + PANEL}" stroke="#d55e00" stroke-dasharray="5 4"/>'
    yield f'<text x="{stop + 6:.1f}" y="{top + PANEL - 8}" fill="#d55e00">one consumer is stopped</text>'
    for role, when in times.items():
        points = rates(when, seconds)
        path = "L".join(f"{x_of(second):.1f} {y_of(rate):.1f}" for second, rate in points)
        yield f'<path d="M{path}" fill="none" stroke="{COLOURS[role]}" stroke-width="2.2"/>'
    # Names where the lines end, one above the other.
    y = top + PANEL + 18
    for role in sorted(times, key=lambda role: rates(times[role], seconds)[-1][1]):
        end_y = y_of(rates(times[role], seconds)[-1][1])
        y = min(y - 18, end_y)
        yield f'<path d="M{RIGHT + 3} {end_y:.1f}L{RIGHT + 18} {y:.1f}" stroke="{COLOURS[role]}"/>'
        yield f'<text x="{RIGHT + 22}" y="{y + 4:.1f}" fill="{COLOURS[role]}">{role}</text>'


def chart(results, seconds):
    height = TOP + len(results) * (PANEL + GAP)
    most = max(rate for times in results.values() for when in times.values() for _, rate in rates(when, seconds))
    ceiling = int(-(-max(most, 30) // 10) * 10)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="DejaVu Sans, Verdana, sans-serif" font-size="13" fill="#222">'
    )
    yield f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>'
    yield f'<text x="{LEFT}" y="26" font-size="17" font-weight="bold">Frames a second of each consumer</text>'
    for i, (name, times) in enumerate(results.items()):
        yield from panel(name, TOP + 14 + i * (PANEL + GAP), ceiling, times, seconds)
    yield "</svg>"


# ---- both -------------------------------------------------------------------------------------------


def playable(path):
    """Frames that a player finds in it."""
    player = subprocess.run(
        ["gst-launch-1.0", "-v", "filesrc", f"location={path}", "!", "matroskademux", "!", "avdec_h264", "!",
         "identity", "silent=false", "!", "fakesink", "sync=false"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return player.stdout.count("chain") if player.returncode == 0 else 0


def run(camera):
    print(f"demo: four consumers, of which one is stopped: {SECONDS[0]} to {SECONDS[1]} s each …", file=sys.stderr, flush=True)
    socket = "/tmp/zcbuf-demo-unixfd"
    source = CAMERA.format(camera=camera)
    theirs, their_memory, seconds = stream(
        "unixfd",
        f"{source} ! unixfdsink socket-path={socket} sync=false",
        f"unixfdsrc socket-path={socket}",
        {},
        "/tmp/zcbuf-demo.mkv",
    )
    if os.path.exists(socket):
        os.unlink(socket)
    ours, our_memory, _ = stream(
        "zcbuf",
        f"{source} ! zcbufsink socket-path=@zcbuf-demo-consumers",
        "zcbufsrc socket-path=@zcbuf-demo-consumers reconnect=true",
        {"histogram": ["/usr/libexec/zcbuf-tour/example-histogram", "@zcbuf-demo-consumers"]},
        "out/demo.mkv",
        seconds,
    )
    times = {"zcbufsink, zcbufsrc": ours, "unixfdsink, unixfdsrc": theirs}
    memory = dict(zip(times, (our_memory, their_memory)))
    with open("out/demo-consumers.svg", "w") as file:
        file.write("\n".join(chart(times, seconds)) + "\n")
    numbers = {
        name: {
            "seconds": seconds,
            "memory_piled_up": memory[name],
            "fps_before": {role: round(mean(frames[role], 0, STOP_AFTER), 1) for role in ROLES},
            "fps_at_the_end": {role: round(mean(frames[role], seconds - 5, seconds), 1) for role in ROLES},
        }
        for name, frames in times.items()
    }
    print(f"  frames a second, before one consumer was stopped and at the end, after {seconds} s")
    print(f"    {'':<20}" + "".join(f"{name:>24}" for name in times))
    for role in ROLES:
        cells = (f"{of['fps_before'][role]} → {of['fps_at_the_end'][role]}" for of in numbers.values())
        print(f"    {role:<20}" + "".join(f"{cell:>24}" for cell in cells))
    cells = (f"{of['memory_piled_up'] / 1e6:.0f} MB" for of in numbers.values())
    print(f"    {'memory piled up':<20}" + "".join(f"{cell:>24}" for cell in cells))
    frames = playable("out/demo.mkv")
    print(f"\n  out/demo-consumers.svg shows it over time; out/demo.mkv has the encoder's {frames} frames")
    return frames > 0 and all(ours[role][-1] > seconds - 5 for role in ROLES if role != "stopped"), numbers
