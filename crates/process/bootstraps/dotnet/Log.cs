// The log: the console and Lambda's logger, as text or as JSON
// (https://docs.aws.amazon.com/lambda/latest/dg/csharp-logging.html). Each WriteLine is one event, however many lines.

using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Text;
using System.Text.RegularExpressions;

namespace Brooklet
{
    static class Log
    {
        static readonly string[] Levels = { "Trace", "Debug", "Information", "Warning", "Error", "Critical" };
        static readonly string[] Labels = { "trce", "dbug", "info", "warn", "fail", "crit" };
        static readonly List<Lines> Writers = new List<Lines>();
        static int least;
        static string format;

        /// <summary>The event being answered, whose id the log events carry; null before the first.</summary>
        public static volatile Event Current;

        /// <summary>Takes over the console.</summary>
        public static void Open()
        {
            string level = (Variable("AWS_LAMBDA_HANDLER_LOG_LEVEL", "AWS_LAMBDA_LOG_LEVEL") ?? "").ToUpperInvariant();
            least = Math.Max(0, Index(level == "FATAL" ? "Critical" : level == "WARN" ? "Warning" : level));
            format = (Variable("AWS_LAMBDA_HANDLER_LOG_FORMAT", "AWS_LAMBDA_LOG_FORMAT") ?? "").ToUpperInvariant();
            var outWriter = new Lines("Information");
            var errorWriter = new Lines("Error");
            Writers.Add(outWriter);
            Writers.Add(errorWriter);
            Console.SetOut(outWriter);
            Console.SetError(errorWriter);
            AppDomain.CurrentDomain.AssemblyLoad += (sender, loaded) =>
            {
                if (loaded.LoadedAssembly.GetName().Name == "Amazon.Lambda.Core")
                {
                    Connect(loaded.LoadedAssembly.GetType("Amazon.Lambda.Core.LambdaLogger"));
                }
            };
        }

        public static void Line(string level, string message)
        {
            Line(level, null, message, null);
        }

        /// <summary>Logs one event. An unknown level is shown; `message` may name its arguments: "{count} of {item}".</summary>
        public static void Line(string level, Exception error, string message, object[] arguments)
        {
            int index = Index(level);
            if (index >= 0 && index < least)
            {
                return;
            }
            var named = new List<KeyValuePair<string, object>>();
            string text = arguments == null || arguments.Length == 0 ? message ?? "" : Fill(message ?? "", arguments, named);
            Frames.Record(format == "JSON"
                ? ToJson(index < 0 ? level ?? "Information" : Levels[index], error, text, named)
                : ToText(index < 0 ? level : Labels[index], error, text));
        }

        public static void Failure(Exception error)
        {
            Line("Error", error, null, null);
        }

        /// <summary>Sends unfinished lines: they belong to the event that ends here.</summary>
        public static void EndLines()
        {
            foreach (Lines writer in Writers)
            {
                writer.EndLine();
            }
        }

        static string ToText(string label, Exception error, string text)
        {
            var line = new StringBuilder();
            if (format != "UNFORMATTED")
            {
                line.Append(Now()).Append('\t').Append(Current?.RequestId).Append('\t');
                if (!string.IsNullOrEmpty(label))
                {
                    line.Append(label).Append('\t');
                }
            }
            line.Append(text);
            if (error != null)
            {
                line.Append(text == "" ? "" : "\n").Append(error);
            }
            return line.ToString();
        }

        static string ToJson(string level, Exception error, string text, List<KeyValuePair<string, object>> named)
        {
            var record = new Dictionary<string, object> { { "timestamp", Now() }, { "level", level } };
            Event current = Current;
            if (current != null)
            {
                record["requestId"] = current.RequestId;
                if (current.TenantId != null)
                {
                    record["tenantId"] = current.TenantId;
                }
                if (current.TraceId != null)
                {
                    record["traceId"] = current.TraceId;
                }
            }
            record["message"] = text;
            foreach (var member in named.Where(member => member.Value != null && !record.ContainsKey(member.Key)))
            {
                record[member.Key] = Json.IsPlain(member.Value) ? member.Value : member.Value.ToString();
            }
            if (error != null)
            {
                record["errorType"] = error.GetType().FullName;
                record["errorMessage"] = error.Message;
                record["stackTrace"] = error.ToString().Split('\n').Select(line => line.Trim()).ToList();
            }
            return Encoding.UTF8.GetString(Json.Write(record));
        }

