// JSON for functions that bring no serializer of their own, and for what the runtime itself reads and writes.
// Objects are maps of text, or classes with public properties and fields, whose names are matched in any case.

using System;
using System.Collections;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Reflection;
using System.Text;

namespace Brooklet
{
    static class Json
    {
        /// <summary>The value of a JSON text as the type. Throws FormatException.</summary>
        public static object Read(string text, Type type)
        {
            return Convert(new Reader(text).Whole(), type);
        }

        /// <summary>The members of a JSON object; none for an empty text.</summary>
        public static Dictionary<string, object> Object(string text)
        {
            object value = string.IsNullOrEmpty(text) ? null : new Reader(text).Whole();
            return value as Dictionary<string, object> ?? new Dictionary<string, object>();
        }

        public static string Text(object value)
        {
            return Writer.Text(value);
        }

        public static byte[] Write(object value)
        {
            return Encoding.UTF8.GetBytes(Writer.Text(value));
        }

        /// <summary>Whether the value is a JSON value by itself, not an object with members.</summary>
        public static bool IsPlain(object value)
        {
            return value == null || value is string || value.GetType().IsPrimitive || value is decimal || value is IEnumerable;
        }

        static object Convert(object value, Type type)
        {
            Type bare = Nullable.GetUnderlyingType(type);
            if (value == null)
            {
                return type.IsValueType && bare == null ? throw Unfit("null", type) : (object)null;
            }
            type = bare ?? type;
            if (type == typeof(object) || type.IsInstanceOfType(value))
            {
                return value;
            }
            if (value is string text)
            {
                return FromText(text, type);
            }
            if (value is List<object> list)
            {
                return FromList(list, type);
            }
            if (value is Dictionary<string, object> members)
            {
                return FromMembers(members, type);
            }
            if (value is bool || type == typeof(bool) || type == typeof(string))
            {
                throw Unfit(Text(value), type);
            }
            return FromNumber(value, type);
        }

        static object FromText(string text, Type type)
        {
            try
            {
                if (type == typeof(DateTime))
                {
                    return DateTime.Parse(text, CultureInfo.InvariantCulture, DateTimeStyles.RoundtripKind);
                }
                return type == typeof(DateTimeOffset) ? DateTimeOffset.Parse(text, CultureInfo.InvariantCulture)
                    : type == typeof(TimeSpan) ? TimeSpan.Parse(text, CultureInfo.InvariantCulture)
                    : type == typeof(Guid) ? Guid.Parse(text)
                    : type == typeof(Uri) ? new Uri(text, UriKind.RelativeOrAbsolute)
                    : type == typeof(char) ? char.Parse(text)
                    : type == typeof(byte[]) ? System.Convert.FromBase64String(text)
                    : type.IsEnum ? Enum.Parse(type, text, true)
                    : (object)null ?? throw Unfit("a text", type);
            }
            catch (Exception error) when (error is FormatException || error is ArgumentException)
            {
                throw Unfit("\"" + text + "\"", type);
            }
        }

        static object FromNumber(object value, Type type)
        {
            try
            {
                return type.IsEnum
                    ? Enum.ToObject(type, System.Convert.ToInt64(value, CultureInfo.InvariantCulture))
                    : System.Convert.ChangeType(value, type, CultureInfo.InvariantCulture);
            }
            catch (Exception error) when (error is InvalidCastException || error is OverflowException)
            {
                throw Unfit(Text(value), type);
            }
        }

        static object FromList(List<object> list, Type type)
        {
            Type item = type.IsArray ? type.GetElementType()
                : type.IsGenericType && type.GetGenericArguments().Length == 1 ? type.GetGenericArguments()[0]
                : throw Unfit("an array", type);
            Type concrete = typeof(List<>).MakeGenericType(item);
            var made = (IList)Activator.CreateInstance(concrete);
            foreach (object value in list)
            {
                made.Add(Convert(value, item));
            }
            if (type.IsArray)
            {
                Array array = Array.CreateInstance(item, made.Count);
                made.CopyTo(array, 0);
                return array;
            }
            return type.IsAssignableFrom(concrete) ? made
                : typeof(ISet<>).MakeGenericType(item).IsAssignableFrom(type) && !type.IsInterface
                    ? Activator.CreateInstance(type, made)
                : type.IsAssignableFrom(typeof(HashSet<>).MakeGenericType(item))
                    ? Activator.CreateInstance(typeof(HashSet<>).MakeGenericType(item), made)
                : throw Unfit("an array", type);
        }

