#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""docs/channel-protocol.md is enough to write either end: its session, played to libzcbuf.

Runs in the checkout, whose page it reads.
"""
import array
import ctypes
import ctypes.util
import errno
import mmap
import os
import re
import socket
import sys

SIZE = 65536
NONE = 2**64 - 1
count = failed = 0


def ok(condition, name):
    global count, failed
    count += 1
    failed += not condition
    print(f"{'ok' if condition else 'not ok'} {count} - {name}", flush=True)


class Frame(ctypes.Structure):
    _fields_ = [
        ("buffers", ctypes.c_void_p * 4),
        ("sequence", ctypes.c_uint64),
        ("pts", ctypes.c_uint64),
        ("duration", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("lost", ctypes.c_uint32),
        ("fence", ctypes.c_int),
        ("metadata", ctypes.c_void_p),
        ("metadata_size", ctypes.c_size_t),
        ("user_data", ctypes.c_void_p),
    ]


class Peer(ctypes.Structure):
    _fields_ = [("pid", ctypes.c_int), ("uid", ctypes.c_uint), ("gid", ctypes.c_uint)]


class ProducerEvent(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("error", ctypes.c_int), ("frame", Frame),
                ("consumer", ctypes.c_uint64), ("peer", Peer)]


class ConsumerEvent(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("error", ctypes.c_int), ("peer", Peer),
                ("data", ctypes.c_void_p), ("size", ctypes.c_size_t),
                ("buffer", ctypes.c_void_p), ("frame", ctypes.POINTER(Frame))]


lib = ctypes.CDLL(os.environ.get("LIBZCBUF", "libzcbuf.so.1"))
for name in ("zcbuf_ctx_unref", "zcbuf_heap_unref", "zcbuf_buffer_unref",
             "zcbuf_producer_unref", "zcbuf_consumer_unref", "zcbuf_producer_end"):
    getattr(lib, name).argtypes = [ctypes.c_void_p]
lib.zcbuf_producer_disconnect.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
lib.zcbuf_consumer_give_back.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int]


def made(function, *arguments):
    """What a function returns through its last argument."""
    result = ctypes.c_void_p()
    r = function(*arguments, ctypes.byref(result))
    if r < 0:
        print(f"Bail out! {function.__name__}: {os.strerror(-r)}")
        sys.exit(1)
    return result


def read_session():
    """The page's session: [(direction, bytes, brings memory)]."""
    lines = []
    page = open("docs/channel-protocol.md", encoding="utf-8").read()
    for line in page.split("## A session")[1].splitlines():
        match = re.match(r"    ([<> ]) ((?:[0-9a-f]{8,16} ?)+)(.*)", line)
        if not match:
            continue
        direction, numbers, remark = match.groups()
        data = bytes.fromhex(numbers)
        if direction == " ":
            lines[-1][1] += data
        else:
            lines.append([direction, data, "memory" in remark])
    return lines


def receive(connection):
    data, control, _, _ = connection.recvmsg(32768, socket.CMSG_SPACE(4))
    fds = array.array("i")
    for _, _, content in control:
        fds.frombytes(content)
    return data, list(fds)


def as_consumer(ctx, buffer, session):
    """libzcbuf produces, this program consumes."""
    event = ProducerEvent()
    memory = ctypes.c_void_p()
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    here.settimeout(60)
    producer = made(lib.zcbuf_producer_new, ctx, None)
    lib.zcbuf_producer_set_format(producer, b"grey", 4)
    lib.zcbuf_producer_add_buffer(producer, buffer)
    lib.zcbuf_buffer_map(buffer, 2, ctypes.byref(memory))
    ctypes.memmove(memory, b"picture", 7)
    lib.zcbuf_producer_add_socket(producer, there.fileno())
    there.close()
    for direction, data, brings_memory in session:
        kind = data[0]
        if direction == ">":
            here.send(data)
            released = lib.zcbuf_producer_next_event(producer, 60000, ctypes.byref(event))
            if kind == 1:
                number = event.consumer
                frame = Frame(sequence=1, pts=NONE, duration=NONE)
                frame.buffers[0] = buffer
                lib.zcbuf_producer_send(producer, ctypes.byref(frame), 0)
            else:
                ok(released == 1 and event.type == 1 and event.frame.buffers[0] == buffer.value,
                   "the producer takes the frame back")
            continue
        if kind == 6:
            lib.zcbuf_producer_remove_buffer(producer, buffer)
        elif kind == 8:
            lib.zcbuf_producer_end(producer)
        elif kind == 9:
            lib.zcbuf_producer_disconnect(producer, number)
        got, fds = receive(here)
        ok(got == data, f"the producer sends message {kind} as the page says")
        if got != data:
            print(f"# page     {data.hex()}\n# received {got.hex()}")
        ok(len(fds) == brings_memory, "with a file descriptor" if brings_memory else "and nothing else")
        for fd in fds:
            with mmap.mmap(fd, SIZE, mmap.MAP_SHARED, mmap.PROT_READ) as seen:
                ok(seen[:7] == b"picture", "which is the memory")
            os.close(fd)
    lib.zcbuf_producer_unref(producer)
    here.close()


def as_producer(ctx, buffer, session):
    """libzcbuf consumes, this program produces."""
    event = ConsumerEvent()
    types = []
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    here.settimeout(60)
    consumer = made(lib.zcbuf_consumer_new_from_socket, ctx, there.fileno(), None)
    there.close()
    for direction, data, brings_memory in session:
        if direction == ">":
            ok(here.recv(32768) == data, f"the consumer sends message {data[0]} as the page says")
            continue
        rights = array.array("i", [lib.zcbuf_buffer_fd(buffer)])
        here.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if brings_memory else [])
        lib.zcbuf_consumer_next_event(consumer, 60000, ctypes.byref(event))
        types.append(event.type)
        if event.type == 5:
            frame = event.frame.contents
            ok((frame.sequence, frame.pts, frame.duration) == (1, NONE, NONE), "the frame is what was sent")
            lib.zcbuf_consumer_give_back(consumer, event.frame, -1)
    ok(types == [1, 2, 3, 5, 4, 6, 7], "the consumer understands each message")
    ok(event.error == -errno.ECANCELED, "and why the connection ends")
    lib.zcbuf_consumer_unref(consumer)
    here.close()


def main():
    session = read_session()
    ok({data[0] for _, data, _ in session} == set(range(1, 10)), "the page has a session with each message")
    ctx = made(lib.zcbuf_ctx_new)
    heap = made(lib.zcbuf_heap_open, ctx, None)
    buffer = made(lib.zcbuf_heap_alloc, heap, ctypes.c_size_t(SIZE), None)
    as_consumer(ctx, buffer, session)
    as_producer(ctx, buffer, session)
    lib.zcbuf_buffer_unref(buffer)
    lib.zcbuf_heap_unref(heap)
    lib.zcbuf_ctx_unref(ctx)
    print(f"1..{count}")
    return failed != 0


sys.exit(main())