        /// <summary>Puts the arguments into the template, by position if the names are numbers, else in order.</summary>
        static string Fill(string template, object[] arguments, List<KeyValuePair<string, object>> named)
        {
            int next = 0;
            return Regex.Replace(template, @"\{\{|\}\}|\{@?([^{},:]+)(,[^{}:]*)?(:[^{}]*)?\}", match =>
            {
                if (!match.Groups[1].Success)
                {
                    return match.Value.Substring(1);
                }
                string name = match.Groups[1].Value.Trim();
                int at = int.TryParse(name, out int number) ? number : next++;
                if (at >= arguments.Length)
                {
                    return match.Value;
                }
                named.Add(new KeyValuePair<string, object>(name, arguments[at]));
                string directive = "{0" + match.Groups[2].Value + match.Groups[3].Value + "}";
                return string.Format(CultureInfo.InvariantCulture, directive, arguments[at]);
            });
        }

        /// <summary>Lets the static logger of Amazon.Lambda.Core write here; older versions have fewer fields.</summary>
        static void Connect(Type logger)
        {
            Set(logger, "_loggingAction", new Action<string>(message => Line(null, message)));
            Set(logger, "_loggingWithLevelAction",
                new Action<string, string, object[]>((level, message, arguments) => Line(level, null, message, arguments)));
            Set(logger, "_loggingWithLevelAndExceptionAction", new Action<string, Exception, string, object[]>(Line));
        }

        static void Set(Type logger, string field, object action)
        {
            logger?.GetField(field, BindingFlags.NonPublic | BindingFlags.Static)?.SetValue(null, action);
        }

        static int Index(string level)
        {
            return Array.FindIndex(Levels, known => string.Equals(known, level, StringComparison.OrdinalIgnoreCase));
        }

        static string Variable(string name, string otherwise)
        {
            string value = Environment.GetEnvironmentVariable(name);
            return string.IsNullOrEmpty(value) ? Environment.GetEnvironmentVariable(otherwise) : value;
        }

        static string Now()
        {
            return DateTime.UtcNow.ToString("yyyy-MM-ddTHH:mm:ss.fffZ", CultureInfo.InvariantCulture);
        }

        /// <summary>What is written to the console: `WriteLine` makes an event with time and level, a line that ends
        /// otherwise (a logging library's, mostly, with a time of its own) is an event as it is.</summary>
        sealed class Lines : TextWriter
        {
            readonly string level;
            readonly StringBuilder rest = new StringBuilder();

            public Lines(string level)
            {
                this.level = level;
                CoreNewLine = new[] { '\n' };
            }

            public override Encoding Encoding => new UTF8Encoding(false);

            public override void Write(char value)
            {
                Write(value.ToString());
            }

            public override void Write(char[] buffer, int index, int count)
            {
                Write(new string(buffer, index, count));
            }

            public override void Write(string value)
            {
                lock (rest)
                {
                    int from = 0;
                    for (int to; (to = (value ?? "").IndexOf('\n', from)) >= 0; from = to + 1)
                    {
                        Frames.Record(rest.Append(value, from, to - from).ToString());
                        rest.Clear();
                    }
                    rest.Append(value, from, (value ?? "").Length - from);
                }
            }

            public override void WriteLine()
            {
                WriteLine("");
            }

            public override void WriteLine(string value)
            {
                string text;
                lock (rest)
                {
                    text = rest.Append(value).ToString();
                    rest.Clear();
                }
                Line(level, text);
            }

            public void EndLine()
            {
                lock (rest)
                {
                    if (rest.Length > 0)
                    {
                        Frames.Record(rest.ToString());
                        rest.Clear();
                    }
                }
            }
        }
    }
}
