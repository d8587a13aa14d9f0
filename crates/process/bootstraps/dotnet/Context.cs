// The context argument. Its interface belongs to the function's own copy of Amazon.Lambda.Core, whichever version that
// is, so the classes that implement it are made when the function is loaded.

using System;
using System.Collections.Generic;
using System.Linq;
using System.Reflection;
using System.Reflection.Emit;

namespace Brooklet
{
    /// <summary>Answers the calls of an interface's members by name: "get_FunctionName".</summary>
    public delegate object Members(string name, object[] arguments);

    static class Context
    {
        static readonly DateTime Epoch = new DateTime(1970, 1, 1, 0, 0, 0, DateTimeKind.Utc);

        /// <summary>How to make an object of the interface type for an event.</summary>
        public static Func<Event, object> Maker(Type type)
        {
            Func<Members, object> context = Stub.Of(type);
            Func<Members, object> client = Stub.OfProperty(type, "ClientContext");
            Func<Members, object> identity = Stub.OfProperty(type, "Identity");
            Func<Members, object> logger = Stub.OfProperty(type, "Logger");
            Type clientType = type.GetProperty("ClientContext")?.PropertyType;
            Func<Members, object> application = clientType == null ? null : Stub.OfProperty(clientType, "Client");
            object log = logger(LogMember);
            var constants = new Dictionary<string, object> {
                { "get_FunctionName", Variable("AWS_LAMBDA_FUNCTION_NAME") },
                { "get_FunctionVersion", Variable("AWS_LAMBDA_FUNCTION_VERSION") },
                { "get_LogGroupName", Variable("AWS_LAMBDA_LOG_GROUP_NAME") },
                { "get_LogStreamName", Variable("AWS_LAMBDA_LOG_STREAM_NAME") },
                { "get_MemoryLimitInMB", int.TryParse(Variable("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"), out int mib) ? mib : 0 },
                { "get_Logger", log } };
            return next => context((name, arguments) =>
            {
                if (constants.TryGetValue(name, out object constant))
                {
                    return constant;
                }
                switch (name)
                {
                    case "get_AwsRequestId": return next.RequestId;
                    case "get_InvokedFunctionArn": return next.FunctionArn;
                    case "get_TraceId": return next.TraceId ?? "";
                    case "get_TenantId": return next.TenantId;
                    case "get_RemainingTime": return Epoch.AddMilliseconds(next.DeadlineMs) - DateTime.UtcNow;
                    case "get_ClientContext": return client(ClientMembers(Json.Object(next.ClientContext), application));
                    case "get_Identity": return identity(IdentityMembers(Json.Object(next.Identity)));
                    default: return null;
                }
            });
        }

        static Members ClientMembers(Dictionary<string, object> json, Func<Members, object> application)
        {
            return (name, arguments) =>
            {
                switch (name)
                {
                    case "get_Environment": return Texts(Member(json, "env"));
                    case "get_Custom": return Texts(Member(json, "custom"));
                    case "get_Client":
                        var client = Member(json, "client") as Dictionary<string, object>;
                        return client == null ? null : application((member, none) => Member(client, Snake(member)) as string);
                    default: return null;
                }
            };
        }

        static Members IdentityMembers(Dictionary<string, object> json)
        {
            return (name, arguments) => Member(json, name == "get_IdentityId" ? "cognitoIdentityId" : "cognitoIdentityPoolId");
        }

        /// <summary>Log(text), LogLine(text), Log(level, [exception,] text [, arguments]), LogError([exception,] text …).</summary>
        static object LogMember(string name, object[] arguments)
        {
            if (name == "Log" && arguments.Length == 1)
            {
                Console.Write(arguments[0]);
                return null;
            }
            int at = name == "Log" ? 1 : 0;
            string level = name == "Log" ? arguments[0]?.ToString()
                : name == "LogLine" ? "Information"
                : name.Substring("Log".Length);
            var error = arguments[at] as Exception;
            at += error == null ? 0 : 1;
            Log.Line(level, error, arguments[at] as string, at + 1 < arguments.Length ? arguments[at + 1] as object[] : null);
            return null;
        }

