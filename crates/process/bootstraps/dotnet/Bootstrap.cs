// The .NET runtimes: loads the handler `Assembly::Type::Method` once, then answers one event after the other, as AWS
// documents its .NET runtimes and as its public runtime client behaves. What travels where is in ../README.md.
//
// C# 7, and only types that both .NET Core 3.1 and Mono have, so that one compiled file serves every runtime.

using System;
using System.Globalization;
using System.IO;
using System.Reflection;

namespace Brooklet
{
    static class Bootstrap
    {
        static int Main()
        {
            Log.Open();
            string root = Environment.GetEnvironmentVariable("LAMBDA_TASK_ROOT") ?? Environment.CurrentDirectory;
            Assemblies.LookIn(root);
            Handler handler;
            Frames.Send('G', new byte[0]); // the server measures how long the runtime took to boot
            try
            {
                handler = Handler.Load(Environment.GetEnvironmentVariable("_HANDLER") ?? "");
            }
            catch (Exception thrown)
            {
                Exception error = Faults.Unwrap(thrown);
                Log.Failure(error);
                Log.EndLines();
                Frames.Send('X', Faults.ToJson(error));
                return 1;
            }
            Log.EndLines();
            Frames.Send('R', new byte[0]);
            while (true)
            {
                Event next = Frames.Receive();
                if (next == null)
                {
                    Frames.Exit();
                }
                Answer(handler, next);
            }
        }

        static void Answer(Handler handler, Event next)
        {
            Log.Current = next;
            Environment.SetEnvironmentVariable("_X_AMZN_TRACE_ID", next.TraceId);
            char kind = 'A';
            ArraySegment<byte> body;
            try
            {
                body = handler.Answer(next);
            }
            catch (Exception thrown)
            {
                Exception error = Faults.Unwrap(thrown);
                Log.Failure(error);
                kind = 'E';
                body = new ArraySegment<byte>(Faults.ToJson(error));
            }
            Log.EndLines();
            Frames.Send(kind, body);
        }
    }

    /// <summary>One event: its metadata as the server sent it, and its JSON.</summary>
    sealed class Event
    {
        public readonly string RequestId, FunctionArn, TraceId, ClientContext, Identity, TenantId;
        public readonly long DeadlineMs;
        public readonly MemoryStream Body;

        public Event(string[] fields, MemoryStream body)
        {
            RequestId = fields[0];
            DeadlineMs = long.Parse(fields[1], CultureInfo.InvariantCulture);
            FunctionArn = fields[2];
            TraceId = fields[3] == "" ? null : fields[3];
            ClientContext = fields[4];
            Identity = fields[5];
            TenantId = fields.Length > 6 && fields[6] != "" ? fields[6] : null;
            Body = body;
        }
    }

    /// <summary>Finds the assemblies that the function's package brings.</summary>
    static class Assemblies
    {
        // Where a publish folder keeps what is for one system only; then the folder itself.
        static readonly string[] Folders = { "runtimes/linux-x64/lib", "runtimes/linux/lib", "runtimes/unix/lib", "" };

        public static void LookIn(string root)
        {
            AppDomain.CurrentDomain.AssemblyResolve += (sender, wanted) =>
            {
                string file = new AssemblyName(wanted.Name).Name + ".dll";
                foreach (string folder in Folders)
                {
                    string found = Find(Path.Combine(root, folder), file, folder != "");
                    if (found != null)
                    {
                        return Assembly.LoadFrom(found);
                    }
                }
                return null;
            };
        }

        static string Find(string folder, string file, bool deeper)
        {
            if (File.Exists(Path.Combine(folder, file)))
            {
                return Path.Combine(folder, file);
            }
            if (!deeper || !Directory.Exists(folder))
            {
                return null;
            }
            string[] versions = Directory.GetDirectories(folder); // netstandard2.0, net8.0, …
            Array.Sort(versions, StringComparer.Ordinal);
            foreach (string version in versions)
            {
                if (File.Exists(Path.Combine(version, file)))
                {
                    return Path.Combine(version, file);
                }
            }
            return null;
        }
    }
}
