// The framed transport on file descriptors 3 and 4 (../README.md).

using System;
using System.IO;
using System.Runtime.InteropServices;
using System.Text;

namespace Brooklet
{
    static class Frames
    {
        const int Events = 3;
        const int Answers = 4;
        const int HeadSize = 12;
        const int MaxRecord = 256 * 1024; // bytes of one log event, CloudWatch's limit; longer ones are split
        const int Interrupted = 4; // EINTR
        static readonly object Sending = new object();
        static byte[] window = new byte[64 * 1024]; // most events fit, head included; grows with the largest event

        // Not a `Socket` or a `FileStream`: the one cannot be made of a descriptor everywhere, the other asks for a
        // file's position.
        [DllImport("libc", SetLastError = true)]
        static extern IntPtr read(int fd, IntPtr buffer, IntPtr size);

        [DllImport("libc", SetLastError = true)]
        static extern IntPtr write(int fd, IntPtr buffer, IntPtr size);

        [DllImport("libc")]
        static extern void _exit(int status);

        [DllImport("libc")]
        static extern int fcntl(int fd, int command, int argument);

        static Frames()
        {
            const int SetFlags = 2, CloseOnExec = 1; // F_SETFD, FD_CLOEXEC
            fcntl(Events, SetFlags, CloseOnExec);
            fcntl(Answers, SetFlags, CloseOnExec);
        }

        /// <summary>Waits for the next event; null when the server has closed the stream. The event's body is valid
        /// until the next call.</summary>
        public static Event Receive()
        {
            int filled = 0;
            int end = HeadSize;
            while (filled < end)
            {
                int more = Read(filled);
                if (more == 0)
                {
                    return null;
                }
                bool headWasIncomplete = filled < HeadSize;
                filled += more;
                if (headWasIncomplete && filled >= HeadSize)
                {
                    end = checked(HeadSize + BitConverter.ToInt32(window, 4) + BitConverter.ToInt32(window, 8));
                    if (end > window.Length)
                    {
                        Array.Resize(ref window, end);
                    }
                }
            }
            int meta = BitConverter.ToInt32(window, 4);
            string[] fields = Encoding.UTF8.GetString(window, HeadSize, meta).Split('\n');
            int bodyAt = HeadSize + meta;
            return new Event(fields, new MemoryStream(window, bodyAt, end - bodyAt, false, true));
        }

        public static void Send(char kind, byte[] body)
        {
            Send(kind, new ArraySegment<byte>(body));
        }

        /// <summary>Sends one frame without metadata.</summary>
        public static void Send(char kind, ArraySegment<byte> body)
        {
            byte[] frame = new byte[HeadSize + body.Count];
            frame[0] = (byte)kind;
            frame[8] = (byte)body.Count;
            frame[9] = (byte)(body.Count >> 8);
            frame[10] = (byte)(body.Count >> 16);
            frame[11] = (byte)(body.Count >> 24);
            if (body.Count > 0)
            {
                Buffer.BlockCopy(body.Array, body.Offset, frame, HeadSize, body.Count);
            }
            lock (Sending)
            {
                Write(frame);
            }
        }

        /// <summary>Sends one log event, which may hold several lines.</summary>
        public static void Record(string text)
        {
            byte[] bytes = Encoding.UTF8.GetBytes(text);
            int at = 0;
            do
            {
                int size = Math.Min(MaxRecord, bytes.Length - at);
                Send('L', new ArraySegment<byte>(bytes, at, size));
                at += size;
            }
            while (at < bytes.Length);
        }

        /// <summary>Ends the process at once, as Lambda's sandboxes end: nothing of the function's runs any more.</summary>
        public static void Exit()
        {
            _exit(0);
        }

        static unsafe int Read(int at)
        {
            fixed (byte* start = window)
            {
                while (true)
                {
                    int size = (int)read(Events, (IntPtr)(start + at), (IntPtr)(window.Length - at));
                    if (size >= 0)
                    {
                        return size;
                    }
                    if (Marshal.GetLastWin32Error() != Interrupted)
                    {
                        return 0;
                    }
                }
            }
        }

        static unsafe void Write(byte[] frame)
        {
            fixed (byte* start = frame)
            {
                int sent = 0;
                while (sent < frame.Length)
                {
                    int size = (int)write(Answers, (IntPtr)(start + sent), (IntPtr)(frame.Length - sent));
                    if (size > 0)
                    {
                        sent += size;
                    }
                    else if (Marshal.GetLastWin32Error() != Interrupted)
                    {
                        _exit(0); // the server is gone
                    }
                }
            }
        }
    }
}
