// Finds the handler method and calls it: https://docs.aws.amazon.com/lambda/latest/dg/csharp-handler.html. The words of
// the refusals are those of Lambda's own runtime, so that people find them.

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Text;
using System.Threading.Tasks;

namespace Brooklet
{
    /// <summary>The function is not one that can be called. The name is what the caller sees as `errorType`.</summary>
    sealed class LambdaValidationException : Exception
    {
        public LambdaValidationException(string message) : base(message) { }
    }

    sealed class Handler
    {
        const string Format = "The valid format is 'ASSEMBLY::TYPE::METHOD'.";
        const string ContextType = "Amazon.Lambda.Core.ILambdaContext";
        const string SerializerType = "Amazon.Lambda.Core.ILambdaSerializer";
        const string SerializerAttribute = "Amazon.Lambda.Core.LambdaSerializerAttribute";
        const BindingFlags Own = BindingFlags.DeclaredOnly | BindingFlags.Public | BindingFlags.NonPublic
            | BindingFlags.Instance | BindingFlags.Static;

        MethodInfo method;
        object target;
        Type inputType, outputType; // null: there is none
        Func<Event, object> context; // null: the method takes none
        object serializer; // the function's own; null: ours
        MethodInfo deserialize, serialize;
        readonly MemoryStream output = new MemoryStream();

        /// <summary>The method of the name; its object is made, so that its constructor runs in the init phase.</summary>
        public static Handler Load(string name)
        {
            string[] parts = Parse(name);
            Assembly assembly = LoadAssembly(parts[0]);
            Type type = assembly.GetType(parts[1])
                ?? throw new LambdaValidationException($"Unable to load type '{parts[1]}' from assembly '{parts[0]}'.");
            MethodInfo method = FindMethod(type, parts);
            CheckMethod(method);
            CheckType(type, method);
            var handler = new Handler { method = method };
            handler.TakeParameters(parts[1]);
            handler.TakeResult();
            if (method.IsStatic)
            {
                RuntimeHelpers.RunClassConstructor(type.TypeHandle);
            }
            else
            {
                handler.target = Activator.CreateInstance(type);
            }
            handler.TakeSerializer(assembly);
            return handler;
        }

        /// <summary>Calls the method with one event; the answer is valid until the next call.</summary>
        public ArraySegment<byte> Answer(Event next)
        {
            var arguments = new List<object>(2);
            if (inputType != null)
            {
                arguments.Add(Deserialize(next.Body));
            }
            if (context != null)
            {
                arguments.Add(context(next));
            }
            object result = method.Invoke(target, arguments.ToArray());
            if (result is Task task)
            {
                result = Await(task);
            }
            output.SetLength(0);
            if (outputType != null)
            {
                Serialize(result);
            }
            return new ArraySegment<byte>(output.GetBuffer(), 0, (int)output.Length);
        }

        object Await(Task task)
        {
            ((IAsyncResult)task).AsyncWaitHandle.WaitOne();
            if (task.IsFaulted)
            {
                throw new TargetInvocationException(task.Exception.InnerException); // its stack trace stays its own
            }
            if (task.IsCanceled)
            {
                throw new TaskCanceledException(task);
            }
            return outputType == null ? null : task.GetType().GetProperty("Result").GetValue(task);
        }

        object Deserialize(MemoryStream body)
        {
            if (inputType == typeof(Stream))
            {
                return new MemoryStream(body.ToArray()); // the function may keep it
            }
            if (serializer != null)
            {
                return deserialize.Invoke(serializer, new object[] { body });
            }
            body.TryGetBuffer(out ArraySegment<byte> bytes);
            return Json.Read(Encoding.UTF8.GetString(bytes.Array, bytes.Offset, bytes.Count), inputType);
        }

        void Serialize(object result)
        {
            if (typeof(Stream).IsAssignableFrom(outputType))
            {
                ((Stream)result)?.CopyTo(output);
            }
            else if (serializer != null)
            {
                serialize.Invoke(serializer, new[] { result, output });
            }
            else
            {
                byte[] text = Json.Write(result);
                output.Write(text, 0, text.Length);
            }
        }

        static string[] Parse(string name)
        {
            if (name == "")
            {
                throw new LambdaValidationException("Empty lambda function handler. " + Format);
            }
            string[] parts = name.Split(new[] { "::" }, 3, StringSplitOptions.None).Select(part => part.Trim()).ToArray();
            if (parts.Length != 3)
            {
                throw new LambdaValidationException($"Invalid lambda function handler: '{name}'. {Format}");
            }
            foreach (var part in new[] { "assembly", "type", "method" }.Zip(parts, (what, value) => new { what, value }))
            {
                if (part.value == "")
                {
                    string what = $"Invalid lambda function handler: '{name}', the {part.what} is missing. ";
                    throw new LambdaValidationException(what + Format);
                }
            }
            return parts;
        }

        static Assembly LoadAssembly(string name)
        {
            try
            {
                return Assembly.Load(new AssemblyName(name));
            }
            catch (FileNotFoundException)
            {
                throw new LambdaValidationException($"Could not find the specified handler assembly with the file name"
                    + $" '{name}'. The assembly should be located in the root of your uploaded .zip file.");
            }
            catch (Exception error)
            {
                throw new LambdaValidationException($"Unable to load assembly '{name}'. {error.Message}");
            }
        }

