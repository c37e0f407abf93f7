# SPDX-License-Identifier: MIT-0
# A buffer from Python: the child writes into it, the parent reads what the child wrote.
import ctypes, os, socket

libzcbuf = ctypes.CDLL("libzcbuf.so.1")
WRITE, READ = ctypes.c_uint64(2), ctypes.c_uint64(1)  # ZCBUF_SYNC_*

def zcbuf(function, *arguments):  # libzcbuf has said on stderr what was wrong
    if (status := getattr(libzcbuf, "zcbuf_" + function)(*arguments)) < 0:
        raise OSError(-status, os.strerror(-status))

ctx, heap, frame, data = (ctypes.c_void_p() for _ in range(4))
zcbuf("ctx_new", ctypes.byref(ctx))
child, parent = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
if os.fork() == 0:
    zcbuf("heap_open", ctx, None, ctypes.byref(heap))
    zcbuf("heap_alloc", heap, ctypes.c_size_t(1920 * 1080 * 4), None, ctypes.byref(frame))
    zcbuf("buffer_map", frame, WRITE, ctypes.byref(data))
    zcbuf("buffer_begin", frame, WRITE)
    ctypes.memmove(data, b"written by the child", 20)
    zcbuf("buffer_end", frame, WRITE)
    zcbuf("buffer_send", frame, child.fileno())
    os._exit(0)
zcbuf("buffer_recv", ctx, parent.fileno(), ctypes.byref(frame))
zcbuf("buffer_map", frame, READ, ctypes.byref(data))
zcbuf("buffer_begin", frame, READ)
print(ctypes.string_at(data).decode())
zcbuf("buffer_end", frame, READ)