        static object FromMembers(Dictionary<string, object> members, Type type)
        {
            Type map = new[] { type }.Concat(type.GetInterfaces()).FirstOrDefault(
                part => part.IsGenericType && part.GetGenericTypeDefinition() == typeof(IDictionary<,>));
            if (map != null && map.GetGenericArguments()[0] == typeof(string))
            {
                Type item = map.GetGenericArguments()[1];
                Type concrete = type.IsInterface ? typeof(Dictionary<,>).MakeGenericType(typeof(string), item) : type;
                var made = (IDictionary)Activator.CreateInstance(concrete);
                foreach (var member in members)
                {
                    made[member.Key] = Convert(member.Value, item);
                }
                return made;
            }
            if (type.IsPrimitive || type.IsInterface || type.IsAbstract || typeof(IEnumerable).IsAssignableFrom(type))
            {
                throw Unfit("an object", type);
            }
            object instance = Create(type);
            foreach (Member member in Member.Of(type))
            {
                if (member.Set != null && member.Find(members, out object value))
                {
                    member.Set(instance, Convert(value, member.Type));
                }
            }
            return instance;
        }

        static object Create(Type type)
        {
            if (type.IsValueType || type.GetConstructor(Type.EmptyTypes) != null)
            {
                return Activator.CreateInstance(type);
            }
            throw new FormatException($"An object cannot become a {type.FullName}: it has no public constructor without"
                + " parameters. Give it one, or name a serializer with the LambdaSerializer attribute.");
        }

        static FormatException Unfit(string what, Type type)
        {
            return new FormatException($"The JSON value could not be converted to {type.FullName}: it is {what}.");
        }

        /// <summary>A public property or field.</summary>
        sealed class Member
        {
            static readonly Dictionary<Type, Member[]> Known = new Dictionary<Type, Member[]>();

            public string Name;
            public Type Type;
            public Func<object, object> Get; // null: cannot be read
            public Action<object, object> Set; // null: cannot be written

            public static Member[] Of(Type type)
            {
                lock (Known)
                {
                    if (!Known.TryGetValue(type, out Member[] members))
                    {
                        const BindingFlags Visible = BindingFlags.Public | BindingFlags.Instance;
                        var properties = type.GetProperties(Visible).Where(property => property.GetIndexParameters().Length == 0);
                        members = properties.Select(property => new Member {
                            Name = property.Name,
                            Type = property.PropertyType,
                            Get = property.GetGetMethod() == null ? (Func<object, object>)null : property.GetValue,
                            Set = property.GetSetMethod() == null ? (Action<object, object>)null : property.SetValue })
                            .Concat(type.GetFields(Visible).Select(field => new Member {
                                Name = field.Name, Type = field.FieldType, Get = field.GetValue, Set = field.SetValue }))
                            .ToArray();
                        Known[type] = members;
                    }
                    return members;
                }
            }

            public bool Find(Dictionary<string, object> members, out object value)
            {
                if (members.TryGetValue(Name, out value))
                {
                    return true;
                }
                foreach (var member in members)
                {
                    if (string.Equals(member.Key, Name, StringComparison.OrdinalIgnoreCase))
                    {
                        value = member.Value;
                        return true;
                    }
                }
                return false;
            }
        }

        /// <summary>Reads a text into maps, lists, texts, numbers (long, else decimal, else double) and truth values.</summary>
        sealed class Reader
        {
            const int MaxDepth = 512;
            readonly string text;
            int at;
            int depth;

            public Reader(string text)
            {
                this.text = text;
            }

            public object Whole()
            {
                object value = Value();
                Space();
                return at == text.Length ? value : throw Wrong();
            }