        /// <summary>By name or by whole signature, in the type or in what it inherits from.</summary>
        static MethodInfo FindMethod(Type type, string[] parts)
        {
            string name = parts[2];
            foreach (Func<MethodInfo, bool> fits in new Func<MethodInfo, bool>[] {
                method => method.Name == name, method => method.ToString() == name })
            {
                for (Type at = type; at != null; at = at.BaseType)
                {
                    MethodInfo[] found = at.GetMethods(Own).Where(fits).ToArray();
                    if (found.Length == 1)
                    {
                        return found[0];
                    }
                    if (found.Length > 1)
                    {
                        throw new LambdaValidationException(
                            $"The method '{name}' in type '{at.FullName}' appears to have a number of overloads. To call"
                            + " this method please specify a complete method signature. Possible candidates are:\n"
                            + string.Join("\n", found.Select(method => method.ToString())) + ".");
                    }
                }
            }
            throw new LambdaValidationException($"Unable to find method '{name}' in type '{parts[1]}' from assembly"
                + $" '{parts[0]}': Found no methods matching method name '{name}'.");
        }

        static void CheckMethod(MethodInfo method)
        {
            string cannot = $"The method '{method}' cannot be used as a Lambda Handler because it is ";
            if (method.IsAbstract)
            {
                throw new LambdaValidationException(cannot + "an abstract method. Handler methods cannot be abstract."
                    + " Please specify a non-abstract handler method.");
            }
            if (method.IsGenericMethod)
            {
                throw new LambdaValidationException(cannot + "a generic method. Handler methods cannot be generic."
                    + " Please specify a non-generic handler method.");
            }
            if (method.ReturnType == typeof(void) && method.GetCustomAttribute<AsyncStateMachineAttribute>() != null)
            {
                throw new LambdaValidationException(cannot + "an 'async void' method. Handler methods cannot be"
                    + " 'async void'. Please specify a method that is not 'async void'.");
            }
            ParameterInfo last = method.GetParameters().LastOrDefault();
            if (last != null && last.GetCustomAttribute<ParamArrayAttribute>() != null)
            {
                throw new LambdaValidationException(cannot + "a 'params' method. Please specify a method that does not"
                    + " use 'params'.");
            }
        }

        static void CheckType(Type type, MethodInfo method)
        {
            if (type.IsGenericType)
            {
                throw new LambdaValidationException($"The type '{type.FullName}' cannot be used as a Lambda Handler type"
                    + " because it is generic. Handler methods cannot be located in generic types. Please specify a"
                    + " handler method in a non-generic type.");
            }
            if (!method.IsStatic && type.IsAbstract)
            {
                throw new LambdaValidationException($"The instance method '{method}' cannot be used as a Lambda Handler"
                    + $" because its type '{type.FullName}' is abstract. Please either use a static handler or specify a"
                    + " type that is not abstract.");
            }
            if (!type.IsClass && (!type.IsValueType || type.IsPrimitive || type.IsEnum))
            {
                throw new LambdaValidationException($"The type '{type.FullName}' cannot be used as a handler type since it"
                    + " is not a class or a struct. Please specify a handler method on a class or struct.");
            }
        }

        void TakeParameters(string typeName)
        {
            List<Type> types = method.GetParameters().Select(parameter => parameter.ParameterType).ToList();
            string unsupported = $"Method '{method.Name}' of type '{typeName}' is not supported: the method has ";
            if (types.Count > 2)
            {
                throw new LambdaValidationException(unsupported + "more than 2 parameters.");
            }
            if (types.Count > 0 && types.Last().FullName == ContextType)
            {
                context = Context.Maker(types.Last());
                types.RemoveAt(types.Count - 1);
            }
            if (types.Count > 1)
            {
                throw new LambdaValidationException(unsupported + "2 parameters, but the second parameter is not of type"
                    + $" '{ContextType}'.");
            }
            inputType = types.FirstOrDefault();
        }

        void TakeResult()
        {
            Type type = method.ReturnType;
            if (typeof(Task).IsAssignableFrom(type))
            {
                while (type != typeof(Task) && !(type.IsGenericType && type.GetGenericTypeDefinition() == typeof(Task<>)))
                {
                    type = type.BaseType;
                }
                outputType = type == typeof(Task) ? null : type.GetGenericArguments()[0];
            }
            else
            {
                outputType = type == typeof(void) ? null : type;
            }
        }

        /// <summary>The function's own serializer, if its method or its assembly names one.</summary>
        void TakeSerializer(Assembly assembly)
        {
            object attribute = method.GetCustomAttributes(false).Concat(assembly.GetCustomAttributes(false))
                .FirstOrDefault(found => found.GetType().FullName == SerializerAttribute);
            if (attribute == null)
            {
                return;
            }
            string name = attribute.GetType().FullName;
            var type = attribute.GetType().GetProperty("SerializerType")?.GetValue(attribute) as Type
                ?? throw new LambdaValidationException($"The 'SerializerType' property on attribute class '{name}' is not set.");
            Type contract = type.GetInterface(SerializerType)
                ?? throw new LambdaValidationException($"The '{type.FullName}' class is invalid: it does not implement the"
                    + " 'ILambdaSerializer' interface.");
            ConstructorInfo constructor = type.GetConstructor(Type.EmptyTypes)
                ?? throw new LambdaValidationException($"The indicated serializer '{type.FullName}' does not define a public"
                    + " zero-parameter constructor.");
            serializer = constructor.Invoke(null);
            if (inputType != null && inputType != typeof(Stream))
            {
                deserialize = contract.GetMethod("Deserialize").MakeGenericMethod(inputType);
            }
            if (outputType != null)
            {
                serialize = contract.GetMethod("Serialize").MakeGenericMethod(outputType);
            }
        }
    }
}
