// A handler class as the managed .NET runtime calls it: Assembly::Type::Method, here `Greeter::Example.Greeter::Handle`.
using System;
using System.Collections.Generic;
using System.IO;
using System.Text;

namespace Example
{
    public class Person
    {
        public string Name { get; set; }
        public int Times { get; set; }
    }

    public class Greeting
    {
        public string Text { get; set; }
        public int Length { get; set; }
    }

    public class Greeter
    {
        static int count;

        // An object in, an object out.
        public Greeting Handle(Person person)
        {
            var text = "";
            for (var i = 0; i < person.Times; i++) text += "Hello " + person.Name + "! ";
            return new Greeting { Text = text.Trim(), Length = text.Trim().Length };
        }

        // The bytes as they come.
        public Stream Echo(Stream events)
        {
            var copy = new MemoryStream();
            events.CopyTo(copy);
            copy.Position = 0;
            return copy;
        }

        // Text in, text out.
        public string Upper(string text)
        {
            Console.WriteLine("upper " + text);
            return text.ToUpperInvariant();
        }

        public int Count() { count += 1; return count; }

        public string Fail(string text) { throw new InvalidOperationException(text); }
    }
}