            object Value()
            {
                Space();
                switch (Peek())
                {
                    case '{': return Nested(Object);
                    case '[': return Nested(Array);
                    case '"': return String();
                    case 't': return Word("true", true);
                    case 'f': return Word("false", false);
                    case 'n': return Word("null", null);
                    default: return Number();
                }
            }

            object Nested(Func<object> read)
            {
                if (++depth > MaxDepth)
                {
                    throw new FormatException($"The JSON text is nested deeper than {MaxDepth} levels.");
                }
                at++;
                object value = read();
                depth--;
                return value;
            }

            object Object()
            {
                var members = new Dictionary<string, object>();
                Space();
                if (Take('}'))
                {
                    return members;
                }
                do
                {
                    Space();
                    string name = Peek() == '"' ? String() : throw Wrong();
                    Space();
                    Expect(':');
                    members[name] = Value();
                    Space();
                }
                while (Take(','));
                Expect('}');
                return members;
            }

            object Array()
            {
                var items = new List<object>();
                Space();
                if (Take(']'))
                {
                    return items;
                }
                do
                {
                    items.Add(Value());
                    Space();
                }
                while (Take(','));
                Expect(']');
                return items;
            }

            string String()
            {
                int from = ++at;
                while (Peek() != '"' && Peek() != '\\' && Peek() >= ' ')
                {
                    at++;
                }
                if (Peek() == '"')
                {
                    return text.Substring(from, at++ - from);
                }
                var made = new StringBuilder(text, from, at - from, 64);
                while (!Take('"'))
                {
                    char letter = Peek();
                    if (letter < ' ')
                    {
                        throw Wrong();
                    }
                    at++;
                    made.Append(letter == '\\' ? Escaped() : letter);
                }
                return made.ToString();
            }

            char Escaped()
            {
                const string Letters = "\"\\/bfnrt", Meanings = "\"\\/\b\f\n\r\t";
                char letter = Peek();
                at++;
                if (letter == 'u' && at + 4 <= text.Length
                    && ushort.TryParse(text.Substring(at, 4), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ushort code))
                {
                    at += 4;
                    return (char)code;
                }
                int known = Letters.IndexOf(letter);
                if (known < 0)
                {
                    at--;
                    throw Wrong();
                }
                return Meanings[known];
            }

            object Number()
            {
                int from = at;
                while ("+-.eE".IndexOf(Peek()) >= 0 || char.IsDigit(Peek()))
                {
                    at++;
                }
                string digits = text.Substring(from, at - from);
                CultureInfo plain = CultureInfo.InvariantCulture;
                if (digits == "" || !char.IsDigit(digits[digits.Length - 1]) || "+.eE".IndexOf(digits[0]) >= 0)
                {
                    at = from;
                    throw Wrong();
                }
                if (long.TryParse(digits, NumberStyles.AllowLeadingSign, plain, out long whole))
                {
                    return whole;
                }
                bool exact = digits.IndexOfAny(new[] { 'e', 'E' }) < 0;
                if (exact && decimal.TryParse(digits, NumberStyles.Float, plain, out decimal value))
                {
                    return value;
                }
                return double.TryParse(digits, NumberStyles.Float, plain, out double close) ? close : throw Wrong();
            }

            object Word(string word, object value)
            {
                if (string.CompareOrdinal(text, at, word, 0, word.Length) != 0)
                {
                    throw Wrong();
                }
                at += word.Length;
                return value;
            }

            void Space()
            {
                while (at < text.Length && " \t\r\n".IndexOf(text[at]) >= 0)
                {
                    at++;
                }
            }

            char Peek()
            {
                return at < text.Length ? text[at] : '\0';
            }

            bool Take(char letter)
            {
                if (Peek() != letter || at >= text.Length)
                {
                    return false;
                }
                at++;
                return true;
            }

            void Expect(char letter)
            {
                if (!Take(letter))
                {
                    throw Wrong();
                }
            }

            FormatException Wrong()
            {
                string found = at < text.Length ? "'" + text[at] + "' is not expected there" : "it ends too early";
                return new FormatException($"The text is no JSON at character {at}: {found}.");
            }
        }

