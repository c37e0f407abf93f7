// SPDX-License-Identifier: MIT-0
//! A buffer from Rust: its memory is a slice, and its file descriptor may go wherever one may.
use std::{ffi::c_char, ffi::c_int, ffi::c_void, io::Error, ptr::null, ptr::null_mut, slice};

type Handle = *mut c_void;
const WRITE: u64 = 2; // ZCBUF_SYNC_WRITE

#[link(name = "zcbuf")]
unsafe extern "C" {
    fn zcbuf_ctx_new(ctx: *mut Handle) -> c_int;
    fn zcbuf_heap_open(ctx: Handle, name: *const c_char, heap: *mut Handle) -> c_int;
    fn zcbuf_heap_alloc(heap: Handle, size: usize, options: *const c_void, buffer: *mut Handle) -> c_int;
    fn zcbuf_buffer_map(buffer: Handle, access: u64, data: *mut *mut c_void) -> c_int;
    fn zcbuf_buffer_begin(buffer: Handle, access: u64) -> c_int;
    fn zcbuf_buffer_end(buffer: Handle, access: u64) -> c_int;
    fn zcbuf_buffer_size(buffer: Handle) -> usize;
    fn zcbuf_buffer_fd(buffer: Handle) -> c_int;
}

fn ok(status: c_int) -> Result<(), Error> {
    if status < 0 { Err(Error::from_raw_os_error(-status)) } else { Ok(()) }
}

fn main() -> Result<(), Error> {
    let (mut ctx, mut heap, mut frame, mut data) = (null_mut(), null_mut(), null_mut(), null_mut());
    unsafe {
        ok(zcbuf_ctx_new(&mut ctx))?;
        ok(zcbuf_heap_open(ctx, null(), &mut heap))?;
        ok(zcbuf_heap_alloc(heap, 1920 * 1080 * 4, null(), &mut frame))?;
        ok(zcbuf_buffer_map(frame, WRITE, &mut data))?;
        ok(zcbuf_buffer_begin(frame, WRITE))?;
        let pixels = slice::from_raw_parts_mut(data as *mut u8, zcbuf_buffer_size(frame));
        pixels.fill(0x80);
        ok(zcbuf_buffer_end(frame, WRITE))?;
        println!("{} bytes, file descriptor {}", pixels.len(), zcbuf_buffer_fd(frame));
    }
    Ok(())
}
