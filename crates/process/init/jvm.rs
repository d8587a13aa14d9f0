//! What a JVM needs to take over a function's identity: a library that the one loads which boots ahead of need.
//!
//! It waits for the introduction on descriptor 3, as all runtimes that wait do, and makes what it says the process's own
//! variables before anybody has asked for one: `System.getenv` reads them once, then, and native code and child
//! processes find them where they always are. No Java of any version can do that by itself, nor add folders to its class
//! path, which the JVM has its agents do by the call that is made here.
//!
//! Like the first process it has no C library of its own.

#![no_std]
#![allow(dead_code, unused_imports, unused_macros)] // it shares a module with the first process

mod sys;

use core::ffi::c_void;
use sys::sys;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    end(101)
}

const EVENTS_FD: i32 = 3;
const ANSWERS_FD: i32 = 4;
/// Of a frame: kind, three bytes, and the lengths of meta text and body.
const HEAD: usize = 12;
const EINTR: isize = -4;
const O_CLOEXEC: usize = 0o2000000;

/// Of `struct JNINativeInterface_`, which has not changed since JDK 1.2 but at its end.
const GET_OBJECT_CLASS: usize = 31;
const GET_METHOD_ID: usize = 33;
const CALL_VOID_METHOD_A: usize = 63;
const GET_STATIC_METHOD_ID: usize = 113;
const CALL_STATIC_VOID_METHOD_A: usize = 143;
const NEW_STRING_UTF: usize = 167;

/// `JNIEnv *`: where the table of functions is.
type Env = *const *const [*const c_void; 229];
type Object = *const c_void;

unsafe extern "C" {
    /// The C library's.
    static mut environ: *const *const u8;
}

/// `static native String becomeInstance()`: says that it waits, waits until it is known for which function, takes over that one's variables and
/// the working directory, and gives the class path. The transport is closed then. Where there is nobody any more who could
/// say, the process ends.
#[unsafe(no_mangle)]
pub extern "C" fn Java_brooklet_Stem_becomeInstance(env: Env, _: Object) -> Object {
    let mut head = [0u8; HEAD];
    head[0] = b'W';
    sys!(WRITE, ANSWERS_FD, head.as_ptr(), HEAD);
    fill(head.as_mut_ptr(), HEAD);
    let length = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
    let (meta, body) = (length(4), length(8));
    // The meta text and its NUL, then the variables, then at most as many words as those have bytes; zeroed.
    let place = (meta + 1 + body).next_multiple_of(8);
    let memory = sys!(MMAP, 0, place + 8 * (body + 1), 3, 0x22, -1isize, 0);
    if memory < 0 {
        end(102)
    }
    let text = memory as *mut u8;
    // SAFETY: all within the mapping, which is never given back: the variables live there from now on.
    unsafe {
        fill(text, meta);
        let (variables, words) = (text.add(meta + 1), text.add(place).cast::<*const u8>());
        fill(variables, body);
        let (mut count, mut begin) = (0, 0);
        for at in 0..body {
            if *variables.add(at) == 0 {
                *words.add(count) = variables.add(begin);
                (count, begin) = (count + 1, at + 1);
            }
        }
        environ = words;
    }
    sys!(CLOSE, EVENTS_FD);
    sys!(CLOSE, ANSWERS_FD);
    // Something else is mounted there than when this process began.
    if sys!(CHDIR, c"/var/task".as_ptr()) < 0 {
        end(103)
    }
    // SAFETY: `NewStringUTF(env, text)`; the text ends in NUL.
    unsafe {
        let new_string: extern "C" fn(Env, *const u8) -> Object = core::mem::transmute((**env)[NEW_STRING_UTF]);
        new_string(env, text)
    }
}

/// `static native void append(ClassLoader loader, String path)`: adds to the class path of the system's class loader. What
/// the loader throws, or that it has no such method, is thrown in Java.
#[unsafe(no_mangle)]
pub extern "C" fn Java_brooklet_Stem_append(env: Env, _: Object, loader: Object, path: Object) {
    // SAFETY: `GetObjectClass(env, object)`, `GetMethodID(env, class, name, signature)` and
    // `CallVoidMethodA(env, object, method, arguments)`; `jvalue` is 8 bytes.
    unsafe {
        let class_of: extern "C" fn(Env, Object) -> Object = core::mem::transmute((**env)[GET_OBJECT_CLASS]);
        let method_of: extern "C" fn(Env, Object, *const u8, *const u8) -> Object =
            core::mem::transmute((**env)[GET_METHOD_ID]);
        let call: extern "C" fn(Env, Object, Object, *const Object) =
            core::mem::transmute((**env)[CALL_VOID_METHOD_A]);
        let (name, signature) = (c"appendToClassPathForInstrumentation", c"(Ljava/lang/String;)V");
        let method = method_of(env, class_of(env, loader), name.as_ptr().cast(), signature.as_ptr().cast());
        if !method.is_null() {
            call(env, loader, method, &raw const path);
        }
    }
}

/// `static native void forget(Class<?> initialised)`: initialises a class once more, as if it had not been.
#[unsafe(no_mangle)]
pub extern "C" fn Java_brooklet_Stem_forget(env: Env, _: Object, class: Object) {
    // SAFETY: `GetStaticMethodID(env, class, name, signature)` and `CallStaticVoidMethodA(env, class, method, arguments)`,
    // without arguments.
    unsafe {
        let method_of: extern "C" fn(Env, Object, *const u8, *const u8) -> Object =
            core::mem::transmute((**env)[GET_STATIC_METHOD_ID]);
        let call: extern "C" fn(Env, Object, Object, *const Object) =
            core::mem::transmute((**env)[CALL_STATIC_VOID_METHOD_A]);
        let method = method_of(env, class, c"<clinit>".as_ptr().cast(), c"()V".as_ptr().cast());
        if !method.is_null() {
            call(env, class, method, core::ptr::null());
        }
    }
}

/// `static native void pretend(int port)`: there is one variable, which says that the Runtime API is at this port of the
/// loopback.
#[unsafe(no_mangle)]
pub extern "C" fn Java_brooklet_Stem_pretend(_: Env, _: Object, port: i32) {
    const NAME: &[u8] = b"AWS_LAMBDA_RUNTIME_API=127.0.0.1:";
    static mut TEXT: [u8; NAME.len() + 6] = [0; NAME.len() + 6];
    static mut WORDS: [*const u8; 2] = [core::ptr::null(); 2];
    // SAFETY: one thread comes here, and nobody looks before it has been left.
    unsafe {
        let text = (&raw mut TEXT).cast::<u8>();
        NAME.iter().enumerate().for_each(|(at, byte)| *text.add(at) = *byte);
        for (at, unit) in [10_000, 1_000, 100, 10, 1].into_iter().enumerate() {
            *text.add(NAME.len() + at) = b'0' + (port / unit % 10) as u8;
        }
        WORDS[0] = text;
        environ = (&raw const WORDS).cast();
    }
}

/// Reads exactly so many bytes of the introduction.
fn fill(mut to: *mut u8, mut length: usize) {
    while length > 0 {
        match sys!(READ, EVENTS_FD, to, length) {
            EINTR => {}
            read @ 1.. => {
                // SAFETY: the kernel has written no more than there was room for.
                to = unsafe { to.add(read as usize) };
                length -= read as usize;
            }
            _ => end(0),
        }
    }
}

fn end(status: i32) -> ! {
    loop {
        sys!(EXIT_GROUP, status);
    }
}