        static class Writer
        {
            const int MaxDepth = 64;

            public static string Text(object value)
            {
                var json = new StringBuilder();
                Append(json, value, 0);
                return json.ToString();
            }

            static void Append(StringBuilder json, object value, int depth)
            {
                if (depth > MaxDepth)
                {
                    throw new InvalidOperationException(
                        $"A possible object cycle was detected: the answer is nested deeper than {MaxDepth} levels.");
                }
                string text = value is char letter ? letter.ToString() : value as string ?? Texts(value);
                if (value == null || value is bool)
                {
                    json.Append(value == null ? "null" : (bool)value ? "true" : "false");
                }
                else if (text != null)
                {
                    Quote(json, text);
                }
                else if (value is IDictionary map)
                {
                    Map(json, map, depth);
                }
                else if (value is IEnumerable items)
                {
                    Items(json, items, depth);
                }
                else if (value is Enum || value.GetType().IsPrimitive || value is decimal)
                {
                    json.Append(Number(value));
                }
                else
                {
                    Members(json, value, depth);
                }
            }

            /// <summary>The text of a value that is one in JSON; null for others.</summary>
            static string Texts(object value)
            {
                CultureInfo plain = CultureInfo.InvariantCulture;
                return value is DateTime ? ((DateTime)value).ToString("o", plain)
                    : value is DateTimeOffset ? ((DateTimeOffset)value).ToString("o", plain)
                    : value is Guid || value is Uri || value is TimeSpan ? value.ToString()
                    : value is byte[] ? System.Convert.ToBase64String((byte[])value)
                    : null;
            }

            static string Number(object value)
            {
                CultureInfo plain = CultureInfo.InvariantCulture;
                if (value is Enum)
                {
                    return ((Enum)value).ToString("d");
                }
                if (!(value is double) && !(value is float))
                {
                    return System.Convert.ToString(value, plain);
                }
                double number = System.Convert.ToDouble(value, plain);
                if (double.IsNaN(number) || double.IsInfinity(number))
                {
                    throw new ArgumentException($"{number.ToString(plain)} cannot be written as JSON.");
                }
                return value is double ? number.ToString("R", plain) : ((float)value).ToString("R", plain);
            }

            static void Map(StringBuilder json, IDictionary map, int depth)
            {
                string separator = "{";
                foreach (DictionaryEntry member in map)
                {
                    Member(json, ref separator, System.Convert.ToString(member.Key, CultureInfo.InvariantCulture), member.Value, depth);
                }
                json.Append(separator == "{" ? "{}" : "}");
            }

            static void Items(StringBuilder json, IEnumerable items, int depth)
            {
                string separator = "[";
                foreach (object item in items)
                {
                    json.Append(separator);
                    Append(json, item, depth + 1);
                    separator = ",";
                }
                json.Append(separator == "[" ? "[]" : "]");
            }

            static void Members(StringBuilder json, object value, int depth)
            {
                string separator = "{";
                foreach (Member member in Json.Member.Of(value.GetType()).Where(member => member.Get != null))
                {
                    Member(json, ref separator, member.Name, member.Get(value), depth);
                }
                json.Append(separator == "{" ? "{}" : "}");
            }

            static void Member(StringBuilder json, ref string separator, string name, object value, int depth)
            {
                json.Append(separator);
                Quote(json, name);
                json.Append(':');
                Append(json, value, depth + 1);
                separator = ",";
            }

            static void Quote(StringBuilder json, string text)
            {
                const string Letters = "\"\\\b\f\n\r\t", Escapes = "\"\\bfnrt";
                json.Append('"');
                foreach (char letter in text)
                {
                    int known = Letters.IndexOf(letter);
                    if (known >= 0)
                    {
                        json.Append('\\').Append(Escapes[known]);
                    }
                    else if (letter < ' ')
                    {
                        json.Append("\\u").Append(((int)letter).ToString("x4"));
                    }
                    else
                    {
                        json.Append(letter);
                    }
                }
                json.Append('"');
            }
        }
    }
}
