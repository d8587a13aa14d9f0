// The language between the server and a sandbox's first process; both sides include this file.
//
// A message is a row of operations, each one byte and its operands: texts end in NUL, numbers are
// little-endian. Operations are carried out in order; the first that fails ends the row. Every message is
// answered by one reply of 12 bytes: what failed (an errno, 0 for nothing), which operation of the row it was
// (counted from 0), and a number that the operation gave. `RUN` and `SOCKET` also give a descriptor; those of one
// row come together, in order.

/// The largest message, in bytes.
pub const MAX_MESSAGE: usize = 160 * 1024;

/// The most descriptors that come with a message.
pub const MAX_FDS: usize = 5;

/// The most descriptors that a row gives.
pub const MAX_GIVEN: usize = 24;

/// Where the first process finds its socket.
pub const CONTROL_FD: i32 = 3;

/// Where the first process of a copy finds what ends when the copy is the program's user.
pub const COPY_FD: i32 = 4;

/// path: makes a directory.
pub const MKDIR: u8 = 1;
/// path: makes an empty file, to be bound over.
pub const TOUCH: u8 = 2;
/// target, path: makes a symbolic link.
pub const SYMLINK: u8 = 3;
/// source, path, recursive (u32, 0 or 1): binds a part of the tree.
pub const BIND: u8 = 4;
/// type, path, flags (u32), options: mounts a new file system.
pub const MOUNT: u8 = 5;
/// path: makes everything mounted below read-only and without set-user-id.
pub const SEAL: u8 = 6;
/// Nothing mounted from here on reaches the machine.
pub const PRIVATE: u8 = 7;
/// path: makes it the root; the old one is at `/.host` from then on.
pub const PIVOT: u8 = 8;
/// path, text: writes a file that exists.
pub const WRITE: u8 = 9;
/// flags (u32): enters new namespaces.
pub const UNSHARE: u8 = 10;
/// name: sets the host name.
pub const HOSTNAME: u8 = 11;
/// uid (u32), gid (u32): who the program will be; without it, who the server is.
pub const IDENTITY: u8 = 12;
/// resource (u32), value (u32): a limit of the program, soft and hard; one that is lower already stays.
pub const LIMIT: u8 = 13;
/// count (u32), then that many BPF instructions of 8 bytes: the program's system call filter.
pub const FILTER: u8 = 14;
/// working directory, number of arguments (u32), arguments, number of variables (u32), variables. Starts the
/// program with the message's first descriptor as stdout and stderr, the second, if any, as descriptor 3.
/// The first argument is its path. The reply's descriptor is a pidfd of it.
pub const RUN: u8 = 15;
/// signal (u32): for every process of the sandbox but the first.
pub const SIGNAL: u8 = 16;
/// path: lets go of what is mounted there.
pub const UNMOUNT: u8 = 17;
/// Gives up the first process's own privileges: the sandbox is as its program will see it.
pub const CLOSE: u8 = 18;
/// domain (u32), type (u32), protocol (u32): opens a socket in the sandbox's network, and gives it.
pub const SOCKET: u8 = 19;
/// handled (u32), scoped (u32), flags of the restriction (u32), then what is allowed below the root, in `/dev` and
/// in `/tmp` (u32 each): the program's Landlock domain, in Landlock's bits.
pub const CONFINE: u8 = 20;
/// number (u32): the user and group of the machine that the program is, who it is only within a user namespace of its
/// own. Without it, or with 0, the two are those that [`IDENTITY`] says.
pub const USER: u8 = 21;

/// number of arguments (u32), arguments, number of variables (u32), variables: becomes this program, with every
/// privilege, the message's first descriptor as stdout and stderr, and this socket, over which the program answers.
pub const EXEC: u8 = 40;
/// pid (u32): a child of the first process that something else has made is the sandbox's program, and may be one of
/// its own [`USER`]. The reply's descriptor is a pidfd of it.
pub const ADOPT: u8 = 41;
/// namespaces (u32), whether the copy is to rehearse (u32, 0 or 1), path of the first process's program: to a zygote, see
/// `zygote.rs`. The operations after it are carried out in the new namespaces.
pub const FORK: u8 = 42;

/// The first word of the last message, in place of an errno: the program has ended; the second word is its
/// wait status.
pub const ENDED: u32 = u32::MAX;
