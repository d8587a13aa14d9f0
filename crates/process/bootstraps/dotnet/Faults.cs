// Errors as the caller sees them: type, message, stack trace, and the errors inside.

using System;
using System.Collections.Generic;
using System.Linq;
using System.Reflection;

namespace Brooklet
{
    static class Faults
    {
        const int MaxSize = 256 * 1024; // bytes, as on Lambda

        /// <summary>What the function threw, without what reflection wrapped it in.</summary>
        public static Exception Unwrap(Exception error)
        {
            while (error is TargetInvocationException && error.InnerException != null)
            {
                error = error.InnerException;
            }
            return error;
        }

        public static byte[] ToJson(Exception error)
        {
            byte[] json = Json.Write(Describe(error, 0));
            return json.Length <= MaxSize ? json : Json.Write(new Dictionary<string, object> {
                { "errorType", error.GetType().Name },
                { "errorMessage", "Exception exceeded maximum payload size of 256KB." } });
        }

        static Dictionary<string, object> Describe(Exception error, int depth)
        {
            const int MaxDepth = 32;
            var json = new Dictionary<string, object> {
                { "errorType", error.GetType().Name },
                { "errorMessage", error.Message } };
            List<string> trace = Trace(error);
            if (trace.Count > 0)
            {
                json["stackTrace"] = trace;
            }
            if (error.InnerException != null && depth < MaxDepth)
            {
                json["cause"] = Describe(error.InnerException, depth + 1);
            }
            if (error is AggregateException many && depth < MaxDepth)
            {
                json["causes"] = many.InnerExceptions.Select(inner => Describe(inner, depth + 1)).ToList();
            }
            return json;
        }

        /// <summary>The stack trace without our own frames and reflection's.</summary>
        static List<string> Trace(Exception error)
        {
            return (error.StackTrace ?? "").Split('\n').Select(line => line.Trim())
                .Where(line => line != "" && !line.StartsWith("at Brooklet.") && !line.StartsWith("at System.Reflection.")
                    && !line.StartsWith("at System.RuntimeMethodHandle.") && !line.Contains("(wrapper managed-to-native)"))
                .ToList();
        }
    }
}