        static object Member(Dictionary<string, object> json, string name)
        {
            return json.TryGetValue(name, out object value) ? value : null;
        }

        static IDictionary<string, string> Texts(object json)
        {
            return (json as Dictionary<string, object>)?.ToDictionary(
                member => member.Key,
                member => member.Value is string text ? text : Json.Text(member.Value));
        }

        /// <summary>"get_AppVersionCode" → "app_version_code".</summary>
        static string Snake(string getter)
        {
            return string.Concat(getter.Substring("get_".Length)
                .Select((letter, at) => (char.IsUpper(letter) && at > 0 ? "_" : "") + char.ToLowerInvariant(letter)));
        }

        static string Variable(string name)
        {
            return Environment.GetEnvironmentVariable(name);
        }
    }

    /// <summary>Classes that implement an interface by asking a delegate.</summary>
    static class Stub
    {
        static readonly ModuleBuilder Module = AssemblyBuilder
            .DefineDynamicAssembly(new AssemblyName("Brooklet.Stubs"), AssemblyBuilderAccess.Run)
            .DefineDynamicModule("Brooklet.Stubs");

        public static Func<Members, object> OfProperty(Type type, string property)
        {
            Type wanted = type.GetProperty(property)?.PropertyType;
            return wanted == null ? members => null : Of(wanted);
        }

        public static Func<Members, object> Of(Type type)
        {
            TypeBuilder made = Module.DefineType("Brooklet.Stub." + type.FullName, TypeAttributes.Public);
            made.AddInterfaceImplementation(type);
            FieldBuilder members = made.DefineField("Members", typeof(Members), FieldAttributes.Public);
            foreach (MethodInfo method in type.GetInterfaces().Concat(new[] { type }).SelectMany(part => part.GetMethods()))
            {
                if (method.IsVirtual && !method.IsGenericMethod)
                {
                    Implement(made, members, method);
                }
            }
            Type stub = made.CreateTypeInfo().AsType();
            FieldInfo field = stub.GetField("Members");
            return asked =>
            {
                object instance = Activator.CreateInstance(stub);
                field.SetValue(instance, asked);
                return instance;
            };
        }

        static void Implement(TypeBuilder made, FieldBuilder members, MethodInfo method)
        {
            Type[] parameters = method.GetParameters().Select(parameter => parameter.ParameterType).ToArray();
            const MethodAttributes Attributes = MethodAttributes.Public | MethodAttributes.Virtual
                | MethodAttributes.HideBySig | MethodAttributes.NewSlot | MethodAttributes.Final;
            MethodBuilder body = made.DefineMethod(method.Name, Attributes, method.ReturnType, parameters);
            ILGenerator code = body.GetILGenerator();
            code.Emit(OpCodes.Ldarg_0);
            code.Emit(OpCodes.Ldfld, members);
            code.Emit(OpCodes.Ldstr, method.Name);
            code.Emit(OpCodes.Ldc_I4, parameters.Length);
            code.Emit(OpCodes.Newarr, typeof(object));
            for (int at = 0; at < parameters.Length; at++)
            {
                code.Emit(OpCodes.Dup);
                code.Emit(OpCodes.Ldc_I4, at);
                code.Emit(OpCodes.Ldarg, (short)(at + 1));
                if (parameters[at].IsValueType)
                {
                    code.Emit(OpCodes.Box, parameters[at]);
                }
                code.Emit(OpCodes.Stelem_Ref);
            }
            code.Emit(OpCodes.Callvirt, typeof(Members).GetMethod("Invoke"));
            if (method.ReturnType == typeof(void))
            {
                code.Emit(OpCodes.Pop);
            }
            else
            {
                code.Emit(OpCodes.Unbox_Any, method.ReturnType);
            }
            code.Emit(OpCodes.Ret);
            made.DefineMethodOverride(body, method);
        }
    }
}
